"""One difference, for people: its time, and a diff from the captured item to the current one.

Data from strangers reaches a terminal only as visible characters.
"""

import difflib
import json
from collections.abc import Iterator
from typing import Final

import msgspec
from attrs import frozen
from rich.text import Text

from bridge.capture.replay.meaning import COMPARED, read_posted, xml_meaning
from bridge.telemetry.text import printable
from xmppstream import Element, Stanza, write
from xmppstream.names import COMPONENT
from xmppstream.writer import escape_text, escape_value

_WIDTH: Final = 200
_LINES: Final = 60
_STYLES: Final = {"-": "red", "+": "green", "@": "cyan"}


@frozen
class Item:
    """A stanza or a POST: its title, and its lines."""

    title: str
    lines: tuple[str, ...]


@frozen
class Difference:
    """The kind of a difference, its time (in s of the story), and the items of then and now."""

    what: str
    at: float
    then: Item | None
    now: Item | None

    @property
    def text(self) -> str:
        """The title and the diff, for scripts."""
        return "\n".join([self.title, *self.diff])

    @property
    def title(self) -> str:
        item = self.then or self.now
        return f"{self.at:.6f} s: {self.what}: {item.title if item else ''}"

    @property
    def diff(self) -> list[str]:
        """The lines of the diff: those of then with `-`, those of now with `+`."""
        then = self.then.lines if self.then else ()
        now = self.now.lines if self.now else ()
        if then == now:
            return [f"  {line}" for line in _bounded(now)]
        lines = difflib.unified_diff(then, now, lineterm="", n=3)
        shown = [f"{line[0]} {line[1:]}" for number, line in enumerate(lines) if number > 2]
        return list(_bounded(shown))

    def to_text(self) -> Text:
        """Return the title and the diff in colours."""
        text = Text(self.title, style="bold")
        for line in self.diff:
            text.append("\n    ")
            text.append(line, style=_STYLES.get(line[:1], ""))
        return text


def stanza_item(stanza: Stanza, meaning: Element) -> Item:
    """Return the item of a stanza that was sent; its lines show the `meaning`."""
    parts: list[str] = [stanza.kind]
    parts += [stanza.type] if stanza.type else []
    parts.append(f"to {stanza.to}")
    parts += [f"id {stanza.id}"] if stanza.id else []
    return Item(_cut(printable(" ".join(parts))), tuple(_indented(meaning, COMPONENT, 0)))


def post_item(request: bytes) -> Item:
    """Return the item of a POSTed object."""
    one = read_posted(request)
    parts = [f"the POST of {one.kind} from {one.sender}"]
    parts += [f"id {one.id}"] if one.id else []
    return Item(_cut(printable(" ".join(parts))), tuple(_json_lines(request)))


def _json_lines(request: bytes) -> Iterator[str]:
    try:
        value = msgspec.json.decode(request)
    except msgspec.MsgspecError:
        value = request.decode("utf-8", "replace")
    if not isinstance(value, dict):
        yield _cut(json.dumps(value, ensure_ascii=False))
        return
    for name in sorted(value):
        if name not in COMPARED:
            continue
        if name == "stanza" and isinstance(value[name], str):
            meaning = xml_meaning(value[name])
            if isinstance(meaning, Element):
                yield '"stanza":'
                yield from (f"    {line}" for line in _indented(meaning, COMPONENT, 0))
                continue
        shown = json.dumps(value[name], ensure_ascii=False)
        yield _cut(printable(f"{json.dumps(name)}: {shown}"))


def _indented(element: Element, inherited: str, depth: int) -> Iterator[str]:
    """Yield the lines of an element, one for each tag; an element with text stays on one line."""
    space = "  " * depth
    if not element.elements or len(element.elements) != len(element.children):
        yield _cut(printable(space + write(element, inherited)))
        return
    tag = element.local
    parts = [tag]
    if element.namespace != inherited:
        parts.append(f"xmlns='{escape_value(element.namespace)}'")
    parts += (f"{name}='{escape_value(value)}'" for name, value in element.attributes)
    yield _cut(printable(f"{space}<{' '.join(parts)}>"))
    for child in element.elements:
        yield from _indented(child, element.namespace, depth + 1)
    yield _cut(printable(f"{space}</{escape_text(tag)}>"))


def _bounded(lines: "list[str] | tuple[str, ...]") -> Iterator[str]:
    yield from lines[:_LINES]
    if len(lines) > _LINES:
        yield f"  … and {len(lines) - _LINES} more lines"


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]}… ({len(line)} characters)"
