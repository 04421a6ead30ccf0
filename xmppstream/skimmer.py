"""The rest of a refused element: only its end and its faults are looked for.

A parser that reports no tag is ten times as fast as one that does, even if what it calls does
nothing (4 ms in place of 40 for 125,000 `<a/>`); so much markup must not delay the other senders
of a stream. So the element is read again from its start, as the root of a document of its own that
also has the namespaces of the stream's root.

That parser reports nothing but faults. So the root gets another name, and the end tag of the
element does not match it: this fault is its end. No peer knows the name.
"""

import re
from collections.abc import Iterable
from secrets import token_hex
from typing import Final, Protocol

from xmppstream.dictionary import Dictionary
from xmppstream.names import MUC_USER
from xmppstream.writer import escape_value

_ROOT: Final = f"root-{token_hex(8)}"
_NAME: Final = re.compile(rb"<([^ \t\r\n/>]++)")
_ATTRIBUTE: Final = re.compile(rb"""[ \t\r\n]+([^ \t\r\n=]++)\s*=\s*(?:'[^']*+'|"[^"]*+")""")
_MISMATCH: Final = re.compile(rf".* {_ROOT} line \d+ and (.*)", re.DOTALL)
_MARK: Final = MUC_USER.encode()


class LogEntry(Protocol):
    """What libxml2 has to say about its input."""

    type_name: str
    message: str


class Skimmer:
    """One element that is skimmed, and what is noted of its bytes: names, for `dictionary`, and
    whether they mention muc#user. Wherever that occurs, the element counts as one with such a child
    (S30).
    """

    def __init__(
        self,
        read: bytes,
        namespaces: Iterable[tuple[str, str]],
        dictionary: Dictionary,
        max_name_bytes: int,
    ) -> None:
        """`read` is what a parser has read of the element: its start tag, and maybe a part of
        another tag at the end. `namespaces` are those that it inherits.
        """
        name = _NAME.match(read)
        assert name is not None
        self.name = name[1].decode()
        self.document = f"<{_ROOT}".encode() + _inherited(read, name.end(), namespaces)
        self._dictionary = dictionary
        self._max_name_bytes = max_name_bytes
        self._window = b""
        self._within_tag = False
        self.is_marked = is_marked(read)
        self.note(read[read.rfind(b"<") :])

    def is_end(self, log: Iterable[LogEntry]) -> bool:
        """Return whether a fault is the end of the element."""
        faults = [entry for entry in log if entry.type_name.startswith("ERR_")]
        end = _MISMATCH.fullmatch(faults[-1].message) if len(faults) == 1 else None
        return end is not None and end[1].strip() == self.name

    def original(self, text: str) -> str:
        """Return the text of a fault as if the element had its name."""
        return text.replace(_ROOT, self.name)

    def note(self, data: bytes) -> None:
        """Note what follows."""
        self._window = self._window[1 - len(_MARK) :] + data
        self.is_marked = self.is_marked or is_marked(self._window)
        self._within_tag = self._dictionary.add_markup(
            data, self._max_name_bytes, within_tag=self._within_tag
        )


def is_marked(data: bytes) -> bool:
    """Return whether the namespace muc#user occurs in the bytes of an element."""
    return _MARK in data


def _inherited(start: bytes, place: int, namespaces: Iterable[tuple[str, str]]) -> bytes:
    """Return an element from behind its name on, with the namespaces that it does not declare."""
    own, end = set(), place
    while (attribute := _ATTRIBUTE.match(start, end)) is not None:
        own.add(attribute[1].decode())
        end = attribute.end()
    declared = ""
    for prefix, namespace in namespaces:
        declaration = f"xmlns:{prefix}" if prefix else "xmlns"
        if declaration not in own:
            declared += f" {declaration}='{escape_value(namespace)}'"
    return declared.encode() + start[place:]
