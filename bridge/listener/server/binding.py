"""Where the listener is: a bound socket, of either family, taken away at the end."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, assert_never

from bridge.config.settings import TcpAddress, UnixAddress
from bridge.daemon.listener import ListenError

BACKLOG: Final = 1024
MODE: Final = 0o660


def bound(place: TcpAddress | UnixAddress) -> AbstractContextManager[socket.socket]:
    """Give a socket that listens; at the end it is closed, and its file removed.

    Entering it raises:
        ListenError: it cannot be made.
    """
    match place:
        case TcpAddress():
            return _tcp(place)
        case UnixAddress():
            return _unix(place)
        case _:
            assert_never(place)


@contextmanager
def _tcp(place: TcpAddress) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((place.host, place.port))
            server.listen(BACKLOG)
        except OSError as error:
            raise _error(place, error) from error
        server.setblocking(False)
        yield server


@contextmanager
def _unix(place: UnixAddress) -> Iterator[socket.socket]:
    path = Path(place.path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            _remove_stale(path)
            server.bind(place.path)
            path.chmod(MODE)  # before it listens: until then nobody gets in, whatever the umask
            server.listen(BACKLOG)
            own = path.lstat()
        except OSError as error:
            raise _error(place, error) from error
        server.setblocking(False)
        try:
            yield server
        finally:
            with suppress(OSError):  # another daemon's may be there by now
                if os.path.samestat(own, path.lstat()):
                    path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove a socket where nobody listens any more; what is none stays, and so does one in use.

    Raises:
        OSError: EADDRINUSE, or what the file system says.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EADDRINUSE, "there is a file that is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink()
                return
            except BlockingIOError:  # its backlog is full, so somebody is there
                pass
        raise OSError(errno.EADDRINUSE, "another process listens there")


def _error(place: TcpAddress | UnixAddress, error: OSError) -> ListenError:
    why = error.strerror or str(error)
    remedy = "choose another one, or stop what has it"
    if isinstance(place, TcpAddress) and error.errno in (errno.EACCES, errno.EPERM):
        remedy = "choose a port above 1023"
    elif isinstance(place, TcpAddress) and error.errno == errno.EADDRNOTAVAIL:
        remedy = "use an address of this machine, such as 127.0.0.1"
    elif isinstance(place, UnixAddress) and error.errno != errno.EADDRINUSE:
        remedy = "name a directory that exists and that this user may write to"
    return ListenError(f"listen.address: cannot listen at {place}: {why}; {remedy}")
