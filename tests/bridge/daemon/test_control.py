"""The control socket: the server against raw clients, the client against raw servers."""

import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge import __version__
from bridge.daemon.control import (
    ANSWER_S,
    ASK_S,
    CLIENT_LIMIT,
    IDLE_S,
    LINE_LIMIT_BYTES,
    AnyRequest,
    AskStatus,
    BadRequest,
    Client,
    ControlError,
    NobodyListens,
    connect,
    decode_request,
    serve,
)
from bridge.journal.request import (
    PROTOCOL,
    CommandError,
    Found,
    ListQueue,
    Page,
    Purge,
    Purged,
    Retry,
    Show,
)
from bridge.journal.store import JournalError
from tests.bridge.leak import nothing_left
from tests.bridge.unprivileged import open_directory, unprivileged

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
STATUS = b'{"command": "status"}\n'


@define
class Answering:
    """Keeps what it was asked, and answers by `reply`."""

    reply: Callable[[], Awaitable[object]]
    asked: list[AnyRequest] = field(factory=list)

    async def answer(self, request: AnyRequest) -> object:
        self.asked.append(request)
        return await self.reply()


async def fine() -> object:
    await trio.lowlevel.checkpoint()
    return {"fine": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def start(
    nursery: trio.Nursery, path: Path, reply: Callable[[], Awaitable[object]] = fine
) -> Answering:
    answering = Answering(reply)
    await nursery.start(serve, path, answering.answer)
    return answering


class Raw:
    """A client that says what it likes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = b""

    async def line(self) -> Any:
        """Give the next line; None at the end."""
        while b"\n" not in self.received:
            data = await self.stream.receive_some()
            if not data:
                assert self.received == b""
                return None
            self.received += data
        line, _, self.received = self.received.partition(b"\n")
        return json.loads(line)

    async def ask(self, data: bytes) -> Any:
        await self.stream.send_all(data)
        return await self.line()


async def raw(path: Path) -> Raw:
    return Raw(await trio.open_unix_socket(path))


def mode(path: Path) -> str | None:
    """Give type and mode of a file; None where there is none."""
    return stat.filemode(path.lstat().st_mode) if path.exists() else None


# --- the server


async def test_each_line_has_its_answer(nursery: trio.Nursery, path: Path) -> None:
    answering = await start(nursery, path)
    client = await raw(path)
    assert await client.ask(STATUS) == {"ok": {"fine": True}}
    assert await client.ask(STATUS + b'{"command": "queue.show", "uid": "a"}\n') == {
        "ok": {"fine": True}
    }
    assert await client.line() == {"ok": {"fine": True}}
    assert answering.asked == [AskStatus(), AskStatus(), Show(uid="a")]
    await client.stream.aclose()


async def test_bytes_may_be_cut_anywhere(nursery: trio.Nursery, path: Path) -> None:
    answering = await start(nursery, path)
    client = await raw(path)
    for n in range(len(STATUS)):
        await client.stream.send_all(STATUS[n : n + 1])
        await wait_all_tasks_blocked()
    assert await client.line() == {"ok": {"fine": True}}
    assert answering.asked == [AskStatus()]
    await client.stream.aclose()


async def test_the_socket_is_its_users_alone_and_goes_with_the_daemon(path: Path) -> None:
    before = os.umask(0)
    try:
        async with trio.open_nursery() as nursery:
            await start(nursery, path)
            assert mode(path) == "srw-------"
            nursery.cancel_scope.cancel()
    finally:
        os.umask(before)
    assert mode(path) is None


async def test_what_a_killed_daemon_left_is_replaced(nursery: trio.Nursery, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(NobodyListens):
        await connect(path)
    await start(nursery, path)
    client = await connect(path)
    assert await client.ask(AskStatus(), dict) == {"fine": True}
    await client.aclose()


@pytest.fixture
def file(path: Path) -> Path:
    """A file that is no socket."""
    path.write_text("mine")
    return path


async def test_what_is_no_socket_stays(file: Path) -> None:
    with pytest.raises(ControlError, match=f"{file}: there is a file that is not a socket"):
        await serve(file, fine_answer)
    assert mode(file) == "-rw-r--r--"


async def fine_answer(_: AnyRequest) -> object:
    return await fine()


async def test_a_directory_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(ControlError, match=f"cannot make the control socket {path}/x: No such"):
        await serve(path / "x", fine_answer)


async def test_a_path_may_be_longer_than_the_system_takes(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    path = tmp_path / ("long" * 40) / "control.sock"
    path.parent.mkdir()
    await start(nursery, path)
    client = await connect(path)
    assert await client.ask(AskStatus(), dict) == {"fine": True}
    await client.aclose()
    assert mode(path) == "srw-------"


GARBAGE = [
    (b"", "truncated"),
    (b"\xff", "invalid character"),
    (b'"\xed\xa0\x80"', ""),
    (b"GET / HTTP/1.1\r", "malformed"),
    (b"[]", "Expected `object`"),
    (b"{}", "missing required field `command`"),
    (b'{"command": 1}', "Expected `str`"),
    (b'{"command": "frobnicate"}', "Invalid value 'frobnicate'"),
    (b'{"command": "status", "more": 1}', "unknown field `more`"),
    (b'{"command": "queue.show"}', "missing required field `uid`"),
    (b'{"command": "queue.show", "uid": ""}', "length >= 1"),
    (b'{"command": "queue.show", "uid": "\\ud800"}', ""),
    (b'{"command": "queue.list", "state": "lost"}', "Invalid enum value"),
    (b'{"command": "queue.list", "state": "dead", "limit": 0}', ">= 1"),
    (b'{"command": "queue.list", "state": "dead", "limit": 100000}', "<= 500"),
    (b'{"command": "queue.list", "state": "dead", "after": 1e300}', ""),
    (b'{"command": "queue.list", "state": "dead", "after": 9223372036854775808}', ""),
    (b'{"command": "queue.retry", "uids": []}', "length >= 1"),
    (b'{"more": ' + b"[" * 30_000, "recursion"),
    (b'{"command": "status", "protocol": 1}', "speaks version 2 of the control protocol, not 1"),
]


@pytest.mark.parametrize(("line", "why"), GARBAGE)
async def test_garbage_is_answered_and_harms_nobody(
    nursery: trio.Nursery, path: Path, line: bytes, why: str
) -> None:
    answering = await start(nursery, path)
    client = await raw(path)
    answer = await client.ask(line + b"\n")
    assert why in answer.pop("error")
    assert answer == {"protocol": PROTOCOL, "version": __version__}
    assert await client.ask(STATUS) == {"ok": {"fine": True}}
    assert answering.asked == [AskStatus()]
    await client.stream.aclose()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it only looks around
@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_garbage_yields_a_fault_and_nothing_else(line: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_request(line)


async def test_a_line_is_bounded(nursery: trio.Nursery, path: Path) -> None:
    await start(nursery, path)
    client = await raw(path)
    with pytest.raises(trio.BrokenResourceError):
        await client.stream.send_all(b" " * LINE_LIMIT_BYTES * 100)
    assert await client.line() == {"error": f"a line of more than {LINE_LIMIT_BYTES} bytes"}
    await client.stream.aclose()


async def test_the_longest_line_is_answered(nursery: trio.Nursery, path: Path) -> None:
    await start(nursery, path)
    client = await raw(path)
    assert await client.ask(STATUS.rjust(LINE_LIMIT_BYTES + 1)) == {"ok": {"fine": True}}
    answer = await client.ask(STATUS.rjust(LINE_LIMIT_BYTES + 2))
    assert "of more than" in answer["error"]
    await client.stream.aclose()


@pytest.mark.parametrize("said", [b"", b'{"command": "sta', STATUS])
@pytest.mark.parametrize("times", [1, CLIENT_LIMIT + 1])
async def test_whoever_leaves_takes_nothing_along(
    nursery: trio.Nursery, path: Path, said: bytes, times: int
) -> None:
    await start(nursery, path)
    for _ in range(times):
        leaving = await raw(path)
        await leaving.stream.send_all(said)
        await leaving.stream.aclose()
        await wait_all_tasks_blocked()
    client = await raw(path)
    assert await client.ask(STATUS) == {"ok": {"fine": True}}
    await client.stream.aclose()


async def test_clients_are_bounded_in_number(nursery: trio.Nursery, path: Path) -> None:
    await start(nursery, path)
    clients = [await raw(path) for _ in range(CLIENT_LIMIT)]
    for one in clients:
        assert await one.ask(STATUS) == {"ok": {"fine": True}}
    late = await raw(path)
    answer = await late.line()
    assert answer == {"error": "too many other clients are connected; try again"}
    assert await late.line() is None
    await late.stream.aclose()
    await clients.pop().stream.aclose()
    await wait_all_tasks_blocked()
    next_one = await raw(path)
    assert await next_one.ask(STATUS) == {"ok": {"fine": True}}
    for one in [next_one, *clients]:
        await one.stream.aclose()


@pytest.mark.parametrize("said", [b"", b'{"command"'])
async def test_whoever_is_silent_is_left(
    nursery: trio.Nursery, path: Path, mock_clock: MockClock, said: bytes
) -> None:
    await start(nursery, path)
    client = await raw(path)
    await client.stream.send_all(said)
    await wait_all_tasks_blocked(0.01)
    mock_clock.jump(IDLE_S - 1)
    await client.stream.send_all(said and b" ")  # which is not the whole line either
    await wait_all_tasks_blocked(0.01)
    mock_clock.jump(1)
    assert await client.line() is None
    await client.stream.aclose()


async def test_whoever_never_reads_is_left_and_others_are_answered(
    nursery: trio.Nursery, path: Path, mock_clock: MockClock
) -> None:
    long = "x" * 4 * 1024 * 1024

    async def at_length() -> object:
        return long

    await start(nursery, path, at_length)
    deaf, client = await raw(path), await raw(path)
    await deaf.stream.send_all(STATUS * 1000)
    assert await client.ask(STATUS) == {"ok": long}
    await wait_all_tasks_blocked(0.01)
    mock_clock.jump(IDLE_S)
    await wait_all_tasks_blocked(0.01)
    with pytest.raises(trio.BrokenResourceError):
        await deaf.stream.send_all(STATUS)
    await deaf.stream.aclose()
    await client.stream.aclose()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CommandError("no such thing"), "no such thing"),
        (JournalError("the disk is full", "make room"), "the disk is full; make room"),
    ],
)
async def test_what_cannot_be_done_is_told(
    nursery: trio.Nursery, path: Path, error: Exception, told: str
) -> None:
    async def fail() -> object:
        raise error

    await start(nursery, path, fail)
    client = await connect(path)
    with pytest.raises(CommandError, match=f"^{told}$"):
        await client.ask(Show(uid="x"), Page)
    await client.aclose()


async def test_a_journal_that_hangs_is_told(
    nursery: trio.Nursery, path: Path, mock_clock: MockClock
) -> None:
    await start(nursery, path, trio.sleep_forever)
    client = await raw(path)
    await client.stream.send_all(STATUS)
    await wait_all_tasks_blocked(0.01)
    mock_clock.jump(ANSWER_S)
    assert await client.line() == {
        "error": "the journal does not answer; look at its disk or database"
    }
    await client.stream.aclose()


# --- the client


async def test_requests_and_answers_arrive_as_they_were(nursery: trio.Nursery, path: Path) -> None:
    async def count() -> object:
        return Purged(3)

    answering = await start(nursery, path, count)
    client = await connect(path)
    requests: list[AnyRequest] = [
        Purge(),
        Retry(uids=("a", "b")),
        ListQueue(state="dead", component="ü", after=7),
    ]
    for one in requests:
        assert await client.ask(one, Purged) == Purged(3)
    assert answering.asked == requests
    await client.aclose()


@pytest.mark.parametrize("missing", ["", "no/such/directory"])
async def test_nobody_listens(path: Path, missing: str) -> None:
    with pytest.raises(NobodyListens, match="no daemon listens at"):
        await connect(path / missing)


async def test_a_file_on_the_way_is_no_directory(file: Path) -> None:
    with pytest.raises(NobodyListens):
        await connect(file / "control.sock")


async def test_somebody_elses_daemon() -> None:
    with open_directory() as directory, socket.socket(socket.AF_UNIX) as server:
        path = directory / "control.sock"
        server.bind(str(path))
        server.listen()
        path.chmod(0o600)
        with unprivileged():
            if os.geteuid() == path.stat().st_uid:
                pytest.skip("only root can be somebody else")
            with pytest.raises(ControlError) as caught:
                await connect(path)
    assert "Permission denied; run this as its user, root (sudo -u root …)" in str(caught.value)


async def answered(nursery: trio.Nursery, path: Path, answer: bytes | None) -> Client:
    """Give a client whose first request is answered so; None is no answer."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        client = await connect(path)
        accepted, _ = listening.accept()
        accepted.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))

    async def answer_once() -> None:
        async with stream:
            assert await stream.receive_some()
            if answer is None:
                await stream.receive_some()
            else:
                await stream.send_all(answer)

    nursery.start_soon(answer_once)
    return client


ANSWERS = [
    (b"", "has just stopped; try again"),
    (b'{"ok": ', "has just stopped; try again"),
    (b"HTTP/1.1 400 Bad Request\n", "answers in words of another version"),
    (b'{"ok": {"counted": 1}}\n', "answers in words of another version"),
    (b"\xff\n", "answers in words of another version"),
    (b"[]\n", "answers in words of another version"),
]


@pytest.mark.parametrize(("answer", "told"), ANSWERS)
async def test_an_answer_that_is_none(
    nursery: trio.Nursery, path: Path, answer: bytes, told: str
) -> None:
    client = await answered(nursery, path, answer)
    with pytest.raises(ControlError, match=f"the daemon at {path} {told}"):
        await client.ask(Purge(), Purged)
    await client.aclose()


NOT_UNDERSTOOD = [
    (
        b'{"error": "not a valid request: Object contains unknown field `protocol`"}',
        "another version of xmpp-bridge",
    ),
    (
        b'{"error": "this is xmpp-bridge 0.0.9, which speaks version 1 of the control protocol,'
        b' not 2"}',
        "another version of xmpp-bridge",
    ),
    (
        b'{"error": "this is xmpp-bridge 9.1, which speaks version 3 of the control protocol, not'
        b' 2; restart the daemon, or use the command of its version",'
        b' "protocol": 3, "version": "9.1"}',
        "xmpp-bridge 9.1",
    ),
    (
        b'{"error": "not a valid request: unknown field", "protocol": 2, "version": "0.0.8"}',
        "xmpp-bridge 0.0.8",
    ),
]


@pytest.mark.parametrize(("answer", "theirs"), NOT_UNDERSTOOD)
@pytest.mark.parametrize("request_", [AskStatus(), Purge()])
async def test_a_daemon_of_another_version_is_named(
    nursery: trio.Nursery, path: Path, answer: bytes, theirs: str, request_: AnyRequest
) -> None:
    client = await answered(nursery, path, answer + b"\n")
    with pytest.raises(ControlError) as caught:
        await client.ask(request_, Purged)
    told = str(caught.value)
    assert told.startswith(f"the daemon at {path} is {theirs}, and this command {__version__}: ")
    assert told.endswith("; restart the daemon, or use the command of its version")
    assert told.count("restart") == 1
    await client.aclose()


async def test_a_request_that_is_wrong_is_no_other_version(
    nursery: trio.Nursery, path: Path
) -> None:
    await start(nursery, path)
    client = await connect(path)
    with pytest.raises(CommandError, match=r"not a valid request: .*length <= 100"):
        await client.ask(Show(uid="x" * 101), Found)
    await client.aclose()


async def test_an_empty_answer_is_an_error(nursery: trio.Nursery, path: Path) -> None:
    client = await answered(nursery, path, b"{}\n")
    with pytest.raises(CommandError, match="the daemon says nothing"):
        await client.ask(Purge(), Purged)
    await client.aclose()


async def test_no_answer(nursery: trio.Nursery, path: Path, mock_clock: MockClock) -> None:
    client = await answered(nursery, path, None)

    async def jump() -> None:
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(ASK_S)

    nursery.start_soon(jump)
    with pytest.raises(ControlError, match="does not answer within 15 s"):
        await client.ask(Purge(), Purged)
    await client.aclose()


async def test_a_daemon_that_leaves_before_it_is_asked(nursery: trio.Nursery, path: Path) -> None:
    async with trio.open_nursery() as inner:
        await start(inner, path)
        client = await connect(path)
        inner.cancel_scope.cancel()
    with pytest.raises(ControlError, match="has just stopped"):
        await client.ask(Purge(), Purged)
    await client.aclose()


async def test_another_version_says_which_it_is(nursery: trio.Nursery, path: Path) -> None:
    await start(nursery, path)
    client = await connect(path)
    with pytest.raises(CommandError, match=f"this is xmpp-bridge {__version__}"):
        await client.ask(Purge(protocol=1), Purged)
    await client.aclose()
