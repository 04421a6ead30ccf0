"""Loading: a configuration file, or the command line's words, into `Settings`.

Two steps. `structure` takes the table apart. Then files and the environment are read for secrets,
and what depends on two keys is checked. Both collect every fault, each with its key and a remedy,
before `ConfigError` is raised.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from bridge.config.schema import structure
from bridge.config.settings import (
    ConfigError,
    ConfigFault,
    ConfigFile,
    Settings,
)
from bridge.config.validation import Validation, readable_by_all


def load(path: Path) -> Settings:
    """Read a configuration file.

    Raises:
        ConfigError: with every fault found.
    """
    table = _read(path)
    settings = from_table(table, str(path), directory=path.parent)
    if _holds_secret(table, settings):
        note = readable_by_all(path, "the configuration file with a secret in it")
        settings = evolve(settings, warnings=(*note, *settings.warnings))
    return settings


def load_domains(path: Path) -> frozenset[str]:
    """Read which components a configuration file has, and no more of it: its secrets may be for
    the daemon's eyes only.

    Raises:
        ConfigError: it cannot be read.
    """
    components = _read(path).get("component")
    return frozenset(components if isinstance(components, dict) else ())


def load_without_secrets(path: Path) -> Settings:
    """Read a configuration file where its components' secrets are not, and not needed; each then
    has another one.

    Raises:
        ConfigError: with every fault found.
    """
    table = _read(path)
    components = table.get("component")
    if isinstance(components, dict):
        for one in components.values():
            if isinstance(one, dict):
                one.pop("component_secret_file", None)
                one["component_secret"] = "not used"
    return from_table(table, str(path), directory=path.parent)


def load_file(path: Path) -> ConfigFile:
    """Read what a configuration file says, and nothing that it names: that may be for the daemon's
    eyes only.

    Raises:
        ConfigError: with every fault found.
    """
    faults: list[ConfigFault] = []
    file = structure(_read(path), faults)
    if faults:
        raise ConfigError(str(path), faults)
    return file


def _read(path: Path) -> dict[str, Any]:
    source = str(path)
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        fault = ConfigFault("", "there is no such file", "Name an existing configuration file")
        raise ConfigError(source, [fault]) from None
    except OSError as error:
        fault = ConfigFault(
            "", f"cannot be read ({error.strerror})", "Check its path and permissions"
        )
        raise ConfigError(source, [fault]) from None
    except UnicodeDecodeError:
        fault = ConfigFault("", "it is not UTF-8 text", "Save it as UTF-8")
        raise ConfigError(source, [fault]) from None
    except tomllib.TOMLDecodeError as error:
        fault = ConfigFault(
            "", f"it is not TOML: {error}", "Mend the syntax there (https://toml.io)"
        )
        raise ConfigError(source, [fault]) from None
    except (ValueError, RecursionError):  # of an integer, of nested brackets: not tomllib's own
        fault = ConfigFault("", "a number or a nesting in it is far too long", "Shorten it")
        raise ConfigError(source, [fault]) from None


def from_table(
    table: Mapping[str, Any],
    source: str,
    *,
    directory: Path,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Make settings of a parsed file; relative paths in it start at `directory`.

    Raises:
        ConfigError: with every fault found.
    """
    reading = Validation(directory, environment)
    file = structure(table, reading.faults)
    settings = reading.settings(file)
    if reading.faults:
        raise ConfigError(source, reading.faults)
    return settings


def _holds_secret(table: Mapping[str, Any], settings: Settings) -> bool:
    """Tell whether the file itself holds one: in a key, in an address, or in a header."""
    headers = table.get("http", {}).get("headers", {})
    return (
        any(
            "component_secret" in one or "webhook_secrets" in one
            for one in table["component"].values()
        )
        or any(one.post_url.authorization is not None for one in settings.components)
        or any(name.lower() == "authorization" for name in headers)
        or any("secret" in one for one in table.get("listen", {}).get("token", ()))
    )
