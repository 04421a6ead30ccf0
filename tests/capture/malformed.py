"""Ways to break a stream, one file each in `fixtures/malformed/`.

Those of the rules' table (tests/conformance/rules.py) that end in a fault of the server's are taken
from there; the rest are here, since the table has no place for them: over the limits as they are by
default, what a peer of another protocol says, how characters and markup go wrong otherwise, and
what looks like a fault and is none. `DIRECTORY` holds what `files` gives, byte for byte; a test
compares them.
"""

from __future__ import annotations

import gzip
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from bridge.capture.format import IN, LINK, OUT, Header, Record, encode_header, encode_record
from tests.conformance.rules import (
    GOOD,
    HEADER_OUT,
    NAMESPACES,
    ROWS,
    SIZES,
    WELL,
    X114,
    Row,
    header,
)
from tests.xmppstream.wire import DOMAIN, END, HANDSHAKE, HEADER, ROOT
from xmppstream import Limits, Role, StreamClosed, StreamFaulted
from xmppstream.names import STANZA_ERRORS, STREAM_ERRORS, STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKED_FROM_BYTES: Final = 20_000
SERVER: Final = "127.0.0.1:5347"
DATE: Final = datetime(2026, 11, 22, tzinfo=UTC)
SHOWN_HANDSHAKE: Final = b"<handshake>redacted</handshake>"
FROM: Final = "juliet@capulet.example"
TO: Final = f"echo@{DOMAIN}"
STANZA: Final = f"<message from='{FROM}' to='{TO}' type='chat' id='1'>".encode()
REFUSED: Final = (
    f"<message to='{FROM}' from='{TO}' id='1' type='error'><error type='modify'>"
    f"<policy-violation xmlns='{STANZA_ERRORS}'/>"
    f"<text xmlns='{STANZA_ERRORS}'>This is over the limit of {{}}.</text></error></message>"
)
HUNG_UP: Final = "the server closed the connection without a word"
NONE: Final = "none"


@frozen
class Way:
    """One way: the rule that it breaks, and the condition that must be told for it.

    `scope` is what is over by it: the `stream`; a `stanza`, where the stream lives on; the
    `connection`, without a condition, since nobody is there to be told; or nothing (`end`), since
    the server has ended the stream before. `turns` are what the server
    sends, each after what the bridge has to say to the one before.
    """

    name: str
    rule: str
    source: str
    turns: tuple[bytes, ...]
    condition: str
    scope: str = "stream"
    limit: str = ""

    @property
    def file_name(self) -> str:
        words = re.sub(r"[^a-z0-9]+", "-", _spelt_out(self.name).lower()).strip("-")
        packing = ".gz" if sum(map(len, self.turns)) > PACKED_FROM_BYTES else ""
        return f"{self.rule.lower()}-{words}.xcap{packing}"


def broken(name: str, inside: bytes, rule: str = "S20", source: str = WELL) -> Way:
    """Make a way to be not well-formed, between two good stanzas."""
    return after(name, GOOD + inside + GOOD, "not-well-formed", rule, source)


def after(
    name: str,
    inside: bytes,
    condition: str,
    rule: str,
    source: str,
    scope: str = "stream",
) -> Way:
    """Make a way behind the handshake."""
    return Way(name, rule, source, (HEADER, HANDSHAKE + inside), condition, scope)


def instead(name: str, inside: bytes, condition: str, rule: str, source: str) -> Way:
    """Make a way that has it wrong from the first byte."""
    return Way(name, rule, source, (inside,), condition)


def over(name: str, inside: bytes, limit: str) -> Way:
    """Make a stanza over a limit, which is refused, between two good ones."""
    data = GOOD + STANZA + inside + b"</message>" + GOOD
    way = after(name, data, "policy-violation", "S17", SIZES, "stanza")
    return evolve(way, limit=limit)


LIMITS: Final = Limits()
DEEP: Final = b"<a>" * LIMITS.max_depth
MARK: Final = "\ufeff".encode()
OWN: Final = (
    # over the limits
    over(
        "a stanza that is too long",
        b"<body>" + b"x" * LIMITS.max_stanza_bytes + b"</body>",
        "524288 bytes",
    ),
    over(
        "a stanza that is too deep",
        DEEP + DEEP.replace(b"<", b"</"),
        "128 levels",
    ),
    over(
        "a stanza with too many attributes",
        b"<a" + b"".join(b" a%d=''" % it for it in range(LIMITS.max_attributes + 1)) + b"/>",
        "256 attributes",
    ),
    over(
        "a stanza with too long a name",
        b"<" + b"a" * LIMITS.max_name_bytes + b"/>",
        "1024 bytes of a name",
    ),
    over(
        "a stanza with too long a namespace",
        b"<a xmlns='" + b"u" * 1024 + b"'/>",
        "1024 bytes of a name",
    ),
    instead(
        "a header that does not end",
        b"<stream:stream a='" + b"x" * (LIMITS.max_header_bytes + 1),
        "policy-violation",
        "S17",
        SIZES,
    ),
    Way(
        "a handshake that is too deep",
        "S17",
        SIZES,
        (HEADER, b"<handshake>%b%b</handshake>" % (DEEP, DEEP.replace(b"<", b"</"))),
        "policy-violation",
    ),
    # another protocol, or another language
    instead("TLS instead of XML", b"\x15\x03\x01\0\x02\x02\x46", "not-well-formed", "S20", WELL),
    instead("SSH instead of XML", b"SSH-2.0-OpenSSH_9.2\r\n", "not-well-formed", "S20", WELL),
    instead("JSON instead of XML", b'{"stream": "open"}\n', "not-well-formed", "S20", WELL),
    instead("zeros instead of XML", bytes(16), "unsupported-encoding", "S18", WELL),
    instead(
        "UTF-32 with a mark", HEADER.decode().encode("utf-32"), "unsupported-encoding", "S18", WELL
    ),
    # characters
    after(
        "a sequence of UTF-8 that is cut short",
        "<message>caf\xe9".encode()[:-1] + b"</message>",
        "unsupported-encoding",
        "S18",
        "RFC 6120 §11.6",
    ),
    after(
        "a character beyond Unicode",
        b"<message>\xf4\x90\x80\x80</message>",
        "unsupported-encoding",
        "S18",
        "RFC 6120 §11.6",
    ),
    after(
        "a byte that UTF-8 never has",
        GOOD + b"<message to='\xff'/>",
        "unsupported-encoding",
        "S18",
        "RFC 6120 §11.6",
    ),
    after("a mark between stanzas", GOOD + MARK + GOOD, "bad-format", "S13", "RFC 6120 §4.6.1"),
    broken("the noncharacter U+FFFE", "<message>\ufffe</message>".encode()),
    broken("a reference to U+FFFF", b"<message>&#xffff;</message>"),
    broken("a reference beyond Unicode", b"<message>&#x110000;</message>"),
    broken("a reference to a surrogate", b"<message>&#xd83d;&#xde00;</message>"),
    broken("a reference to NUL", b"<message>&#0;</message>"),
    # markup
    # libxml2 keeps these to itself until a semicolon comes
    broken("an ampersand alone", b"<message>a & b</message><message>;</message>"),
    broken("a reference without its semicolon", b"<message>&amp b</message><message>;</message>"),
    broken("an attribute without a value", b"<message to/>"),
    broken("no space between attributes", b"<message to='a'from='b'/>"),
    broken("a space before a name", b"< message/>"),
    broken("a name that begins with a digit", b"<message><1/></message>"),
    broken("an attribute in an end tag", b"<message></message to='a'>"),
    broken(
        "a default namespace that is xmlns",
        b"<message><a xmlns='http://www.w3.org/2000/xmlns/'/></message>",
        source=NAMESPACES,
    ),
    after(
        "the stream's end inside a stanza",
        GOOD + b"<message><body>" + END,
        "not-well-formed",
        "S20",
        WELL,
    ),
    after(
        "a parameter entity",
        b"<!DOCTYPE a [<!ENTITY % b 'c'> %b;]>",
        "restricted-xml",
        "S19",
        "RFC 6120 §11.1",
    ),
    after(
        "one long entity, many times",
        b"<!DOCTYPE a [<!ENTITY b '" + b"x" * 1000 + b"'>]><a>" + b"&b;" * 1000 + b"</a>",
        "restricted-xml",
        "S19",
        "RFC 6120 §11.1",
    ),
    # what is missing
    Way("no id, and no error behind it", "S3", X114, (header("from='x'"),), NONE, "connection"),
    Way("an empty id, and no error behind it", "S3", X114, (header("id=''"),), NONE, "connection"),
    Way("nothing at all", "S2", X114, (b"",), NONE, "connection"),
    Way("half a header", "S2", X114, (HEADER[:60],), NONE, "connection"),
    Way("no handshake", "S7", X114, (HEADER,), NONE, "connection"),
    after("half a stanza", GOOD + STANZA + b"<body>hel", NONE, "S21", WELL, "connection"),
    after("half a character", GOOD + b"<message>\xe2\x82", NONE, "S21", WELL, "connection"),
    after("a second root inside", GOOD + ROOT, NONE, "S33", "RFC 6120 §8.4", "connection"),
    after(
        "a stream error of another namespace",
        f"<error xmlns='urn:x'><reset xmlns='{STREAM_ERRORS}'/></error>".encode() + GOOD,
        NONE,
        "S22",
        "RFC 6120 §4.8.5",
        "connection",
    ),
    # what comes too late
    after("a second root behind the end", END + HEADER + GOOD, NONE, "S12", "RFC 6120 §4.4", "end"),
    after("garbage behind the end", END + b"\0\xff<!-- -->", NONE, "S12", "RFC 6120 §4.4", "end"),
    after(
        "stanzas behind a stream error",
        f"<error xmlns='{STREAMS}'><reset xmlns='{STREAM_ERRORS}'/></error>".encode() + GOOD,
        "reset",
        "S10",
        "RFC 6120 §4.9",
        "end",
    ),
)


def ways() -> tuple[Way, ...]:
    """Give all ways: those of the table first."""
    return (*map(_way_of, filter(_is_way, ROWS)), *OWN)


def files() -> Iterator[tuple[str, bytes]]:
    """Give the name and the content of each file."""
    for way in ways():
        data = b"".join(_lines(way))
        if way.file_name.endswith(".gz"):
            data = gzip.compress(data, mtime=0)
        yield way.file_name, data


def _is_way(row: Row) -> bool:
    last = row.events[-1] if row.events else None
    return (
        isinstance(last, StreamFaulted)
        and not last.by_peer
        and row.role is Role.COMPONENT
        and row.limits == LIMITS  # a capture says nothing of limits: those of `OWN` are the default
    )


def _way_of(row: Row) -> Way:
    last = row.events[-1]
    assert isinstance(last, StreamFaulted)
    return Way(row.name, row.rule, row.section, row.turns, str(last.condition))


def _lines(way: Way) -> Iterator[bytes]:
    fields = {
        "server": SERVER,
        "endpoint": "http://127.0.0.1:9/",  # which was not asked
        "rule": way.rule,
        "source": way.source,
        "condition": way.condition,
        "scope": way.scope,
    }
    yield encode_header(Header("tests.capture", DOMAIN, DATE, tuple(fields.items())))
    for number, (channel, data) in enumerate(_records(way)):
        yield encode_record(Record(number / 1000, channel, data))


def _records(way: Way) -> Iterator[tuple[str, bytes]]:
    yield LINK, f"open {SERVER}".encode()
    yield OUT, HEADER_OUT
    for number, turn in enumerate(way.turns):
        if number == 1:
            yield OUT, SHOWN_HANDSHAKE
        if turn:
            yield IN, turn
    if way.scope == "stanza":
        yield OUT, REFUSED.format(way.limit).encode()
        yield IN, END
    yield from _ending(way)


def _ending(way: Way) -> Iterator[tuple[str, bytes]]:
    match way.scope:
        case "connection":
            yield LINK, f"end {HUNG_UP}".encode()
        case "stream":
            error = f"<error xmlns='{STREAMS}'><{way.condition} xmlns='{STREAM_ERRORS}'/></error>"
            yield OUT, error.encode() + END
            yield LINK, f"end {way.condition}".encode()
        case _:
            yield OUT, END
            yield LINK, f"end {StreamClosed() if way.condition == NONE else way.condition}".encode()


def _spelt_out(name: str) -> str:
    """Say in letters what a name shows as a sign."""
    signs = {"`<`": "less-than", "`]]>`": "end of CDATA", "xml:lang": "lang", "U+": "u"}
    for sign, words in signs.items():
        name = name.replace(sign, words)
    return name
