"""The flags of `run` that have it record: what they say is what is done, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from bridge.capture.retention import CaptureOptions
from bridge.cli.main import main
from bridge.cli.run import capture_flags, options_of
from bridge.cli.settings import settings_of
from bridge.config.event import ALL_EVENTS
from tests.bridge.capture.test_recorder import COMPONENT
from tests.bridge.unprivileged import open_directory, unprivileged

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XMPP_BRIDGE_SECRET", "s3cret")
    yield
    structlog.reset_defaults()


def parsed(*arguments: str) -> tuple[Result, CaptureOptions | None]:
    """What a command with the flags makes of them."""
    found: list[CaptureOptions | None] = []

    @click.command()
    @capture_flags
    def command(**flags: Any) -> None:
        found.append(options_of(flags))

    result = CliRunner().invoke(command, arguments)
    return result, found[0] if found else None


def run(directory: Path, *arguments: str) -> Result:
    """`run`, where no server listens: it must not even try."""
    flags = ["--component", "bot.example", "--server", "127.0.0.1:1", "--post-url", "http://x/"]
    return CliRunner().invoke(
        main, ["run", *flags, "--state-dir", str(directory / "state"), *arguments]
    )


@pytest.mark.parametrize(
    ("words", "events"),
    [("all", ALL_EVENTS), ("message", {"message"}), ("message, reaction", {"message", "reaction"})],
)
def test_which_events_are_posted_by_flags(words: str, events: set[str]) -> None:
    flags = {"--component": "bot.example", "--post-url": "http://x/", "--post-events": words}
    settings = settings_of(None, {"--secret-file": None, "--server": None, **flags})
    assert [one.post_events for one in settings.components] == [events]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["x.toml", "--post-events", "all"], "not both"),
        (["--post-events", "message"], "use --component and --post-url"),
    ],
)
def test_a_wrong_use_of_post_events(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, ["run", *arguments])
    assert result.exit_code == 2
    assert problem in result.output


def test_without_capture_there_is_none() -> None:
    result, options = parsed()
    assert (result.exit_code, options) == (0, None)


def test_a_directory_is_enough() -> None:
    assert parsed("--capture", "x")[1] == CaptureOptions(Path("x"), 64 * MIB, 1024 * MIB)


def test_all_of_it_can_be_said() -> None:
    _, options = parsed(
        *["--capture", "x", "--redact", "--capture-format", "zst"],
        *["--capture-rotate-bytes", "1M", "--capture-max-bytes", "10M"],
    )
    assert options == CaptureOptions(Path("x"), MIB, 10 * MIB, "zst", redacted=True)


@pytest.mark.parametrize(
    "flag",
    [
        ["--redact"],
        ["--capture-format", "gz"],
        ["--capture-rotate-bytes", "1M"],
        ["--capture-max-bytes", "1M"],
    ],
)
def test_the_others_are_for_captures(flag: list[str]) -> None:
    result, _ = parsed(*flag)
    assert result.exit_code == 2
    assert f"{flag[0]} is for captures: use it with --capture DIR." in result.output


def test_two_files_must_fit() -> None:
    result, _ = parsed(
        "--capture", "x", "--capture-rotate-bytes", "6M", "--capture-max-bytes", "10M"
    )
    assert result.exit_code == 2
    assert "--capture-max-bytes 10M must have room for two files of 6M" in result.output


def test_the_bound_alone_makes_files_smaller() -> None:
    result, options = parsed("--capture", "x", "--capture-max-bytes", "1M")
    assert (result.exit_code, options) == (0, CaptureOptions(Path("x"), 64 * MIB, MIB))


@pytest.mark.parametrize("flag", ["--capture-rotate-bytes", "--capture-max-bytes"])
@pytest.mark.parametrize(
    ("size", "problem"), [("64", "'64' is less than 64K."), ("much", "'much' is not a valid size")]
)
def test_sizes_are_checked(flag: str, size: str, problem: str) -> None:
    result, _ = parsed("--capture", "x", flag, size)
    assert result.exit_code == 2
    assert f"Invalid value for '{flag}': {problem}" in result.output


def test_formats_are_checked() -> None:
    result, _ = parsed("--capture", "x", "--capture-format", "rar")
    assert result.exit_code == 2
    assert "'rar' is not one of 'plain', 'gz', 'zst'" in result.output


# --- a directory that cannot be used: told before anything is attached


def refusal(directory: Path, path: Path) -> str:
    result = run(directory, "--capture", str(path))
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert "starting" not in result.output
    return result.output


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "captures"
    path.touch()
    assert f"Error: --capture: {path} is not a directory.\n" in refusal(tmp_path, path)


def test_its_parent_must_be_there(tmp_path: Path) -> None:
    output = refusal(tmp_path, tmp_path / "a" / "b")
    assert f"Error: --capture: {tmp_path}/a does not exist; create it first.\n" in output


def test_it_must_be_writable() -> None:
    with open_directory() as directory:
        path, state = directory / "captures", directory / "x"
        path.mkdir(mode=0o555)
        state.mkdir()
        state.chmod(0o777)
        with unprivileged():
            output = refusal(state, path)
    assert f"Error: --capture: {path}/bot.example-" in output
    assert "it cannot be written (Permission denied)." in output


def test_one_that_others_can_read_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bridge.cli.run import open_recording
    from bridge.telemetry.log import configure

    configure("text", "info")
    path = tmp_path / "captures"
    path.mkdir()
    path.chmod(0o755)
    recording = open_recording(CaptureOptions(path), (COMPONENT,))
    assert recording is not None
    [one] = recording.recorders.values()
    one._rotation.writer.end()
    assert f"other users have access to {path}" in capsys.readouterr().err
