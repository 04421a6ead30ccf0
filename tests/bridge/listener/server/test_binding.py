"""Where the listener is: sockets of both families, and each reason why there can be none."""

import os
import socket
import stat
from pathlib import Path

import pytest

from bridge.config.settings import TcpAddress, UnixAddress
from bridge.daemon.listener import ListenError
from bridge.listener.server.binding import bound
from tests.bridge.leak import nothing_left

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)


def connects(family: socket.AddressFamily, address: object) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        try:
            client.connect(address)  # type: ignore[arg-type]
        except OSError:
            return False
        return True


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_an_address(host: str, family: socket.AddressFamily) -> None:
    with bound(TcpAddress(host, 0)) as listening:
        address = listening.getsockname()[:2]
        assert address[0] == host
        assert connects(family, address)
    assert not connects(family, address)


def test_an_address_in_use() -> None:
    with bound(TcpAddress("127.0.0.1", 0)) as listening:
        place = TcpAddress("127.0.0.1", listening.getsockname()[1])
        with pytest.raises(ListenError) as caught, bound(place):
            pass
    assert str(caught.value) == (
        f"listen.address: cannot listen at {place}: Address already in use;"
        " choose another one, or stop the process that uses it"
    )
    with bound(place):  # free again at once
        pass


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ListenError, match="use an address of this machine"):
        bound(TcpAddress("192.0.2.1", 5280)).__enter__()


def test_a_socket_file_for_its_group(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    before = os.umask(0)
    try:
        with bound(UnixAddress(str(path))):
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert connects(socket.AF_UNIX, str(path))
    finally:
        os.umask(before)
    assert not path.exists()


def test_a_socket_file_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with bound(UnixAddress(str(path))):
        assert connects(socket.AF_UNIX, str(path))


def test_a_socket_file_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with bound(UnixAddress(str(path))):
        with pytest.raises(ListenError, match="another process listens there") as caught:
            bound(UnixAddress(str(path))).__enter__()
        assert str(caught.value).startswith(f"listen.address: cannot listen at unix:{path}: ")
        assert connects(socket.AF_UNIX, str(path))


def test_a_socket_file_whose_process_is_too_busy_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.setblocking(False)
        waiting.connect(str(path))
        with pytest.raises(ListenError, match="another process listens there"):
            bound(UnixAddress(str(path))).__enter__()
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "http.sock"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(tmp_path / "nothing")
    with pytest.raises(ListenError, match="there is a file that is not a socket"):
        bound(UnixAddress(str(path))).__enter__()
    assert path.is_symlink() or path.exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    place = UnixAddress(str(tmp_path / "none" / "http.sock"))
    with pytest.raises(
        ListenError, match="No such file or directory; name a directory that exists"
    ):
        bound(place).__enter__()


def test_the_file_of_another_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with bound(UnixAddress(str(path))):
        path.unlink()
        path.write_text("of another")
    assert path.read_text() == "of another"
    with bound(UnixAddress(str(tmp_path / "b.sock"))):
        (tmp_path / "b.sock").unlink()
