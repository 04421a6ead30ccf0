"""Prosody on loopback: internal storage, plain passwords, no TLS, no s2s, no HTTP."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from tests.servers.process import LOOPBACK, Server, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def missing() -> str | None:
    """Why Prosody cannot be started here, or None."""
    return None if shutil.which("prosody") else "prosody is not installed"


class Prosody(Server):
    """A Prosody with VirtualHost `localhost`; see `Server` for its life.

    `component_settings` holds raw Lua lines for the section of a domain: a component, the `muc`
    or `localhost`. `extra` is raw Lua before all sections. `log_level` is the least that is logged.
    """

    name = "prosody"

    def __init__(
        self,
        directory: Path,
        *,
        components: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        muc: str | None = None,
        component_settings: Mapping[str, Sequence[str]] | None = None,
        extra: str = "",
        log_level: str = "debug",
    ) -> None:
        super().__init__(directory, components, users, muc)
        self.component_settings = {
            domain: list(lines) for domain, lines in (component_settings or {}).items()
        }
        self.extra = extra
        self.log_level = log_level

    @property
    def pid(self) -> int:
        """The process, which runs."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def _command(self) -> Sequence[str]:
        return ["prosody", "-F", "--config", str(self._config_path)]

    @property
    def _config_path(self) -> Path:
        return self.directory / "prosody.cfg.lua"

    def _configure(self) -> None:
        write(self._config_path, self._config())
        for user, password in self.users.items():
            account = self.directory / "data" / "localhost" / "accounts" / f"{_stored(user)}.dat"
            if not account.exists():
                write(account, f'return {{ ["password"] = {quoted(password)}; }};\n')

    def _config(self) -> str:
        lines = [
            f"data_path = {quoted(str(self.directory / 'data'))}",
            f"pidfile = {quoted(str(self.directory / 'prosody.pid'))}",
            'log = { { to = "console", timestamps = "%H:%M:%S",'
            f" levels = {{ min = {quoted(self.log_level)} }} }} }}",
            f"interfaces = {{ {quoted(LOOPBACK)} }}",
            f"component_interfaces = {{ {quoted(LOOPBACK)} }}",
            f"component_ports = {{ {self.component_port} }}",
            f"c2s_ports = {{ {self.c2s_port} }}",
            "c2s_direct_tls_ports = {}",
            "s2s_ports = {}",
            "s2s_direct_tls_ports = {}",
            'modules_enabled = { "roster", "saslauth", "disco", "ping" }',
            'modules_disabled = { "s2s" }',
            'authentication = "internal_plain"',
            "c2s_require_encryption = false",
            "allow_unencrypted_plain_auth = true",
        ]
        if os.geteuid() == 0:
            lines.append("run_as_root = true")
        lines.append(self.extra)
        lines += self._section('VirtualHost "localhost"', "localhost")
        for domain, secret in self.components.items():
            lines += self._section(f"Component {quoted(domain)}", domain)
            lines.append(f"component_secret = {quoted(secret)}")
        if self.muc is not None:
            lines += self._section(f'Component {quoted(self.muc)} "muc"', self.muc)
            lines += ["muc_room_locking = false", "restrict_room_creation = false"]
        return "\n".join(lines) + "\n"

    def _section(self, opening: str, domain: str) -> list[str]:
        return ["", opening, *self.component_settings.get(domain, [])]


def quoted(text: str) -> str:
    """`text` as a Lua string: every byte of its UTF-8 that Lua might read otherwise is escaped."""
    return '"' + re.sub(rb"[^\w ./:-]", _decimal, text.encode()).decode("ascii") + '"'


def _decimal(byte: re.Match[bytes]) -> bytes:
    return b"\\%03d" % ord(byte.group())


def _stored(user: str) -> str:
    """The file name of a user: Prosody writes all but ASCII letters and digits as %xx."""
    return re.sub(
        rb"[^A-Za-z0-9]", lambda byte: b"%%%02x" % ord(byte.group()), user.encode()
    ).decode()
