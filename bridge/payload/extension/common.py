"""What the modules of this package share: how elements are read and written.

A function `read_…` makes a JSON value of elements and never raises, whatever strangers send: an
element without the attributes that its XEP demands says nothing. A function `write_…` makes
elements of a value that has its shape already; it checks what the shape cannot say.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen

from bridge.payload.error import UnusableReply
from xmppstream import Element, Stanza
from xmppstream.names import expanded
from xmppstream.stanza import Kind, language_of

Elements = list[Element]
Written = tuple[Element, ...]
Read = Callable[[Elements, Stanza], Any]
"""Reads a value from elements of a row, at least one; None if they say nothing."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@frozen
class Asked:
    """What a value is written for: the request that it replies to, and the kind of stanza."""

    request: Stanza
    kind: Kind
    ref: str | None
    """The id by which the request's message is referred to."""

    def refer(self, key: str) -> str:
        """Return `ref`. Raises `UnusableReply` if there is none."""
        if not self.ref:
            raise UnusableReply(f"{key}: there is no message with an id to refer to; name one")
        return self.ref

    def refuse_a_question(self, key: str, value: object) -> None:
        """Refuse `true` as the answer to an iq: it is how one asks."""
        if value is True and self.request.is_request and self.kind == "iq":
            noun = "a list" if key in ("items", "stats") else "an object"
            raise UnusableReply(f"{key}: true asks; the answer is {noun}")


Write = Callable[[Any, Asked], Written]


def text_of(elements: Elements) -> str | None:
    """Return the text of the first element without xml:lang, else of the first."""
    if len(elements) == 1:
        return elements[0].text
    plain = next((one for one in elements if language_of(one) is None), elements[0])
    return plain.text


def read_text(elements: Elements, _: Stanza) -> str | None:
    return text_of(elements)


def read_some_text(elements: Elements, _: Stanza) -> str | None:
    return text_of(elements) or None


def read_true(_: Elements, __: Stanza) -> bool:
    return True


def read_attribute(name: str) -> Read:
    return lambda elements, _: elements[0].get(name) or None


def read_local(known: tuple[str, ...]) -> Read:
    def read(elements: Elements, _: Stanza) -> str | None:
        return next((one.local for one in elements if one.local in known), None)

    return read


def read_time(name: str) -> Read:
    return lambda elements, _: time_of(elements[0].get(name))


def time_of(text: str | None) -> str | None:
    """Return a time of XEP-0082, or the older form, as ISO 8601 in UTC; None if it is neither."""
    text = (text or "").strip()
    if re.fullmatch(r"\d{8}T\d\d:\d\d:\d\d", text):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}Z"
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    written = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return written.replace("+00:00", "Z")


def check_time(key: str, value: str | None) -> None:
    """Raises `UnusableReply` if a value is not a time as XMPP writes it (XEP-0082)."""
    if value is not None and (_TIME.fullmatch(value) is None or time_of(value) is None):
        raise UnusableReply(f'{key} is not a time, such as "2026-06-30T12:00:00Z"')


def child_text(element: Element, namespace: str, local: str) -> str | None:
    child = element.find(expanded(namespace, local))
    return None if child is None else child.text.strip() or None


def number_of(text: str | None) -> int | None:
    """Return a number of at most 18 digits (JSON readers lose longer ones); else None."""
    text = text or ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def write_text_in(name: str) -> Write:
    return lambda value, _: (Element(name, (), (value,)),)


def write_id_in(name: str) -> Write:
    return lambda value, _: (Element(name, (("id", value),)),)


def write_mark(name: str) -> Write:
    return lambda value, _: (Element(name),) if value else ()


def child(namespace: str, name: str, text: str | None) -> Written:
    """Return an element with a text, or nothing if there is none."""
    return (Element(expanded(namespace, name), (), (text,)),) if text else ()


def children_of(namespace: str, pairs: dict[str, str | None]) -> Written:
    """Return an element for each text that is there."""
    return tuple(one for name, text in pairs.items() for one in child(namespace, name, text))


def element(
    name: str, attributes: Mapping[str, str | None], children: tuple[Element | str, ...] = ()
) -> Element:
    """Return an element with those attributes that are there."""
    pairs = tuple((key, value) for key, value in attributes.items() if value is not None)
    return Element(name, pairs, children)
