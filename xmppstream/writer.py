"""Element to text: escaping, namespace declarations, and the refusal of illegal characters (S27).

Elements are written without prefixes, with a default namespace wherever it changes. Names come
from the parser or from constants; they are checked all the same, since one bad byte ends a stream.
"""

import re
from functools import lru_cache
from typing import Final

from xmppstream.element import Element
from xmppstream.errors import LocalError
from xmppstream.names import XML, local_of, namespace_of

# Everything outside the Char production of XML 1.0 §2.2.
_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What is to be escaped or refused: one search finds that a value, as nearly all, is fine as it is.
_TEXT_SPECIAL: Final = re.compile("[^\t\n\u0020-%'-;=?-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VALUE_SPECIAL: Final = re.compile("[^\u0020-%(-;=?-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# NCName of Namespaces in XML 1.0, after XML 1.0 §2.3.
_START = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d"
    "\u2070-\u218f\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME: Final = re.compile(f"[{_START}][{_START}.0-9\u00b7\u0300-\u036f\u203f\u2040-]*")
_ESCAPES: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "'": "&apos;",
    "\r": "&#13;",
    "\n": "&#10;",
    "\t": "&#9;",
}


class IllegalCharacter(LocalError, ValueError):
    """A value holds a character that XML 1.0 forbids; it would end the stream (S27)."""


def write(element: Element, namespace: str) -> str:
    """Write an element for a place where `namespace` is the default one.

    Raises:
        IllegalCharacter: for text, a value or a name that XML cannot hold.
    """
    parts: list[str] = []
    _write(element, namespace, parts)
    return "".join(parts)


def _write(element: Element, inherited: str, parts: list[str]) -> None:
    namespace, local = _split(element.name)
    if namespace == XML:  # it cannot be declared (Namespaces in XML 1.0 §3)
        namespace, local = inherited, f"xml:{local}"
    parts.append(f"<{local}")
    if namespace != inherited:
        parts.append(f" xmlns='{escape_value(namespace)}'")
    for number, (name, value) in enumerate(element.attributes):
        space, attribute = _split(name)
        if space:
            attribute = _prefixed(space, attribute, f"n{number}", parts)
        parts.append(f" {attribute}='{escape_value(value)}'")
    if not element.children:
        parts.append("/>")
        return
    parts.append(">")
    for child in element.children:
        if isinstance(child, str):
            parts.append(escape_text(child))
        else:
            _write(child, namespace, parts)
    parts.append(f"</{local}>")


def _prefixed(namespace: str, local: str, prefix: str, parts: list[str]) -> str:
    """Give an attribute's name with a prefix, which is declared here."""
    if namespace == XML:
        return f"xml:{local}"
    parts.append(f" xmlns:{prefix}='{escape_value(namespace)}'")
    return f"{prefix}:{local}"


def escape_text(text: str) -> str:
    """Escape character data.

    Raises:
        IllegalCharacter: XML cannot hold it.
    """
    if _TEXT_SPECIAL.search(text) is None:
        return text
    _refuse_illegal(text)
    return _TEXT_SPECIAL.sub(lambda match: _ESCAPES[match[0]], text)


def escape_value(value: str) -> str:
    """Escape an attribute's value for single quotes.

    Raises:
        IllegalCharacter: XML cannot hold it.
    """
    if _VALUE_SPECIAL.search(value) is None:
        return value
    _refuse_illegal(value)
    return _VALUE_SPECIAL.sub(lambda match: _ESCAPES[match[0]], value)


def _refuse_illegal(text: str) -> None:
    found = _ILLEGAL.search(text)
    if found is not None:
        raise IllegalCharacter(f"character U+{ord(found[0]):04X} cannot be written as XML")


@lru_cache(maxsize=1024)
def _split(name: str) -> tuple[str, str]:
    namespace, local = namespace_of(name), local_of(name)
    if _NAME.fullmatch(local) is None:
        raise IllegalCharacter(f"{local!r} is no XML name")
    return namespace, local
