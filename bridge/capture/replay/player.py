"""Plays the server's side of a story: chunk by chunk at the captured times, on each connection.

Stanzas that the bridge sent then go to the expectation. Its own end tag shows that it was stopped
then: that is passed on, so that it stops at the same moment now.
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
import trio
from attrs import frozen

from bridge.capture.exchange import API
from bridge.capture.format import IN, LINK, OUT
from bridge.capture.replay.clock import sleep_until
from bridge.capture.replay.expectation import Expectation
from bridge.capture.replay.meaning import xml_meaning
from bridge.capture.replay.selection import Selection
from bridge.capture.replay.side import HANDSHAKE, Cutter, Side, Unit, stanza_of
from bridge.capture.replay.story import Moment, StoryReader
from bridge.capture.replay.tally import Tally
from bridge.capture.replay.transport import ReplayStream, is_barrier
from bridge.config.value import BadValue
from xmppstream import ComponentStream, Stanza, StreamOptions
from xmppstream.builder import ElementParsed, RootOpened
from xmppstream.names import STREAMS
from xmppstream.parser_thread import StreamParserThread
from xmppstream.thread import InlineThread
from xmppstream.trio_stream import attach

BACKLOG_LIMIT: Final = 1000
_POLL_S: Final = 0.002
_FACTOR: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)x?")
_QUEUED_LIMIT: Final = 64
_CLOSE: Final = b"</stream:stream>"
_ENDS: Final = (_CLOSE, b"<stream:error")
_OUR_ERROR: Final = f"<error xmlns='{STREAMS}'".encode()
_TAIL: Final = 15


class Pace(Protocol):
    """The clock of a story. It starts when it is created."""

    async def wait(self, at: float) -> None:
        """Wait until the story has reached `at`, in s. Not always a checkpoint."""
        ...

    def now(self) -> float:
        """Return the story's time, in s."""
        ...


class Timed:
    """Runs `speed` times as fast as trio's clock."""

    def __init__(self, speed: float, begins_at: float) -> None:
        self._speed = speed
        self._begins_at = begins_at
        self._time = trio.lowlevel.current_clock().current_time
        self._origin = self._time()

    async def wait(self, at: float) -> None:
        due = self._origin + (at - self._begins_at) / self._speed
        if due > self._time():
            await sleep_until(due)

    def now(self) -> float:
        return self._begins_at + (self._time() - self._origin) * self._speed


class Unpaced:
    """Never waits, unless too much is under way: `backlog` returns how much."""

    def __init__(self, begins_at: float, backlog: Callable[[], int]) -> None:
        self._at = begins_at
        self._backlog = backlog

    async def wait(self, at: float) -> None:
        # The backlog is a sum of many counters: polling costs less than notifications.
        while self._backlog() >= BACKLOG_LIMIT:  # noqa: ASYNC110
            await trio.sleep(_POLL_S)
        self._at = max(self._at, at)

    def now(self) -> float:
        return self._at


def parse_speed(text: str) -> float | None:
    """Return a speed as a factor; None means as fast as possible.

    Raises:
        BadValue: if it is not a valid speed.
    """
    if text == "max":
        return None
    match = _FACTOR.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise BadValue(
            f"{text!r} is not a valid speed", "Use a factor such as 1x, 10x or 0.5x, or max"
        )
    return float(match[1])


_SECRET: Final = "no capture knows it"


@frozen
class Stage:
    """The environment of a `Player`. `before_end` is called before a connection ends, `stopped`
    when the bridge was stopped, `submitted` with each stanza that was sent for an HTTP client.
    """

    domain: str
    options: StreamOptions
    pace: Pace
    tally: Tally
    expectation: Expectation | None
    before_end: Callable[[], Awaitable[None]]
    stopped: Callable[[], Awaitable[None]]
    submitted: Callable[[Stanza], None]


class Player:
    """Plays one story from `begins_at` on; of the part before, only the stream openings."""

    def __init__(
        self, reader: StoryReader, stage: Stage, selection: Selection, begins_at: float = 0.0
    ) -> None:
        self.at = begins_at
        self.is_connected = False
        """Whether a connection is open at this point of the story."""
        self._reader = reader
        self._stage = stage
        self._selection = selection
        self._begins_at = begins_at
        self._sifts = not selection.is_all or begins_at > 0
        self._offered: deque[ReplayStream] = deque()
        self._is_offered = trio.Event()
        self._current: ReplayStream | None = None
        self._number = 0
        self._begin_connection()

    def _begin_connection(self) -> None:
        self._cutter = Cutter()
        self._then = Side()
        self._tail = b""
        self._peer_has_ended = False

    @property
    def queued(self) -> int:
        """Number of chunks that the stream has not read."""
        return self._current.waiting if self._current is not None else 0

    # --- for the link

    async def open_stream(self) -> ComponentStream:
        """Return the stream of the next connection, once the story has reached it.

        Raises:
            StreamFailed: if the server refused it.
        """
        while not self._offered:
            self._is_offered = trio.Event()
            await self._is_offered.wait()
        connection, stage = self._offered.popleft(), self._stage
        return await attach(connection, stage.domain, _SECRET, stage.options, connection.parser)

    # --- playing

    async def run(self) -> None:
        """Play to the end.

        Raises:
            CaptureFileError: if the rest cannot be read.
        """
        while (moment := self._reader.next()) is not None:
            if moment.at >= self._begins_at:
                await self._stage.pace.wait(moment.at)
                self.at = moment.at
            await self._play(moment)

    async def _play(self, moment: Moment) -> None:
        record = moment.record
        if record.channel == IN:
            await self._play_in(moment)
        elif record.channel == OUT:
            await self._play_out(moment)
        elif record.channel == LINK:
            await self._play_link(record.data)
        elif record.channel == API:
            element = xml_meaning(_submitted(record.data))
            submitted = None if isinstance(element, str) else Stanza.of(element)
            if submitted is not None:
                self._stage.submitted(submitted)

    async def _play_link(self, data: bytes) -> None:
        if data.startswith(b"open"):
            self._connect()
        elif data.startswith(b"end"):
            await self._stage.before_end()
            self._hang_up()

    def _connect(self) -> ReplayStream:
        self._hang_up()
        self._begin_connection()
        self._number += 1
        number, stage = self._number, self._stage

        def sent(stanza: Stanza) -> None:
            stage.tally.sent[stanza.kind] += 1
            if stage.expectation is not None:
                stage.expectation.sent(stanza, stage.pace.now(), number)

        parser = StreamParserThread(stage.options.limits, InlineThread)
        self._current = ReplayStream(stage.domain, parser, sent)
        self.is_connected = True
        stage.tally.connections += 1
        self._offered.append(self._current)
        self._is_offered.set()
        return self._current

    def _hang_up(self) -> None:
        if self._current is not None:
            self._current.end()
        self._current, self.is_connected = None, False

    async def _play_in(self, moment: Moment) -> None:
        data = moment.record.data
        if self._sifts:
            data = self._sifted(data, moment.at)
        connection = self._current or self._connect()
        self._tail += data
        found = [end for end in map(self._tail.find, _ENDS) if end >= 0]
        if found and not self._peer_has_ended:
            self._peer_has_ended = True
            cut = max(min(found) - (len(self._tail) - len(data)), 0)
            if data[:cut]:
                connection.give(data[:cut])
            await self._stage.before_end()
            data = data[cut:]
        self._tail = self._tail[-_TAIL:]
        if data:
            connection.give(data)
            await connection.wait_read(_QUEUED_LIMIT)

    def _sifted(self, data: bytes, at: float) -> bytes:
        return b"".join(unit.data for unit in self._cutter.feed(data) if self._takes(unit, at))

    def _takes(self, unit: Unit, at: float) -> bool:
        """Return whether a unit is selected, or belongs to the stream itself."""
        stanza = stanza_of(unit.event)
        if stanza is None:
            return at >= self._begins_at or _is_opening(unit)
        if is_barrier(stanza, self._stage.domain):
            return False
        return at >= self._begins_at and self._selection.takes(stanza)

    async def _play_out(self, moment: Moment) -> None:
        data, expectation = moment.record.data, self._stage.expectation
        if expectation is not None:
            for event in self._then.feed(data):
                stanza = stanza_of(event)
                if stanza is None or moment.at < self._begins_at:
                    continue
                if not is_barrier(stanza, self._stage.domain):
                    expectation.expected(stanza, moment.at, self._number)
        if data.endswith(_CLOSE) and _OUR_ERROR not in data and not self._peer_has_ended:
            await self._stage.stopped()


def _is_opening(unit: Unit) -> bool:
    match unit.event:
        case RootOpened():
            return True
        case ElementParsed(element=element):
            return element.name == HANDSHAKE
    return False


def _submitted(data: bytes) -> str:
    try:
        value: Any = msgspec.json.decode(data)
    except msgspec.MsgspecError:
        return ""
    stanza = value.get("stanza") if isinstance(value, dict) else None
    return stanza if isinstance(stanza, str) else ""
