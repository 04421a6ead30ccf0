"""ejabberd on loopback: no node name, so no epmd; Mnesia in its own directory, no TLS, no s2s."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.process import LOOPBACK, Server, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def missing() -> str | None:
    """Why ejabberd cannot be started here, or None."""
    if shutil.which("erl") is None:
        return "erl is not installed"
    return None if _library() else "ejabberd is not installed"


class Ejabberd(Server):
    """An ejabberd with host `localhost`; see `Server` for its life.

    All components share one listener: without `global_routes=False`, stanzas for one of them reach
    the links of all. `domain_balancing` and `extra` are top-level options; `extra` wins.
    """

    name = "ejabberd"

    def __init__(
        self,
        directory: Path,
        *,
        components: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        muc: str | None = None,
        global_routes: bool = False,
        domain_balancing: Mapping[str, Mapping[str, str | int]] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(directory, components, users, muc)
        self.global_routes = global_routes
        self.domain_balancing = domain_balancing
        self.extra = dict(extra or {})

    def _command(self) -> Sequence[str]:
        return [
            *("erl", "+K", "true", "-noinput"),
            *("-mnesia", "dir", f'"{self.directory / "spool"}"'),
            *("-s", "ejabberd"),
            *("-eval", self._after_start()),
        ]

    def _environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.directory),
            "EJABBERD_CONFIG_PATH": str(self.directory / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.directory / "log" / "ejabberd.log"),
            "EJABBERD_PID_PATH": str(self.directory / "run" / "ejabberd.pid"),
            "ERL_CRASH_DUMP_BYTES": "0",
            "ERL_LIBS": str(_library()),
            "ERL_MAX_PORTS": "32000",
        }

    def _ready_file(self) -> Path:
        return self.directory / "run" / "ready"

    def _configure(self) -> None:
        for name in ("spool", "log", "run"):
            (self.directory / name).mkdir(exist_ok=True)
        write(self.directory / "ejabberd.yml", yaml(self._config()))

    def _config(self) -> dict[str, object]:
        modules: dict[str, object] = {
            name: {} for name in ("mod_disco", "mod_ping", "mod_roster", "mod_version")
        }
        if self.muc is not None:
            modules["mod_muc"] = {"hosts": [self.muc], "access": "all", "access_create": "all"}
        config: dict[str, object] = {
            "hosts": ["localhost"],
            "loglevel": "info",
            "acme": {"auto": False},
            "auth_method": ["mnesia"],
            "s2s_access": "none",
            "listen": self._listen(),
            "modules": modules,
        }
        if self.domain_balancing is not None:
            config["domain_balancing"] = self.domain_balancing
        return config | self.extra

    def _listen(self) -> list[dict[str, object]]:
        listen: list[dict[str, object]] = [
            {
                "port": self.c2s_port,
                "ip": LOOPBACK,
                "module": "ejabberd_c2s",
                "starttls": False,
                "starttls_required": False,
            }
        ]
        service: dict[str, object] = {
            "port": self.component_port,
            "ip": LOOPBACK,
            "module": "ejabberd_service",
            "global_routes": self.global_routes,
            "access": "all",
            "shaper": "none",
            "max_stanza_size": "infinity",
            "hosts": {domain: {"password": secret} for domain, secret in self.components.items()},
        }
        return [*listen, service]

    def _after_start(self) -> str:
        """Erlang that registers the users, unless they are there, and then makes the ready file."""
        users = ",".join(f"{{{_binary(u)},{_binary(p)}}}" for u, p in self.users.items())
        return (
            '[case ejabberd_auth:try_register(User,<<"localhost">>,Password) of'
            " ok -> ok; {error,exists} -> ok end"
            f" || {{User,Password}} <- [{users}]],"
            'ok = file:write_file("run/ready",<<>>).'
        )


def yaml(config: Mapping[str, object]) -> str:
    """`config` as JSON with YAML's escapes, in ASCII: libyaml knows no surrogate pairs."""
    return re.sub(r"[^\n -~]", _escape, json.dumps(config, ensure_ascii=False, indent=1)) + "\n"


def _escape(character: re.Match[str]) -> str:
    return f"\\U{ord(character.group()):08X}"


def _binary(text: str) -> str:
    return "<<" + ",".join(map(str, text.encode())) + ">>"


def _library() -> Path | None:
    """Where Debian keeps ejabberd's applications, /usr/lib/<architecture>."""
    return next((path.parent for path in Path("/usr/lib").glob("*/ejabberd-*/")), None)
