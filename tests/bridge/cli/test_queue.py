"""`queue`: on a stopped daemon's journal, beside a running one, at a terminal, and in trouble."""

import json
import os
import pty
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
import trio
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console
from trio.testing import MockClock

from bridge.cli import queue_table as view
from bridge.cli.main import main
from bridge.cli.queue_client import PATIENCE_S, open_queue
from bridge.config.settings import Component, RetrySettings, Settings
from bridge.config.value import PostUrl, Secret
from bridge.daemon.control import AnyRequest, AskStatus, ControlError, connect, serve
from bridge.daemon.daemon import Daemon
from bridge.daemon.status import DaemonStatus
from bridge.journal.admin import PAGE_BYTES, QueueAdmin
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.directory import StateDirectory, StateDirectoryError
from bridge.journal.request import UIDS_LIMIT, Holdings, Item, ListQueue, ListTotals, Page
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.storage import open_storage
from bridge.journal.store import Abandon, Attempted, Operation, Settle
from bridge.payload.request import body_of
from bridge.xmpp.outbox import Outgoing
from tests.bridge.http_server import Exchange, HttpServer, response
from tests.bridge.leak import until
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from tests.bridge.unprivileged import open_directory, unprivileged
from tests.bridge.xmpp_server import SECRET, XmppServer

ROOT: Final = Path(__file__).parents[3]
BOT: Final = "bot.example"
OLD: Final = "old.example"
NASTY: Final = "\x1b[2J\x9b31m\u202e\r\n\t\x7f\U000e0041"
CONFIG: Final = f'[component."{BOT}"]\ncomponent_secret_file = "/run/nobody/may/read"\n'


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    yield
    structlog.reset_defaults()


def entry(uid: str, component: str = BOT, kind: str = "message", **more: Any) -> Delivery:
    xml = f"<{kind}><body>to be, or not to be: {uid}</body></{kind}>"
    from_, to = "juliet@capulet.example/x", f"echo@{component}"
    return replace(Delivery.stored(uid, component, kind, from_, to, "m1", "en", xml, 1e9), **more)


def died(one: Delivery, when: float = 1e9 + 10) -> list[Operation]:
    """Give what makes a dead letter."""
    attempt = Attempted(one.uid, Attempt(1e9 + 5, "status 500"))
    return [one, attempt, Settle(one.uid, (), when, "status 500")]


DEAD: Final = entry("msg_dead01")
PENDING: Final = entry("msg_pend01")
IQ: Final = entry("msg_iq01", kind="iq")
ORPHAN: Final = entry("msg_orph01", OLD)
REFUSED: Final = entry("msg_repl01")
UNCONFIRMED: Final = entry("msg_unco01")
REPLY: Final = (
    b"<message xml:lang='en' from='echo@bot.example/d&apos;oh' to='juliet@capulet.example/a&lt;b'"
    b" id='r1'><body from='x' to='y'>hi</body></message>"
)
ALL: Final[list[Operation]] = [
    *died(DEAD),
    *died(IQ),
    *died(ORPHAN),
    REFUSED,
    Settle(REFUSED.uid, (Outgoing(b"<message>bad</message>", 1e9 + 1, BOT, REFUSED.uid, 1),)),
    Abandon(REFUSED.uid, 1, 1e9 + 20, "it broke the stream"),
    PENDING,
    Attempted(PENDING.uid, Attempt(1e9 + 6, "no connection")),
    UNCONFIRMED,
    Settle(UNCONFIRMED.uid, (Outgoing(REPLY, 1e9 + 1, BOT, UNCONFIRMED.uid, 1),)),
]


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


def fill(directory: StateDirectory, operations: list[Operation]) -> None:
    """Have a daemon's journal there, as one that has stopped leaves it."""
    with directory.lock(), closing(SqliteStore(directory.journal_file)) as journal:
        journal.commit(operations)


@pytest.fixture
def filled(directory: StateDirectory) -> StateDirectory:
    fill(directory, ALL)
    return directory


@contextmanager
def opened(directory: StateDirectory) -> Iterator[SqliteStore]:
    with closing(SqliteStore(directory.journal_file)) as journal:
        yield journal


def dead(directory: StateDirectory) -> list[str]:
    with opened(directory) as journal:
        return [one.entry.uid for one in journal.dead(None, limit=9999)]


def pending(directory: StateDirectory) -> list[str]:
    with opened(directory) as journal:
        return [one.uid for one in journal.pending(None, limit=9999)]


def invoke(directory: StateDirectory, *arguments: str, config: Path | None = None) -> Result:
    before = [] if config is None else [str(config)]
    command = ["queue", *before, *arguments, "--state-dir", str(directory.path)]
    result = CliRunner().invoke(main, command)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file with a component, whose secret we may not read."""
    path = tmp_path / "bridge.toml"
    path.write_text(CONFIG)
    return path


# --- list


def test_list_piped_is_a_line_for_each(filled: StateDirectory, config: Path) -> None:
    result = invoke(filled, "list", config=config)
    header, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert header == list(view.COLUMNS)
    assert [(row[0], row[1], row[3], row[8], row[9]) for row in rows] == [
        ("msg_dead01", "dead", "message", "1", "status 500"),
        ("msg_iq01", "dead", "iq", "1", "status 500"),
        ("msg_orph01", "dead, orphaned", "message", "1", "status 500"),
        ("msg_repl01", "dead", "message (reply)", "0", "it broke the stream"),
        ("msg_pend01", "pending", "message", "1", "no connection"),
        ("msg_unco01", "reply", "message (reply)", "0", ""),
    ]
    assert rows[-1][4:6] == ["echo@bot.example/d'oh", "juliet@capulet.example/a<b"]
    assert rows[0][2] == BOT
    assert rows[0][4:6] == ["juliet@capulet.example/x", f"echo@{BOT}"]
    assert rows[0][6].startswith("2001-09-0")
    assert rows[0][7].endswith(" d")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"{BOT}: 1 pending (63 bytes, the oldest")
    assert first.endswith("old), 3 dead letters, 1 reply not confirmed by the server yet")
    told = f"{OLD} (orphaned: no such component is configured): 1 dead letter"
    assert second == told
    assert result.exit_code == 0


def test_list_as_json_has_everything(filled: StateDirectory, config: Path) -> None:
    document = json.loads(invoke(filled, "list", "--json", config=config).stdout)
    assert document["components"][BOT] == {
        "pending": 1,
        "pending_bytes": len(PENDING.xml),
        "replies": 1,
        "dead": 3,
        "oldest": 1e9,
        "orphaned": False,
    }
    assert document["components"][OLD]["orphaned"] is True
    first, *_, last, reply = document["stanzas"]
    assert len(document["stanzas"]) == 6
    assert (reply["state"], reply["stanza_id"], reply["is_reply"]) == ("reply", "r1", True)
    assert (reply["xml"], reply["reply"]) == (None, REPLY.decode())
    assert first == {
        "uid": "msg_dead01",
        "prefix": "msg_dead",
        "state": "dead",
        "component": BOT,
        "kind": "message",
        "from": "juliet@capulet.example/x",
        "to": f"echo@{BOT}",
        "stanza_id": "m1",
        "received": 1e9,
        "attempts": [{"at": 1e9 + 5, "result": "status 500"}],
        "died": 1e9 + 10,
        "reason": "status 500",
        "orphaned": False,
        "is_reply": False,
        "xml": DEAD.xml,
        "reply": None,
    }
    assert (last["uid"], last["state"], last["reason"]) == (
        "msg_pend01",
        "pending",
        "no connection",
    )
    assert document["stanzas"][3]["reply"] == "<message>bad</message>"


FILTERS = [
    (["--dead"], ["msg_dead01", "msg_iq01", "msg_orph01", "msg_repl01"]),
    (["--pending"], ["msg_pend01"]),
    (["--replies"], ["msg_unco01"]),
    (["--replies", "--component", OLD], []),
    (["--component", OLD], ["msg_orph01"]),
    (["--component", "none.example"], []),
    (["--limit", "2"], ["msg_dead01", "msg_iq01"]),
    (["--limit", "5"], ["msg_dead01", "msg_iq01", "msg_orph01", "msg_repl01", "msg_pend01"]),
    (["--dead", "--component", BOT, "--limit", "1"], ["msg_dead01"]),
]


@pytest.mark.parametrize(("options", "ids"), FILTERS)
def test_list_can_be_narrowed(filled: StateDirectory, options: list[str], ids: list[str]) -> None:
    lines = invoke(filled, "list", *options).stdout.splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == ids
    document = json.loads(invoke(filled, "list", "--json", *options).stdout)
    assert [one["uid"] for one in document["stanzas"]] == ids


def test_list_of_nothing(directory: StateDirectory) -> None:
    fill(directory, [])
    result = invoke(directory, "list")
    assert (result.stdout.splitlines(), result.stderr) == (["\t".join(view.COLUMNS)], "")
    document: dict[str, Any] = {"components": {}, "stanzas": []}
    assert json.loads(invoke(directory, "list", "--json").stdout) == document


def test_without_a_configuration_nothing_is_called_orphaned(filled: StateDirectory) -> None:
    assert "orphaned" not in invoke(filled, "list").output
    document = json.loads(invoke(filled, "list", "--json").stdout)
    assert {one["orphaned"] for one in document["stanzas"]} == {None}


def test_a_long_list_comes_in_pages(directory: StateDirectory) -> None:
    uids = [f"msg_{number:05}" for number in range(1234)]
    fill(directory, [entry(uid) for uid in uids])
    lines = invoke(directory, "list").stdout.splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == uids
    lines = invoke(directory, "list", "--limit", "777").stdout.splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == uids[:777]


async def test_a_page_is_bounded_in_bytes(directory: StateDirectory) -> None:
    long = "x" * (PAGE_BYTES // 10)
    with opened(directory) as journal:
        journal.commit([entry(str(number), xml=long) for number in range(100)])

        async def ask(query: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return query(journal)

        admin, seen, after = QueueAdmin(ask, None), list[str](), 0
        while True:
            page = await admin.answer(ListQueue(state="pending", after=after, xml=True))
            assert isinstance(page, Page)
            assert len(page.items) <= 20
            seen += (one.uid for one in page.items)
            if page.next is None:
                break
            after = page.next
    assert seen == [str(number) for number in range(100)]


# --- show


def test_show_prints_all(filled: StateDirectory, config: Path) -> None:
    out = invoke(filled, "show", "msg_dead01", config=config).stdout
    lines = out.splitlines()
    assert lines[:7] == [
        "uid        msg_dead01",
        "state      dead letter",
        f"component  {BOT}",
        "kind       message",
        "from       juliet@capulet.example/x",
        f"to         echo@{BOT}",
        "stanza id  m1",
    ]
    assert lines[7].startswith("received   2001-09-0")
    assert lines[8].startswith("died       2001-09-0")
    assert lines[9] == "reason     status 500"
    assert lines[10].startswith("attempt 1  2001-09-0")
    assert lines[10].endswith("  status 500")
    assert lines[11:] == ["stanza", f"  {DEAD.xml}"]


def test_show_of_a_reply(filled: StateDirectory) -> None:
    out = invoke(filled, "show", "msg_repl01").stdout
    assert "reply\n  <message>bad</message>\n" in out
    out = invoke(filled, "show", "msg_unco").stdout
    assert "state      reply, not confirmed yet\n" in out


def test_show_prints_the_text_on_demand(directory: StateDirectory) -> None:
    told = entry("msg_long", xml="<message><body>one\n&lt;two&gt;\x9b2J</body></message>")
    bare = entry("msg_bare", xml="<message><subject>x</subject></message>")
    fill(directory, [*died(told), *died(bare), *ALL])
    out = invoke(directory, "show", "msg_long", "--text").stdout
    assert out.endswith("\ntext\n  one\n  <two>\\x9b2J\n")
    assert "<body>" not in out
    assert invoke(directory, "show", "msg_bare", "--text").stdout.endswith("\ntext\n  (none)\n")
    out = invoke(directory, "show", "msg_unco", "--text").stdout
    assert out.endswith("\ntext of the reply\n  hi\n")
    as_json = [invoke(directory, "show", "msg_long", "--json", *more) for more in ([], ["--text"])]
    assert as_json[0].stdout == as_json[1].stdout


def test_show_marks_the_orphaned(filled: StateDirectory, config: Path) -> None:
    out = invoke(filled, "show", "msg_orph", config=config).stdout
    assert "dead letter, orphaned: its component is not configured\n" in out


def test_show_as_json(filled: StateDirectory) -> None:
    [item] = json.loads(invoke(filled, "show", "msg_dead01", "--json").stdout)["items"]
    assert (item["uid"], item["xml"]) == ("msg_dead01", DEAD.xml)


def test_the_beginning_of_an_id_suffices(filled: StateDirectory) -> None:
    assert "msg_dead01" in invoke(filled, "show", "msg_d").stdout


def test_an_id_may_be_the_beginning_of_another(directory: StateDirectory) -> None:
    fill(directory, [entry(uid) for uid in ("msg_1", "msg_11", "msg_12")])
    assert invoke(directory, "show", "msg_1").stdout.startswith("uid        msg_1\n")


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_an_unclear_id(filled: StateDirectory, command: str) -> None:
    result = invoke(filled, command, "msg_x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no stanza with the uid 'msg_x' is kept." in result.stderr
    result = invoke(filled, command, "msg_")
    assert (result.exit_code, result.stdout) == (1, "")
    told = "several uids begin with 'msg_': msg_dead01, msg_iq01, msg_orph01, …."
    assert told in result.stderr
    assert invoke(filled, command, NASTY).exit_code == 1
    assert invoke(filled, command, "").exit_code == 1


# --- retry, drop, purge


def test_retry_makes_it_pending_again(filled: StateDirectory) -> None:
    result = invoke(filled, "retry", "msg_dead", "msg_orph01", "msg_dead01")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "msg_dead01: pending again\nmsg_orph01: pending again\n"
    assert pending(filled) == ["msg_pend01", "msg_dead01", "msg_orph01"]
    assert dead(filled) == ["msg_iq01", "msg_repl01"]
    with opened(filled) as journal:
        [_, again, _] = journal.pending(None, limit=9)
    assert again.received > 1.7e9
    assert again.attempts == (Attempt(1e9 + 5, "status 500"),)


REFUSALS = [
    ("msg_iq01", "an iq is never retried: its sender has had an answer"),
    (
        "msg_repl01",
        "it is our own stanza: the server refused it, and would refuse it again",
    ),
    ("msg_pend01", "it is already pending"),
    ("msg_unco01", "it is not a dead letter: it is settled, with replies on their way"),
    ("msg_none", "no stanza with the uid 'msg_none' is kept"),
]


@pytest.mark.parametrize(("id", "why"), REFUSALS)
def test_what_cannot_be_retried(filled: StateDirectory, id: str, why: str) -> None:
    before = dead(filled)
    result = invoke(filled, "retry", id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {id}: {why}.\n"
    assert dead(filled) == before


def test_what_can_be_retried_is_in_spite_of_the_others(filled: StateDirectory) -> None:
    result = invoke(filled, "retry", "--json", "msg_iq01", "msg_dead01", "msg_none")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "done": ["msg_dead01"],
        "failed": {
            "msg_iq01": "an iq is never retried: its sender has had an answer",
            "msg_none": "no stanza with the uid 'msg_none' is kept",
        },
    }
    assert "msg_dead01" in pending(filled)


def test_any_number_of_ids(directory: StateDirectory) -> None:
    uids = [f"msg_{number:05}" for number in range(2 * UIDS_LIMIT + 1)]
    fill(directory, [one for uid in uids for one in died(entry(uid))])
    assert len(invoke(directory, "retry", *uids).stdout.splitlines()) == len(uids)
    assert (dead(directory), pending(directory)) == ([], uids)


def test_drop_forgets(filled: StateDirectory) -> None:
    result = invoke(filled, "drop", "msg_iq", "msg_repl01")
    assert (result.exit_code, result.stdout) == (0, "msg_iq01: dropped\nmsg_repl01: dropped\n")
    assert dead(filled) == ["msg_dead01", "msg_orph01"]


def test_drop_forgets_a_reply(filled: StateDirectory) -> None:
    result = invoke(filled, "drop", "msg_unco")
    assert (result.exit_code, result.stdout) == (0, "msg_unco01: dropped\n")
    assert invoke(filled, "list", "--replies").stdout.splitlines()[1:] == []


def test_drop_of_a_dead_letter_leaves_the_error_to_its_sender(directory: StateDirectory) -> None:
    error = Outgoing(b"<message type='error'/>", 1e9, BOT, DEAD.uid, 1)
    fill(directory, [DEAD, Settle(DEAD.uid, (error,), 1e9, "status 500")])
    for states in (["reply"], []):
        assert invoke(directory, "drop", DEAD.uid).exit_code == 0
        rows = invoke(directory, "list").stdout.splitlines()[1:]
        assert [row.split("\t")[1] for row in rows] == states


def test_what_is_pending_cannot_be_dropped(filled: StateDirectory) -> None:
    result = invoke(filled, "drop", "msg_pend01")
    told = "Error: msg_pend01: it is pending; only dead letters and replies can be dropped.\n"
    assert (result.exit_code, result.stderr) == (1, told)
    assert pending(filled) == ["msg_pend01"]


def test_purge_forgets_all_dead_letters(filled: StateDirectory) -> None:
    result = invoke(filled, "purge", "--yes")
    assert (result.exit_code, result.stdout) == (0, "4 dead letters dropped\n")
    assert (dead(filled), pending(filled)) == ([], ["msg_pend01"])
    assert json.loads(invoke(filled, "purge", "--yes", "--json").stdout) == {"count": 0}


def test_purge_without_a_terminal_wants_a_yes(filled: StateDirectory) -> None:
    result = invoke(filled, "purge")
    assert (result.exit_code, "add --yes" in result.stderr) == (2, True)
    assert len(dead(filled)) == 4


def test_nothing_is_forgotten_by_the_way(directory: StateDirectory) -> None:
    """The limits of dead letters are the daemon's: a command knows others, or none."""
    many = [one for number in range(30) for one in died(entry(f"msg_{number:02}"))]
    fill(directory, many)
    invoke(directory, "drop", "msg_00")
    assert len(dead(directory)) == 29


# --- usage


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Usage: "),
        (["bridge.toml"], "Missing command"),
        (["bridge.toml", "frobnicate"], "No such command 'frobnicate'"),
        (["list", "bridge.toml"], "unexpected extra argument"),
        (["show"], "Missing argument 'UID'"),
        (["retry"], "Give either uids, or --all"),
        (["drop"], "Missing argument 'UID…'"),
        (["list", "--limit", "-1"], "Invalid value for '--limit'"),
        (["none.toml", "list"], "none.toml: there is no such file."),
    ],
)
def test_wrong_usage(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["queue", *arguments])
    assert (result.exit_code, told in result.output) == (2, True), result.output


@pytest.mark.parametrize("command", ["list", "show", "retry", "drop", "purge"])
def test_help(command: str) -> None:
    result = CliRunner().invoke(main, ["queue", command, "--help"])
    assert result.exit_code == 0
    assert "Exit codes: 0 success, 2 usage or configuration error," in result.stdout
    assert "--state-dir" in result.stdout
    assert "--json" in result.stdout


def test_options_are_good_before_and_behind(filled: StateDirectory, config: Path) -> None:
    state = ["--state-dir", str(filled.path)]
    expected = invoke(filled, "show", "msg_iq01", "--json", config=config).stdout
    for arguments in (
        [str(config), *state, "--json", "show", "msg_iq01"],
        ["--json", *state, str(config), "show", "msg_iq01"],
        [f"--state-dir={filled.path}", str(config), "show", "--json", "msg_iq01"],
    ):
        result = CliRunner().invoke(main, ["queue", *arguments])
        assert (result.exit_code, result.stdout) == (0, expected), result.output


def test_the_state_directory_is_found_as_run_finds_it(
    filled: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(filled.path))
    result = CliRunner().invoke(main, ["queue", "list"])
    assert (result.exit_code, "msg_dead01" in result.stdout) == (0, True)


def test_a_file_that_is_no_toml(filled: StateDirectory, config: Path) -> None:
    config.write_text("nonsense")
    result = invoke(filled, "list", config=config)
    assert (result.exit_code, f"{config}: the file is not valid TOML" in result.stderr) == (2, True)


# --- trouble


def test_no_journal_yet(directory: StateDirectory) -> None:
    result = invoke(directory, "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Error: there is no journal in {directory.path}: " in result.stderr
    assert "--state-dir" in result.stderr
    assert not directory.path.exists()


def test_a_state_directory_that_is_a_file(directory: StateDirectory) -> None:
    directory.path.write_text("")
    result = invoke(directory, "list")
    assert (result.exit_code, f"no journal in {directory.path}" in result.stderr) == (1, True)


@pytest.mark.parametrize("closed", [".", "journal.db", "lock"])
def test_somebody_elses_state(closed: str) -> None:
    with open_directory() as path:
        directory = StateDirectory(path / "state")
        fill(directory, ALL)
        directory.path.chmod(0o777)
        for one in directory.path.iterdir():
            one.chmod(0o666)
        (directory.path / closed).chmod(0o600)
        with unprivileged():
            if os.geteuid() == path.stat().st_uid:
                pytest.skip("only root can be somebody else")
            result = invoke(directory, "list")
    assert result.exit_code == 1
    assert str(directory.path) in result.stderr
    assert "run this as its user, root (sudo -u root …)." in result.stderr


def test_a_damaged_journal(filled: StateDirectory) -> None:
    filled.journal_file.write_bytes(b"not a database at all, but long enough for SQLite" * 100)
    result = invoke(filled, "list")
    assert (result.exit_code, result.stdout) == (1, "")
    told = f"Error: {filled.journal_file} is damaged, or not a database; move {filled.journal_file}"
    assert told in result.stderr


def test_a_journal_of_a_newer_version(filled: StateDirectory) -> None:
    with closing(sqlite3.connect(filled.journal_file)) as database:
        database.execute("PRAGMA user_version = 99")
    result = invoke(filled, "list")
    assert (result.exit_code, "is from a newer version" in result.stderr) == (1, True)


async def test_whoever_has_the_directory_and_does_not_answer(
    filled: StateDirectory, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    with filled.lock(), pytest.raises(ControlError) as caught:
        async with open_queue(filled, None):
            pass
    assert f"process {os.getpid()} has the state directory {filled.path}" in str(caught.value)
    assert "it is starting or stopping; try again" in str(caught.value)
    assert trio.current_time() - start == pytest.approx(PATIENCE_S, abs=0.2)


@contextmanager
def old_daemon(directory: StateDirectory) -> Iterator[None]:
    """Start a daemon from before the protocol had versions."""
    told = b'{"error": "not a valid request: Object contains unknown field `protocol`"}\n'
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory.control_socket))
        listening.listen()

        def serve_one() -> None:
            with listening.accept()[0] as client:
                client.recv(65536)
                client.sendall(told)

        thread = threading.Thread(target=serve_one, daemon=True)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    "command",
    [["list"], ["show", "msg_x"], ["retry", "--all"], ["drop", "msg_x"], ["purge", "--yes"]],
)
def test_a_daemon_of_another_version(filled: StateDirectory, command: list[str]) -> None:
    with old_daemon(filled):
        result = invoke(filled, *command)
    assert result.exit_code == 1
    told = " ".join(result.stderr.split())
    assert "is another version of xmpp-bridge, and this command" in told
    assert told.endswith("; restart the daemon, or use the command of its version.")


async def test_a_daemon_that_is_starting_is_waited_for(
    filled: StateDirectory, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def answer(request: AnyRequest) -> object:
        await trio.lowlevel.checkpoint()
        return Holdings({})

    async def start_later() -> None:
        await trio.sleep(PATIENCE_S / 2)
        await serve(filled.control_socket, answer)

    with filled.lock():
        nursery.start_soon(start_later)
        async with open_queue(filled, None) as client:
            assert await client.ask(ListTotals(), Holdings) == Holdings({})
        nursery.cancel_scope.cancel()


async def test_no_daemon_starts_while_a_journal_is_open(filled: StateDirectory) -> None:
    async with open_queue(filled, None):
        with pytest.raises(StateDirectoryError, match="has it"), filled.lock():
            pass
    with filled.lock():
        pass


# --- how it looks


@given(st.text(), st.text())
def test_no_control_character_reaches_the_terminal(text: str, more: str) -> None:
    item = Item(
        uid=text,
        state="dead",
        component=more,
        kind=text,
        from_=text,
        to=more,
        stanza_id=text,
        received=1e9,
        attempts=(Attempt(1e9, text),),
        died=1e9,
        reason=text,
        xml=f"<message>{text}</message>",
        reply=more,
    )
    assert view.to_line(item, 2e9).replace("\t", "").isprintable()
    assert view.to_line(item, 2e9).count("\t") == len(view.COLUMNS) - 1
    assert all(line.isprintable() for line in view.to_text([item], 2e9).split("\n"))
    document = view.to_json({"text": text, more: [more]})
    assert document.replace("\n", "").isprintable()
    assert json.loads(document) == json.loads(json.dumps({"text": text, more: [more]}))
    out = StringIO()
    Console(file=out, width=100).print(view.to_table([item], 2e9, 100))
    assert out.getvalue().replace("\n", "").isprintable()


@pytest.mark.parametrize("width", [80, 100, 159, 160, 300])
def test_the_table_has_what_fits(width: int) -> None:
    item = Item(
        uid="msg_0123456789abcdef01234567",
        state="pending",
        component=BOT,
        kind="message",
        from_="juliet@capulet.example/[balcony]",
        to=f"echo@{BOT}",
        received=1e9,
        attempts=(Attempt(1e9, "no"),) * 3,
        reason="no [bold]connection[/]",
        orphaned=True,
    )
    out = StringIO()
    Console(file=out, width=width).print(view.to_table([item], 1e9 + 7200, width))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for part in ("msg_0123456789", "pending", "orphaned", "2 h", "3", f"echo@{BOT}", "[bold]"):
        assert part in text
    assert ("component" in text) is (width >= 160)


TWINS: Final = [entry(f"msg_6614d99ecd74{end}") for end in ("e6dc", "e6dd", "f000")]


def test_a_listed_prefix_is_unique_and_is_enough(directory: StateDirectory) -> None:
    fill(directory, [*died(TWINS[0]), *died(TWINS[1]), TWINS[2]])
    listed = json.loads(invoke(directory, "list", "--json").stdout)["stanzas"]
    prefixes = [one["prefix"] for one in listed]
    assert prefixes == ["msg_6614d99ecd74e6dc", "msg_6614d99ecd74e6dd", "msg_6614d99ecd74f"]
    for one in listed:
        [shown] = json.loads(invoke(directory, "show", one["prefix"], "--json").stdout)["items"]
        assert shown["uid"] == one["uid"]
    code, text = at_terminal(directory, "list")
    assert code == 0
    assert all(prefix in text for prefix in prefixes)


def test_an_old_daemon_lists_without_prefixes() -> None:
    """Then the whole uid is printed."""
    item = Item(uid="msg_0123456789abcdef01234567", state="dead", component=BOT, received=1e9)
    out = StringIO()
    Console(file=out, width=100).print(view.to_table([item], 2e9, 100))
    assert item.uid in out.getvalue()


LATER: Final = entry("msg_late01")


def recent_letters() -> list[Operation]:
    """Three of two components that died long ago, an iq, and one that died just now."""
    now = time.time()
    end = Settle(LATER.uid, (), now - 60, "unreachable: ConnectError")
    return [*died(DEAD), *died(IQ), *died(ORPHAN), LATER, end]


@pytest.mark.parametrize(
    ("options", "retried"),
    [
        (["--all"], [DEAD, ORPHAN, LATER]),
        (["--component", OLD], [ORPHAN]),
        (["--component", "other.example"], []),
        (["--reason", "STATUS 5"], [DEAD, ORPHAN]),
        (["--reason", "unreachable"], [LATER]),
        (["--since", "2h"], [LATER]),
        (["--since", "1s"], []),
        (["--since", "2001-01-01T00:00Z"], [DEAD, ORPHAN, LATER]),
        (["--since", "2020-01-01"], [LATER]),
        (["--reason", "status", "--component", BOT], [DEAD]),
        (["--all", "--reason", "unreachable"], [LATER]),
    ],
)
def test_retry_of_those_that_match(
    directory: StateDirectory, options: list[str], retried: list[Delivery]
) -> None:
    fill(directory, recent_letters())
    result = invoke(directory, "retry", *options)
    assert result.exit_code == 0
    assert pending(directory) == [one.uid for one in retried]
    assert result.stdout.splitlines() == [f"{one.uid}: pending again" for one in retried]
    noun = "dead letter" if len(retried) == 1 else "dead letters"
    assert f"{len(retried)} {noun} selected" in result.stderr


def test_retry_all_says_what_it_leaves_out(filled: StateDirectory) -> None:
    result = invoke(filled, "retry", "--all")
    assert (result.exit_code, "2 left out" in result.stderr) == (0, True)
    assert IQ.uid in dead(filled)
    assert REFUSED.uid in dead(filled)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["msg_dead01", "--all"], "not both"),
        (["msg_dead01", "--since", "2h"], "not both"),
        (["--since", "yesterday"], "'yesterday' is not a time: use 30min, 2h, 1d or a time such"),
        (["--since", "9999999999d"], "is not a time"),
        (["--since", NASTY], "is not a time"),
    ],
)
def test_retry_of_nothing_clear(filled: StateDirectory, options: list[str], told: str) -> None:
    result = invoke(filled, "retry", *options)
    assert (result.exit_code, told in result.output) == (2, True), result.output
    assert pending(filled) == [PENDING.uid]


def test_text_is_printed_on_demand_only(filled: StateDirectory) -> None:
    said = "to be, or not to be: msg_dead01"
    assert said not in invoke(filled, "list").stdout
    header, first, *_ = invoke(filled, "list", "--text").stdout.splitlines()
    assert header.split("\t")[-1] == "text"
    assert first.split("\t")[-1] == said
    code, text = at_terminal(filled, "list")
    assert (code, "not to be" in text, "--text shows" in text) == (0, False, True)
    code, text = at_terminal(filled, "list", "--text")
    assert (code, "“to be, or not to be:" in text) == (0, True)


def test_a_terminal_without_utf8(filled: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, text = at_terminal(filled, "list", "--text")
    assert (code, "Traceback" in text, "not to be" in text) == (0, False, True), text


@pytest.mark.parametrize("xml", ["<message/>", "<message", "", "<iq><body>x</body></iq>", None])
def test_a_stanza_without_text_has_none(xml: str | None) -> None:
    item = Item(uid="msg_1", state="dead", component=BOT, received=1e9, xml=xml)
    assert not view.to_line(item, 2e9, with_text=True).split("\t")[-1].strip("x")


def at_terminal(directory: StateDirectory, *arguments: str, said: str = "") -> tuple[int, str]:
    """Run a command in a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bridge", "queue", *arguments]
    command += ["--state-dir", str(directory.path)]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, said.encode())
        output = b""
        try:
            while data := os.read(ours, 65536):
                output += data
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
        code = process.wait()
    return code, output.decode().replace("\r\n", "\n")


def test_list_at_a_terminal_is_a_table(filled: StateDirectory, config: Path) -> None:
    code, out = at_terminal(filled, "list")
    assert code == 0
    assert out.splitlines()[0].split() == [
        "uid",
        "state",
        "age",
        "tries",
        "stanza",
        "and",
        "reason",
    ]
    assert f"message juliet@capulet.example/x → echo@{BOT}" in " ".join(out.split())
    assert out.splitlines()[-1].startswith(f"{OLD}: 1 dead letter")


def test_list_at_a_terminal_is_bounded(directory: StateDirectory) -> None:
    fill(directory, [entry(f"msg_{number:05}") for number in range(300)])
    _, out = at_terminal(directory, "list")
    assert out.count("msg_") == 100
    assert "These are the first 100; --limit 0 shows all." in out
    _, out = at_terminal(directory, "list", "--limit", "0")
    assert out.count("msg_") == 300


def test_list_of_nothing_at_a_terminal(directory: StateDirectory) -> None:
    fill(directory, [])
    assert at_terminal(directory, "list") == (0, "Nothing is stored.\n")


def test_purge_asks_at_a_terminal(filled: StateDirectory) -> None:
    code, out = at_terminal(filled, "purge", said="n\n")
    assert (code, "Delete all dead letters? [y/N]" in out) == (1, True)
    assert len(dead(filled)) == 4
    code, out = at_terminal(filled, "purge", said="y\n")
    assert (code, out.endswith("4 dead letters dropped\n")) == (0, True)
    assert dead(filled) == []


# --- beside a running daemon


async def reject(exchange: Exchange) -> None:
    await exchange.send(response("500 Internal Server Error"))


async def echo(exchange: Exchange) -> None:
    body = json.dumps({"body": exchange.request.json["body"]}).encode()
    await exchange.send(response(content=body))


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


async def test_a_dropped_reply_leaves_a_running_daemon(
    directory: StateDirectory, nursery: trio.Nursery, log: Recorder
) -> None:
    unconfirmed = Outgoing(REPLY, time.time(), BOT, UNCONFIRMED.uid, 1)
    fill(directory, [UNCONFIRMED, Settle(UNCONFIRMED.uid, (unconfirmed,))])
    server = await XmppServer.start(nursery)
    server.returns_barriers = False
    endpoint = await HttpServer.start(nursery, echo)
    settings = settings_of(endpoint.url(), server)
    with open_storage(directory, settings.journal) as storage:
        daemon = Daemon(settings, storage)
        nursery.start_soon(daemon.run)
        session = await server.attached(BOT)
        await session.receive(1)
        rows = (await beside(directory, "list")).stdout.splitlines()[1:]
        assert [row.split("\t")[:2] for row in rows] == [["msg_unco01", "reply"]]
        result = await beside(directory, "drop", "msg_unco01")
        assert result.stdout == "msg_unco01: dropped\n"
        assert len(daemon.services[BOT]._outbox) == 0
        assert (await beside(directory, "list")).stdout.splitlines()[1:] == []
        daemon.stop()
        await log.wait("stopped")
    nursery.cancel_scope.cancel()


def settings_of(url: PostUrl, server: XmppServer) -> Settings:
    component = Component(BOT, Secret(SECRET), url, server.address)
    return Settings((component,), retry=RetrySettings(message_budget_s=0))


def message(id: str, to: str = f"echo@{BOT}") -> Any:
    return stanza(
        f"<message id='{id}' type='chat' from='juliet@capulet.example/x' to='{to}'>"
        f"<body>{id}</body></message>"
    )


async def beside(directory: StateDirectory, *arguments: str) -> Result:
    """Run a command as another process would: in a thread, with its own trio."""
    return await trio.to_thread.run_sync(partial(invoke, directory, *arguments))


async def test_the_whole_way_of_a_dead_letter(
    directory: StateDirectory, nursery: trio.Nursery, log: Recorder
) -> None:
    fill(directory, died(ORPHAN, when=time.time()))
    server = await XmppServer.start(nursery)
    endpoint = await HttpServer.start(nursery, reject)
    settings = settings_of(endpoint.url(), server)
    with open_storage(directory, settings.journal) as storage:
        daemon = Daemon(settings, storage)
        nursery.start_soon(daemon.run)
        session = await server.attached(BOT)
        await session.send(message("m1"), message("m2"))
        await session.receive(2)  # the errors

        rows = (await beside(directory, "list", "--dead")).stdout.splitlines()[1:]
        assert [row.split("\t")[1:3] for row in rows] == [
            ["dead, orphaned", OLD],
            ["dead", BOT],
            ["dead", BOT],
        ]
        uids = [row.split("\t")[0] for row in rows]
        result = await beside(directory, "show", uids[1])
        assert "<body>m1</body>" in result.stdout
        result = await beside(directory, "drop", uids[1])
        assert result.stdout == f"{uids[1]}: dropped\n"

        endpoint.answer = echo
        result = await beside(directory, "retry", uids[0], uids[2])
        assert (result.exit_code, result.stderr) == (0, "")
        [*_, reply] = await session.receive(3)
        assert body_of(reply) == "m2"
        last = endpoint.requests[-1]
        assert (last.get("webhook-id"), last.get("webhook-attempt")) == (uids[2], "2")

        assert "0 dead letters dropped" in (await beside(directory, "purge", "--yes")).stdout
        rows = (await beside(directory, "list", "--pending")).stdout.splitlines()[1:]
        assert [row.split("\t")[:2] for row in rows] == [[uids[0], "pending, orphaned"]]
        daemon.stop()
        await log.wait("stopped")
    assert not directory.control_socket.exists()
    assert pending(directory) == [uids[0]]
    nursery.cancel_scope.cancel()


async def test_status(directory: StateDirectory, nursery: trio.Nursery, log: Recorder) -> None:
    held = trio.Event()

    async def hold(exchange: Exchange) -> None:
        await held.wait()
        await echo(exchange)

    fill(directory, died(ORPHAN, when=time.time()))
    server = await XmppServer.start(nursery)
    endpoint = await HttpServer.start(nursery, hold)
    settings = settings_of(endpoint.url("/?key=k3y", "juliet:hunter2@"), server)
    with open_storage(directory, settings.journal) as storage:
        daemon = Daemon(settings, storage)
        nursery.start_soon(daemon.run)
        session = await server.attached(BOT)
        await session.send(message("m1"), message("m2"))
        await until(lambda: bool(endpoint.requests))
        client = await connect(directory.control_socket)
        status = await client.ask(AskStatus(), DaemonStatus)
        await client.aclose()
        assert (status.pid, status.stopping) == (os.getpid(), False)
        assert status.journal.file == str(directory.journal_file)
        assert (status.journal.durability, status.journal.failure) == ("process", None)
        assert status.journal.totals is not None
        assert (status.journal.totals.pending, status.journal.totals.dead) == (2, 1)
        assert {name: one.dead for name, one in status.orphaned.items()} == {OLD: 1}
        [component] = status.components
        assert (component.domain, component.link.state) == (BOT, "attached")
        assert (component.link.server, component.link.why) == (str(server.address), "")
        assert (component.endpoint.state, component.in_flight, component.waiting) == ("up", 1, 1)
        assert component.kept is not None
        assert (component.kept.pending, component.kept.orphaned) == (2, False)
        assert component.counts.received == 2
        raw = view.to_json(status)
        assert not [hidden for hidden in ("hunter2", "k3y", SECRET) if hidden in raw]
        held.set()
        await session.receive(2)
        daemon.stop()
        await log.wait("stopped")
    nursery.cancel_scope.cancel()
