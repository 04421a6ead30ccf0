"""The stream of an XMPP component (XEP-0114), usable on its own.

A sans-IO core with both roles (`ComponentConnection`), frozen values, and a driver on trio
(`connect`, `ComponentStream`). Nothing here knows JSON or HTTP.
"""

from xmppstream.component import ComponentConnection, Role, digest, encode, verify
from xmppstream.element import Element, rehome
from xmppstream.errors import (
    ErrorType,
    LocalError,
    RemoteError,
    StanzaCondition,
    StreamCondition,
    XmppError,
)
from xmppstream.events import (
    ElementIgnored,
    Event,
    HandshakeAccepted,
    HandshakeReceived,
    StanzaReceived,
    StanzaRefused,
    StreamClosed,
    StreamFaulted,
    StreamOpened,
)
from xmppstream.jid import InvalidJid, Jid, split
from xmppstream.limit import Limits
from xmppstream.parser import parse_element
from xmppstream.parser_thread import ElementParserThread
from xmppstream.stanza import Stanza, StanzaError, make
from xmppstream.tap import Tap
from xmppstream.trio_stream import (
    UNANSWERED,
    ComponentStream,
    Server,
    StreamEnd,
    StreamFailed,
    StreamLost,
    StreamOptions,
    connect,
    open_transport,
)
from xmppstream.writer import IllegalCharacter, TooLong, write

__all__ = [
    "UNANSWERED",
    "ComponentConnection",
    "ComponentStream",
    "Element",
    "ElementIgnored",
    "ElementParserThread",
    "ErrorType",
    "Event",
    "HandshakeAccepted",
    "HandshakeReceived",
    "IllegalCharacter",
    "InvalidJid",
    "Jid",
    "Limits",
    "LocalError",
    "RemoteError",
    "Role",
    "Server",
    "Stanza",
    "StanzaCondition",
    "StanzaError",
    "StanzaReceived",
    "StanzaRefused",
    "StreamClosed",
    "StreamCondition",
    "StreamEnd",
    "StreamFailed",
    "StreamFaulted",
    "StreamLost",
    "StreamOpened",
    "StreamOptions",
    "Tap",
    "TooLong",
    "XmppError",
    "connect",
    "digest",
    "encode",
    "make",
    "open_transport",
    "parse_element",
    "rehome",
    "split",
    "verify",
    "write",
]
