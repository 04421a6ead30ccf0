"""`replay` and `show` as commands: what is wrong with a file or an option, Ctrl-C, closed pipes."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from tests.bridge.capture.replay.maker import DOMAIN, Script, conversation, message
from tests.bridge.unprivileged import unprivileged
from tests.fixtures.client import CLIENTS

ROOT = Path(__file__).parents[3]
CAPTURED = ("--answers", "captured")


def run(command: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [command, *map(str, arguments)])


# --- files


def changed(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return change


BAD_FILES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": ("c.xcap", lambda _: b"", "c.xcap: line 1: the file is empty"),
    "binary": ("c.xcap", lambda _: bytes(range(256)), "neither a capture (its first line would be"),
    "version": ("c.xcap", changed("xcap 1", "xcap 2"), "line 1: this is version 2; only 1 can"),
    "a line": (
        "c.xcap",
        changed("0.020000 out", "0.020000 ?"),
        "c.xcap: line 8: this is not a record",
    ),
    "time": ("c.xcap", changed("0.020000 out", "0.000000 out"), "line 8: its time is earlier"),
    "an exchange": ("c.xcap", changed('"attempt":1', '"attempt":0'), "line 13: `attempt` must"),
    "not packed": (
        "c.xcap.gz",
        lambda data: data,
        "its name ends in .gz, but its content does not match",
    ),
    "packed": ("c.xcap", gzip.compress, "it is compressed: its name must end in .gz"),
    "text": ("c.xml", lambda _: b"hello", "neither a capture"),
    "no stanza": ("c.xml", lambda _: b"<foo xmlns='urn:x'/>", "element 1: 'foo' is not a stanza"),
    "no XML": (
        "c.xml",
        lambda _: b"<message><a></message>",
        "after element 0: this is not valid XML",
    ),
    "half XML": ("c.xml", lambda _: b"<message/><message>", "after element 1: the file ends"),
}


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES.keys())
@pytest.mark.parametrize("command", ["replay", "show"])
def test_a_bad_file_is_told_of(
    tmp_path: Path, bad: tuple[str, Callable[[bytes], bytes], str], command: str
) -> None:
    name, change, told = bad
    path = conversation().write(tmp_path / "made.xcap")
    file = tmp_path / name
    file.write_bytes(change(path.read_bytes()))
    options = ["--post-url", "http://127.0.0.1:9/"] if command == "replay" else []
    if name.startswith("c.xcap") and options:
        options = list(CAPTURED)
    result = run(command, file, *options)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    assert told in result.stderr
    assert str(file) in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["replay", "show"])
def test_what_is_no_readable_file(tmp_path: Path, command: str) -> None:
    options = CAPTURED if command == "replay" else ()
    told = run(command, tmp_path, *options)
    assert (told.exit_code, "it cannot be read (Is a directory)" in told.stderr) == (1, True)
    told = run(command, tmp_path / "none.xcap", *options)
    assert (told.exit_code, "(No such file or directory)" in told.stderr) == (1, True)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    path.chmod(0)
    with unprivileged():
        result = run("replay", path, *CAPTURED)
    assert (result.exit_code, "(Permission denied)" in result.stderr) == (1, True)


@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_file_is_replayed_to_its_last_whole_line(tmp_path: Path, packed: bool) -> None:
    data = conversation().write(tmp_path / "c.xcap").read_bytes()
    cut = data[: data.index(b"out <message") + 30]
    path = tmp_path / ("c.xcap.gz" if packed else "cut.xcap")
    path.write_bytes(gzip.compress(data)[:-30] if packed else cut)
    result = run("replay", path, *CAPTURED, "--expect")
    assert result.exit_code == 0, result.output
    assert f"{path}: " in result.output
    assert "the file was cut off" in result.output
    shown = run("show", path)
    assert (shown.exit_code, "the file was cut off" in shown.output) == (0, True)


def test_captured_answers_need_exchanges(tmp_path: Path) -> None:
    script = Script().open().came(message("m1")).stop()
    result = run("replay", script.write(tmp_path / "c.xcap", endpoint=""), *CAPTURED)
    assert result.exit_code == 1
    assert "it has no HTTP exchanges, so there are no captured answers" in result.stderr
    plain = tmp_path / "message.xml"
    plain.write_text(message("m1"))
    assert "it has no HTTP exchanges" in run("replay", plain, *CAPTURED).stderr


def test_standard_input_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["replay", "-", *CAPTURED], input=b"xcap 2\n")
    assert "Error: standard input: line 1: this is version 2" in result.stderr
    result = CliRunner().invoke(main, ["show", "-", "-"], input=b"")
    assert "Error: standard input: it can be read only once" in result.stderr


# --- options


BAD_OPTIONS = {
    ("--speed", "0"): "'0' is not a valid speed. Use a factor such as 1x, 10x or 0.5x, or max.",
    ("--speed", "fast"): "'fast' is not a valid speed",
    ("--speed", "-1"): "'-1' is not a valid speed",
    ("--since", "later"): "'later' is not a valid time. Use seconds (90), a time of day",
    ("--since", "25:00"): "'25:00' is not a valid time",
    ("--only", "@@"): "'@@' is not a valid address: its local part is empty. Use user@example.com",
    ("--kind", "letter"): "'letter' is not one of",
    ("--component-post-stanzas", "letter"): "'letter' is not a kind of stanza. Use some of message",
    ("--post-url", "http://x/"): "Use either --post-url or --answers captured, not both.",
    ("--config", "none.toml"): "there is no such file",
}


@pytest.mark.parametrize(("options", "told"), BAD_OPTIONS.items(), ids=lambda one: str(one)[:30])
def test_a_bad_option_is_a_usage_error(tmp_path: Path, options: tuple[str, str], told: str) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    result = run("replay", path, *CAPTURED, *options)
    assert (result.exit_code, told in " ".join(result.stderr.split())) == (2, True), result.stderr


def test_a_pulled_component_needs_a_url_to_replay_against(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    config = tmp_path / "bridge.toml"
    config.write_text(
        f'[component."{DOMAIN}"]\ncomponent_secret = "s"\ncomponent_post_url = "pull:"\n'
        '[listen]\naddress = "127.0.0.1:5280"\n'
    )
    result = run("replay", path, "--config", config)
    assert result.exit_code == 2
    told = f"{DOMAIN} is pulled, so there is no endpoint to POST to: use --post-url URL."
    assert told in " ".join(result.output.split())


def test_it_must_be_said_who_answers(tmp_path: Path) -> None:
    result = run("replay", conversation().write(tmp_path / "c.xcap"))
    assert result.exit_code == 2
    assert "Use --post-url URL, --answers captured, or --config CONFIG." in result.stderr


# --- processes


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "bridge", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ)
    )


def test_ctrl_c_ends_it_with_a_summary(tmp_path: Path) -> None:
    script = Script().open().came(message("m1")).wait(600).stop()
    path = script.write(tmp_path / "c.xcap")
    options = ("--post-url", "http://127.0.0.1:9/", "-v", "--json")
    with start("replay", path, *options) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "attached" in line:
                break
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=60)
    found = json.loads(told)
    assert (process.returncode, found["connections"]) == (130, 1)
    assert "interrupted: the replay is not complete" in found["notes"]
    assert "Traceback" not in errors


def test_show_may_be_left_early(tmp_path: Path) -> None:
    script = Script().open()
    for number in range(5000):
        script.came(message(f"m{number}"))
    path = script.stop().write(tmp_path / "c.xcap")
    with start("show", path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


# --- what show shows


def test_show_is_a_conversation(tmp_path: Path) -> None:
    result = run("show", conversation().write(tmp_path / "c.xcap"))
    lines = [line.rstrip() for line in result.output.splitlines()]
    assert lines[2:7] == [
        "17:20:00.010 • open 127.0.0.1:5347",
        f"17:20:00.020 ← stream begins: to='{DOMAIN}'",
        f"17:20:00.030 → stream begins: from='{DOMAIN}' id='i'",
        "17:20:00.040 ← handshake",
        "17:20:00.050 → handshake",
    ]
    assert lines[7:12] == [
        f"17:20:00.060 → message chat juliet@localhost/balcony (to echo@{DOMAIN}) id m1",
        "               <body>hi</body>",
        '               ↳ POST after 5 ms: 200 in 5 ms {"body":"yes"}',
        f"17:20:00.080 ← message chat juliet@localhost/balcony (from echo@{DOMAIN}) id msg_a1-1",
        "               <body>yes</body>",
    ]
    assert lines[-1] == "17:20:00.160 • end the peer ended the stream"


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("conversations-message", "id 5a1c"),
        ("conversations-correction", "id 5a1d [edit]"),
        ("conversations-reaction", "id 5a21 [reaction]"),
        ("conversations-omemo", "id 5a1f [encrypted]"),
        ("conversations-key-transport", "id 5a20"),
        ("dino-typing", "(to bot@b.example) [typing]"),
        ("movim-subscription", "id v-2"),
        ("server-bounce", "id m-out-1"),
    ],
)
def test_show_says_what_a_stanza_is(tmp_path: Path, name: str, end: str) -> None:
    script = Script().open().came((CLIENTS / f"{name}.xml").read_text().strip())
    lines = run("show", script.stop().write(tmp_path / "c.xcap")).output.splitlines()
    [head] = [line for line in lines if "→ message" in line or "→ presence" in line]
    assert head.endswith(end)


def test_show_shows_a_part(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    assert "message" not in run("show", path, "--kind", "iq").output.partition("open")[2]
    assert "message" not in run("show", path, "--only", "x@y").output.partition("open")[2]
    since = run("show", path, "--since", "0.115").output
    assert ("id m2" in since, "id m3" in since) == (False, True)


def test_show_gives_a_terminal_nothing_but_visible_characters(tmp_path: Path) -> None:
    script = Script().open()
    script.came(f"<message to='a@{DOMAIN}' from='x@y/\x9b2J\u202e' id='\x9b31m'/>")
    script.came(message("m2", "\x9b2J")).posted("msg_a2", "m2", {"body": "\x1b[2J"}, body="\x9b2J")
    script.put("link", "end \x1b[2J").put("note", "\x1b]0;x\x07")
    result = run("show", script.write(tmp_path / "\x1bc.xcap"))
    assert result.exit_code == 0
    assert all(c.isprintable() or c == "\n" for c in result.output)
    assert "\\x9b31m" in result.output


def test_show_cuts_what_is_long(tmp_path: Path) -> None:
    path = Script().open().came(message("m1", "x" * 5000)).stop().write(tmp_path / "c.xcap")
    short, full = run("show", path).output, run("show", path, "--full").output
    assert "x" * 5000 in full
    assert ("x" * 300 in short, "(5013 characters; --full shows all)" in short) == (False, True)


def test_show_tells_of_attempts_and_of_what_broke(tmp_path: Path) -> None:
    script = Script().open().came(message("m1")).posted("msg_a1", "m1", status=503)
    script.wait(200).posted("msg_a1", "m1", {"body": "yes"}, attempt=2, received=0.06)
    script.came("<broken")
    script.came("/></>")
    lines = run("show", script.write(tmp_path / "c.xcap")).output
    assert "↳ POST after 5 ms: 503 in 5 ms" in lines
    assert '↳ POST, attempt 2: 200 in 5 ms {"body":"yes"}' in lines
    assert "cannot be read any further: not-well-formed" in lines
