"""The unit file: read as systemd reads it, and by systemd itself where that is there."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from bridge.cli.main import main
from bridge.cli.unit import CREDENTIALS, installed_command, unit_of
from bridge.config.loader import load_file

COMMAND: Final = "/opt/xmpp-bridge/bin/xmpp-bridge"
CONFIG: Final = Path("/etc/xmpp-bridge/bridge.toml")
COMPONENT: Final = """
[component."bot.example"]
component_post_url = "http://127.0.0.1/"
"""


def directives(unit: str) -> dict[str, list[str]]:
    """Give the values of each key, without comments."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        assert line == line.rstrip()
        if line and not line.startswith(("#", "[")):
            key, equals, value = line.partition("=")
            assert equals, line
            found.setdefault(key, []).append(value)
    return found


def unit_for(tmp_path: Path, text: str) -> tuple[str, dict[str, list[str]]]:
    file = tmp_path / "bridge.toml"
    file.write_text(text)
    unit = unit_of(file, load_file(file), COMMAND)
    return unit, directives(unit)


def test_what_it_says() -> None:
    found = directives(unit_of(None, None, COMMAND))
    assert found["Type"] == ["notify"]
    assert found["NotifyAccess"] == ["main"]
    assert found["ExecStart"] == [f"{COMMAND} run {CONFIG}"]
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert found["Restart"] == ["on-failure"]
    assert found["RestartPreventExitStatus"] == ["2"]
    assert found["WatchdogSec"] == ["60"]
    assert found["TimeoutStopSec"] == ["15"]
    assert found["StateDirectory"] == ["xmpp-bridge"]
    assert found["LoadCredential"] == ["secret:/etc/xmpp-bridge/secret"]
    for name in ("DynamicUser", "NoNewPrivileges", "MemoryDenyWriteExecute", "ProtectHome"):
        assert found[name] == ["yes"], name
    assert found["ProtectSystem"] == ["strict"]
    assert found["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert found["CapabilityBoundingSet"] == [""]
    assert "RuntimeDirectory" not in found


@pytest.mark.parametrize(("value", "prevented"), [("true", "2 3"), ("false", "2")])
def test_a_refusal_is_final_only_on_demand(tmp_path: Path, value: str, prevented: str) -> None:
    _, found = unit_for(tmp_path, f"{COMPONENT}[stream]\nexit_on_refusal = {value}\n")
    assert found["RestartPreventExitStatus"] == [prevented]


@pytest.mark.parametrize(("grace_s", "stop_s"), [("5.0", "15"), ("60", "70"), ("0.5", "11")])
def test_it_waits_longer_than_the_grace(tmp_path: Path, grace_s: str, stop_s: str) -> None:
    _, found = unit_for(tmp_path, f"{COMPONENT}[stream]\ngrace_s = {grace_s}\n")
    assert found["TimeoutStopSec"] == [stop_s]


def test_secrets_of_files_are_passed_on(tmp_path: Path) -> None:
    unit, found = unit_for(
        tmp_path,
        """
        [component."a.example"]
        component_post_url = "http://127.0.0.1/"
        component_secret_file = "/run/credentials/xmpp-bridge.service/a-secret"
        webhook_secrets_file = "hooks"
        [component."b.example"]
        component_post_url = "http://127.0.0.1/"
        component_secret_file = "other/hooks"
        [http]
        client_cert_file = "client.pem"
        [http.headers]
        Authorization_file = "hooks"
        """,
    )
    assert found["LoadCredential"] == [
        f"a-secret:{tmp_path}/a-secret",
        f"hooks:{tmp_path}/hooks",
        f"hooks-2:{tmp_path}/other/hooks",
        f"client.pem:{tmp_path}/client.pem",
    ]
    shown = '# In bridge.toml: webhook_secrets_file = "/run/credentials/xmpp-bridge.service/hooks"'
    assert shown in unit
    assert "a-secret" not in "".join(line for line in unit.splitlines() if line.startswith("#"))


def test_secret_files_of_a_components_http_are_passed_on(tmp_path: Path) -> None:
    text = """
    [component."a.example"]
    component_secret_file = "/s/secret"
    component_post_url = "http://127.0.0.1/"
    [component."a.example".http]
    client_cert_file = "/s/both.pem"
    [component."a.example".http.headers]
    Authorization_file = "/s/token"
    X-Plain = "not-a-file"
    X-Api-Key = "hush"
    """
    unit, found = unit_for(tmp_path, text)
    assert "# The header X-Api-Key is in that file: move it to a file, X-Api-Key_file." in unit
    assert "X-Plain" not in unit
    assert "hush" not in unit
    assert found["LoadCredential"] == [
        "secret:/s/secret",
        "token:/s/token",
        "both.pem:/s/both.pem",
    ]


def test_a_secret_in_the_file_is_named_but_not_shown(tmp_path: Path) -> None:
    unit, _ = unit_for(tmp_path, f'{COMPONENT}component_secret = "hush"\n')
    assert "The secret of bot.example is in that file" in unit
    assert "hush" not in unit


def test_the_url_of_the_journal_is_passed_on(tmp_path: Path) -> None:
    unit, found = unit_for(tmp_path, f'{COMPONENT}[journal]\nurl_file = "url"\n')
    assert found["LoadCredential"][-1] == f"url:{tmp_path}/url"
    assert f'# In bridge.toml: url_file = "{CREDENTIALS}/url"' in unit
    assert found["After"] == [
        "network-online.target prosody.service ejabberd.service postgresql.service"
    ]


def test_the_url_of_the_journal_in_the_file_is_named_but_not_shown(tmp_path: Path) -> None:
    url = "postgresql://bridge:hunter2@db.example.com/bridge"
    unit, found = unit_for(tmp_path, f'{COMPONENT}[journal]\nurl = "{url}"\n')
    assert "# The URL of the journal is in that file: move it to a file, url_file." in unit
    assert "hunter2" not in unit
    assert found["After"][0].endswith(" postgresql.service")


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:80", "CAP_NET_BIND_SERVICE"), ("127.0.0.1:5280", ""), ("[::1]:0", "")],
)
def test_a_low_port_takes_a_capability(tmp_path: Path, address: str, expected: str) -> None:
    _, found = unit_for(tmp_path, f'{COMPONENT}[listen]\naddress = "{address}"\n')
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == [expected]


def test_a_listener_s_socket_has_a_directory(tmp_path: Path) -> None:
    _, found = unit_for(tmp_path, f'{COMPONENT}[listen]\naddress = "unix:/run/xmpp-bridge/s"\n')
    assert found["RuntimeDirectory"] == ["xmpp-bridge"]


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/etc/a b.toml", '"/etc/a b.toml"'),
        ("/etc/100%$x.toml", "/etc/100%%$$x.toml"),
        ('/etc/"q"\\.toml', '"/etc/\\"q\\"\\\\.toml"'),
    ],
)
def test_a_path_is_one_word(path: str, word: str) -> None:
    unit = unit_of(Path(path), None, COMMAND)
    assert directives(unit)["ExecStart"] == [f"{COMMAND} run {word}"]


@pytest.mark.parametrize("command", [COMMAND, "/home/me/venv/bin/xmpp-bridge"])
def test_a_home_is_hidden_unless_the_command_is_in_it(command: str) -> None:
    home = directives(unit_of(None, None, command))["ProtectHome"]
    assert home == ["read-only" if command.startswith("/home") else "yes"]


def test_the_command_by_its_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert installed_command(COMMAND, "/usr/bin/python3") == COMMAND
    assert installed_command("bin/xmpp-bridge", "python") == f"{tmp_path}/bin/xmpp-bridge"
    module = installed_command("/site/bridge/__main__.py", "/usr/bin/python3")
    assert module == "/usr/bin/python3 -m bridge"


def test_paths_are_normalised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    text = f'{COMPONENT}component_secret_file = "etc/./../secrets/bot"\n'
    (tmp_path / "bridge.toml").write_text(text)
    file = Path("../a/.././bridge.toml")
    unit = unit_of(file, load_file(file), COMMAND)
    found = directives(unit)
    assert found["ExecStart"] == [f"{COMMAND} run {tmp_path}/bridge.toml"]
    assert found["LoadCredential"] == [f"bot:{tmp_path}/secrets/bot"]
    assert installed_command("../a/../bin/xmpp-bridge", "python") == f"{tmp_path}/bin/xmpp-bridge"
    assert ".." not in unit


def test_a_path_through_a_symbolic_link_is_not_changed_in_meaning(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "real" / "bridge.toml").write_text(COMPONENT)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below")
    file = tmp_path / "link" / ".." / "bridge.toml"
    found = directives(unit_of(file, load_file(file), COMMAND))
    assert found["ExecStart"] == [f"{COMMAND} run {tmp_path}/real/bridge.toml"]


def test_by_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(f'{COMPONENT}component_secret_file = "not there"\n')  # it is root's
    result = CliRunner().invoke(main, ["print-unit", str(file)])
    assert result.exit_code == 0
    assert directives(result.output)["ExecStart"][0].endswith(f" run {file}")
    file.write_text("streem = 1")
    result = CliRunner().invoke(main, ["print-unit", str(file)])
    assert result.exit_code == 2
    assert f"{file}: streem: this key is unknown. Perhaps you meant stream" in result.output


@pytest.mark.systemd
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("text", ["", COMPONENT + "[stream]\ngrace_s = 60\n"])
def test_systemd_takes_it(tmp_path: Path, text: str) -> None:
    command = tmp_path / "xmpp bridge"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit, _ = unit_for(tmp_path, text)
    unit = unit.replace(COMMAND, installed_command(str(command), "python"))
    file = tmp_path / "xmpp-bridge.service"
    file.write_text(unit)
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(file)]
    result = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
