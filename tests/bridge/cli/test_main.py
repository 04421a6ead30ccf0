"""The command line: help, wrong usage, exit codes; never a traceback, never a secret."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from bridge import __version__
from bridge.cli.main import main

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "fixtures" / "config"
BAD_FILES = sorted((FIXTURES / "bad").glob("*.toml"))
HIDDEN = ["s3cret", "hunter2", "k3y"]
COMMANDS = ["run", "check", "demo"]
URL = "http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("XMPP_BRIDGE_SECRET", raising=False)
    yield
    structlog.reset_defaults()


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert isinstance(result.exception, SystemExit | None)
    return result


# --- help


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command: list[str], option: str) -> None:
    result = invoke(*command, option)
    assert (result.exit_code, result.stdout.startswith("Usage: ")) == (0, True)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_documents_the_exit_codes(command: list[str]) -> None:
    text = " ".join(invoke(*command, "--help").output.split())
    assert "0 success, 2 usage or configuration error, 3 the server refused" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_commands(command: str) -> None:
    lines = [line.split()[:1] for line in invoke("--help").output.splitlines()]
    assert [command] in lines


OPTIONS = [
    ("run", "--component"),
    ("run", "--secret-file"),
    ("run", "--server"),
    ("run", "--post-url"),
    ("run", "--state-dir"),
    ("run", "--log-format"),
    ("run", "--log-level"),
    ("check", "--connect"),
    ("demo", "--serve"),
]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_help_names_the_options(command: str, option: str) -> None:
    assert option in invoke(command, "--help").output


def test_help_of_connect_says_what_it_does_to_others() -> None:
    text = " ".join(invoke("check", "--help").output.split())
    assert "This would evict or disturb a running daemon." in text


def test_version() -> None:
    assert invoke("--version").output == f"xmpp-bridge, version {__version__}\n"


# --- wrong usage


USAGE = [
    (["chek"], "There is no command 'chek'. Did you mean 'check'?"),
    (["rum"], "There is no command 'rum'. Did you mean 'run'?"),
    (["demoo"], "There is no command 'demoo'. Did you mean 'demo'?"),
    (["frobnicate"], "There is no command 'frobnicate'. See xmpp-bridge --help."),
    (["bridge.toml"], "There is no command 'bridge.toml'."),
    (["--nonsense"], "No such option"),
    (["run", "--nonsense"], "No such option"),
    (["run", "--log-format", "xml", "b.toml"], "Invalid value for '--log-format'"),
    (["run", "--log-level", "loud", "b.toml"], "Invalid value for '--log-level'"),
    (["run", "a.toml", "b.toml"], "unexpected extra argument"),
    (["check"], "Missing argument 'CONFIG'"),
    (["check", "a.toml", "b.toml"], "unexpected extra argument"),
    (["demo", "bridge.toml"], "unexpected extra argument"),
    (["run"], "Name a configuration file (xmpp-bridge run bridge.toml), or use --component and"),
    (["run", "--component", "bot.x"], "or use --post-url."),
    (["run", "--post-url", URL], "or use --component."),
    (["run", "--secret-file", "f"], "or use --component and --post-url."),
    (["run", "--component", "", "--post-url", ""], "or use --component and --post-url."),
    (
        ["run", "--component", "bot.x", "--post-url", URL],
        "Use --secret-file, or set XMPP_BRIDGE_SECRET in the environment.",
    ),
    (["run", "b.toml", "--component", "x"], "Use either a file or --component, not both."),
    (["run", "b.toml", "--secret-file", "x"], "Use either a file or --secret-file, not both."),
    (["run", "b.toml", "--server", "x"], "Use either a file or --server, not both."),
    (["run", "b.toml", "--post-url", URL], "Use either a file or --post-url, not both."),
    (
        ["run", "b.toml", "--component", "x", "--server", "y"],
        "Use either a file or --component, --server, not both.",
    ),
]


@pytest.mark.parametrize(("arguments", "told"), USAGE)
def test_wrong_usage(arguments: list[str], told: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


# --- bad configurations


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("command", ["run", "check"])
def test_bad_configuration_ends_with_2(command: str, path: Path) -> None:
    result = invoke(command, str(path))
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_each_fault_is_a_line_and_the_last_counts_them(path: Path) -> None:
    *faults, last = invoke("check", str(path)).stderr.splitlines()
    noun = "error" if len(faults) == 1 else "errors"
    assert all(line.startswith(f"{path}: ") for line in faults)
    assert last == f"{len(faults)} {noun} in the configuration."


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("command", ["run", "check"])
def test_bad_configuration_shows_no_secret(command: str, path: Path) -> None:
    output = invoke(command, str(path)).output
    assert [hidden for hidden in HIDDEN if hidden in output] == []


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_file(command: str) -> None:
    result = invoke(command, "none.toml")
    told = "none.toml: there is no such file. Check the path of the configuration file.\n"
    assert (result.exit_code, result.stderr.startswith(told)) == (2, True)


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_directory(command: str, tmp_path: Path) -> None:
    result = invoke(command, str(tmp_path))
    assert (result.exit_code, "cannot be read (Is a directory)" in result.stderr) == (2, True)


BAD_FLAGS = [
    ("--component", "a b", "component.\"a b\": 'a b' is not a valid domain"),
    ("--component", "bot@x", "component.\"bot@x\": 'bot@x' is not a valid domain"),
    ("--post-url", "127.0.0.1:8000", "the URL must begin with http:// or https://"),
    ("--post-url", "http://", "the URL has no host"),
    ("--post-url", "http://u:hunter2@h:99999/", "no valid host or port"),
    ("--server", "127.0.0.1:0", "server: '0' is not a valid port (1 to 65535)"),
    ("--server", "::1", "server: '::1' has more than one colon"),
    ("--secret-file", "none", "cannot be read (No such file or directory)"),
    ("--secret-file", ".", "cannot be read (Is a directory)"),
    ("--secret-file", "empty", "is empty"),
]


@pytest.mark.parametrize(("flag", "value", "told"), BAD_FLAGS)
def test_bad_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, value: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "empty").write_text("\n")
    flags = {"--component": "bot.x", "--secret-file": "secret", "--post-url": URL, flag: value}
    result = invoke("run", *(part for pair in flags.items() for part in pair))
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    assert "hunter2" not in result.output


def test_the_faults_of_flags_name_the_command_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    arguments = ["--component", "a b", "--post-url", "x", "--secret-file", str(secret)]
    *faults, _ = invoke("run", *arguments).stderr.splitlines()
    assert [fault.startswith("command line: ") for fault in faults] == [True, True]


# --- as a process


def start(*arguments: str, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bridge", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("path", [BAD_FILES[0], FIXTURES / "bad" / "everything.toml"])
def test_python_m_bridge_is_the_command(path: Path) -> None:
    with start("run", str(path)) as process:
        out, err = process.communicate()
    assert (process.returncode, out, "Traceback" in err) == (2, "", False)


def log_lines_of_a_run(*arguments: str, environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run until the first failed attempt to attach, then stop by SIGTERM."""
    lines = []
    with start("run", *arguments, environment=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "cannot attach" in line:
                process.send_signal(signal.SIGTERM)
        code = process.wait()
    return code, lines


FLAGS = ["--component", "bot.x", "--server", "127.0.0.1:1"]
FLAGS += ["--post-url", "http://juliet:hunter2@127.0.0.1:1/?key=k3y"]


@pytest.fixture(scope="module", params=["text", "json"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, list[str]]:
    environment = {"XMPP_BRIDGE_SECRET": "s3cret"}
    flags = [*FLAGS, "--state-dir", str(tmp_path_factory.mktemp("state"))]
    return log_lines_of_a_run(*flags, "--log-format", request.param, environment=environment)


def test_run_without_a_file_ends_with_0_after_sigterm(run: tuple[int, list[str]]) -> None:
    assert run[0] == 0


@pytest.mark.parametrize("event", ["starting", "cannot attach", "stopping", "stopped"])
def test_run_logs_what_an_operator_cares_about(run: tuple[int, list[str]], event: str) -> None:
    assert len([line for line in run[1] if event in line.replace('"', " ").split("=")[0]]) >= 1


def test_run_shows_no_secret(run: tuple[int, list[str]]) -> None:
    output = "".join(run[1])
    assert [hidden for hidden in HIDDEN if hidden in output] == []
