"""PostgreSQL's errors in an operator's words.

Errors of a connection that cannot be opened have no code, only a text, which the server may have
translated. So an unknown one is told as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from bridge.config.value import DatabaseUrl
from bridge.journal.cluster import LeaseLost
from bridge.journal.postgres.schema import KEY_TAKEN, LEASE_LOST
from bridge.journal.store import ImpossibleOperation, JournalError, KeyTaken

_READ_ONLY: Final = "session is read-only"
_OPENING: Final = (
    ("password authentication failed", "check the user and the password in [journal] url"),
    ("no password supplied", "write the password into [journal] url, or into a file (url_file)"),
    ("no pg_hba.conf entry", "allow this user and this machine in the server's pg_hba.conf"),
    ("authentication failed", "check the user in [journal] url and the server's pg_hba.conf"),
    ("too many", "raise max_connections: each node needs three connections"),
    ("remaining connection slots", "raise max_connections: each node needs three connections"),
    ('role "', "create the role with: createuser --pwprompt NAME"),
    ('database "', "create the database with: createdb --owner ROLE NAME"),
    (_READ_ONLY, "the server is a stand-by: name all servers in the URL"),
    ("name or service not known", "check the name of the host in [journal] url"),
    ("could not translate host name", "check the name of the host in [journal] url"),
    ("failed to resolve", "check the name of the host in [journal] url"),
    ("connection refused", "start PostgreSQL, or check host and port in [journal] url"),
    ("no such file", "start PostgreSQL, or check the directory of its socket in [journal] url"),
    ("timeout", "check that the host in [journal] url can be reached"),
    ("starting up", "wait: the bridge tries again"),
    ("shutting down", "start PostgreSQL again"),
    ("ssl", "check sslmode and the certificates"),
)
_CODES: Final = {
    "53100": "free some space on the disk of the database",
    "53200": "give the database more memory",
    "53300": "raise max_connections: each node needs three connections",
    "42501": "give the role the right: GRANT CREATE ON DATABASE, or make it the schema's owner",
    "25006": "the server is a stand-by: add target_session_attrs=read-write to the URL",
    "42P01": "a table is missing: do not change the schema while the bridge runs",
    "42883": "a function is missing: do not change the schema while the bridge runs",
    "3F000": "the schema is missing: do not remove it while the bridge runs",
    "57P01": "the database was stopped: the bridge tries again",
    "57P02": "the database has crashed: the bridge tries again",
    "57P03": "the database is starting: the bridge tries again",
    "40P01": "the bridge tries again",
    "55P03": "another session holds a lock: look into pg_locks",
    "58030": "look into the log of the database",
    "XX001": "the database is damaged: look into its log, and restore a backup",
    "XX002": "an index is damaged: look into the log of the database, and REINDEX",
}


class LockTimeout(JournalError):
    """Another session holds a lock for longer than the batch waits."""


STANDBY: Final = (
    "if it waits for a stand-by, start that one, or change synchronous_standby_names;"
    " otherwise check the network"
)


def silent(url: DatabaseUrl) -> JournalError:
    """Return the error of a server that has not answered for too long."""
    return JournalError(f"the database {url} does not answer", STANDBY)


@contextmanager
def explained(url: DatabaseUrl) -> Iterator[None]:
    """Translate psycopg's exceptions to a `JournalError` for the operator."""
    try:
        yield
    except (psycopg.Error, OverflowError, UnicodeError) as error:
        raise explain(error, url) from error


def explain(error: Exception, url: DatabaseUrl) -> JournalError:
    """Return a `JournalError` that names the cause and a remedy, never the password."""
    if not isinstance(error, psycopg.Error):
        return ImpossibleOperation(f"a value cannot be kept: {error}")
    code = error.sqlstate or ""
    text = _first_line(error)
    if code == LEASE_LOST:
        return LeaseLost(
            "this node has lost its place in the cluster",
            "it was silent for too long, another process uses its label,"
            " or the database has lost its last commits",
        )
    if code == KEY_TAKEN:
        return KeyTaken("another node has kept that idempotency key meanwhile")
    if code[:2] in ("22", "23"):
        return ImpossibleOperation(f"the database refuses a value: {text}")
    if isinstance(error, psycopg.DataError):
        return ImpossibleOperation(f"a value cannot be kept: {text}")
    if isinstance(error, psycopg.ProgrammingError) and not code:
        # Its text quotes the URL, with the password.
        return JournalError(
            "[journal] url is not a valid connection string",
            "write it like postgresql://user:password@host/database",
        )
    kind = LockTimeout if code == "55P03" else JournalError
    hint = _hint(code, text)
    if _READ_ONLY in text and _names_several(url):
        hint = "none of the servers accepts writes yet: promote a stand-by, or wait until one is"
    return kind(f"the database {url} cannot be used: {text}", hint)


def _names_several(url: DatabaseUrl) -> bool:
    given = psycopg.conninfo.conninfo_to_dict(url.value)
    return any("," in str(given.get(name) or "") for name in ("host", "hostaddr", "port"))


def _hint(code: str, text: str) -> str:
    if code in _CODES:
        return _CODES[code]
    lower = text.lower()
    return next((hint for part, hint in _OPENING if part in lower), "look into its log")


def _first_line(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    lines = (primary or str(error)).strip().splitlines()
    # Of several addresses, the last one was tried last; what libpq says of it is the cause.
    told = [one.strip() for one in lines if "failed:" in one] or lines
    return told[-1].removeprefix("FATAL:").strip() if told else type(error).__name__
