"""Texts and what is said about them: threads, languages, formatting, references, fallbacks."""

from typing import Final

import msgspec

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import (
    Asked,
    Elements,
    Written,
    check_time,
    element,
    number_of,
    time_of,
)
from bridge.payload.shape import Delay, Payload, Reference, Thread
from bridge.payload.xhtml import reduced, xhtml_of
from xmppstream import Element, Stanza
from xmppstream.names import COMPONENT, DELAY, LANG, expanded
from xmppstream.stanza import language_of

HINTS: Final = ("no-permanent-store", "no-store", "no-copy", "store")
FALLBACK: Final = expanded(ns.FALLBACK, "fallback")
_BODY: Final = expanded(COMPONENT, "body")


def read_thread_parent(elements: Elements, _: Stanza) -> str | None:
    return elements[0].get("parent") or None


def write_thread(value: Thread | str, _: Asked) -> Written:
    thread = Thread(value) if isinstance(value, str) else value
    name = expanded(COMPONENT, "thread")
    return (Element(name, (("parent", thread.parent),) if thread.parent else (), (thread.id,)),)


def read_bodies(elements: Elements, stanza: Stanza) -> dict[str, str] | None:
    if len(elements) < 2:
        return None
    own = language_of(stanza.element) or stanza.lang or ""
    return {language_of(one) or own: one.text for one in reversed(elements)}


def write_bodies(value: dict[str, str], _: Asked) -> Written:
    """The body without a language is the message's own, see `content`."""
    return tuple(
        Element(_BODY, ((LANG, lang),), (text,)) for lang, text in value.items() if lang and text
    )


def delay_of(element: Element) -> Delay:
    return Delay(time_of(element.get("stamp")), element.get("from"), element.text or None)


def read_delay(elements: Elements, _: Stanza) -> Delay:
    """The earliest: each hop that held the stanza back adds one."""
    return min(map(delay_of, elements), key=lambda one: one.stamp or "9")


def write_delay(value: Delay | str, _: Asked) -> Written:
    delay = Delay(value) if isinstance(value, str) else value
    if delay.stamp is None:
        raise UnusableReply("delay has no stamp")
    check_time("delay.stamp", delay.stamp)
    pairs = {"stamp": delay.stamp, "from": delay.from_}
    return (element(expanded(DELAY, "delay"), pairs, (delay.reason,) if delay.reason else ()),)


def read_html(elements: Elements, _: Stanza) -> str | None:
    body = elements[0].find(expanded(ns.XHTML, "body"))
    return None if body is None else reduced(body) or None


def write_html(value: str, _: Asked) -> Written:
    inner = xhtml_of(value)
    body = Element(expanded(ns.XHTML, "body"), (), inner)
    return (Element(expanded(ns.XHTML_IM, "html"), (), (body,)),)


def read_references(elements: Elements, _: Stanza) -> list[Reference] | None:
    return [
        Reference(
            one.get("type"), one.get("uri"), number_of(one.get("begin")), number_of(one.get("end"))
        )
        for one in elements
        if one.find(expanded(ns.SIMS, "media-sharing")) is None
    ] or None


def write_references(value: list[Reference], _: Asked) -> Written:
    for one in value:
        if not one.type or not one.uri:
            raise UnusableReply(f"references has no {'uri' if one.type else 'type'}")
        begin, end = one.begin, one.end
        if any(place is not None and place < 0 for place in (begin, end)):
            raise UnusableReply("references: begin and end count characters, from 0")
        if begin is not None and end is not None and end < begin:
            raise UnusableReply("references: the range ends before it begins")
    return tuple(
        element(
            expanded(ns.REFERENCE, "reference"),
            {
                "type": one.type,
                "uri": one.uri,
                "begin": None if one.begin is None else str(one.begin),
                "end": None if one.end is None else str(one.end),
            },
        )
        for one in value
    )


def read_fallback(elements: Elements, _: Stanza) -> list[str] | None:
    return list(dict.fromkeys(one.get("for") or "" for one in elements))


def write_fallback(value: list[str] | bool, _: Asked) -> Written:
    if isinstance(value, bool):
        return (Element(FALLBACK),) if value else ()
    return tuple(Element(FALLBACK, (("for", one),)) for one in dict.fromkeys(value))


def read_hints(elements: Elements, _: Stanza) -> list[str] | None:
    return list(dict.fromkeys(one.local for one in elements))


def write_hints(value: list[str], _: Asked) -> Written:
    return tuple(Element(expanded(ns.HINTS, one)) for one in dict.fromkeys(value))


def read_payload(elements: Elements, _: Stanza) -> Payload | None:
    inner = elements[0].find(expanded(ns.JSON, "json"))
    if inner is None:
        return None
    try:
        data = msgspec.json.decode(inner.text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return Payload(elements[0].get("datatype"), data)


def write_payload(value: Payload, _: Asked) -> Written:
    if not value.datatype:
        raise UnusableReply("payload has no datatype")
    json = Element(expanded(ns.JSON, "json"), (), (msgspec.json.encode(value.data).decode(),))
    name = expanded(ns.JSON_MESSAGE, "payload")
    return (Element(name, (("datatype", value.datatype),), (json,)),)
