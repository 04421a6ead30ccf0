"""Loads a configuration file, or a table made from command-line options, into `Settings`.

There are two steps. `structure` checks the shape of the table. `Validation` reads secrets from
files and the environment, and checks dependencies between keys. Both collect every fault, each with
its key and a remedy, before `ConfigError` is raised.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from attrs import evolve

from bridge.config.schema import structure
from bridge.config.settings import (
    ConfigError,
    ConfigFault,
    ConfigFile,
    JournalSettings,
    NodeSettings,
    Settings,
)
from bridge.config.validation import Validation, readable_by_all
from bridge.config.value import is_secret_header

_PROSODY: Final = re.compile(
    r"""^[ \t]*(?:(?:Component|VirtualHost)[ \t]*\(?["']|--)""", re.MULTILINE
)
"""A section or a comment of Lua: neither is TOML."""


def load(path: Path) -> Settings:
    """Read a configuration file.

    Raises:
        ConfigError: if it has faults; the error lists all of them.
    """
    table = _read(path)
    settings = from_table(table, str(path), directory=path.parent)
    if _holds_secret(table, settings):
        note = readable_by_all(path, "the configuration file, which holds a secret")
        settings = evolve(settings, warnings=(*note, *settings.warnings))
    return settings


def load_domains(path: Path) -> frozenset[str]:
    """Return the domains of the components in a configuration file.

    Nothing else is checked, and no secret is read: those may be readable by the daemon only.

    Raises:
        ConfigError: if the file cannot be read.
    """
    components = _read(path).get("component")
    return frozenset(components if isinstance(components, dict) else ())


def load_without_secrets(path: Path) -> Settings:
    """Read a configuration file without its components' secrets, for use where they are neither
    available nor needed: each component gets a placeholder. The journal's URL is left out, too.

    Raises:
        ConfigError: if it has other faults; the error lists all of them.
    """
    table = _read(path)
    components = table.get("component")
    if isinstance(components, dict):
        for one in components.values():
            if isinstance(one, dict):
                one.pop("component_secret_file", None)
                one["component_secret"] = "not used"
    journal = table.get("journal")
    if isinstance(journal, dict) and ("url" in journal or "url_file" in journal):
        table["journal"] = {k: v for k, v in journal.items() if k not in ("url", "url_file")}
        table.pop("node", None)
    return from_table(table, str(path), directory=path.parent)


def load_journal(path: Path) -> tuple[JournalSettings, NodeSettings]:
    """Read only `[journal]` and `[node]` of a configuration file, and the file with the URL.

    Raises:
        ConfigError: if they have faults; the error lists all of them.
    """
    table, reading = _read(path), Validation(path.parent, os.environ)
    parts: dict[str, Any] = {key: table[key] for key in ("journal", "node") if key in table}
    journal, node = reading.journal(structure(parts, reading.faults))
    if reading.faults:
        raise ConfigError(str(path), reading.faults)
    return journal, node


def load_file(path: Path) -> ConfigFile:
    """Read a configuration file, but none of the files that it names: those may be readable by the
    daemon only.

    Raises:
        ConfigError: if it has faults; the error lists all of them.
    """
    faults: list[ConfigFault] = []
    file = structure(_read(path), faults)
    if faults:
        raise ConfigError(str(path), faults)
    return file


def _read(path: Path) -> dict[str, Any]:
    source, text = str(path), ""
    try:
        text = path.read_bytes().decode()
        return tomllib.loads(text)
    except FileNotFoundError:
        fault = ConfigFault("", "there is no such file", "Check the path of the configuration file")
        raise ConfigError(source, [fault]) from None
    except OSError as error:
        fault = ConfigFault(
            "", f"cannot be read ({error.strerror})", "Check its path and permissions"
        )
        raise ConfigError(source, [fault]) from None
    except UnicodeDecodeError:
        fault = ConfigFault("", "the file is not UTF-8 text", "Save it as UTF-8")
        raise ConfigError(source, [fault]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [_syntax_fault(text, error)]) from None
    except (ValueError, RecursionError):  # not tomllib's own: a huge integer, deep nesting
        fault = ConfigFault(
            "", "a number is too long, or brackets are nested too deeply", "Shorten it"
        )
        raise ConfigError(source, [fault]) from None


def _syntax_fault(text: str, error: tomllib.TOMLDecodeError) -> ConfigFault:
    if _PROSODY.search(text):
        problem = "this is Prosody's configuration, or a piece of it, and not the bridge's"
        return ConfigFault(
            "", problem, "Write the bridge's own file: see xmpp-bridge help migration"
        )
    problem = f"the file is not valid TOML: {error}"
    return ConfigFault("", problem, "Correct the syntax (see https://toml.io)")


def from_table(
    table: Mapping[str, Any],
    source: str,
    *,
    directory: Path,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings of a parsed file. Relative paths in it start at `directory`.

    Raises:
        ConfigError: if there are faults; the error lists all of them.
    """
    reading = Validation(directory, environment)
    file = structure(table, reading.faults)
    settings = reading.settings(file)
    if reading.faults:
        raise ConfigError(source, reading.faults)
    return settings


def _holds_secret(table: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the file itself holds a secret: in a key, a URL or a header."""
    components = table["component"].values()
    headers = (one.get("http", {}).get("headers", {}) for one in (table, *components))
    return (
        any("component_secret" in one or "webhook_secrets" in one for one in components)
        or any("password" in room for one in components for room in one.get("room", ()))
        or "url" in table.get("journal", {})
        or any(one.post_url.authorization is not None for one in settings.components)
        or any(map(is_secret_header, chain.from_iterable(headers)))
        or any("secret" in one for one in table.get("listen", {}).get("token", ()))
    )
