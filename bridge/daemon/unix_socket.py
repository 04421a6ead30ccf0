"""Unix sockets that listen: the control socket, and the listener's where its address is a path."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ADDRESS_LIMIT_BYTES: Final = 107
"""The longest address of a Unix socket (unix(7))."""


@contextmanager
def bound(path: Path, mode: int, backlog: int) -> Iterator[socket.socket]:
    """Return a listening, non-blocking socket at `path`; at the end, close and remove it.

    A socket that nobody listens on is replaced. No client gets in before the file has its mode,
    whatever the umask.

    Raises:
        OSError: the path cannot be used; EADDRINUSE if another process listens there, or if there
            is a file that is not a socket.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        _remove_stale(path)
        with address(path) as name:
            server.bind(name)
        path.chmod(mode)
        server.listen(backlog)
        own = path.lstat()
        server.setblocking(False)
        try:
            yield server
        finally:
            with suppress(OSError):  # another daemon's may be there by now
                if os.path.samestat(own, path.lstat()):
                    path.unlink()


@contextmanager
def address(path: Path) -> Iterator[str]:
    """Return an address for `path`, within which it can be bound or connected to: for a path that
    is too long, by way of its open directory.

    Raises:
        OSError: ENAMETOOLONG if even that is too long, or not possible on this system.
    """
    path = path.absolute()
    if len(os.fsencode(path)) <= ADDRESS_LIMIT_BYTES:
        yield str(path)
        return
    short = f"/proc/self/fd/999999/{path.name}"
    if not os.path.isdir("/proc/self/fd") or len(os.fsencode(short)) > ADDRESS_LIMIT_BYTES:
        raise OSError(
            errno.ENAMETOOLONG, f"the path is longer than {ADDRESS_LIMIT_BYTES} bytes", str(path)
        )
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _remove_stale(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EADDRINUSE, "there is a file that is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, address(path) as name:
            probe.setblocking(False)
            try:
                probe.connect(name)
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink()
                return
            except BlockingIOError:  # its backlog is full, so somebody is there
                pass
        raise OSError(errno.EADDRINUSE, "another process listens there")
