"""The unit file for systemd: how the daemon is started, watched, reloaded and sandboxed.

For systemd 252 (Debian 12) and later. It uses `Type=notify`, which also understands the messages of
a reload; `Type=notify-reload` needs 253. The sandbox forbids everything that the daemon never does:
it needs only Internet and Unix sockets, and its state directory.
"""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from attrs import frozen

from bridge.cli.exit import EXIT_CODES
from bridge.cli.settings import config_argument, fail
from bridge.config.loader import load_file
from bridge.config.settings import ConfigError, ConfigFile, HttpTable
from bridge.config.value import is_secret_header

NAME: Final = "xmpp-bridge"
CREDENTIALS: Final = f"/run/credentials/{NAME}.service"
WATCHDOG_S: Final = 60
_DEFAULT_CONFIG: Final = Path("/etc/xmpp-bridge/bridge.toml")
_AFTER_GRACE_S: Final = 10  # 2 s for the streams and the journal, the rest is reserve
_HOMES: Final = ("/home", "/root", "/run/user")
_LAST_PRIVILEGED_PORT: Final = 1023

_SANDBOX: Final = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
"""


@frozen
class _Credential:
    """A file with a secret: its configuration key, its name as a credential, its path."""

    key: str
    name: str
    path: Path

    @property
    def is_given(self) -> bool:
        """Whether the configuration already uses systemd's path of the credential."""
        return self.path.is_relative_to("/run/credentials")


def unit_of(config: Path | None, file: ConfigFile | None, command: str) -> str:
    """Return the unit that runs `command` with the file `config`, whose content is `file`."""
    path = _DEFAULT_CONFIG if config is None else normalised(config)
    file = file or ConfigFile()
    stop_s = math.ceil(file.stream.grace_s) + _AFTER_GRACE_S
    parts = [
        *_notes(path, file),
        "[Unit]",
        "Description=xmpp-bridge: an HTTP service behind XMPP",
        "Wants=network-online.target",
        f"After=network-online.target prosody.service ejabberd.service{_database(file)}",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={command} run {_quoted(str(path))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartSec=2",
        *_prevented_restarts(file),
        f"WatchdogSec={WATCHDOG_S}",
        f"# Longer than grace_s of [stream] ({file.stream.grace_s:g}) and the shutdown after it.",
        f"TimeoutStopSec={stop_s}",
        "",
        "DynamicUser=yes",
        f"StateDirectory={NAME}",
        "StateDirectoryMode=0700",
        *_credential_lines(path, file),
        *_listener_lines(file),
        _SANDBOX.format(home=_home(path, command), capabilities=_capabilities(file)),
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(parts) + "\n"


def normalised(path: Path) -> Path:
    """Return an absolute path without `.` and `..`, which systemd refuses in some directives.

    After a symbolic link, `..` may lead elsewhere than it seems: such a path is resolved.
    """
    plain = Path(os.path.normpath(path.absolute()))
    if ".." in path.parts and path.exists() and not (plain.exists() and plain.samefile(path)):
        return path.resolve()
    return plain


def installed_command(program: str, python: str) -> str:
    """Return a command with absolute paths for this program; `program` is `sys.argv[0]`."""
    script = normalised(Path(program))
    if script.name == "__main__.py":
        return f"{_quoted(python)} -m {script.parent.name}"
    return _quoted(str(script))


def _notes(path: Path, file: ConfigFile) -> Iterator[str]:
    yield f"# /etc/systemd/system/{NAME}.service, as `xmpp-bridge print-unit` wrote it."
    yield f"# The service user must be able to read {path}: chmod 644 it, and"
    yield "# keep no secrets in it: put them in files of root, which LoadCredential= passes on."
    for domain, table in file.component.items():
        if table.component_secret is not None:
            yield f"# The secret of {domain} is in that file: move it to a file of its own."
    for http in _http_tables(file):
        for name in filter(is_secret_header, http.headers):
            yield f"# The header {name} is in that file: move it to a file, {name}_file."
    if file.journal.url is not None:
        yield "# The URL of the journal is in that file: move it to a file, url_file."
    yield ""


def _database(file: ConfigFile) -> str:
    """Return the service of the journal's database, if it may be on this machine."""
    has_url = file.journal.url is not None or file.journal.url_file is not None
    return " postgresql.service" if has_url else ""


def _credential_lines(path: Path, file: ConfigFile) -> Iterator[str]:
    """Yield lines that pass on the secrets. systemd copies them: only a restart updates them."""
    for one in _credentials(path, file):
        if one.is_given:
            yield f"LoadCredential={one.name}:{normalised(path.parent / one.name)}"
        else:
            yield f'# In {path.name}: {one.key} = "{CREDENTIALS}/{one.name}"'
            yield f"LoadCredential={one.name}:{one.path}"
    if not file.component:
        yield f'# component_secret_file = "{CREDENTIALS}/secret"'
        yield f"LoadCredential=secret:{path.parent / 'secret'}"


def _credentials(path: Path, file: ConfigFile) -> Iterator[_Credential]:
    """Yield each file with a secret once, under a unique name."""
    seen: dict[Path, str] = {}
    for key, text in _secret_files(file):
        place = normalised(path.parent / text)
        if place in seen:
            continue
        name = place.name
        while name in seen.values():
            name += "-2"
        seen[place] = name
        yield _Credential(key, name, place)


def _secret_files(file: ConfigFile) -> Iterator[tuple[str, str]]:
    for table in file.component.values():
        for key in ("component_secret_file", "webhook_secrets_file"):
            if (text := getattr(table, key)) is not None:
                yield key, text
    for http in _http_tables(file):
        for name, text in http.headers.items():
            if name.endswith("_file"):
                yield name, text
        if http.client_cert_file is not None:
            key = "client_cert_file" if http.client_key_file is None else "client_key_file"
            yield key, getattr(http, key)
    for token in () if file.listen is None else file.listen.token:
        if token.secret_file is not None:
            yield "secret_file", token.secret_file
    if file.journal.url_file is not None:
        yield "url_file", file.journal.url_file


def _http_tables(file: ConfigFile) -> Iterator[HttpTable]:
    yield file.http
    yield from (table.http for table in file.component.values() if table.http is not None)


def _prevented_restarts(file: ConfigFile) -> Iterator[str]:
    if file.stream.exit_on_refusal:
        yield "# 2 is a configuration error, 3 a refusal by the server: a restart does not help."
        yield "RestartPreventExitStatus=2 3"
    else:
        yield "# 2 is a configuration error: a restart does not help."
        yield "RestartPreventExitStatus=2"


def _listener_lines(file: ConfigFile) -> Iterator[str]:
    if file.listen is not None and (file.listen.address or "").startswith("unix:"):
        yield f"# For a socket in /run/{NAME}. To give a group access, use another directory."
        yield f"RuntimeDirectory={NAME}"


def _capabilities(file: ConfigFile) -> str:
    """Return the capability to listen on a privileged port, "" if it is not needed."""
    address = "" if file.listen is None else file.listen.address or ""
    _, _, port = address.rpartition(":")
    low = port.isascii() and port.isdigit() and 0 < int(port[:6]) <= _LAST_PRIVILEGED_PORT
    return "CAP_NET_BIND_SERVICE" if low else ""


def _home(config: Path, command: str) -> str:
    """Return the value of `ProtectHome`: hide home directories unless a file in one is needed."""
    needed = any(one.startswith(_HOMES) for one in (str(config), command))
    return "read-only" if needed else "yes"


def _quoted(text: str) -> str:
    """Return a quoted word of a command line; systemd expands `%` and `$`."""
    text = text.replace("%", "%%").replace("$", "$$")
    if any(character.isspace() or character in "\"'\\;" for character in text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


@click.command("print-unit", epilog=EXIT_CODES)
@config_argument
def print_unit(config: Path | None) -> None:
    """Print a sandboxed unit file for systemd.

    \b
    xmpp-bridge print-unit /etc/xmpp-bridge/bridge.toml \\
        > /etc/systemd/system/xmpp-bridge.service

    For systemd 252 or later. With CONFIG, the unit fits that file: its path, secrets and listener.
    """
    try:
        file = None if config is None else load_file(config)
    except ConfigError as error:
        fail(error)
    click.echo(unit_of(config, file, installed_command(sys.argv[0], sys.executable)), nl=False)
