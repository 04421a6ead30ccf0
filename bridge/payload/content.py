"""JSON keys of replies and sends as elements: the other direction of `field`.

Each key is checked by its shape, then written as its XEP asks, with the fallback text and the hints
that belong to it. Keys of `field` that have no writer are read only.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from itertools import chain
from typing import Any, Final, Literal

import msgspec
from attrs import frozen

from bridge.payload import namespace as ns
from bridge.payload.derived import ref_of, text_without_fallback
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
from xmppstream import Element, ErrorType, Stanza, StanzaCondition, StanzaError
from xmppstream.names import COMPONENT, DISCO_INFO, DISCO_ITEMS, PING, VERSION, expanded
from xmppstream.stanza import Kind

QUOTED_LINES: Final = 3
RETRACTED: Final = "This message has been taken back; your client does not support that."
_LIMIT: Final = 100  # reactions, files and hints of one message
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
class _Writer:
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
        writer = WRITERS[key]
        if kind not in writer.kinds:
            article = "an" if kind == "iq" else "a"
            raise UnusableReply(f"{key} is not a key of {article} {kind}")
        elements += writer.write(checked(key, value, writer.shape), request)
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
        elements.append(Element(_FALLBACK, (("for", ns.REPLY),), (span,)))
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


def _ref(request: Stanza, key: str) -> str:
    ref = ref_of(request, of_stanza(request)) if request.kind == "message" else None
    if not ref:
        raise UnusableReply(f"{key}: there is no message with an id to refer to; name one")
    return ref


def _quotation(request: Stanza) -> str:
    bodies = [one.text for one in request.element.find_all(expanded(COMPONENT, "body"))]
    text = text_without_fallback(request, bodies[0], of_stanza(request)) if bodies else ""
    lines = text.strip().splitlines()[:QUOTED_LINES]
    return "".join(f"> {line}\n" for line in lines)


# --- writers


def _text_in(name: str) -> Callable[[str, Stanza], tuple[Element, ...]]:
    return lambda value, _: (Element(name, (), (value,)),)


def _id_in(name: str) -> Callable[[str, Stanza], tuple[Element, ...]]:
    return lambda value, _: (Element(name, (("id", value),)),)


def _mark(name: str) -> Callable[[bool, Stanza], tuple[Element, ...]]:
    return lambda value, _: (Element(name),) if value else ()


def _thread(value: str, _: Stanza) -> tuple[Element, ...]:
    return (Element(expanded(COMPONENT, "thread"), (), (value,)),)


def _state(value: str, _: Stanza) -> tuple[Element, ...]:
    return (Element(expanded(ns.CHAT_STATES, value)),)


def _reply(value: ReplyTo | bool, request: Stanza) -> tuple[Element, ...]:
    if value is False:
        return ()
    if value is True:
        value = ReplyTo(_ref(request, "reply"), request.from_)
    pairs = (("id", value.id), ("to", value.to))
    given = tuple((name, one) for name, one in pairs if one)
    return (Element(expanded(ns.REPLY, "reply"), given),)


def _reactions(value: Reactions | list[str], request: Stanza) -> tuple[Element, ...]:
    if isinstance(value, list):
        value = Reactions(_ref(request, "reactions"), value)
    if len(value.reactions) > _LIMIT:
        raise UnusableReply(f"reactions: more than {_LIMIT}")
    if not all(one.strip() for one in value.reactions):
        raise UnusableReply("reactions: one is empty")
    said = dict.fromkeys(value.reactions)
    children = tuple(Element(expanded(ns.REACTIONS, "reaction"), (), (one,)) for one in said)
    return (
        Element(expanded(ns.REACTIONS, "reactions"), (("id", value.id),), children),
        Element(expanded(ns.HINTS, "store")),
    )


def _replace(value: str | Literal[False], _: Stanza) -> tuple[Element, ...]:
    return (Element(expanded(ns.CORRECT, "replace"), (("id", value),)),) if value else ()


def _retract(value: str, _: Stanza) -> tuple[Element, ...]:
    return (
        Element(expanded(ns.RETRACT, "retract"), (("id", value),)),
        Element(_FALLBACK, (("for", ns.RETRACT),)),
        Element(expanded(ns.HINTS, "store")),
    )


def _oob_element(url: str, desc: str | None) -> Element:
    children = [Element(expanded(ns.OOB, "url"), (), (url,))]
    if desc:
        children.append(Element(expanded(ns.OOB, "desc"), (), (desc,)))
    return Element(expanded(ns.OOB, "x"), (), tuple(children))


def _oob(value: Oob, _: Stanza) -> tuple[Element, ...]:
    return (_oob_element(value.url, value.desc),)


def _files(value: list[File], _: Stanza) -> tuple[Element, ...]:
    """Clients show a picture only if the body is its URL, so a message has one file."""
    if len(value) != 1:
        raise UnusableReply("files: a message has one file; send one message for each")
    file = value[0]
    if not re.match(r"[a-z][a-z0-9+.-]*:", file.url, re.IGNORECASE):
        raise UnusableReply("files.url is not a URL")
    if file.size is not None and file.size < 0:
        raise UnusableReply("files.size is negative")
    pairs = (
        ("media-type", file.media_type),
        ("name", file.name),
        ("size", None if file.size is None else str(file.size)),
        ("desc", file.desc),
    )
    meta = tuple(Element(expanded(ns.FILE, name), (), (text,)) for name, text in pairs if text)
    source = Element(expanded(ns.URL_DATA, "url-data"), (("target", file.url),))
    sharing = (
        Element(expanded(ns.FILE, "file"), (), meta),
        Element(expanded(ns.SFS, "sources"), (), (source,)),
    )
    return (
        Element(expanded(ns.SFS, "file-sharing"), (("disposition", "inline"),), sharing),
        Element(_FALLBACK, (("for", ns.SFS),), (Element(expanded(ns.FALLBACK, "body")),)),
        _oob_element(file.url, file.desc),
    )


def _displayed(value: str | bool, request: Stanza) -> tuple[Element, ...]:
    if value is False:
        return ()
    if value is True:
        value = _ref(request, "displayed") if request.type == "groupchat" else request.id or ""
        if not value:
            raise UnusableReply("displayed: there is no message with an id to refer to; name one")
    return (Element(expanded(ns.MARKERS, "displayed"), (("id", value),)),)


def _hints(value: list[str], _: Stanza) -> tuple[Element, ...]:
    return tuple(Element(expanded(ns.HINTS, one)) for one in dict.fromkeys(value))


def _priority(value: int, _: Stanza) -> tuple[Element, ...]:
    if not -128 <= value <= 127:
        raise UnusableReply("priority is not from -128 to 127")
    return (Element(expanded(COMPONENT, "priority"), (), (str(value),)),)


def _error(value: ErrorObject, _: Stanza) -> tuple[Element, ...]:
    known = [one.value for one in StanzaCondition]
    if value.condition not in known:
        close = get_close_matches(value.condition or "", known, 1)
        hint = f"perhaps you meant {close[0]}" if close else f"use one of {', '.join(known)}"
        raise UnusableReply(f"error.condition is not one of RFC 6120 §8.3.3; {hint}")
    types = [one.value for one in ErrorType]
    if value.type is not None and value.type not in types:
        raise UnusableReply(f"error.type is not one of {', '.join(types)}")
    error = StanzaError(
        StanzaCondition(value.condition), ErrorType(value.type or "cancel"), value.text or ""
    )
    return (error.to_element(),)


def _ping(value: bool, request: Stanza) -> tuple[Element, ...]:
    return () if request.is_request or not value else (Element(expanded(PING, "ping")),)


def _child(namespace: str, name: str, text: str | None) -> tuple[Element, ...]:
    return (Element(expanded(namespace, name), (), (text,)),) if text else ()


def _version(value: Version | bool, _: Stanza) -> tuple[Element, ...]:
    children: tuple[Element, ...] = ()
    if isinstance(value, Version):
        pairs = (("name", value.name), ("version", value.version), ("os", value.os))
        children = tuple(chain.from_iterable(_child(VERSION, *pair) for pair in pairs))
    return (Element(expanded(VERSION, "query"), (), children),)


def _with(name: str, *pairs: tuple[str, str | None]) -> Element:
    return Element(name, tuple((key, value) for key, value in pairs if value is not None))


def _disco(value: Disco | str | bool, _: Stanza) -> tuple[Element, ...]:
    name = expanded(DISCO_INFO, "query")
    if not isinstance(value, Disco):
        return (_with(name, ("node", value if isinstance(value, str) else None)),)
    identities = (
        _with(
            expanded(DISCO_INFO, "identity"),
            *(("category", one.category), ("type", one.type), ("name", one.name)),
        )
        for one in value.identities
    )
    features = (_with(expanded(DISCO_INFO, "feature"), ("var", one)) for one in value.features)
    query = _with(name, ("node", value.node))
    return (Element(name, query.attributes, (*identities, *features)),)


def _items(value: list[Item] | str | bool, _: Stanza) -> tuple[Element, ...]:
    name = expanded(DISCO_ITEMS, "query")
    if not isinstance(value, list):
        return (_with(name, ("node", value if isinstance(value, str) else None)),)
    item = expanded(DISCO_ITEMS, "item")
    items = (_with(item, ("jid", o.jid), ("name", o.name), ("node", o.node)) for o in value)
    return (Element(name, (), tuple(items)),)


def _last(value: int | bool, _: Stanza) -> tuple[Element, ...]:
    if value is not True and value is not False and value < 0:
        raise UnusableReply("lastactivity is negative")
    seconds = None if isinstance(value, bool) else str(value)
    return (_with(expanded(ns.LAST, "query"), ("seconds", seconds)),)


_FALLBACK: Final = expanded(ns.FALLBACK, "fallback")
_State = Literal["active", "composing", "paused", "inactive", "gone"]
_Hint = Literal["no-permanent-store", "no-store", "no-copy", "store"]
_Show = Literal["away", "chat", "dnd", "xa"]
_M: Final[tuple[Kind, ...]] = ("message",)
_P: Final[tuple[Kind, ...]] = ("presence",)
_I: Final[tuple[Kind, ...]] = ("iq",)

WRITERS: Final[dict[str, _Writer]] = {
    "subject": _Writer(
        _M, str, _text_in(expanded(COMPONENT, "subject")), "The subject; in a room, the room's."
    ),
    "thread": _Writer(
        _M,
        str,
        _thread,
        "The id of a thread; without it, the request's is copied.",
        makes_message=False,
    ),
    "nick": _Writer(
        (*_M, *_P),
        str,
        _text_in(expanded(ns.NICK, "nick")),
        "The name that the bot goes by.",
        makes_message=False,
    ),
    "state": _Writer(
        _M,
        _State,
        _state,
        "`active`, `composing`, `paused`, `inactive` or `gone`: what the bot is doing.",
    ),
    "replace": _Writer(
        _M,
        str | Literal[False],
        _replace,
        "The id of an earlier message of the bot, which `body` corrects; or `false`, see below.",
    ),
    "retract": _Writer(
        _M, str, _retract, "The id of an earlier message of the bot that is taken back."
    ),
    "reply": _Writer(
        _M,
        ReplyTo | bool,
        _reply,
        "`true` to reply to the request's message, or `{id, to}` of another one.",
        makes_message=False,
    ),
    "quote": _Writer(
        _M,
        bool,
        lambda value, request: (),
        "`true`, with `reply`, for a quotation that older clients show.",
        makes_message=False,
    ),
    "reactions": _Writer(
        _M,
        Reactions | list[str],
        _reactions,
        "A list of reactions to the request's message, or `{id, reactions}`; `[]` takes them back.",
    ),
    "oob": _Writer(_M, Oob, _oob, "A URL, `{url, desc}`."),
    "files": _Writer(
        _M,
        list[File],
        _files,
        "A list of `{url, name, media_type, size, desc}`; each file becomes a message.",
    ),
    "receipt_requested": _Writer(
        _M,
        bool,
        _mark(expanded(ns.RECEIPTS, "request")),
        "`true` to ask whether the message arrives.",
        makes_message=False,
    ),
    "receipt": _Writer(
        _M, str, _id_in(expanded(ns.RECEIPTS, "received")), "The id of a message that has arrived."
    ),
    "markable": _Writer(
        _M,
        bool,
        _mark(expanded(ns.MARKERS, "markable")),
        "`true` to ask whether the message is displayed.",
        makes_message=False,
    ),
    "displayed": _Writer(
        _M,
        str | bool,
        _displayed,
        "The id of the last message that was read, or `true` for the request's.",
    ),
    "hints": _Writer(
        _M,
        list[_Hint],
        _hints,
        "A list of `no-store`, `no-permanent-store`, `no-copy` and `store`, for servers.",
        makes_message=False,
    ),
    "show": _Writer(
        _P,
        _Show,
        lambda value, _: (_show(value),),
        "For a presence: `away`, `chat`, `dnd` or `xa`.",
    ),
    "status": _Writer(
        _P, str, _text_in(expanded(COMPONENT, "status")), "For a presence: a sentence about that."
    ),
    "priority": _Writer(_P, int, _priority, "For a presence: a number from -128 to 127."),
    "error": _Writer(
        (*_M, *_P, *_I), ErrorObject, _error, "`{condition, type, text}`: an error reply."
    ),
    "ping": _Writer(_I, bool, _ping, "`true`: the answer to a ping, or a ping."),
    "version": _Writer(
        _I, Version | bool, _version, "`{name, version, os}`, or `true` to ask for them."
    ),
    "disco": _Writer(
        _I,
        Disco | str | bool,
        _disco,
        "`{identities, features}`; or `true`, or a node, to ask for them.",
    ),
    "items": _Writer(
        _I,
        list[Item] | str | bool,
        _items,
        "A list of `{jid, name, node}`; or `true`, or a node, to ask for it.",
    ),
    "lastactivity": _Writer(
        _I, int | bool, _last, "Seconds since the last activity, or `true` to ask for them."
    ),
}
"""The keys that a reply or a send may have besides those of H2."""


def _show(value: str) -> Element:
    return Element(expanded(COMPONENT, "show"), (), (value,))
