"""Captures as files: every packing, every way to be cut, and each thing that is no capture."""

import gzip
import io
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from backports import zstd

from bridge.capture.file import (
    STDIN,
    CaptureFileError,
    CaptureReader,
    CaptureWriter,
    Source,
    looks_like_capture,
    open_capture,
    open_source,
)
from bridge.capture.format import Header, Record
from tests.bridge.unprivileged import open_directory, unprivileged

HEADER: Final = Header("test", "bot.localhost", datetime(2026, 11, 22, tzinfo=UTC))
RECORDS: Final = [Record(n / 10, "in", f"<message id='{n}'/>\n".encode()) for n in range(100)]
ENDINGS: Final = (".xcap", ".xcap.gz", ".xcap.zst")
packed = pytest.mark.parametrize("ending", ENDINGS)


def write(path: Path, records: list[Record] = RECORDS) -> bytes:
    writer = CaptureWriter(path, HEADER)
    for record in records:
        writer.write(record)
    writer.close()
    return path.read_bytes()


def read(path: Path) -> tuple[list[Record], str | None]:
    with open_capture(path) as reader:
        assert reader.header == HEADER
        return list(reader), reader.cut


def failure(path: Path) -> CaptureFileError:
    with pytest.raises(CaptureFileError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: {caught.value.why}"
    return caught.value


@packed
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write(path)
    assert read(path) == (RECORDS, None)


def test_the_ending_says_how_it_is_packed(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.xcap")
    assert gzip.decompress(write(tmp_path / "a.xcap.gz")) == plain
    assert zstd.decompress(write(tmp_path / "a.xcap.zst")) == plain
    assert len(write(tmp_path / "b.xcap.gz")) < len(plain) / 2
    assert len(write(tmp_path / "b.xcap.zst")) < len(plain) / 2


@packed
def test_a_new_file_is_for_its_owner_alone(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@packed
def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text("precious")
    with pytest.raises(CaptureFileError, match="File exists"):
        CaptureWriter(path, HEADER)
    assert path.read_text() == "precious"


@packed
def test_what_was_flushed_is_there_to_the_last_record(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    writer = CaptureWriter(path, HEADER)
    for number, record in enumerate(RECORDS[:3], 1):
        writer.write(record)
        writer.flush()
        assert path.stat().st_size == writer.size_bytes
        records, cut = read(path)
        assert records == RECORDS[:number]
        assert (cut is None) == (ending == ".xcap")  # the others have no end yet
    writer.write(RECORDS[3])
    assert read(path)[0] == RECORDS[:3]
    writer.abandon()
    assert read(path)[0] == RECORDS[:3]


@packed
def test_wherever_a_file_is_cut_its_whole_records_are_read(tmp_path: Path, ending: str) -> None:
    writer = CaptureWriter(tmp_path / f"whole{ending}", HEADER)
    writer.flush()
    ends = [writer.size_bytes]
    for record in RECORDS[:5]:
        writer.write(record)
        writer.flush()
        ends.append(writer.size_bytes)
    writer.close()
    whole = writer.path.read_bytes()
    path = tmp_path / f"cut{ending}"
    for size in range(ends[0], len(whole)):
        path.write_bytes(whole[:size])
        records, cut = read(path)
        # What is packed may be out before its last byte, which only ends it.
        assert len(records) >= sum(end <= size for end in ends) - 1
        assert records == RECORDS[: len(records)]
        assert (cut is None) == (ending == ".xcap" and size in ends)


def test_a_line_that_is_not_whole_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xcap"
    path.write_bytes(write(tmp_path / "b.xcap", RECORDS[:2])[:-1])
    assert read(path) == (RECORDS[:1], "line 7 is incomplete: the file was cut off there")


@pytest.mark.parametrize("ending", [".xcap.gz", ".xcap.zst"])
def test_a_packed_file_without_its_end_is_cut(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    writer = CaptureWriter(path, HEADER)
    writer.write(RECORDS[0])
    writer.flush()
    writer.abandon()
    assert read(path) == (RECORDS[:1], "the file was cut off after its last complete line")


@pytest.mark.parametrize("ending", [".xcap.gz", ".xcap.zst"])
def test_packed_files_can_be_appended_to_each_other(tmp_path: Path, ending: str) -> None:
    plain = write(tmp_path / "plain.xcap")
    pack = gzip.compress if ending.endswith("gz") else zstd.compress
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"".join(pack(line) for line in plain.splitlines(keepends=True)))
    assert read(path) == (RECORDS, None)


@pytest.mark.parametrize("ending", [".xcap.gz", ".xcap.zst"])
def test_what_unpacks_to_much_is_read_bit_by_bit(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    many = [Record(0.0, "in", b"x" * 1_000_000)] * 5
    assert len(write(path, many)) < 200_000
    with open_capture(path) as reader:
        for record in reader:
            assert record == many[0]
        assert reader.position_bytes == reader.size_bytes


def test_the_position_tells_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.xcap"
    size = len(write(path, [Record(0.0, "in", b"x" * 10_000)] * 300))
    positions = []
    with open_capture(path) as reader:
        assert reader.size_bytes == size
        for _ in reader:
            positions.append(reader.position_bytes)
    assert positions == sorted(positions)
    assert positions[0] < size / 2
    assert positions[-1] == size


def test_a_pipe_has_no_size() -> None:
    reading, writing = os.pipe()
    os.write(
        writing, b"xcap 1\norigin: a\ndomain: b\ndate: 2026-11-22T00:00:00Z\n\n0.000000 in a\n"
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        reader = CaptureReader(Source(STDIN, file))
        assert (reader.size_bytes, reader.position_bytes) == (None, 0)
        assert list(reader) == [Record(0.0, "in", b"a")]


def test_standard_input_is_named_so() -> None:
    with pytest.raises(CaptureFileError) as caught:
        CaptureReader(Source(STDIN, io.BytesIO(b"")))
    assert str(caught.value) == "standard input: line 1: the file is empty"


# --- what is no capture


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert failure(tmp_path / "a.xcap").why == "it cannot be read (No such file or directory)"


def test_a_directory(tmp_path: Path) -> None:
    assert failure(tmp_path).why == "it cannot be read (Is a directory)"


def test_a_file_that_must_not_be_read() -> None:
    with open_directory() as directory:
        path = directory / "a.xcap"
        write(path)
        path.chmod(0)
        with unprivileged():
            assert failure(path).why == "it cannot be read (Permission denied)"


@packed
def test_an_empty_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.touch()
    assert failure(path).why == "line 1: the file is empty"


def test_binary(tmp_path: Path) -> None:
    path = tmp_path / "a.xcap"
    path.write_bytes(bytes(range(256)))
    assert failure(path).why == "line 1: this is not a capture: the first line must be 'xcap 1'"


def test_another_version(tmp_path: Path) -> None:
    path = tmp_path / "a.xcap"
    path.write_bytes(b"xcap 2\n")
    assert failure(path).why == "line 1: this is version 2; only 1 can be read"


def test_a_line_that_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.xcap"
    path.write_bytes(write(tmp_path / "b.xcap", RECORDS[:1]) + b"<message/>\n")
    with open_capture(path) as reader, pytest.raises(CaptureFileError) as caught:
        list(reader)
    assert caught.value.line == 7
    assert caught.value.why.startswith("line 7: this is not a record")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_name_that_lies(tmp_path: Path, ending: str) -> None:
    plain = write(tmp_path / "a.xcap")
    path = tmp_path / f"b.xcap{ending}"
    path.write_bytes(plain)
    assert failure(path).why == f"its name ends in {ending}, but its content does not match"
    packed = write(tmp_path / f"c.xcap{ending}")
    other = tmp_path / "d.xcap"
    other.write_bytes(packed)
    assert failure(other).why == f"it is compressed: its name must end in {ending}"


@pytest.mark.parametrize(("ending", "name"), [(".gz", "gzip"), (".zst", "zstd")])
def test_damage(tmp_path: Path, ending: str, name: str) -> None:
    path = tmp_path / f"a.xcap{ending}"
    data = bytearray(write(path))
    data[-1] ^= 1  # in the check sum, or the length
    path.write_bytes(data)
    with pytest.raises(CaptureFileError, match=f"the {name} data is damaged"):
        read(path)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_rubbish_behind_the_end(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.xcap{ending}"
    path.write_bytes(write(tmp_path / f"b.xcap{ending}") + b"rubbish and more of it")
    with pytest.raises(CaptureFileError, match="data is damaged"):
        read(path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.xcap"
    with pytest.raises(CaptureFileError) as caught:
        CaptureWriter(path, HEADER)
    assert str(caught.value) == f"{path}: it cannot be written (No such file or directory)"


def fill(writer: CaptureWriter) -> None:
    """Have the disk be full from now on."""
    assert writer._file is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file.fileno())
    os.close(full)


@packed
def test_a_full_disk(tmp_path: Path, ending: str) -> None:
    writer = CaptureWriter(tmp_path / f"a{ending}", HEADER)
    writer.write(RECORDS[0])
    writer.flush()
    fill(writer)
    writer.write(RECORDS[1])
    with pytest.raises(CaptureFileError, match="No space left on device"):
        writer.flush()
    writer.abandon()
    assert read(writer.path)[0] == RECORDS[:1]


def test_a_source_tells_what_it_is_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.xcap.gz"
    write(path)
    with open_source(path) as source:
        assert looks_like_capture(source)
        assert list(CaptureReader(source)) == RECORDS
    xml = tmp_path / "message.xml"
    xml.write_text("<message/>\n")
    with open_source(xml) as source:
        assert not looks_like_capture(source)
        assert source.read(100) == b"<message/>\n"
        assert source.read(100) == b""
