"""A capture for people: a line for each event, and exchanges with the endpoint under their stanza.

Data from strangers reaches a terminal only as visible characters.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec
from attrs import define, field
from rich.console import Console
from rich.text import Text

from bridge.capture.exchange import API, CHANNEL, HttpExchange, decode
from bridge.capture.format import IN, LINK, OUT
from bridge.capture.replay.meaning import read_posted
from bridge.capture.replay.recorded import Recorded
from bridge.capture.replay.selection import Selection
from bridge.capture.replay.side import HANDSHAKE, Side, stanza_of
from bridge.capture.replay.story import Moment, Story, StoryReader
from bridge.capture.replay.transport import is_barrier
from bridge.journal.delivery import Delivery
from bridge.payload.event import event_of
from bridge.telemetry.text import duration, printable
from bridge.webhook.observer import PostAnswer
from xmppstream import Element, Stanza, write
from xmppstream.builder import (
    ElementParsed,
    ElementRefused,
    ParseEvent,
    ParserFaulted,
    RootClosed,
    RootOpened,
)
from xmppstream.names import COMPONENT, STREAMS, XML

_WIDTH: Final = 240
_SHOWN_LIMIT: Final = 10_000
_ARROWS: Final = {IN: "→", OUT: "←"}
_STYLES: Final = {IN: "green", OUT: "cyan"}
_UNDER: Final = " " * 15
Lines = Iterator[Text]


@define
class Transcript:
    """One story, to be printed."""

    story: Story
    selection: Selection
    full: bool = False
    _sides: dict[str, Side] = field(factory=dict)
    _recorded: Recorded = field(init=False)
    _reader: StoryReader = field(init=False)
    _begins_at: float = field(init=False)
    _shown: dict[str, int] = field(factory=dict)  # attempts shown so far, by stanza

    def __attrs_post_init__(self) -> None:
        start, since = self.story.header.date, self.selection.since
        self._begins_at = since.after(start) if since is not None else 0.0
        self._recorded = Recorded(start, self.selection)
        self._reader = StoryReader(self.story, self._recorded.hear, keeps_exchanges=True)
        self._recorded.bind(self._reader)
        self._begin_connection()

    def _begin_connection(self) -> None:
        self._sides = {IN: Side(), OUT: Side()}

    def print(self, console: Console) -> None:
        """Print the story.

        Raises:
            CaptureFileError: if the rest cannot be read.
            OSError: if nobody reads the output.
        """
        for line in self._heading():
            console.print(line)
        shown_day = self._day(0)
        while (moment := self._reader.next()) is not None:
            for line in self._lines(moment):
                if (day := self._day(moment.at)) != shown_day:
                    console.print(Text(f"{day:%Y-%m-%d}", style="bold"))
                    shown_day = day
                console.print(line)
        for note in self._reader.cut:
            console.print(Text(printable(note), style="yellow"))

    def _heading(self) -> Lines:
        header = self.story.header
        yield Text(printable(self.story.name), style="bold")
        fields = (("domain", header.domain), ("origin", header.origin), *header.fields)
        shown = [] if self.story.is_plain else [f"date: {header.date:%Y-%m-%d %H:%M:%S}Z"]
        shown += (f"{name}: {value}" for name, value in fields)
        yield Text(printable("  ".join(shown)), style="dim")

    def _lines(self, moment: Moment) -> Lines:
        record = moment.record
        if record.channel == LINK:
            if record.data.startswith(b"open"):
                self._begin_connection()
            if moment.at >= self._begins_at:
                yield self._line(moment, "•", _text(record.data), "magenta")
        elif record.channel in self._sides:
            for event in self._sides[record.channel].feed(record.data):
                yield from self._event(moment, event)
        elif moment.at < self._begins_at:
            return
        elif record.channel == CHANNEL:
            yield from self._late_exchange(moment)
        elif record.channel == API:
            yield self._line(moment, "⇠", f"sent for an HTTP client: {_text(record.data)}", "cyan")
        else:
            yield self._line(moment, " ", f"{record.channel} {_text(record.data)}", "dim")

    def _event(self, moment: Moment, event: ParseEvent) -> Lines:
        stanza, channel = stanza_of(event), moment.record.channel
        if moment.at < self._begins_at:
            return
        if stanza is None:
            said, style = _said(event)
            yield self._line(moment, _ARROWS[channel], said, style)
            return
        if is_barrier(stanza, self.story.header.domain) or not self.selection.takes(stanza):
            return
        yield self._stanza(moment, stanza, event)
        if channel == IN:
            yield from self._exchanges(moment, stanza)

    def _stanza(self, moment: Moment, stanza: Stanza, event: ParseEvent) -> Text:
        channel = moment.record.channel
        style = "red" if stanza.type == "error" else _STYLES[channel]
        kind = f"{stanza.kind} {stanza.type}" if stanza.type else stanza.kind
        peer = stanza.from_ if channel == IN else stanza.to
        ours = stanza.to if channel == IN else stanza.from_
        line = self._time(moment.at)
        line.append(f" {_ARROWS[channel]} ", style=style)
        line.append(printable(kind), style=f"bold {style}")
        arrow = "to" if channel == IN else "from"
        line.append(f" {printable(peer or 'nobody')} ", style="bold")
        line.append(f"({arrow} {printable(ours or 'nobody')})", style="dim")
        if stanza.id is not None:
            line.append(f" id {printable(stanza.id)}", style="dim")
        if not isinstance(event, ElementRefused):
            word = event_of(stanza)
            if word not in (stanza.kind, stanza.type, "subscription", "other"):
                line.append(f" [{word}]", style=style)
        if isinstance(event, ElementRefused):
            inside = f"over a limit: {event.limit}"
        else:
            inside = "".join(_inside(stanza.element))
        if inside:
            line.append(f"\n{_UNDER}{self._cut(inside)}")
        return line

    def _exchanges(self, moment: Moment, stanza: Stanza) -> Lines:
        delivery = Delivery(stanza, moment.at, 0, uid="")
        told = self._recorded.claim(delivery, moment.at)
        if told is None:
            return
        for attempt in sorted(told.attempts):
            yield self._exchange(told.attempts[attempt], moment.at)
        self._shown[told.uid] = max(told.attempts)
        if len(self._shown) > _SHOWN_LIMIT:
            del self._shown[next(iter(self._shown))]
        self._recorded.forget(told.uid)

    def _late_exchange(self, moment: Moment) -> Lines:
        """Yield an exchange without its stanza, which is from before, or came much earlier."""
        exchange = decode(moment.record.data)
        posted = read_posted(exchange.request)
        if exchange.attempt <= self._shown.get(exchange.uid, 0):
            return
        if self.selection.takes_parts(posted.kind or "", posted.sender, posted.receiver):
            of = f"of {posted.kind} from {posted.sender} id {posted.id or 'none'}"
            yield self._line(moment, "↳", of, "dim")
            yield self._exchange(exchange, None)

    def _exchange(self, exchange: HttpExchange, at: float | None) -> Text:
        """Return the line of an exchange; `at` is when its stanza came, if that is right above."""
        result = exchange.result
        line = Text(_UNDER)
        name = "POST" if exchange.attempt == 1 else f"POST, attempt {exchange.attempt}"
        after = "" if at is None else f" after {duration(max(exchange.start - at, 0))}"
        line.append(f"↳ {name}{after}: ", style="dim")
        took = f" in {duration(exchange.duration_s)}"
        if isinstance(result, PostAnswer):
            good = 200 <= result.status < 300
            line.append(str(result.status), style="bold green" if good else "bold red")
            line.append(took, style="dim")
            body = _body(result)
            if body:
                line.append(f" {self._cut(body)}")
            return line
        line.append(result.kind.replace("_", " "), style="bold red")
        line.append(took, style="dim")
        line.append(f" {self._cut(result.why)}")
        return line

    def _line(self, moment: Moment, arrow: str, text: str, style: str) -> Text:
        line = self._time(moment.at)
        line.append(f" {arrow} {self._cut(text)}", style=style)
        return line

    def _time(self, at: float) -> Text:
        return Text(f"{self._moment(at):%H:%M:%S.%f}"[:-3], style="dim")

    def _day(self, at: float) -> date:
        return self._moment(at).date()

    def _moment(self, at: float) -> datetime:
        return self.story.header.date.astimezone(UTC) + timedelta(seconds=at)

    def _cut(self, text: str) -> str:
        shown = printable(text)
        if self.full or len(shown) <= _WIDTH:
            return shown
        return f"{shown[:_WIDTH]}… ({len(shown)} characters; --full shows all)"


def _said(event: ParseEvent) -> tuple[str, str]:
    """Return the text and the style of an event that is not a stanza."""
    match event:
        case RootOpened(attributes=attributes):
            names = ((name.replace(f"{{{XML}}}", "xml:"), value) for name, value in attributes)
            values = " ".join(f"{name}='{value}'" for name, value in names)
            return f"stream begins: {values}", "magenta"
        case RootClosed():
            return "stream ends", "magenta"
        case ParserFaulted(condition=condition, text=text):
            return f"cannot be read any further: {condition}: {text}", "red"
        case ElementParsed(element=element) if element.name == HANDSHAKE:
            return "handshake", "magenta"
        case ElementParsed(element=element) if element.namespace == STREAMS:
            return write(element, COMPONENT), "red"
        case ElementParsed(element=element) | ElementRefused(stub=element):
            return write(element, COMPONENT), "yellow"


def _inside(element: Element) -> Iterator[str]:
    for child in element.children:
        yield child if isinstance(child, str) else write(child, element.namespace)


def _body(result: PostAnswer) -> str:
    if result.body is None:
        return "(a body over the limit)"
    text = result.body.decode("utf-8", "backslashreplace")
    media = result.headers.get("content-type", "")
    if "json" not in media:
        return text
    try:  # white space between tokens is insignificant
        return msgspec.json.format(text, indent=-1)
    except msgspec.MsgspecError:
        return text


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
