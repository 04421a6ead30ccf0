"""The control socket: how commands talk to a running daemon.

It is a Unix stream socket, `control.sock`, mode 0600, in the state directory. Each line is a JSON
object such as `{"command": "status"}`, answered in order by one line: `{"ok": …}` or
`{"error": "…"}`. Whoever may open the socket may do everything; no answer holds a secret.

A socket that is already there was left by a daemon that was killed, since the lock of the state
directory admits one daemon. The cost of a client is bounded: a line, an answer, the time for
either, and the number of clients.
"""

import errno
import pwd
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct

from bridge import __version__
from bridge.daemon.unix_socket import address, bound
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
_NOT_VALID: Final = "not a valid request"
_REMEDY: Final = "restart the daemon, or use the command of its version"
T = TypeVar("T")


class BadRequest(CommandError):
    """A line is not a valid request."""


class AskStatus(Request, frozen=True, tag="status"):
    """Ask for the daemon's status."""


AnyRequest = AskStatus | QueueRequest


class _Spoken(Struct):
    protocol: int = PROTOCOL


_SPOKEN: Final = msgspec.json.Decoder(_Spoken)
_REQUEST: Final[msgspec.json.Decoder[AnyRequest]] = msgspec.json.Decoder(AnyRequest)


def decode_request(line: bytes) -> AnyRequest:
    """Read a request.

    Raises:
        BadRequest: it is not a valid request, or of another version.
    """
    try:
        spoken = _SPOKEN.decode(line).protocol
        if spoken != PROTOCOL:
            raise BadRequest(
                f"this is xmpp-bridge {__version__}, which speaks version {PROTOCOL} of the"
                f" control protocol, not {spoken}; {_REMEDY}"
            )
        return _REQUEST.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{_NOT_VALID}: {error}") from None


Answer = Callable[[AnyRequest], Awaitable[object]]


class ControlError(Exception):
    """The control socket cannot be made or used; the message says why, and the remedy."""


class NobodyListens(ControlError):
    """No daemon listens at the socket."""


class _Answered(msgspec.Struct, frozen=True):
    ok: msgspec.Raw = msgspec.Raw()
    error: str | None = None
    protocol: int | None = None
    """With an error: the version that the daemon speaks, if it did not understand the request."""
    version: str = ""

    def is_foreign(self, error: str) -> bool:
        """Return whether an error is that of a daemon of another version. An old one does not name
        its own.
        """
        if self.protocol is None:
            return error.startswith(_NOT_VALID) or "control protocol" in error
        return (self.protocol, self.version) != (PROTOCOL, __version__)


# --- the daemon's side


async def serve(
    path: Path, answer: Answer, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer at the socket until cancelled; then remove it.

    `answer` may raise `CommandError` and `JournalError`, which are reported to the client. It is
    cancelled if it takes too long.

    Raises:
        ControlError: the socket cannot be made; raised before `started`.
    """
    with ExitStack() as resources:
        try:
            server = resources.enter_context(bound(path, 0o600, CLIENT_LIMIT))
        except OSError as error:
            why = error.strerror or error
            remedy = "; give a shorter one with --state-dir"
            remedy = remedy if error.errno == errno.ENAMETOOLONG else ""
            message = f"cannot make the control socket {path}: {why}{remedy}"
            raise ControlError(message) from error
        task_status.started()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(server))
        await trio.serve_listeners(_Server(answer).converse, [listener])


class _Server:
    """Serves clients, at most `CLIENT_LIMIT` at a time."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._clients = 0

    async def converse(self, stream: trio.abc.Stream) -> None:
        """Answer one client until it leaves, is silent for too long, or sends too long a line."""
        self._clients += 1
        try:
            if self._clients > CLIENT_LIMIT:
                await _send(stream, {"error": "too many other clients are connected; try again"})
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
        except BadRequest as error:
            return {"error": str(error), "protocol": PROTOCOL, "version": __version__}
        except (CommandError, JournalError) as error:
            return {"error": str(error)}
        return {"error": "the journal does not answer; look at its disk or database"}


async def _send(stream: trio.abc.Stream, response: object) -> bool:
    """Send a line, and return whether it was read in time."""
    sent = False
    with trio.move_on_after(IDLE_S), suppress(trio.BrokenResourceError):
        await stream.send_all(msgspec.json.encode(response) + b"\n")
        sent = True
    return sent


class _TooLong(Exception):
    """A line is longer than the limit."""


class _Lines:
    """Splits a stream into lines."""

    def __init__(self, stream: trio.abc.Stream, limit_bytes: int) -> None:
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._rest = bytearray()

    async def next(self) -> bytes | None:
        """Return the next line without its end, or None at the end of the stream."""
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
    """A connection to a daemon, for one request after another; made by `connect`."""

    def __init__(self, path: Path, stream: trio.SocketStream) -> None:
        self._path = path
        self._stream = stream
        self._lines = _Lines(stream, _ANSWER_LIMIT_BYTES)

    async def ask(self, request: AnyRequest, answer: type[T]) -> T:
        """Return the answer to a request. After a cancellation the client is unusable.

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
                error_told = answered.error or "the daemon says nothing"
                if answered.is_foreign(error_told):
                    raise self._foreign(answered.version, error_told)
                raise CommandError(error_told)
            return msgspec.json.decode(answered.ok, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ControlError(
                f"the daemon at {self._path} answers in words of another version ({error});"
                f" {_REMEDY}"
            ) from None

    def _foreign(self, version: str, error: str) -> ControlError:
        theirs = f"xmpp-bridge {version}" if version else "another version of xmpp-bridge"
        told = error.removesuffix(f"; {_REMEDY}")
        return ControlError(
            f"the daemon at {self._path} is {theirs}, and this command {__version__}: it does not"
            f" understand the request ({told}); {_REMEDY}"
        )

    async def aclose(self) -> None:
        """Disconnect."""
        await trio.aclose_forcefully(self._stream)


async def connect(path: Path) -> Client:
    """Connect to the daemon that listens at a control socket.

    Raises:
        NobodyListens: no daemon listens there.
        ControlError: this user may not connect, or the daemon does not accept.
    """
    asked = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected = False
    try:
        with trio.move_on_after(ASK_S), address(path) as name:
            await asked.connect(name)
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
    """Return advice to run as the owner of a path, or of its nearest visible parent."""
    for one in (path, *path.absolute().parents):
        with suppress(OSError):
            owner = one.stat().st_uid
            try:
                user = pwd.getpwuid(owner).pw_name
            except KeyError:
                user = f"number {owner}"
            return f"run this as its user, {user} (sudo -u {user} …)"
    return "run this as its user"
