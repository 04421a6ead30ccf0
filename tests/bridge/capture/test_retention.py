"""Where captures are put: made for its owner alone; what cannot be one; and who makes room."""

import stat
from pathlib import Path

import pytest

from bridge.capture.retention import CaptureDirectoryError, CaptureOptions, Retention
from tests.bridge.unprivileged import open_directory, unprivileged


def failure(path: Path) -> str:
    with pytest.raises(CaptureDirectoryError) as caught:
        CaptureOptions(path).prepare()
    return str(caught.value)


def test_a_new_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "captures"
    assert CaptureOptions(path).prepare() is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert CaptureOptions(path).prepare() is None


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_one_that_others_can_look_into_is_taken_with_a_warning(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "captures"
    path.mkdir()
    path.chmod(mode)
    warning = CaptureOptions(path).prepare()
    assert warning is not None
    assert str(path) in warning
    assert "chmod 700" in warning
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "captures"
    path.touch()
    assert failure(path) == f"{path} is not a directory"


def test_its_parent_must_be_there(tmp_path: Path) -> None:
    assert failure(tmp_path / "a" / "b") == f"{tmp_path}/a does not exist; create it first"


def test_its_parent_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert failure(tmp_path / "a" / "b") == f"{tmp_path}/a/b cannot be created (Not a directory)"


def test_its_parent_must_be_writable() -> None:
    with open_directory() as directory, unprivileged():
        path = directory / "captures"
        assert failure(path) == f"{path} cannot be created (Permission denied)"


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "captures"
    path.symlink_to(tmp_path / "none")
    assert failure(path) == f"{path} cannot be used (No such file or directory)"


def test_the_oldest_go_first_whoever_wrote_them() -> None:
    retention = Retention(1000, 200)
    a, b, c, d = (Path(name) for name in "abcd")
    assert retention.opened(a) == []
    assert retention.opened(b) == []
    retention.closed(b, 300)
    retention.closed(a, 300)
    assert retention.opened(c) == []
    retention.closed(c, 300)
    assert retention.opened(d) == [b]
    assert retention.opened(b) == []


def test_several_small_ones_make_room_for_a_large_one() -> None:
    retention = Retention(1000, 200)
    for name in "abcdef":
        retention.opened(Path(name))
        retention.closed(Path(name), 130)
    assert retention.opened(Path("g")) == []
    retention.closed(Path("g"), 400)
    assert retention.opened(Path("h")) == [Path("a"), Path("b"), Path("c")]


def test_what_is_being_written_is_not_deleted() -> None:
    retention = Retention(100, 200)
    assert retention.opened(Path("a")) == []
    assert retention.opened(Path("b")) == []
    retention.closed(Path("a"), 200)
    assert retention.opened(Path("c")) == [Path("a")]


@pytest.mark.parametrize(("components", "rotate_bytes"), [(1, 100), (4, 100), (5, 100), (10, 50)])
def test_where_many_share_the_bound_files_are_smaller(components: int, rotate_bytes: int) -> None:
    options = CaptureOptions(Path(), rotate_bytes=100, max_bytes=1000)
    assert Retention.of(options, components).rotate_bytes == rotate_bytes
