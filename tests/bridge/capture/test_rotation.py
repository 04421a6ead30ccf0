"""A series of files: each can be replayed by itself, and all together are what happened."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.capture import rotation as module
from bridge.capture import writer as spool_module
from bridge.capture.exchange import decode
from bridge.capture.file import CaptureFileError, open_capture
from bridge.capture.format import Header, Record
from bridge.capture.redact import Redactor
from bridge.capture.retention import Retention
from bridge.capture.rotation import CaptureRotation
from bridge.capture.writer import FileNaming
from bridge.webhook.observer import PostAnswer, PostFailure
from xmppstream import ComponentConnection, Role, StanzaReceived, StreamOpened
from xmppstream.tap import SHOWN_HANDSHAKE

BEGAN: Final = datetime(2026, 11, 22, 17, 20, 0, 500_000, tzinfo=UTC)
FIELDS: Final = (("server", "127.0.0.1:5347"), ("endpoint", "http://there/"))
HEADER_OUT: Final = b"<?xml version='1.0'?><stream:stream to='bot.example'>"
HEADER_IN: Final = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept'"
    b" xmlns:stream='http://etherx.jabber.org/streams' from='bot.example' id='1'>"
)
HANDSHAKE: Final = b"<handshake/>"
MIB: Final = 1024 * 1024


class Site:
    """A directory, a series in it, and what it holds."""

    def __init__(self, directory: Path, rotate_bytes: int = MIB, **options: Any) -> None:
        self.directory = directory
        suffix = options.pop("suffix", ".xcap")
        retention = Retention(options.pop("max_bytes", 1024 * MIB), rotate_bytes)
        self.rotation = CaptureRotation(
            FileNaming(directory, "bot.example", suffix, BEGAN, FIELDS), retention, **options
        )
        self.rotation.begin(0.0)

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())

    def read(self) -> list[tuple[Header, list[Record]]]:
        found = []
        for path in self.files:
            with open_capture(path) as reader:
                found.append((reader.header, list(reader)))
                assert reader.cut is None
        return found

    def attach(self, at: float = 0.0) -> None:
        self.rotation.link_opened(at, "127.0.0.1:5347")
        self.rotation.sent(at, HEADER_OUT)
        self.rotation.received(at, HEADER_IN, 0)
        self.rotation.sent(at, SHOWN_HANDSHAKE)
        self.rotation.received(at, HANDSHAKE, 0)
        self.rotation.attached()

    def end(self) -> list[tuple[Header, list[Record]]]:
        self.rotation.close()
        return self.read()


OPENING: Final = [
    ("link", b"open 127.0.0.1:5347"),
    ("out", HEADER_OUT),
    ("in", HEADER_IN),
    ("out", SHOWN_HANDSHAKE),
    ("in", HANDSHAKE),
]


def pairs(records: list[Record]) -> list[tuple[str, bytes]]:
    return [(record.channel, record.data) for record in records]


def joined(found: list[tuple[Header, list[Record]]]) -> list[Record]:
    """What all files tell together, on the first one's clock."""
    records = []
    for header, one in found:
        repeated = int(header.get("repeated", "0")) if header.get("continues") else 0
        shift_s = (header.date - found[0][0].date).total_seconds()
        assert all(record.at == 0.0 for record in one[:repeated])
        records += [evolve(record, at=round(record.at + shift_s, 6)) for record in one[repeated:]]
    return records


def of(records: list[Record], channel: str) -> bytes:
    return b"".join(record.data for record in records if record.channel == channel)


# --- one file


def test_one_file_has_it_all(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.attach(0.25)
    site.rotation.received(1.0, b"<message/>", 0)
    site.rotation.exchanged(1.5, "msg_1", 1, 1.25, b'{"id":"a"}', PostAnswer(204))
    site.rotation.sent(1.75, b"<message/>")
    site.rotation.put(2.0, "api", b'{"id":"msg_2"}')
    site.rotation.link_closed(2.5, "the stream was closed")
    [(header, records)] = site.end()
    assert [path.name for path in site.files] == ["bot.example-20261122T172000Z-0001.xcap"]
    assert (header.domain, header.date, header.fields) == ("bot.example", BEGAN, FIELDS)
    assert header.origin.startswith("xmpp-bridge ")
    assert pairs(records[:5]) == OPENING
    assert {record.at for record in records[:5]} == {0.25}
    assert [(record.at, record.channel) for record in records[5:]] == [
        (1.0, "in"),
        (1.5, "http"),
        (1.75, "out"),
        (2.0, "api"),
        (2.5, "link"),
    ]
    exchange = decode(records[6].data)
    assert (exchange.start, exchange.duration_s, exchange.uid) == (1.25, 0.25, "msg_1")
    assert records[-1].data == b"end the stream was closed"


def test_what_is_flushed_can_be_read_while_more_comes(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.attach()
    site.rotation.flush()
    [(_, records)] = site.read()
    assert pairs(records) == OPENING
    site.rotation.close()


def test_a_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    taken = tmp_path / "bot.example-20261122T172000Z-0001.xcap"
    taken.write_text("precious")
    site = Site(tmp_path)
    assert site.rotation.writer.path == tmp_path / "bot.example-20261122T172000Z-0002.xcap"
    site.rotation.close()
    assert taken.read_text() == "precious"


def test_a_domain_makes_no_path(tmp_path: Path) -> None:
    naming = FileNaming(tmp_path, "../bot", ".xcap", BEGAN)
    assert naming.path(1).parent == tmp_path
    assert naming.path(1).name == ".._bot-20261122T172000Z-0001.xcap"


# --- one after the other


@pytest.mark.parametrize("suffix", [".xcap", ".xcap.gz", ".xcap.zst"])
def test_each_file_begins_with_the_opening_and_says_what_it_continues(
    tmp_path: Path, suffix: str
) -> None:
    site = Site(tmp_path, rotate_bytes=1000, suffix=suffix)
    site.attach()
    for number in range(60):
        site.rotation.received(float(number), f"<message id='{number:0100}'/>".encode(), 0)
        site.rotation.flush()
    found = site.end()
    assert len(found) > (5 if suffix == ".xcap" else 1)
    for number, (header, records) in enumerate(found):
        assert pairs(records[:5]) == OPENING
        before = site.files[number - 1].name if number else ""
        assert header.get("continues") == before
        assert header.get("repeated") == ("5" if number else "")
        assert site.files[number].stat().st_size < 1000 + 300
    records = joined(found)
    assert [record.at for record in records[5:]] == [float(number) for number in range(60)]
    assert of(records, "in").count(b"<message") == 60


def test_a_file_ends_between_two_stanzas_within_a_chunk(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=800)
    site.attach()
    stanza = b"<message><body>" + b"x" * 100 + b"</body></message>"
    stream = stanza * 50
    for offset in range(0, len(stream), 70):
        chunk = stream[offset : offset + 70]
        site.rotation.received(1.0, chunk, (offset + len(chunk)) % len(stanza))
    found = site.end()
    assert len(found) > 10
    for _, records in found:
        assert of(records, "in").removeprefix(HEADER_IN + HANDSHAKE).endswith(b"</message>")
        assert of(records, "in").removeprefix(HEADER_IN + HANDSHAKE).startswith(b"<message>")
    assert of(joined(found), "in") == HEADER_IN + HANDSHAKE + stream


def test_no_file_ends_within_a_stanza(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=800)
    site.attach()
    site.rotation.received(1.0, b"<message>", 9)
    for number in range(20):
        site.rotation.received(1.0, b"x" * 100, 109 + 100 * number)
        site.rotation.sent(1.0, b"<presence/>" * 10)
        site.rotation.exchanged(1.0, "msg_1", 1, 1.0, b"{}", PostFailure("timed_out"))
        site.rotation.put(1.0, "api", b"{}")
    assert len(site.files) == 1
    site.rotation.received(1.0, b"</message>", 0)
    assert len(site.files) == 1
    site.rotation.put(1.0, "api", b"{}")  # whatever comes next
    assert len(site.files) == 2
    site.rotation.close()


def test_no_file_ends_within_the_opening(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=10)
    site.rotation.link_opened(0.0, "127.0.0.1:5347")
    site.rotation.sent(0.0, HEADER_OUT)
    site.rotation.received(0.0, HEADER_IN, 0)
    site.rotation.exchanged(0.0, "msg_1", 1, 0.0, b"{}", PostFailure("timed_out"))
    site.rotation.sent(0.0, SHOWN_HANDSHAKE)
    site.rotation.received(0.0, HANDSHAKE, 0)
    assert len(site.files) == 1
    site.rotation.attached()
    site.rotation.received(0.0, b"<message/>", 0)
    assert len(site.files) == 2
    site.rotation.close()
    assert pairs(site.read()[-1][1]) == [*OPENING, ("in", b"<message/>")]


def test_however_long_the_opening_is_each_file_takes_the_story_on(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=10)
    site.attach()
    for number in range(5):
        site.rotation.received(1.0, f"<message id='{number}'/>".encode(), 0)
    found = site.end()
    assert [len(records) for _, records in found] == [5, 6, 6, 6, 6, 6]


def test_a_long_batch_is_several_records_in_one_file(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=1000)
    site.attach()
    batch = b"<message/>" * 300_000
    site.rotation.sent(1.0, batch)
    found = site.end()
    assert [of(records, "out") for _, records in found][-1].endswith(batch)
    assert len([one for one in found[-1][1] if one.channel == "out"]) == 2 + 3


@pytest.mark.parametrize(
    "handshake",
    [
        b"<handshake/>",
        b"<handshake />",
        b"<handshake></handshake>",
        b"<handshake\n xmlns='jabber:component:accept'/>",
        b"<c:handshake xmlns:c='jabber:component:accept'></c:handshake>",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_opening_ends_with_the_handshake_however_it_is_cut(
    tmp_path: Path, handshake: bytes, size: int
) -> None:
    site = Site(tmp_path, rotate_bytes=300)
    site.rotation.link_opened(0.0, "there")
    stream = HEADER_IN + handshake + b"<message/>" * 3 + b"<iq"
    attached = False
    for offset in range(0, len(stream), size):
        site.rotation.received(0.0, stream[offset : offset + size], 1)
        if not attached and offset + size >= len(HEADER_IN + handshake):
            site.rotation.attached()
            attached = True
    site.rotation.received(0.0, b"/>", 0)
    site.rotation.received(0.0, b"<presence/>", 0)
    found = site.end()
    assert of(found[-1][1], "in") == HEADER_IN + handshake + b"<presence/>"
    assert of(joined(found), "in") == stream + b"/><presence/>"


def test_what_is_no_server_is_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_OPENING_BYTES", 1000)
    site = Site(tmp_path)
    site.rotation.link_opened(0.0, "there")
    for _ in range(20):
        site.rotation.received(0.0, b"<rubbish/>" * 10, 0)
    assert site.rotation._opening == []
    assert len(site.rotation._opening_in) <= 1100
    [(_, records)] = site.end()
    assert of(records, "in") == b"<rubbish/>" * 200


def test_without_a_connection_nothing_is_repeated(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=200)
    site.attach()
    site.rotation.link_closed(1.0, "why")
    site.rotation.exchanged(2.0, "msg_1", 1, 0.5, b"{}", PostFailure("timed_out"))
    found = site.end()
    header, records = found[-1]
    assert header.get("continues") == site.files[-2].name
    assert header.get("repeated") == ""
    [record] = records
    assert decode(record.data).start == -1.5


def test_each_connection_has_its_own_opening(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=600)
    site.attach()
    site.rotation.link_closed(1.0, "why")
    site.rotation.link_opened(2.0, "127.0.0.1:5347")
    site.rotation.sent(2.0, HEADER_OUT)
    other = HEADER_IN.replace(b"id='1'", b"id='2'")
    site.rotation.received(2.0, other, 0)
    site.rotation.sent(2.0, SHOWN_HANDSHAKE)
    site.rotation.received(2.0, HANDSHAKE, 0)
    site.rotation.attached()
    site.rotation.received(3.0, b"<message/>", 0)
    found = site.end()
    assert of(found[-1][1], "in") == other + HANDSHAKE + b"<message/>"
    assert of(joined(found), "link") == b"open 127.0.0.1:5347end whyopen 127.0.0.1:5347"


@settings(max_examples=50)
@given(
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    rotate_bytes=st.integers(1, 3000),
    redacted=st.booleans(),
)
def test_however_it_is_cut_nothing_is_lost_and_each_file_stands_alone(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], rotate_bytes: int, redacted: bool
) -> None:
    redaction = Redactor(bytes(32)) if redacted else None
    site = Site(tmp_path_factory.mktemp("series"), rotate_bytes, redaction=redaction)
    site.rotation.link_opened(0.0, "127.0.0.1:5347")
    stanza = "<message from='juliet@example.com'><body>Hello there, Grüße 🙂</body></message>\n"
    stream = HEADER_IN + HANDSHAKE + stanza.encode() * 40
    core, offset, at = core_after_handshake(b""), 0, 0.0
    attached = False
    while offset < len(stream):
        size = cuts.pop(0) if cuts else 500
        chunk = stream[offset : offset + size]
        offset += size
        at += 0.125
        core.receive_data(chunk)
        site.rotation.received(at, chunk, core._parser.open_bytes)
        if not attached and offset >= len(HEADER_IN + HANDSHAKE):
            site.rotation.attached()
            attached = True
    found = site.end()
    if not redacted:
        assert of(joined(found), "in") == stream
    assert len(of(joined(found), "in")) == len(stream)
    count = 0
    for _, records in found:
        data = of(records, "in")
        events = core_after_handshake(b"").receive_data(data)
        if data:
            assert isinstance(events[0], StreamOpened)
        count += sum(isinstance(event, StanzaReceived) for event in events)
        assert b"Hello" not in data or not redacted
    assert count == 40
    times = [record.at for record in joined(found)]
    assert times == sorted(times)


def core_after_handshake(data: bytes) -> ComponentConnection:
    core = ComponentConnection(Role.COMPONENT, domain="bot.example")
    core.open()
    # As if ours had been sent: what the server says then counts as an answer.
    core.receive_data(HEADER_IN)
    core.authenticate("secret")
    fresh = ComponentConnection(Role.COMPONENT, domain="bot.example")
    fresh.local = core.local
    fresh.receive_data(data)
    return fresh


@pytest.mark.parametrize(("suffix", "least", "most"), [(".xcap", 19, 22), (".xcap.gz", 4, 6)])
def test_files_end_in_time_also_where_nothing_has_been_written_yet(
    tmp_path: Path, suffix: str, least: int, most: int
) -> None:
    site = Site(tmp_path, rotate_bytes=10_000, suffix=suffix)
    jobs: list[Callable[[], None]] = []
    site.rotation.hand = lambda job, _: jobs.append(job)
    site.attach()
    for number in range(2000):
        site.rotation.received(float(number), f"<message id='{number:074}'/>".encode(), 0)
    site.rotation.close()
    for job in jobs:
        job()
    found = site.read()
    assert least <= len(found) <= most
    assert of(joined(found), "in").count(b"<message") == 2000
    assert all(path.stat().st_size < 10_000 + 500 for path in site.files)


def test_what_was_handed_over_and_is_not_written_counts(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=10_000)
    jobs: list[Callable[[], None]] = []
    site.rotation.hand = lambda job, _: jobs.append(job)
    site.attach()
    for number in range(300):
        site.rotation.received(float(number), f"<message id='{number:074}'/>".encode(), 0)
        if number % 20 == 0:
            site.rotation.flush()
        if number % 50 == 0:
            while jobs:
                jobs.pop(0)()
    site.rotation.close()
    for job in jobs:
        job()
    assert len(site.files) in (3, 4)
    assert all(path.stat().st_size < 10_000 + 500 for path in site.files)


# --- the bound, and holes


def test_the_oldest_files_of_this_run_make_room(tmp_path: Path) -> None:
    other = tmp_path / "another.xcap"
    other.write_bytes(b"x" * 100_000)
    site = Site(tmp_path, rotate_bytes=1000, max_bytes=5000)
    site.attach()
    for number in range(200):
        site.rotation.received(float(number), f"<message id='{number:0100}'/>".encode(), 0)
        ours = [path for path in site.files if path != other]
        assert sum(path.stat().st_size for path in ours) <= 5000 + 300
    site.rotation.close()
    ours = [path for path in site.files if path != other]
    assert len(ours) in (3, 4, 5)
    numbers = [int(path.stem.rpartition("-")[2]) for path in ours]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[0] > 10
    assert other.exists()


def test_a_file_that_somebody_deleted_needs_not_be_deleted(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=1000, max_bytes=3000)
    site.attach()
    for number in range(100):
        site.rotation.received(float(number), f"<message id='{number:0100}'/>".encode(), 0)
        for path in site.files[:-1]:
            path.unlink()
    site.rotation.close()
    assert len(site.files) == 1


def test_components_share_the_bound(tmp_path: Path) -> None:
    retention = Retention(10_000, 1000)
    both = []
    for domain in ("a.example", "b.example"):
        one = CaptureRotation(FileNaming(tmp_path, domain, ".xcap", BEGAN), retention)
        one.begin(0.0)
        both.append(one)
    for number in range(100):
        for one in both:
            one.put(float(number), "api", b"x" * 100)
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_300
    both[0].close()
    both[0].begin(200.0)
    both[0].close()
    both[1].close()
    kept = [path.name[0] for path in tmp_path.iterdir()]
    assert min(kept.count("a"), kept.count("b")) >= 3


def test_behind_a_hole_there_is_a_new_file_that_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.attach()
    site.rotation.received(1.0, b"<message><bo", 12)
    site.rotation.close()
    site.rotation.received(1.5, b"dy/></message><presence/>", 0)
    site.rotation.sent(1.5, b"<presence/>")
    site.rotation.resume(2.0, 17)
    site.rotation.received(3.0, b"<iq/>", 0)
    before, (header, records) = site.end()
    assert before[1][-1].data == b"<message><bo"
    assert header.get("missing") == "17"
    assert header.get("continues") == ""
    assert header.date == BEGAN + timedelta(seconds=2)
    assert pairs(records) == [*OPENING, ("in", b"<iq/>")]


def test_behind_a_hole_it_is_between_two_stanzas(tmp_path: Path) -> None:
    site = Site(tmp_path, rotate_bytes=1000)
    site.attach()
    site.rotation.received(1.0, b"<message><bo", 12)
    site.rotation.close()
    site.rotation.resume(2.0, 1)
    site.rotation.sent(2.0, b"<presence/>" * 100)
    site.rotation.sent(2.0, b"<presence/>")
    site.rotation.close()
    assert len(site.files) == 3


def test_a_connection_that_begins_in_a_hole_has_its_opening(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.attach()
    site.rotation.close()
    site.rotation.link_closed(1.0, "why")
    site.attach(2.0)
    site.rotation.resume(3.0, 1)
    site.rotation.received(3.0, b"<iq/>", 0)
    _, (_, records) = site.end()
    assert pairs(records) == [*OPENING, ("in", b"<iq/>")]


# --- what cannot be written


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    from tests.bridge.capture.test_file import fill

    site = Site(tmp_path)
    site.attach()
    site.rotation.flush()
    assert site.rotation.writer._writer is not None
    fill(site.rotation.writer._writer)
    site.rotation.received(1.0, b"<message/>", 0)
    with pytest.raises(CaptureFileError, match="No space left on device"):
        site.rotation.flush()
    site.rotation.writer.abandon()
    assert pairs(site.read()[0][1]) == OPENING
    assert site.rotation.writer.path is None
    assert site.rotation.retention._open == []


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "captures"
    directory.mkdir()
    site = Site(directory, rotate_bytes=1000)
    site.attach()
    site.files[0].unlink()
    directory.rmdir()
    site.rotation.received(1.0, b"<message/>" * 100, 0)
    with pytest.raises(CaptureFileError, match="No such file or directory"):
        site.rotation.received(2.0, b"<message/>", 0)
    site.rotation.writer.abandon()


@pytest.mark.parametrize("redaction", [None, Redactor(bytes(32))])
def test_a_record_that_no_reader_would_take_is_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redaction: Redactor | None
) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(spool_module, "MAX_LINE_BYTES", 100)
    site = Site(tmp_path, redaction=redaction)
    site.rotation.put(1.0, "api", b"1" * 200)
    site.rotation.put(1.0, "api", b"{}")
    [(_, records)] = site.end()
    assert pairs(records) == [
        ("note", b"a record of the channel api had 214 bytes: left out"),
        ("api", b"{}"),
    ]


def test_times_never_go_back(tmp_path: Path) -> None:
    class Late:
        """Gives each record a time before its own."""

        def header(self, header: Header) -> Header:
            return header

        def feed(self, record: Record) -> list[Record]:
            return [evolve(record, at=5.0 - record.at)]

        def end(self) -> list[Record]:
            return [Record(0.0, "note", b"held back")]

    site = Site(tmp_path, redaction=Late())
    for at in (1.0, 2.0, 3.0):
        site.rotation.put(at, "api", b"")
    [(_, records)] = site.end()
    assert [record.at for record in records] == [4.0] * 4


def test_redaction_pauses_so_that_others_get_the_lock(tmp_path: Path) -> None:
    redaction, times = Redactor(bytes(32)), iter(range(10_000))
    site = Site(tmp_path, redaction=redaction)
    pauses: list[float] = []
    site.rotation.writer._clock = lambda: next(times) * spool_module._SLICE_S / 4
    site.rotation.writer._pause = pauses.append
    site.attach()
    for number in range(100):
        site.rotation.received(float(number), b"<message/>", 0)
    [(_, records)] = site.end()
    assert len(records) == 105
    assert 20 < len(pauses) < 40  # the clock is looked at for each record, and after each pause
    assert set(pauses) == {spool_module._PAUSE_S}
