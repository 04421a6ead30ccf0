"""Writes elements as text: escapes, declares namespaces, refuses illegal characters (S27).

Elements are written without prefixes, with a default namespace wherever it changes. Names come
from the parser or from constants, but are checked all the same: one bad byte ends a stream.

Text is at most six times as long as it was read. Only declarations are not bounded by what was
read: `<p:a/>` is written with the namespace that `p` stands for. So they are counted as they are
written, and everything at the end.
"""

import math
import re
from functools import lru_cache
from typing import Final

from xmppstream.element import Element
from xmppstream.errors import LocalError
from xmppstream.names import XML, local_of, namespace_of

# Everything outside the Char production of XML 1.0 §2.2.
_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_USUAL: Final = {name: f" {name}='" for name in ("to", "from", "type", "id")}
"""What is written before the value of an attribute of nearly each stanza; a look-up costs less than
a call."""
_MUCH_MORE: Final = "many more bytes, of namespaces"
# NCName of Namespaces in XML 1.0, after XML 1.0 §2.3.
_START = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d"
    "\u2070-\u218f\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME: Final = re.compile(f"[{_START}][{_START}.0-9\u00b7\u0300-\u036f\u203f\u2040-]*")


class IllegalCharacter(LocalError, ValueError):
    """A value contains a character that XML 1.0 forbids; it would end the stream (S27)."""


class TooLong(LocalError, ValueError):
    """An element would be longer than allowed when written."""


def write(element: Element, namespace: str, max_length: float = math.inf) -> str:
    """Return an element as text, for a place where `namespace` is the default one.

    Raises:
        IllegalCharacter: if a text, value or name is not allowed in XML.
        TooLong: if it has more than `max_length` characters, before more is written.
    """
    parts: list[str] = []
    _write(element, namespace, parts, [max_length])
    text = "".join(parts)
    if len(text) > max_length:
        raise TooLong(f"{len(text.encode())} bytes")
    return text


def _write(element: Element, inherited: str, parts: list[str], room: list[float]) -> None:
    """Append an element. `room` is what is left for declarations, a list of one."""
    namespace, start, declared, end = _tag(element.name)
    append = parts.append
    if namespace is None or namespace == inherited:
        namespace = inherited
    else:
        start = declared
        room[0] -= len(declared)
        if room[0] < 0:
            raise TooLong(_MUCH_MORE)
    numbers: dict[str, int] | None = None
    for name, value in element.attributes:
        # `escape_value` and `escape_text` check the same, but a call costs more than the check.
        if not value.isprintable() or "&" in value or "<" in value or ">" in value or "'" in value:
            value = escape_value(value)
        before = _USUAL.get(name) or _attribute(name)
        if not before:
            if numbers is None:
                numbers = {key: number for number, (key, _) in enumerate(element.attributes)}
            before = _prefixed(name, numbers[name])
            room[0] -= len(before)
            if room[0] < 0:
                raise TooLong(_MUCH_MORE)
        start = f"{start}{before}{value}'"
    if not element.children:
        append(f"{start}/>")
        return
    append(f"{start}>")
    for child in element.children:
        if isinstance(child, str):
            if not child.isprintable() or "&" in child or "<" in child or ">" in child:
                child = escape_text(child)
            append(child)
            continue
        if (
            len(child.children) == 1 and not child.attributes
        ):  # most have a text, which saves a call
            text, own = child.children[0], _tag(child.name)
            if isinstance(text, str) and own[0] == namespace:
                if not text.isprintable() or "&" in text or "<" in text or ">" in text:
                    text = escape_text(text)
                append(f"{own[1]}>{text}{own[3]}")
                continue
        _write(child, namespace, parts, room)
    append(end)


def escape_text(text: str) -> str:
    """Return escaped character data.

    Raises:
        IllegalCharacter: if it contains a character that XML forbids.
    """
    if text.isprintable() and not ("&" in text or "<" in text or ">" in text):
        return text
    _refuse_illegal(text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#13;")


def escape_value(value: str) -> str:
    """Return an attribute's value, escaped for single quotes.

    Raises:
        IllegalCharacter: if it contains a character that XML forbids.
    """
    if value.isprintable() and not ("&" in value or "<" in value or ">" in value or "'" in value):
        return value
    _refuse_illegal(value)
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    value = value.replace("'", "&apos;").replace("\r", "&#13;")
    return value.replace("\n", "&#10;").replace("\t", "&#9;")


def _refuse_illegal(text: str) -> None:
    found = _ILLEGAL.search(text)
    if found is not None:
        raise IllegalCharacter(f"character U+{ord(found[0]):04X} cannot be written as XML")


def _split(name: str) -> tuple[str, str]:
    namespace, local = namespace_of(name), local_of(name)
    if _NAME.fullmatch(local) is None:
        raise IllegalCharacter(f"{local!r} is not an XML name")
    return namespace, local


# The written parts of a name that are always the same.


@lru_cache(maxsize=1024)
def _tag(name: str) -> tuple[str | None, str, str, str]:
    """Return the namespace, the start tag without and with its declaration, and the end tag.

    None stands for the namespace of `xml:`, which cannot be declared (Namespaces in XML 1.0 §3).
    """
    namespace, local = _split(name)
    if namespace == XML:
        return None, f"<xml:{local}", "", f"</xml:{local}>"
    declared = f"<{local} xmlns='{escape_value(namespace)}'"
    return namespace, f"<{local}", declared, f"</{local}>"


@lru_cache(maxsize=1024)
def _attribute(name: str) -> str:
    """Return the text before an attribute's value, or "" if its namespace must be declared."""
    space, local = _split(name)
    if space == XML:
        local = f"xml:{local}"
    return "" if space not in ("", XML) else f" {local}='"


def _prefixed(name: str, number: int) -> str:
    """Return the text before the value of an attribute that needs a prefix, made of its index."""
    space, local = _split(name)
    return f" xmlns:n{number}='{escape_value(space)}' n{number}:{local}='"
