"""JSON keys of replies and sends as elements: the other direction of `field`.

Each key is checked by its shape, then written as its XEP asks, with the fallback text and the hints
that belong to it. Keys of `field` that have no writer are read only.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from attrs import frozen

from bridge.payload import namespace as ns
from bridge.payload import writer
from bridge.payload.derived import text_without_fallback
from bridge.payload.error import UnusableReply
from bridge.payload.field import of_stanza
from bridge.payload.shape import (
    Disco,
    ErrorObject,
    File,
    Item,
    Oob,
    Reactions,
    ReplyTo,
    Version,
)
from xmppstream import Element, Stanza
from xmppstream.names import COMPONENT, expanded
from xmppstream.stanza import Kind

QUOTED_LINES: Final = 3
RETRACTED: Final = "This message has been taken back; your client does not support that."
_EXPECTED: Final = re.compile(
    r"Expected `(?P<type>[^`]+)`(?P<rest>.*?)(?: - at `\$(?P<path>[^`]*)`)?\Z", re.DOTALL
)
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_NOUNS: Final = {
    "str": "a string",
    "int": "a whole number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


@frozen
class Content:
    """What a reply's keys make of a message: a body, and elements behind it."""

    body: str | None
    elements: tuple[Element, ...]


@frozen
class _Row:
    kinds: tuple[Kind, ...]
    shape: Any
    write: Callable[[Any, Stanza], tuple[Element, ...]]
    doc: str
    makes_message: bool = True
    """Whether the key alone says something; a request for a receipt does not."""


def write_fields(fields: dict[str, Any], body: str | None, kind: Kind, request: Stanza) -> Content:
    """Return the content that keys describe, in reply to `request`.

    Raises:
        UnusableReply: if a key has a wrong value, is not for this kind, or contradicts another.
    """
    _check_together(fields, body)
    elements: list[Element] = []
    for key, value in fields.items():
        if key == "quote":
            continue
        row = WRITERS[key]
        if kind not in row.kinds:
            article = "an" if kind == "iq" else "a"
            raise UnusableReply(f"{key} is not a key of {article} {kind}")
        elements += row.write(checked(key, value, row.shape), request)
    if "retract" in fields:
        body = RETRACTED
    if "files" in fields:
        body = checked("files", fields["files"], list[File])[0].url
    if fields.get("quote"):
        quotation = _quotation(request)
        body = quotation + (body or "")
        span = Element(
            expanded(ns.FALLBACK, "body"), (("start", "0"), ("end", str(len(quotation))))
        )
        elements.append(Element(writer.FALLBACK, (("for", ns.REPLY),), (span,)))
    return Content(body, tuple(elements))


def says_something(fields: dict[str, Any]) -> bool:
    """Return whether keys make a stanza without a body."""
    return any(key in WRITERS and WRITERS[key].makes_message for key in fields)


def checked(key: str, value: Any, shape: Any) -> Any:
    """Return a value in its shape.

    Raises:
        UnusableReply: if it does not fit; the message names the key within.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise UnusableReply(f"{key}{_explain(str(error))}") from None
    except UnicodeEncodeError:  # msgspec compares choices as UTF-8
        raise UnusableReply(f"{key}: an unpaired surrogate") from None


def _explain(error: str) -> str:
    missing = _MISSING.search(error)
    if missing is not None:
        return f" has no {missing[1]}"
    found = _EXPECTED.match(error)
    if found is None:
        why = error.partition(" - at")[0]
        return f": {why[:1].lower()}{why[1:]}"
    nouns = [_NOUNS.get(one.strip(), one.strip()) for one in found["type"].split("|")]
    path = re.sub(r"\[\.\.\.\]", "[]", found["path"] or "")
    rest = found["rest"] if found["rest"].startswith(" of") else ""
    return f"{path} is not {' or '.join(nouns)}{rest}"


def _check_together(fields: dict[str, Any], body: str | None) -> None:
    """Refuse keys that contradict each other."""
    for key in ("reactions", "retract", "receipt", "displayed", "files"):
        if key in fields and body:
            raise UnusableReply(f"{key} and body exclude each other: send two messages")
    if fields.get("replace") and not body:
        raise UnusableReply("replace needs a body: the whole corrected message")
    if fields.get("quote") and not (fields.get("reply") and body):
        raise UnusableReply('quote needs a body and "reply": true')
    if fields.get("quote") and fields["reply"] is not True:
        raise UnusableReply('quote needs "reply": true: only the request can be quoted')


def _quotation(request: Stanza) -> str:
    bodies = [one.text for one in request.element.find_all(expanded(COMPONENT, "body"))]
    text = text_without_fallback(request, bodies[0], of_stanza(request)) if bodies else ""
    lines = text.strip().splitlines()[:QUOTED_LINES]
    return "".join(f"> {line}\n" for line in lines)


_State = Literal["active", "composing", "paused", "inactive", "gone"]
_Hint = Literal["no-permanent-store", "no-store", "no-copy", "store"]
_Show = Literal["away", "chat", "dnd", "xa"]
_M: Final[tuple[Kind, ...]] = ("message",)
_P: Final[tuple[Kind, ...]] = ("presence",)
_I: Final[tuple[Kind, ...]] = ("iq",)

WRITERS: Final[dict[str, _Row]] = {
    "subject": _Row(
        _M,
        str,
        writer.text_in(expanded(COMPONENT, "subject")),
        "The subject; in a room, the room's.",
    ),
    "thread": _Row(
        _M,
        str,
        writer.thread,
        "The id of a thread; without it, the request's is copied.",
        makes_message=False,
    ),
    "nick": _Row(
        (*_M, *_P),
        str,
        writer.text_in(expanded(ns.NICK, "nick")),
        "The name that the bot goes by.",
        makes_message=False,
    ),
    "state": _Row(
        _M,
        _State,
        writer.state,
        "`active`, `composing`, `paused`, `inactive` or `gone`: what the bot is doing.",
    ),
    "replace": _Row(
        _M,
        str | Literal[False],
        writer.replace,
        "The id of an earlier message of the bot, which `body` corrects; or `false`, see below.",
    ),
    "retract": _Row(
        _M, str, writer.retract, "The id of an earlier message of the bot that is taken back."
    ),
    "reply": _Row(
        _M,
        ReplyTo | bool,
        writer.reply,
        "`true` to reply to the request's message, or `{id, to}` of another one.",
        makes_message=False,
    ),
    "quote": _Row(
        _M,
        bool,
        lambda value, request: (),
        "`true`, with `reply`, for a quotation that older clients show.",
        makes_message=False,
    ),
    "reactions": _Row(
        _M,
        Reactions | list[str],
        writer.reactions,
        "A list of reactions to the request's message, or `{id, reactions}`; `[]` takes them back.",
    ),
    "oob": _Row(_M, Oob, writer.oob, "A URL, `{url, desc}`."),
    "files": _Row(
        _M,
        list[File],
        writer.files,
        "A list of `{url, name, media_type, size, desc}`; each file becomes a message.",
    ),
    "receipt_requested": _Row(
        _M,
        bool,
        writer.mark(expanded(ns.RECEIPTS, "request")),
        "`true` to ask whether the message arrives.",
        makes_message=False,
    ),
    "receipt": _Row(
        _M,
        str,
        writer.id_in(expanded(ns.RECEIPTS, "received")),
        "The id of a message that has arrived.",
    ),
    "markable": _Row(
        _M,
        bool,
        writer.mark(expanded(ns.MARKERS, "markable")),
        "`true` to ask whether the message is displayed.",
        makes_message=False,
    ),
    "displayed": _Row(
        _M,
        str | bool,
        writer.displayed,
        "The id of the last message that was read, or `true` for the request's.",
    ),
    "hints": _Row(
        _M,
        list[_Hint],
        writer.hints,
        "A list of `no-store`, `no-permanent-store`, `no-copy` and `store`, for servers.",
        makes_message=False,
    ),
    "show": _Row(
        _P,
        _Show,
        lambda value, _: (writer.show(value),),
        "For a presence: `away`, `chat`, `dnd` or `xa`.",
    ),
    "status": _Row(
        _P,
        str,
        writer.text_in(expanded(COMPONENT, "status")),
        "For a presence: a sentence about that.",
    ),
    "priority": _Row(_P, int, writer.priority, "For a presence: a number from -128 to 127."),
    "error": _Row(
        (*_M, *_P, *_I), ErrorObject, writer.error, "`{condition, type, text}`: an error reply."
    ),
    "ping": _Row(_I, bool, writer.ping, "`true`: the answer to a ping, or a ping."),
    "version": _Row(
        _I, Version | bool, writer.version, "`{name, version, os}`, or `true` to ask for them."
    ),
    "disco": _Row(
        _I,
        Disco | str | bool,
        writer.disco,
        "`{identities, features}`; or `true`, or a node, to ask for them.",
    ),
    "items": _Row(
        _I,
        list[Item] | str | bool,
        writer.items,
        "A list of `{jid, name, node}`; or `true`, or a node, to ask for it.",
    ),
    "lastactivity": _Row(
        _I, int | bool, writer.last, "Seconds since the last activity, or `true` to ask for them."
    ),
}
"""The keys that a reply or a send may have besides those of H2."""
