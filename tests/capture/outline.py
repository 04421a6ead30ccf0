"""What a capture says when everything that is another each time is left out.

That is times, ports, and what the server or the bridge makes up: ids, sessions, versions of what
runs. Two captures of one scene have one outline.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from bridge.capture.file import open_capture
from bridge.capture.format import IN, OUT
from bridge.capture.replay.meaning import COMPARED
from tests.servers.scene import plain

if TYPE_CHECKING:
    from pathlib import Path

MADE_UP: Final = re.compile(
    r"msg_[0-9a-f]+"  # the bridge's ids
    r"|127\.0\.0\.1:\d+"
    r"|\d{4}-\d\d-\d\dT[0-9:.]+Z"
    r"|\b\d{8}T[0-9:]+"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9+/]{40,}=+"  # Prosody's ids
    r"|\(since [^)]+\)"  # and its uptime
    r"|rr-\d+-\d+-\S+?=-\d+|\b\d{16,20}\b"  # ejabberd's ids
)
BARRIER: Final = re.compile(r"barrier-[0-9a-f]+-[0-9]+")
END: Final = "</stream:stream>"
ERROR: Final = "{http://etherx.jabber.org/streams}error"


@frozen
class Outline:
    """What happened, by channel: one order for all of them is not the same each time."""

    links: list[str] = field(factory=list)
    received: list[str] = field(factory=list)
    sent: list[str] = field(factory=list)
    exchanges: list[dict[str, Any]] = field(factory=list)


def outline_of(path: Path) -> Outline:
    """Read a capture."""
    outline = Outline()
    with open_capture(path) as capture:
        sides = {IN: _Side(outline.received), OUT: _Side(outline.sent)}
        for record in capture:
            match record.channel:
                case "in" | "out":
                    sides[record.channel].feed(record.data)
                case "link":
                    sides = {IN: _Side(outline.received), OUT: _Side(outline.sent)}
                    outline.links.append(_said(record.data.decode()))
                case "http":
                    outline.exchanges.append(_exchange(record.data))
    outline.exchanges.sort(key=str)  # they end in any order
    return outline


class _Side:
    """Puts the children of a stream's root into a list, as they are spelt in `scene`.

    A stream error is the end: the end tag behind it is often another segment, and whoever has read
    the error may have closed by then.
    """

    def __init__(self, found: list[str]) -> None:
        self._found = found
        self._parser: ET.XMLPullParser[ET.Element] = ET.XMLPullParser(("start", "end"))
        self._depth = 0
        self._failed = False

    def feed(self, data: bytes) -> None:
        self._parser.feed(data)
        if (flush := getattr(self._parser, "flush", None)) is not None:
            flush()
        for event in self._parser.read_events():
            match event:
                case ("start", _):
                    self._depth += 1
                case ("end", ET.Element() as element):
                    self._depth -= 1
                    if self._depth == 0 and not self._failed:
                        self._found.append(END)
                    elif self._depth == 1 and not BARRIER.fullmatch(element.get("id", "")):
                        self._found.append(_said(plain(element)))
                        self._failed |= element.tag == ERROR


def _exchange(data: bytes) -> dict[str, Any]:
    exchange = json.loads(data)
    request = exchange.pop("request")
    request["stanza"] = plain(ET.fromstring(request["stanza"]))
    for name in ("start", "duration_s", "uid", "id"):  # `id` in captures of version 0.1
        exchange.pop(name, None)
    said = {name: _said(value) for name, value in request.items() if name in COMPARED}
    return {**exchange, **said}


def _said(text: str) -> str:
    return MADE_UP.sub("*", text)
