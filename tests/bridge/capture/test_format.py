"""The capture format: bytes in are bytes out, what one may edit, and each fault by its line."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.capture import format as module
from bridge.capture.format import (
    MAX_LINE_BYTES,
    CaptureError,
    Header,
    Record,
    encode_header,
    encode_record,
    is_capture,
    read,
)

DATE: Final = datetime(2026, 11, 22, 17, 20, 0, 123456, tzinfo=UTC)
HEADER: Final = Header("xmpp-bridge 0.1.0", "bot.example.com", DATE)
START: Final = b"xcap 1\norigin: a\ndomain: b\ndate: 2026-11-22T17:20:00Z\n\n"
TIMES: Final = st.integers(0, 10**15).map(lambda micro: micro / 1_000_000)
CHANNELS: Final = st.from_regex("[a-z]{1,16}", fullmatch=True)
DATA: Final = st.binary() | st.text().map(str.encode) | st.from_regex(rb"[\\nrtx0-9a-f\n]*")
NAMES: Final = st.from_regex("[a-z][a-z0-9-]*", fullmatch=True)
FIELDS: Final = st.dictionaries(NAMES, st.text(), max_size=90).map(
    lambda found: tuple((n, v) for n, v in found.items() if n not in ("origin", "domain", "date"))
)


def lines(data: bytes) -> Iterator[bytes]:
    return iter(BytesIO(data).readline, b"")


def records(data: bytes) -> tuple[list[Record], int | None]:
    capture = read(lines(data))
    return list(capture), capture.cut


def failure(data: bytes) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        records(data)
    assert str(caught.value) == f"line {caught.value.line}: {caught.value.problem}"
    return caught.value


# --- what is written is read


@given(st.lists(st.builds(Record, TIMES, CHANNELS, DATA)))
def test_what_is_written_is_read(written: list[Record]) -> None:
    written.sort(key=lambda record: record.at)
    data = encode_header(HEADER) + b"".join(map(encode_record, written))
    capture = read(lines(data))
    assert capture.header == HEADER
    assert list(capture) == written
    assert capture.cut is None


@given(DATA)
@example(b"")
@example(b"\\")
@example(bytes(range(256)))
@example(bytes(range(128)))
@example(b"\x7f")
@example("\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n".encode())
@example("\ud800".encode("utf-8", "surrogatepass"))
@example("🙂 a\u0301 \u202e \u00a0 \ufeff \ufffe".encode())
def test_a_record_is_one_line_for_every_editor(data: bytes) -> None:
    line = encode_record(Record(0.0, "in", data))
    assert line.decode().splitlines(keepends=True) == [line.decode()]
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line.decode()[:-1])


@pytest.mark.parametrize(
    ("data", "written"),
    [
        ("Grüße 🙂 \u0080", "Grüße 🙂 \\xc2\\x80"),
        ("\u00a0«\\»", "\u00a0«\\\\»"),
        ("é\u2028", "é\\xe2\\x80\\xa8"),
        ("é\u2029", "é\\xe2\\x80\\xa9"),
        ("é\n", "é\\n"),
        ("é\\", "é\\\\"),
    ],
)
def test_what_is_escaped_beyond_ascii(data: str, written: str) -> None:
    assert encode_record(Record(0.0, "in", data.encode())) == f"0.000000 in {written}\n".encode()


@given(st.builds(Header, st.text(), st.text(), st.datetimes(timezones=st.just(UTC)), FIELDS))
def test_a_header_is_read_as_it_was_written(header: Header) -> None:
    if header.date.year < 1000:  # strftime does not pad them
        return
    assert read(lines(encode_header(header))).header == header


def test_it_reads_like_this() -> None:
    header = Header("Prosody 0.12.3", "bot.localhost", DATE, (("server", "127.0.0.1:5347"),))
    sent = "<message><body>Grüße\n\\o/ \x07 🙂</body></message>".encode() + b"\xff"
    assert (encode_header(header) + encode_record(Record(1.5, "in", sent))).decode() == (
        "xcap 1\n"
        "origin: Prosody 0.12.3\n"
        "domain: bot.localhost\n"
        "date: 2026-11-22T17:20:00.123456Z\n"
        "server: 127.0.0.1:5347\n"
        "\n"
        "1.500000 in <message><body>Grüße\\n\\\\o/ \\x07 🙂</body></message>\\xff\n"
    )


def test_a_date_is_written_in_utc() -> None:
    there = DATE.astimezone(timezone(timedelta(hours=5)))
    assert encode_header(Header("a", "b", there)) == encode_header(Header("a", "b", DATE))
    assert read(lines(encode_header(Header("a", "b", there)))).header.date == DATE


def test_further_fields_are_found_by_name() -> None:
    header = Header("a", "b", DATE, (("server", "c"),))
    assert (header.get("server"), header.get("endpoint"), header.get("x", "y")) == ("c", "", "y")


# --- what a person may write by hand


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b"0.000000 in \n", Record(0.0, "in", b"")),
        (b"0.000000 in  \n", Record(0.0, "in", b" ")),
        (b"12.500000 note a tab:\t.\n", Record(12.5, "note", b"a tab:\t.")),
        (b"0.000000 in a\rb\x07c\x00\n", Record(0.0, "in", b"a\rb\x07c\x00")),
        (b"0.000000 in \xff\xfe\n", Record(0.0, "in", b"\xff\xfe")),
        ("0.000000 in \u2028\n".encode(), Record(0.0, "in", "\u2028".encode())),
        (rb"0.000000 in \x41\x0a" + b"\n", Record(0.0, "in", b"A\n")),
        (rb"0.000000 in \\n" + b"\n", Record(0.0, "in", b"\\n")),
        (rb"0.000000 in \\\n" + b"\n", Record(0.0, "in", b"\\\n")),
    ],
)
def test_what_is_not_escaped_is_taken_as_it_is(line: bytes, record: Record) -> None:
    assert records(START + line) == ([record], None)


@pytest.mark.parametrize("date", ["2026-11-22T17:20:00Z", "2026-11-22 18:20+01:00"])
def test_a_date_may_be_written_in_any_way_of_iso_8601(date: str) -> None:
    header = read(lines(f"xcap 1\norigin: a\ndomain: b\ndate: {date}\n\n".encode())).header
    assert header.date == datetime(2026, 11, 22, 17, 20, tzinfo=UTC)


def test_a_field_needs_no_space_and_the_order_is_free() -> None:
    data = b"xcap 1\ndate: 2026-11-22T17:20:00Z\nx:y\ndomain:b\norigin: a: b\n\n"
    header = read(lines(data)).header
    assert (header.origin, header.domain, header.fields) == ("a: b", "b", (("x", "y"),))


def test_records_of_one_moment_keep_their_order() -> None:
    data = START + b"1.000000 out b\n1.000000 in a\n"
    assert [record.channel for record in records(data)[0]] == ["out", "in"]


# --- what a crash leaves


@given(st.integers(0, 200))
def test_wherever_it_is_cut_the_whole_records_are_read(size: int) -> None:
    written = [Record(float(n), "in", b"<message/>" * n) for n in range(5)]
    data = START + b"".join(map(encode_record, written))
    size = min(len(START) + size, len(data))
    kept = data[:size]
    read_back, cut = records(kept)
    assert read_back == written[: kept.count(b"\n") - START.count(b"\n")]
    assert cut == (None if kept.endswith(b"\n") else kept.count(b"\n") + 1)


def test_the_last_line_is_cut_where_only_its_end_is_missing() -> None:
    assert records(START + b"0.000000 in a\n0.100000 in b") == ([Record(0.0, "in", b"a")], 7)


def test_nothing_is_cut_before_it_was_read() -> None:
    capture = read(lines(START + b"0.000000 in a\n0.1"))
    assert capture.cut is None
    list(capture)
    assert capture.cut == 7


# --- each fault, by its line


@pytest.mark.parametrize(
    ("data", "line", "problem"),
    [
        (b"", 1, "the file is empty"),
        (b"\n", 1, "this is not a capture: the first line must be 'xcap 1'"),
        (b"xcap\n", 1, "this is not a capture"),
        (b"xcap 1", 1, "this is not a capture"),
        (b"xcap 1\r\n", 1, "this is not a capture"),
        (b"\xef\xbb\xbfxcap 1\n", 1, "this is not a capture"),
        (b"<message/>", 1, "this is not a capture"),
        (b"\x00\xff", 1, "this is not a capture"),
        (b"xcap 2\n", 1, "this is version 2; only 1 can be read"),
        (b"xcap 0\n", 1, "this is version 0; only 1 can be read"),
        (b"xcap 1\n", 1, "the header is incomplete: it must end with an empty line"),
        (b"xcap 1\norigin: a\n", 2, "the header is incomplete"),
        (b"xcap 1\norigin: a", 2, "the header is incomplete"),
        (b"xcap 1\norigin a\n", 2, "this is not a header field such as 'origin: Prosody 0.12.3'"),
        (b"xcap 1\nOrigin: a\n", 2, "this is not a header field"),
        (b"xcap 1\norigin: a\n\xff: b\n", 3, "the header is not UTF-8"),
        (b"xcap 1\norigin: a\norigin: b\n", 3, "the field 'origin' appears twice"),
        (b"xcap 1\norigin: \\q\n", 2, "a backslash must begin one of"),
        (b"xcap 1\n\n", 2, "the header has no field 'origin'"),
        (b"xcap 1\norigin: a\n\n", 3, "the header has no field 'domain'"),
        (b"xcap 1\norigin: a\ndomain: b\n\n", 4, "the header has no field 'date'"),
        (START.replace(b"2026-11-22T17:20:00Z", b"now"), 5, "'now' is not a valid date (ISO 8601)"),
        (START.replace(b"00Z", b"00"), 5, "the date has no time zone: end it with Z"),
        (b"xcap 1\n" + b"".join(b"a%d: b\n" % n for n in range(200)), 101, "does not end"),
        (START + b"\n", 6, "this is not a record such as '0.001240 in <stream:stream …>'"),
        (START + b"# a comment\n", 6, "this is not a record"),
        (START + b"0.0 in a\n", 6, "this is not a record"),
        (START + b"-1.000000 in a\n", 6, "this is not a record"),
        (START + b"0.000000 IN a\n", 6, "this is not a record"),
        (START + b"0.000000 in\n", 6, "this is not a record"),
        (START + b"0.000000  in a\n", 6, "this is not a record"),
        (START + b"0.000000 in a\nhello\n", 7, "this is not a record"),
        (START + b"0.000000 in \\\n", 6, "a backslash must begin one of"),
        (START + b"0.000000 in a\\xZZ\n", 6, "a backslash must begin one of"),
        (START + b"0.000000 in \\x4\n", 6, "a backslash must begin one of"),
        (START + b"0.000000 in \\xFF\n", 6, "a backslash must begin one of"),
        (START + b"1.000000 in a\n0.999999 in b\n", 7, "its time is earlier than that of the"),
    ],
)
def test_each_fault_is_told_with_its_line(data: bytes, line: int, problem: str) -> None:
    error = failure(data)
    assert error.line == line
    assert problem in error.problem


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_over_the_limit(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    assert MAX_LINE_BYTES == 64 * 1024 * 1024
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
    line = b"0.000000 in " + b"x" * (101 - 12 - len(end)) + end
    error = failure(START + line)
    assert (error.line, error.problem) == (6, "the line is longer than 100 bytes")
    assert len(records(START + line[:50] + b"\n")[0]) == 1


@given(st.binary())
def test_rubbish_is_refused_or_read_and_nothing_else(data: bytes) -> None:
    for beginning in (b"", b"xcap 1\n", START, START + b"0.000000 in "):
        try:
            records(beginning + data)
        except CaptureError as error:
            assert error.line <= (beginning + data).count(b"\n") + 1  # noqa: PT017


def test_a_capture_is_told_by_its_beginning() -> None:
    assert is_capture(encode_header(HEADER))
    assert is_capture(b"xcap 2\n")
    assert not is_capture(b"<stream:stream")
    assert not is_capture(b"")
