"""Output of `queue`: tables at a terminal, plain lines elsewhere, JSON.

Text from strangers never reaches a terminal except as visible characters.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from bridge.journal.request import Holding, Item
from bridge.payload.request import body_of
from bridge.telemetry.text import age, printable, size, when
from xmppstream import RemoteError, Stanza, parse_element
from xmppstream.element import rehome
from xmppstream.names import COMPONENT

WIDE_COLUMNS: Final = 160
"""Minimum terminal width, in characters, for a list with all columns."""
_STYLES: Final = {"pending": "yellow", "dead": "red", "reply": "cyan"}
COLUMNS: Final = (
    "uid",
    "state",
    "component",
    "kind",
    "from",
    "to",
    "received",
    "age",
    "attempts",
    "reason",
)


def cells(item: Item, now: float) -> list[str]:
    """Return an item's cells for `COLUMNS`, safe to print."""
    return [
        printable(one)
        for one in (
            item.uid,
            _state(item),
            item.component,
            _kind(item),
            item.from_,
            item.to,
            when(item.received),
            age(now - item.received),
            str(len(item.attempts)),
            item.reason or "",
        )
    ]


def to_line(item: Item, now: float, *, with_text: bool = False) -> str:
    """Return an item as a line with tabs between its columns; the text is the last one."""
    text = [printable(text_of(item) or "")] if with_text else []
    return "\t".join([*cells(item, now), *text])


def text_of(item: Item) -> str | None:
    """Return the text of a message that was listed with its XML; None if it has none."""
    return None if item.xml is None else _text_in(item.xml)


def _text_in(xml: str) -> str | None:
    try:
        parsed = Stanza.of(rehome(parse_element(xml.encode()), COMPONENT))
    except RemoteError:  # an entry of the journal that is damaged
        return None
    return None if parsed is None else body_of(parsed)


def to_table(items: Iterable[Item], now: float, width: int, *, with_text: bool = False) -> Table:
    """Return a table, with all columns if there is room. A uid is cut to the
    shortest prefix that is unique. `with_text` adds the text of each message."""
    wide = width >= WIDE_COLUMNS
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in COLUMNS if wide else ("uid", "state", "age", "tries", "stanza and reason"):
        short = name in ("uid", "age", "attempts", "received")
        table.add_column(name, overflow="fold", no_wrap=short)
    for item in items:
        row = cells(item, now)
        row[0], row[1], row[6] = (
            printable(item.prefix or item.uid),
            row[1].replace(", ", "\n"),
            row[6][:19],
        )
        text = printable(text_of(item) or "") if with_text else ""
        if text:
            row[9] = f"{row[9]}\n“{text}”".lstrip("\n")
        if not wide:
            uid, state, component, kind, from_, to, _, old, attempts, reason = row
            stanza = f"{kind} {from_} → {to or component}"
            row = [uid, state, old, attempts, f"{stanza}\n{reason}" if reason else stanza]
        style = _STYLES[item.state]
        table.add_row(*(Text(one, style if n == 1 else "") for n, one in enumerate(row)))
    return table


def _state(item: Item) -> str:
    return f"{item.state}, orphaned" if item.orphaned else item.state


def _kind(item: Item) -> str:
    return f"{item.kind} (reply)" if item.is_reply and item.kind else item.kind


def summary(kept: Mapping[str, Holding], now: float) -> list[str]:
    """Return the amounts stored, one line per component."""
    lines = []
    for component, one in kept.items():
        orphaned = " (orphaned: no such component is configured)" if one.orphaned else ""
        lines.append(f"{printable(component)}{orphaned}: {amounts(one, now)}")
    return lines


def amounts(kept: Holding, now: float) -> str:
    """Return the amounts stored, as text."""
    parts = []
    if kept.pending:
        old = f", the oldest {age(now - kept.oldest)} old" if kept.oldest is not None else ""
        parts.append(f"{kept.pending:,} pending ({size(kept.pending_bytes)}{old})")
    if kept.dead:
        parts.append(f"{kept.dead:,} dead {'letter' if kept.dead == 1 else 'letters'}")
    if kept.replies:
        noun = "reply" if kept.replies == 1 else "replies"
        parts.append(f"{kept.replies:,} {noun} not confirmed by the server yet")
    return ", ".join(parts) or "nothing stored"


def to_text(items: Sequence[Item], now: float, *, text_only: bool = False) -> str:
    """Return everything known about the items with one uid; with `text_only`, the text of a message
    in place of its XML.
    """
    return "\n\n".join("\n".join(_lines(item, now, text_only)) for item in items)


def _lines(item: Item, now: float, text_only: bool) -> list[str]:
    states = {"pending": "pending", "dead": "dead letter", "reply": "reply, not confirmed yet"}
    orphaned = ", orphaned: its component is not configured" if item.orphaned else ""
    pairs = [("uid", item.uid), ("state", states[item.state] + orphaned)]
    pairs += [("component", item.component), ("kind", _kind(item))]
    pairs += [("from", item.from_), ("to", item.to), ("stanza id", item.stanza_id or "")]
    noun = "made" if item.is_reply else "received"
    pairs += [(noun, f"{when(item.received)} ({age(now - item.received)} ago)")]
    if item.died is not None:
        pairs += [("died", f"{when(item.died)} ({age(now - item.died)} ago)")]
        pairs += [("reason", item.reason or "")]
    lines = [f"{name:<10} {printable(value)}" for name, value in pairs if value]
    for number, attempt in enumerate(item.attempts, 1):
        name = f"attempt {number}"
        lines.append(f"{name:<10} {when(attempt.at)}  {printable(attempt.result)}")
    for name, xml in (("stanza", item.xml), ("reply", item.reply)):
        if xml is None:
            continue
        if text_only:
            title = "text" if name == "stanza" else f"text of the {name}"
            text = _text_in(xml)
            shown = ["(none)"] if text is None else map(printable, text.splitlines())
            lines += [title, *(f"  {line}" for line in shown)]
        else:
            lines += [name, f"  {printable(xml)}"]
    return lines


def to_json(value: object, *, indent: int | None = 2) -> str:
    """Return JSON that is safe at a terminal: invisible characters are JSON escapes."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def plain(value: object) -> Any:
    """Return a value of `journal.request` as plain data."""
    return msgspec.to_builtins(value)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
