"""The first bytes of a stream: byte order mark, encoding and XML declaration (rule S18).

libxml2 would obey another encoding, or guess one; so these bytes are checked before it sees any.
"""

import re
from typing import Final

from xmppstream.builder import Fault
from xmppstream.errors import StreamCondition
from xmppstream.limit import Limits

_BOM: Final = b"\xef\xbb\xbf"
_DECLARATION_START: Final = re.compile(rb"<\?xml[ \t\r\n]")
_DECLARATION: Final = re.compile(
    rb"<\?xml\s+version\s*=\s*(?:'(?P<v1>[^']*)'|\"(?P<v2>[^\"]*)\")"
    rb"(?:\s+encoding\s*=\s*(?:'(?P<e1>[^']*)'|\"(?P<e2>[^\"]*)\"))?"
    rb"(?:\s+standalone\s*=\s*(?:'(?:yes|no)'|\"(?:yes|no)\"))?\s*\?>"
)


def without_declaration(head: bytes, limits: Limits) -> bytes | None:
    """Return the first bytes without the declaration (S18); None if more bytes are needed.

    Raises:
        Fault: if the encoding or the declaration is not allowed, or the declaration is too long.
    """
    if head[:1] in (b"\xfe", b"\xff", b"\x00") or head[1:2] == b"\x00":
        raise Fault(StreamCondition.UNSUPPORTED_ENCODING, "not UTF-8")
    if len(head) < 2 or (len(head) < len(_BOM) and _BOM.startswith(head)):
        return None
    body = head.removeprefix(_BOM)
    if b"<?xml ".startswith(body) or _DECLARATION_START.match(body):
        within = head[: limits.max_header_bytes]
        if b"?>" not in within:
            if len(within) < len(head):
                raise header_too_long(limits)
            return None
    return body[_declaration_end(body) :]


def header_too_long(limits: Limits) -> Fault:
    text = f"no stream header within {limits.max_header_bytes} bytes"
    return Fault(StreamCondition.POLICY_VIOLATION, text)


def _declaration_end(body: bytes) -> int:
    """Check an XML declaration and return its length, 0 if there is none (S18)."""
    if _DECLARATION_START.match(body) is None:
        return 0
    found = _DECLARATION.fullmatch(body[: body.index(b"?>") + 2])
    if found is None:
        raise Fault(StreamCondition.NOT_WELL_FORMED, "a malformed XML declaration")
    if (found["v1"] or found["v2"]) != b"1.0":
        raise Fault(StreamCondition.NOT_WELL_FORMED, "an XML version other than 1.0")
    encoding = found["e1"] or found["e2"] or b"utf-8"
    if encoding.lower() != b"utf-8":
        raise Fault(StreamCondition.UNSUPPORTED_ENCODING, "a declared encoding other than UTF-8")
    return found.end()
