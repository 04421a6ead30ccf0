"""The socket that the listener listens on, TCP or Unix; it is closed and removed at the end."""

import errno
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, assert_never

from bridge.config.settings import TcpAddress, UnixAddress
from bridge.daemon import unix_socket
from bridge.daemon.listener import ListenError

BACKLOG: Final = 1024
MODE: Final = 0o660


def bound(place: TcpAddress | UnixAddress) -> AbstractContextManager[socket.socket]:
    """Return a listening socket; at the end it is closed, and its file removed.

    Entering it raises:
        ListenError: it cannot be bound; the message names the key and the remedy.
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
    with ExitStack() as resources:
        try:
            server = resources.enter_context(unix_socket.bound(Path(place.path), MODE, BACKLOG))
        except OSError as error:
            raise _error(place, error) from error
        yield server


def _error(place: TcpAddress | UnixAddress, error: OSError) -> ListenError:
    why = error.strerror or str(error)
    remedy = "choose another one, or stop the process that uses it"
    if isinstance(place, TcpAddress) and error.errno in (errno.EACCES, errno.EPERM):
        remedy = "choose a port above 1023"
    elif isinstance(place, TcpAddress) and error.errno == errno.EADDRNOTAVAIL:
        remedy = "use an address of this machine, such as 127.0.0.1"
    elif isinstance(place, UnixAddress) and error.errno != errno.EADDRINUSE:
        remedy = "name a directory that exists and that this user may write to"
    return ListenError(f"listen.address: cannot listen at {place}: {why}; {remedy}")
