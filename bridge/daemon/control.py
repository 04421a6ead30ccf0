"""The control socket: how commands ask a running daemon.

A Unix stream socket, `control.sock`, of mode 0600, in the state directory. Each line is an object
of JSON: `{"command": "status"}`; each has one line as its answer, in order: `{"ok": …}` or
`{"error": "…"}`. Who may open the socket may do all; nothing secret is ever answered.

The lock of the state directory says that one daemon has it, so a socket that is there already is
one that a daemon has left when it was killed. What a client costs is bounded: a line, an answer,
and the time that it may take for either; so is the number of clients.
"""

import errno
import os
import pwd
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct

from bridge import __version__
from bridge.journal.request import PROTOCOL, CommandError, QueueRequest, Request
from bridge.journal.store import JournalError

CLIENT_LIMIT: Final = 16
LINE_LIMIT_BYTES: Final = 64 * 1024
IDLE_S: Final = 30.0
"""How long a client may take for a line, and for reading an answer."""
ANSWER_S: Final = 10.0
"""How long the daemon may take for an answer."""
ASK_S: Final = 15.0
_ANSWER_LIMIT_BYTES: Final = 256 * 1024 * 1024
_ADDRESS_LIMIT_BYTES: Final = 107  # unix(7)
T = TypeVar("T")


class BadRequest(CommandError):
    """What came is no request."""


class AskStatus(Request, frozen=True, tag="status"):
    """How is the daemon?"""


AnyRequest = AskStatus | QueueRequest


class _Spoken(Struct):
    protocol: int = PROTOCOL


_SPOKEN: Final = msgspec.json.Decoder(_Spoken)
_REQUEST: Final[msgspec.json.Decoder[AnyRequest]] = msgspec.json.Decoder(AnyRequest)


def decode_request(line: bytes) -> AnyRequest:
    """Read a request.

    Raises:
        BadRequest: it is none, or of another version.
    """
    try:
        spoken = _SPOKEN.decode(line).protocol
        if spoken != PROTOCOL:
            raise BadRequest(
                f"this is xmpp-bridge {__version__}, which speaks version {PROTOCOL} of the"
                f" control protocol, not {spoken}"
            )
        return _REQUEST.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"no request: {error}") from None


Answer = Callable[[AnyRequest], Awaitable[object]]


class ControlError(Exception):
    """The control socket cannot be made or asked; the message says which, why, and what helps."""


class NobodyListens(ControlError):
    """There is no daemon at the socket."""


class _Answered(msgspec.Struct, frozen=True):
    ok: msgspec.Raw = msgspec.Raw()
    error: str | None = None


# --- the daemon's side


async def serve(
    path: Path, answer: Answer, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer at the socket until cancelled; then it is removed.

    `answer` may raise `CommandError` and `JournalError`, which the client is told. It is cancelled
    where it takes too long.

    Raises:
        ControlError: the socket cannot be made; this is before `started`.
    """
    with _listening(path) as server:
        task_status.started()
        await trio.serve_listeners(_Server(answer).converse, [trio.SocketListener(server)])


@contextmanager
def _listening(path: Path) -> Iterator[trio.socket.SocketType]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            _remove(path)
            with _address(path) as address:
                server.bind(address)
            path.chmod(0o600)  # before it listens: until then nobody gets in, whatever the umask
            server.listen(CLIENT_LIMIT)
        except OSError as error:
            why = error.strerror or error
            raise ControlError(f"cannot make the control socket {path}: {why}") from error
        server.setblocking(False)
        try:
            yield trio.socket.from_stdlib_socket(server)
        finally:
            with suppress(OSError):
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a socket; what is none stays."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give a name of a socket that is short enough for the system: through its directory."""
    name = str(path.absolute())
    if len(os.fsencode(name)) <= _ADDRESS_LIMIT_BYTES:
        yield name
        return
    if not Path("/proc/self/fd").is_dir():
        raise ControlError(
            f"the path of the control socket {path} is longer than {_ADDRESS_LIMIT_BYTES} bytes;"
            " give a shorter one with --state-dir"
        )
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class _Server:
    """Converses with clients, so many at a time."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._clients = 0

    async def converse(self, stream: trio.abc.Stream) -> None:
        """Answer one client until it leaves, is silent for too long, or is not understood."""
        self._clients += 1
        try:
            if self._clients > CLIENT_LIMIT:
                await _send(stream, {"error": "too many others ask the daemon now; try again"})
                return
            lines = _Lines(stream, LINE_LIMIT_BYTES)
            while True:
                with trio.move_on_after(IDLE_S) as idle:
                    line = await lines.next()
                if idle.cancelled_caught or line is None:
                    return
                if not await _send(stream, await self._response(line)):
                    return
        except _TooLong:
            await _send(stream, {"error": f"a line of more than {LINE_LIMIT_BYTES} bytes"})
        except trio.BrokenResourceError:
            return
        finally:
            self._clients -= 1

    async def _response(self, line: bytes) -> dict[str, object]:
        try:
            with trio.move_on_after(ANSWER_S):
                return {"ok": await self._answer(decode_request(line))}
        except (CommandError, JournalError) as error:
            return {"error": str(error)}
        return {"error": "the journal does not answer; look at the disk"}


async def _send(stream: trio.abc.Stream, response: object) -> bool:
    """Send a line, and tell whether it was read in time."""
    sent = False
    with trio.move_on_after(IDLE_S), suppress(trio.BrokenResourceError):
        await stream.send_all(msgspec.json.encode(response) + b"\n")
        sent = True
    return sent


class _TooLong(Exception):
    """A line is over the limit."""


class _Lines:
    """Cuts what comes into lines."""

    def __init__(self, stream: trio.abc.Stream, limit_bytes: int) -> None:
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._rest = bytearray()

    async def next(self) -> bytes | None:
        """Give a line without its end; None where there is no whole one any more."""
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > self._limit_bytes:
                raise _TooLong
            data = await self._stream.receive_some()
            if not data:
                return None
            self._rest += data
        if end > self._limit_bytes:
            raise _TooLong
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line


# --- the command's side


class Client:
    """Asks a daemon, one question after the other. `connect` makes it."""

    def __init__(self, path: Path, stream: trio.SocketStream) -> None:
        self._path = path
        self._stream = stream
        self._lines = _Lines(stream, _ANSWER_LIMIT_BYTES)

    async def ask(self, request: AnyRequest, answer: type[T]) -> T:
        """Give the answer to a request. After a cancellation nothing more can be asked.

        Raises:
            CommandError: the daemon says why it cannot.
            ControlError: it does not answer, or not in our words.
        """
        line = None
        with trio.move_on_after(ASK_S) as scope, suppress(trio.BrokenResourceError):
            with suppress(trio.BrokenResourceError):  # it may have said why before it left
                await self._stream.send_all(msgspec.json.encode(request) + b"\n")
            line = await self._lines.next()
        if scope.cancelled_caught:
            raise ControlError(f"the daemon at {self._path} does not answer within {ASK_S:g} s")
        if line is None:
            raise ControlError(f"the daemon at {self._path} has just stopped; try again")
        try:
            answered = msgspec.json.decode(line, type=_Answered)
            if answered.error is not None or not answered.ok:
                raise CommandError(answered.error or "the daemon says nothing")
            return msgspec.json.decode(answered.ok, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ControlError(
                f"the daemon at {self._path} answers in words of another version ({error});"
                " restart it, or use the command of its version"
            ) from None

    async def aclose(self) -> None:
        """Leave."""
        await trio.aclose_forcefully(self._stream)


async def connect(path: Path) -> Client:
    """Give a client of the daemon that listens at a control socket.

    Raises:
        NobodyListens: no daemon does.
        ControlError: it may not be asked by us, or does not accept.
    """
    asked = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected = False
    try:
        with trio.move_on_after(ASK_S), _address(path) as address:
            await asked.connect(address)
            connected = True
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NobodyListens(f"no daemon listens at {path}") from error
    except OSError as error:
        hint = f"; {run_as_owner(path)}" if error.errno in (errno.EACCES, errno.EPERM) else ""
        raise ControlError(
            f"cannot ask the daemon at {path}: {error.strerror or error}{hint}"
        ) from error
    finally:
        if not connected:
            asked.close()
    if not connected:
        raise ControlError(f"the daemon at {path} does not accept within {ASK_S:g} s")
    return Client(path, trio.SocketStream(asked))


def run_as_owner(path: Path) -> str:
    """Advise to be the user to whom a path belongs, or the nearest above it that we may see."""
    for one in (path, *path.absolute().parents):
        with suppress(OSError):
            owner = one.stat().st_uid
            try:
                user = pwd.getpwuid(owner).pw_name
            except KeyError:
                user = f"number {owner}"
            return f"run this as its user, {user} (sudo -u {user} …)"
    return "run this as its user"
