"""The recorder: what is reported is in the file, and whatever the disk does, nobody waits for it.

Its thread is a real one; the tests wait for what it has done, and time stands still or jumps.
"""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from bridge.capture import recorder as module
from bridge.capture import rotation as rotation_module
from bridge.capture.exchange import decode
from bridge.capture.file import CaptureFileError, open_capture
from bridge.capture.format import Header, Record
from bridge.capture.recorder import Recorder, Recorders
from bridge.capture.redact import Redactor
from bridge.capture.retention import CaptureOptions, Retention
from bridge.capture.rotation import BLOCK_BYTES, CaptureRotation
from bridge.capture.writer import FileNaming, RotatingWriter
from bridge.config.settings import Component
from bridge.config.value import Secret, parse_post_url
from bridge.webhook.observer import PostAnswer
from tests.bridge.capture.test_file import fill
from tests.bridge.recorder import Recorder as Log
from xmppstream import Server
from xmppstream.tap import SHOWN_HANDSHAKE, Tap

MIB: Final = 1024 * 1024
BEGAN: Final = datetime(2026, 11, 22, 17, 20, tzinfo=UTC)
HEADER: Final = b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>"
COMPONENT: Final = Component(
    "bot.example",
    Secret("s3cret"),
    parse_post_url("http://juliet:r0m30@there.example/api?token=t0k3n"),
    Server("127.0.0.1", 5347),
)


class Gate:
    """Lets the thread pass, or holds it: a disk that does not answer."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()

    def __call__(self) -> None:
        self.waiting.set()
        assert self.open.wait(30)


class Site:
    """A recorder at work."""

    def __init__(
        self, directory: Path, nursery: trio.Nursery, clock: MockClock, **options: Any
    ) -> None:
        self.directory = directory
        self.log = Log()
        self.gate = Gate()
        rotation = CaptureRotation(
            FileNaming(directory, "bot.example", ".xcap", BEGAN),
            Retention(1024 * MIB, options.pop("rotate_bytes", MIB)),
            options.pop("redaction", None),
        )
        self.rotation = rotation
        self.recorder = Recorder(rotation, self.log.logger(), clock=trio.current_time, **options)
        self._nursery = nursery
        self._clock = clock
        self.scope = trio.CancelScope()
        self.done = trio.Event()

    async def start(self) -> Recorder:
        await self._nursery.start(self._run)
        return self.recorder

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            await self.recorder.run(task_status=task_status)
        self.done.set()

    async def stop(self) -> None:
        self.scope.cancel()
        await self.done.wait()

    def files(self) -> list[tuple[Header, list[Record]]]:
        found = []
        for path in sorted(self.directory.iterdir()):
            with open_capture(path) as reader:
                found.append((reader.header, list(reader)))
        return found

    def records(self) -> list[Record]:
        return [record for _, records in self.files() for record in records]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass, and wait for what the thread does."""
        while not condition():
            self._clock.jump(module._BATCH_S)
            await trio.to_thread.run_sync(threading.Event().wait, 0.001)

    def hold(self) -> None:
        """Have the disk not answer, once it is asked."""
        self.gate.open.clear()
        self.gate.waiting.clear()
        self.recorder._hand(self.gate, 0)
        self.recorder._takes()


def attach(recorder: Recorder) -> None:
    recorder.opened("127.0.0.1:5347")
    recorder.sent(HEADER)
    recorder.received(HEADER, 0)
    recorder.sent(SHOWN_HANDSHAKE)
    recorder.received(b"<handshake/>", 0)
    recorder.attached()


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    return mock_clock


async def test_it_is_a_tap(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        tap: Tap = site.recorder
        assert tap is not None
        site.rotation.writer.end()


async def test_what_is_reported_is_in_the_file(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        clock.jump(1)
        began = recorder.now()
        recorder.received(b"<message/>", 0)
        clock.jump(0.5)
        recorder.exchanged("msg_1", 1, began, b'{"id":"a"}', PostAnswer(204))
        recorder.submitted("msg_2", b"<presence/>")
        recorder.sent(b"<message/>")
        recorder.closed("the end")
        await site.stop()
    channels = [record.channel for record in site.records()]
    assert channels[5:] == ["in", "http", "api", "out", "link"]
    in_, http, api = site.records()[5:8]
    assert in_.at == pytest.approx(began)
    exchange = decode(http.data)
    assert (exchange.uid, exchange.attempt, exchange.result) == ("msg_1", 1, PostAnswer(204))
    assert exchange.start == pytest.approx(began, abs=1e-6)
    assert exchange.duration_s == pytest.approx(0.5)
    assert api.data == b'{"uid":"msg_2","stanza":"<presence/>"}'
    assert [line["event"] for line in site.log.told] == ["capturing"]


async def test_it_is_written_soon_and_not_only_at_the_end(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        attach(await site.start())
        await site.until(lambda: len(site.records()) == 5)
        site.recorder.received(b"<message/>", 0)
        await site.until(lambda: len(site.records()) == 6)
        await site.stop()


async def test_the_thread_is_asked_seldom(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = RotatingWriter.write

    def counted(writer: RotatingWriter, lines: bytes) -> None:
        written.append(len(lines))
        write(writer, lines)

    monkeypatch.setattr(RotatingWriter, "write", counted)
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        await site.until(lambda: len(site.records()) == 5)
        written.clear()
        for _ in range(10):
            recorder.received(b"<message/>", 0)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(module._BATCH_S / 20)
        await site.until(lambda: len(site.records()) == 15)
        assert len(written) == 1
        await site.stop()
    assert len(written) == 1


async def test_records_are_made_by_the_thread_and_nowhere_else(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: dict[str, set[str]] = {}

    def watched(module: Any, name: str) -> None:
        inner = getattr(module, name)

        def watch(*arguments: Any) -> Any:
            makers.setdefault(name, set()).add(threading.current_thread().name)
            return inner(*arguments)

        monkeypatch.setattr(module, name, watch)

    for name in ("encode_line", "encode_post", "encode_submission"):
        watched(rotation_module, name)
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, rotate_bytes=3000)
        recorder = await site.start()
        attach(recorder)
        for _ in range(1000):
            recorder.received(b"<message/>" * 50, 0)
            recorder.exchanged("msg_1", 1, 0.0, b"{}", PostAnswer(204))
            recorder.submitted("msg_2", b"<message/>")
            recorder.sent(b"<message/>")
        await site.stop()
    assert set(makers) == {"encode_line", "encode_post", "encode_submission"}
    assert set.union(*makers.values()) == {"recorder"}
    assert len(site.files()) > 100


async def test_a_record_has_the_time_of_its_report(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        site.hold()
        await site.until(site.gate.waiting.is_set)
        at = recorder.now()
        recorder.received(b"<message/>", 0)
        clock.jump(3.0)
        recorder.exchanged("msg_1", 1, at + 1.0, b"{}", PostAnswer(204))
        clock.jump(5.0)
        site.gate.open.set()
        await site.stop()
    records = site.records()
    assert records[-2].at == pytest.approx(at, abs=1e-6)
    assert records[-1].at == pytest.approx(at + 3.0, abs=1e-6)
    exchange = decode(records[-1].data)
    assert exchange.start == pytest.approx(at + 1.0, abs=1e-6)
    assert exchange.duration_s == 2.0


async def test_much_is_written_at_once(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, rotate_bytes=10 * MIB)
        recorder = await site.start()
        attach(recorder)
        while recorder.waiting_bytes < 2 * BLOCK_BYTES:
            recorder.received(b"<message/>" * 100, 0)
        for _ in range(5000):  # no time passes
            if recorder.waiting_bytes < BLOCK_BYTES:
                break
            await trio.to_thread.run_sync(threading.Event().wait, 0.001)
        assert recorder.waiting_bytes < BLOCK_BYTES
        await site.stop()


async def test_what_is_reported_before_it_runs_is_there_and_after_it_is_not(
    tmp_path: Path, clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        attach(site.recorder)
        await site.start()
        await site.stop()
        site.recorder.received(b"<message/>", 0)
    assert len(site.records()) == 5


async def test_when_cancelled_it_writes_all_that_was_reported(
    tmp_path: Path, clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        for _ in range(1000):
            recorder.received(b"<message/>", 0)
        site.scope.cancel()
        recorder.closed("the end")
        await site.done.wait()
    assert len(site.records()) == 5 + 1000 + 1


async def test_a_disk_that_never_answers_ends_it_in_time(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        attach(await site.start())
        site.hold()
        await site.until(site.gate.waiting.is_set)
        before = trio.current_time()
        site.scope.cancel()
        await site.until(site.done.is_set)
        assert trio.current_time() - before <= module.LAST_S + module._BATCH_S + 0.1
        [line] = site.log.of("capture not finished")
        assert line["why"] == "it took too long"
        site.gate.open.set()
        await site.until(lambda: site.rotation.writer.path is None)


async def test_a_disk_that_answers_has_more_time(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        for _ in range(3):
            recorder.received(b"x" * BLOCK_BYTES, 0)
        site.hold()
        site.scope.cancel()
        await site.until(site.gate.waiting.is_set)
        assert not site.done.is_set()
        site.gate.open.set()
        await site.until(site.done.is_set)
        assert not site.log.of("capture not finished")
    assert len(site.records()) == 5 + 3


async def test_what_is_not_written_in_time_is_counted(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        # Each block takes a second, and ten seconds there are.
        monkeypatch.setattr(RotatingWriter, "write", lambda *_: clock.jump(1.0))
        for _ in range(20):
            recorder.received(b"x" * BLOCK_BYTES, 0)
        before = trio.current_time()
        site.scope.cancel()
        await site.until(site.done.is_set)
        assert module.MOST_S <= trio.current_time() - before < module.MOST_S + 2
        [line] = site.log.of("capture not finished")
        assert 7 * BLOCK_BYTES < line["missing_bytes"] < 13 * BLOCK_BYTES


# --- a disk that is full


async def test_a_full_disk_ends_capturing_with_one_line_and_nothing_else(
    tmp_path: Path, clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        await site.until(lambda: len(site.records()) == 5)
        assert site.rotation.writer._writer is not None
        fill(site.rotation.writer._writer)
        for _ in range(100):
            recorder.received(b"<message/>", 0)
        await site.until(lambda: bool(site.log.of("capturing stopped")))
        [line] = site.log.of("capturing stopped")
        assert line["level"] == "error"
        assert line["why"] == "it cannot be written (No space left on device)"
        assert line["file"].startswith(str(tmp_path))
        assert line["hint"]
        recorder.closed("the end")
        await site.stop()
    assert [line["event"] for line in site.log.told] == ["capturing", "capturing stopped"]
    assert len(site.records()) == 5
    assert not recorder._jobs


async def test_it_ends_so_too_where_the_last_of_it_cannot_be_written(
    tmp_path: Path, clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock)
        recorder = await site.start()
        attach(recorder)
        await site.until(lambda: len(site.records()) == 5)
        assert site.rotation.writer._writer is not None
        fill(site.rotation.writer._writer)
        recorder.closed("the end")
        await site.stop()
    assert len(site.log.of("capturing stopped")) == 1


async def test_a_file_that_cannot_be_begun_ends_it(tmp_path: Path, clock: MockClock) -> None:
    directory = tmp_path / "captures"
    directory.mkdir()
    async with trio.open_nursery() as nursery:
        site = Site(directory, nursery, clock, rotate_bytes=1000)
        recorder = await site.start()
        attach(recorder)
        await site.until(lambda: len(site.records()) == 5)
        next(directory.iterdir()).unlink()
        directory.rmdir()
        recorder.received(b"<message/>" * 1000, 0)
        recorder.received(b"<message/>", 0)
        await site.until(lambda: bool(site.log.of("capturing stopped")))
        [line] = site.log.of("capturing stopped")
        assert line["why"] == "it cannot be written (No such file or directory)"
        await site.stop()


# --- a disk that is too slow


async def test_what_a_slow_disk_cannot_take_is_counted_and_a_new_file_begins(
    tmp_path: Path, clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, limit_bytes=10_000)
        recorder = await site.start()
        attach(recorder)
        site.hold()
        await site.until(site.gate.waiting.is_set)
        for _ in range(30):
            recorder.received(b"<message>" + b"x" * 1000 + b"</message>", 0)
        assert recorder.waiting_bytes < 11_000
        [line] = site.log.of("capture pauses")
        assert "10000 bytes" not in line["why"]
        assert "the disk is too slow" in line["why"]
        site.gate.open.set()
        await site.until(lambda: recorder.waiting_bytes == 0)
        recorder.received(b"<presence/>", 0)
        recorder.sent(b"<iq/>")
        await site.stop()
        [line] = site.log.of("capture goes on in a new file")
    (_, before), (header, after) = site.files()
    got = sum(record.data.startswith(b"<message>") for record in before)
    assert 5 < got < 12
    assert line["missing"] == 30 - got
    assert header.get("missing") == str(30 - got)
    assert [record.channel for record in after] == ["link", "out", "in", "out", "in", "in", "out"]
    assert after[5].data == b"<presence/>"


async def test_a_slow_redaction_holds_up_nobody_and_is_told_of_as_a_slow_disk_is(
    tmp_path: Path, clock: MockClock
) -> None:
    class Slow(Redactor):
        """Holds each record until the gate is open."""

        gate = Gate()

        def feed(self, record: Record) -> list[Record]:
            self.gate()
            return super().feed(record)

    slow = Slow(bytes(32))
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, limit_bytes=10_000, redaction=slow)
        recorder = await site.start()
        attach(recorder)
        await site.until(lambda: recorder.waiting_bytes == 0)
        slow.gate.open.clear()
        stanza = b"<message><body>" + b"wherefore " * 100 + b"</body></message>"
        for _ in range(30):
            recorder.received(stanza, 0)
            recorder.exchanged("msg_1", 1, 0.0, b"{}", PostAnswer(204))
        assert recorder.waiting_bytes < 11_500
        [line] = site.log.of("capture pauses")
        assert line["why"].startswith("redaction or the disk is too slow: ")
        assert not site.log.of("capture goes on in a new file")
        slow.gate.open.set()
        await site.until(lambda: recorder.waiting_bytes == 0)
        recorder.received(b"<presence/>", 0)
        await site.stop()
        [line] = site.log.of("capture goes on in a new file")
    (_, before), (header, after) = site.files()
    got = len(before) - 5
    assert 10 < got < 20
    assert line["missing"] == 60 - got
    assert header.get("missing") == str(60 - got)
    assert [record.channel for record in after] == ["link", "out", "in", "out", "in", "in"]
    assert after[5].data == b"<presence/>"
    assert not any(b"wherefore" in record.data for record in before + after)


async def test_it_does_not_go_on_within_a_stanza(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, limit_bytes=3000)
        recorder = await site.start()
        attach(recorder)
        site.hold()
        await site.until(site.gate.waiting.is_set)
        recorder.received(b"<message>" + b"x" * 3000, 3009)
        site.gate.open.set()
        await site.until(lambda: recorder.waiting_bytes == 0)
        recorder.sent(b"<presence/>")
        recorder.exchanged("msg_1", 1, 0.0, b"{}", PostAnswer(204))
        recorder.received(b"</message>", 0)
        assert not site.log.of("capture goes on in a new file")
        recorder.received(b"<iq/>", 0)
        await site.stop()
    (_, before), (header, after) = site.files()
    assert len(before) == 5
    assert header.get("missing") == "4"
    assert [record.data for record in after][5:] == [b"<iq/>"]


async def test_a_connection_is_told_of_in_any_case(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, limit_bytes=3000)
        recorder = await site.start()
        attach(recorder)
        site.hold()
        await site.until(site.gate.waiting.is_set)
        recorder.received(b"<message>" + b"x" * 3000, 3009)
        recorder.closed("why")
        attach(recorder)
        recorder.received(b"<message>" + b"y" * 3000, 3009)
        site.gate.open.set()
        await site.until(lambda: recorder.waiting_bytes == 0)
        recorder.closed("again")
        recorder.exchanged("msg_1", 1, 0.0, b"{}", PostAnswer(204))
        attach(recorder)
        await site.stop()
    _, (header, after) = site.files()
    assert header.get("missing") == "2"
    channels = [record.channel for record in after]
    assert channels == ["http", "link", "out", "in", "out", "in"]


async def test_it_does_not_go_on_within_an_opening(tmp_path: Path, clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, limit_bytes=3000)
        recorder = await site.start()
        attach(recorder)
        site.hold()
        await site.until(site.gate.waiting.is_set)
        recorder.received(b"<message>" + b"x" * 3000, 3009)
        site.gate.open.set()
        await site.until(lambda: recorder.waiting_bytes == 0)
        recorder.closed("why")
        recorder.opened("127.0.0.1:5347")
        recorder.received(HEADER, 0)
        recorder.exchanged("msg_1", 1, 0.0, b"{}", PostAnswer(204))
        recorder.sent(SHOWN_HANDSHAKE)
        recorder.received(b"<handshake/>", 0)
        recorder.attached()
        recorder.received(b"<iq/>", 0)
        recorder.received(b"<iq/>", 0)
        await site.stop()
    _, (header, after) = site.files()
    assert header.get("missing") == "3"
    assert header.get("repeated") == "4"
    assert [record.channel for record in after] == ["link", "in", "out", "in", "in"]


async def test_the_limit_is_on_what_waits_and_not_on_what_there_is(
    tmp_path: Path, clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path, nursery, clock, limit_bytes=4000)
        recorder = await site.start()
        attach(recorder)
        for _ in range(20):
            recorder.received(b"<message/>" * 150, 0)
            await site.until(lambda: recorder.waiting_bytes == 0)
        await site.stop()
    assert [line["event"] for line in site.log.told] == ["capturing"]
    assert len(site.records()) == 25


# --- by its options


def test_each_component_has_its_file_and_no_secret_is_in_it(tmp_path: Path) -> None:
    other = evolve(COMPONENT, domain="other.example")
    recorders = Recorders(CaptureOptions(tmp_path), (COMPONENT, other)).recorders
    assert list(recorders) == ["bot.example", "other.example"]
    for one in recorders.values():
        one._rotation.writer.end()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.partition("-")[0] for name in names] == ["bot.example", "other.example"]
    text = next(tmp_path.iterdir()).read_text()
    assert "server: 127.0.0.1:5347\n" in text
    assert "endpoint: http://there.example/api?…\n" in text
    for secret in ("juliet", "r0m30", "t0k3n", "s3cret"):
        assert secret not in text


@pytest.mark.parametrize(
    ("packing", "suffix"), [("none", ".xcap"), ("gz", ".xcap.gz"), ("zst", ".xcap.zst")]
)
def test_files_are_packed_as_asked_for(tmp_path: Path, packing: Any, suffix: str) -> None:
    [one] = Recorders(CaptureOptions(tmp_path, packing=packing), [COMPONENT]).recorders.values()
    one._rotation.writer.end()
    [path] = tmp_path.iterdir()
    assert path.name.endswith(f"-0001{suffix}")
    with open_capture(path) as reader:
        assert list(reader) == []


def test_redacted_files_say_so_and_hold_no_word(tmp_path: Path) -> None:
    [one] = Recorders(CaptureOptions(tmp_path, redacted=True), [COMPONENT]).recorders.values()
    attach(one)
    one.received(b"<message from='juliet@example.com'><body>wherefore art thou</body></message>", 0)
    one.exchanged("msg_0123", 1, 0.0, b'{"body":"wherefore"}', PostAnswer(200, {}, b"romeo"))
    one.closed("the end")
    one._flush()
    for job, _ in one._jobs:
        job()
    one._rotation.close()
    [path] = tmp_path.iterdir()
    text = path.read_text()
    assert "redacted: yes\n" in text
    for word in ("juliet", "wherefore", "thou", "romeo"):
        assert word not in text
    with open_capture(path) as reader:
        assert [record.channel for record in reader] == [
            *["link", "out", "in", "out", "in"],
            *["in", "http", "link"],
        ]


def test_a_first_file_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CaptureFileError):
        Recorders(CaptureOptions(tmp_path / "none"), [COMPONENT])


def test_a_component_with_a_name_too_long_for_a_file_is_told_at_once(tmp_path: Path) -> None:
    long = evolve(COMPONENT, domain=".".join(["x" * 60] * 4))
    with pytest.raises(CaptureFileError, match="File name too long"):
        Recorders(CaptureOptions(tmp_path), [long])
    assert os.listdir(tmp_path) == []
