"""Checks `[journal]` and `[node]`: where the journal is, and this process's place in a cluster.

The journal's URL may hold a password: it is read here, from the file or from one beside it, and
from then on shown without its password only (`DatabaseUrl`).
"""

import importlib.util
import re
from collections.abc import Callable
from typing import Final

from attrs import asdict

from bridge.config.settings import (
    JournalSettings,
    JournalTable,
    NodeSettings,
    NodeTable,
)
from bridge.config.value import BadValue, DatabaseUrl, Secret, parse_database_url

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}", re.ASCII)
LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)


class JournalValidation:
    """Turns the tables `[journal]` and `[node]` into settings."""

    def __init__(
        self,
        secret_file: Callable[[str, str], Secret | None],
        fault: Callable[[str, str, str], None],
        warn: Callable[[str], None],
    ) -> None:
        """`secret_file` reads the file that a key names; `fault` takes key, problem and remedy."""
        self._secret_file = secret_file
        self._fault = fault
        self._warn = warn

    def journal(self, table: JournalTable) -> JournalSettings:
        """Return the settings of the journal; without a URL if that has a fault."""
        url = self._url(table)
        has_url = table.url is not None or table.url_file is not None
        if has_url and importlib.util.find_spec("psycopg") is None:
            problem = "PostgreSQL needs the package psycopg, which is not installed"
            key = "journal.url" if table.url is not None else "journal.url_file"
            self._fault(key, problem, "Run: pip install 'xmpp-bridge[postgres]'")
        durability = table.durability
        if has_url and durability == "off":
            problem = "without a journal, the URL of its database has no effect"
            self._fault("journal.durability", problem, 'Use "power" or "process", or remove url')
        rest = asdict(table)
        for key in ("url", "url_file", "durability"):
            del rest[key]
        if durability is None:
            durability = "power" if has_url else "process"
        return JournalSettings(durability=durability, url=url, **rest)

    def node(self, table: NodeTable, journal: JournalTable) -> NodeSettings:
        """Return the settings of this process as a node of a cluster."""
        try:
            check_cluster(table.cluster)
        except BadValue as error:
            self._fault("node.cluster", error.problem, error.remedy)
        if table.label is not None and LABEL.fullmatch(table.label) is None:
            problem = f"{table.label!r} is not a valid label"
            remedy = "Use up to 63 letters, digits, dots and hyphens, such as the host's name"
            self._fault("node.label", problem, remedy)
        if journal.url is None and journal.url_file is None and table != NodeTable():
            self._warn("[node] has no effect without url or url_file in [journal]")
        return NodeSettings(table.cluster, table.label, table.spread)

    def _url(self, table: JournalTable) -> DatabaseUrl | None:
        key, text = "journal.url", table.url
        if table.url_file is not None:
            if text is not None:
                self._fault(key, "url and url_file are both set", "Keep one of the two")
                return None
            key = "journal.url_file"
            secret = self._secret_file(key, table.url_file)
            text = None if secret is None else secret.value
        if text is None:
            return None
        try:
            return parse_database_url(text)
        except BadValue as error:
            self._fault(key, error.problem, error.remedy)
            return None


def check_cluster(name: str) -> None:
    """Check the name of a cluster, which is that of its schema.

    Raises:
        BadValue: if it is not valid.
    """
    if _SCHEMA.fullmatch(name) is None:
        problem = f"{name!r} is not a valid name of a cluster, which is a schema's"
        raise BadValue(problem, "Use up to 41 of a-z, 0-9 and _, and no digit first")
    if name.startswith("pg_") or name == "information_schema":
        problem = f"{name!r} is a name that PostgreSQL keeps for itself"
        raise BadValue(problem, 'Use another, such as "xmpp_bridge"')
