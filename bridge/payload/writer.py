"""JSON values as elements: one function for each shape that a row of `content` writes.

Values have their shape already; what the shape cannot say is checked here.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from itertools import chain
from typing import Final, Literal

from bridge.payload import namespace as ns
from bridge.payload.derived import ref_of
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

_LIMIT: Final = 100  # reactions, files and hints of one message
FALLBACK: Final = expanded(ns.FALLBACK, "fallback")


def _ref(request: Stanza, key: str) -> str:
    ref = ref_of(request, of_stanza(request)) if request.kind == "message" else None
    if not ref:
        raise UnusableReply(f"{key}: there is no message with an id to refer to; name one")
    return ref


def text_in(name: str) -> Callable[[str, Stanza], tuple[Element, ...]]:
    return lambda value, _: (Element(name, (), (value,)),)


def id_in(name: str) -> Callable[[str, Stanza], tuple[Element, ...]]:
    return lambda value, _: (Element(name, (("id", value),)),)


def mark(name: str) -> Callable[[bool, Stanza], tuple[Element, ...]]:
    return lambda value, _: (Element(name),) if value else ()


def thread(value: str, _: Stanza) -> tuple[Element, ...]:
    return (Element(expanded(COMPONENT, "thread"), (), (value,)),)


def state(value: str, _: Stanza) -> tuple[Element, ...]:
    return (Element(expanded(ns.CHAT_STATES, value)),)


def reply(value: ReplyTo | bool, request: Stanza) -> tuple[Element, ...]:
    if value is False:
        return ()
    if value is True:
        value = ReplyTo(_ref(request, "reply"), request.from_)
    pairs = (("id", value.id), ("to", value.to))
    given = tuple((name, one) for name, one in pairs if one)
    return (Element(expanded(ns.REPLY, "reply"), given),)


def reactions(value: Reactions | list[str], request: Stanza) -> tuple[Element, ...]:
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


def replace(value: str | Literal[False], _: Stanza) -> tuple[Element, ...]:
    return (Element(expanded(ns.CORRECT, "replace"), (("id", value),)),) if value else ()


def retract(value: str, _: Stanza) -> tuple[Element, ...]:
    return (
        Element(expanded(ns.RETRACT, "retract"), (("id", value),)),
        Element(FALLBACK, (("for", ns.RETRACT),)),
        Element(expanded(ns.HINTS, "store")),
    )


def _oob_element(url: str, desc: str | None) -> Element:
    children = [Element(expanded(ns.OOB, "url"), (), (url,))]
    if desc:
        children.append(Element(expanded(ns.OOB, "desc"), (), (desc,)))
    return Element(expanded(ns.OOB, "x"), (), tuple(children))


def oob(value: Oob, _: Stanza) -> tuple[Element, ...]:
    return (_oob_element(value.url, value.desc),)


def files(value: list[File], _: Stanza) -> tuple[Element, ...]:
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
        Element(FALLBACK, (("for", ns.SFS),), (Element(expanded(ns.FALLBACK, "body")),)),
        _oob_element(file.url, file.desc),
    )


def displayed(value: str | bool, request: Stanza) -> tuple[Element, ...]:
    if value is False:
        return ()
    if value is True:
        value = _ref(request, "displayed") if request.type == "groupchat" else request.id or ""
        if not value:
            raise UnusableReply("displayed: there is no message with an id to refer to; name one")
    return (Element(expanded(ns.MARKERS, "displayed"), (("id", value),)),)


def hints(value: list[str], _: Stanza) -> tuple[Element, ...]:
    return tuple(Element(expanded(ns.HINTS, one)) for one in dict.fromkeys(value))


def priority(value: int, _: Stanza) -> tuple[Element, ...]:
    if not -128 <= value <= 127:
        raise UnusableReply("priority is not from -128 to 127")
    return (Element(expanded(COMPONENT, "priority"), (), (str(value),)),)


def error(value: ErrorObject, _: Stanza) -> tuple[Element, ...]:
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


def ping(value: bool, request: Stanza) -> tuple[Element, ...]:
    return () if request.is_request or not value else (Element(expanded(PING, "ping")),)


def _child(namespace: str, name: str, text: str | None) -> tuple[Element, ...]:
    return (Element(expanded(namespace, name), (), (text,)),) if text else ()


def version(value: Version | bool, _: Stanza) -> tuple[Element, ...]:
    children: tuple[Element, ...] = ()
    if isinstance(value, Version):
        pairs = (("name", value.name), ("version", value.version), ("os", value.os))
        children = tuple(chain.from_iterable(_child(VERSION, *pair) for pair in pairs))
    return (Element(expanded(VERSION, "query"), (), children),)


def _with(name: str, *pairs: tuple[str, str | None]) -> Element:
    return Element(name, tuple((key, value) for key, value in pairs if value is not None))


def disco(value: Disco | str | bool, _: Stanza) -> tuple[Element, ...]:
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


def items(value: list[Item] | str | bool, _: Stanza) -> tuple[Element, ...]:
    name = expanded(DISCO_ITEMS, "query")
    if not isinstance(value, list):
        return (_with(name, ("node", value if isinstance(value, str) else None)),)
    item = expanded(DISCO_ITEMS, "item")
    items = (_with(item, ("jid", o.jid), ("name", o.name), ("node", o.node)) for o in value)
    return (Element(name, (), tuple(items)),)


def last(value: int | bool, _: Stanza) -> tuple[Element, ...]:
    if value is not True and value is not False and value < 0:
        raise UnusableReply("lastactivity is negative")
    seconds = None if isinstance(value, bool) else str(value)
    return (_with(expanded(ns.LAST, "query"), ("seconds", seconds)),)


def show(value: str) -> Element:
    return Element(expanded(COMPONENT, "show"), (), (value,))
