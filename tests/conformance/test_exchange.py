"""Rules that a component keeps when it answers (S9, S28 to S36), as rows: bytes in, stanzas out.

Through the core and the dispatcher, whole, byte by byte, and in sevens; the endpoint says "yes".
S11, S14 to S16 and S35 are about time and reconnecting: tests/bridge/xmpp/test_link.py and
test_reconnect.py, tests/xmppstream/test_trio_stream.py.
"""

from typing import Final

import pytest
import trio
from attrs import evolve, frozen

from bridge.webhook.outcome import Outcome, Rejected, Replied
from tests.bridge.dispatch.test_dispatcher import BOT, DOMAIN, JULIET, running
from tests.bridge.dispatch.test_dispatcher import COMPONENT as COMPONENT_OF_BENCH
from tests.bridge.sample import meaning, stanza
from xmppstream import ComponentConnection, Role, StanzaReceived, parse_element, rehome
from xmppstream.names import COMPONENT, STREAMS

ROOM: Final = "room@muc.example"
HEADER: Final = f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}' id='1'>"
XMPP_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
X: Final = "xmlns='http://jabber.org/protocol/muc#user'"
JOINED: Final = f"<presence from='{ROOM}/us' to='{BOT}'><x {X}><status code='110'/></x></presence>"
VERSION: Final = "<query xmlns='jabber:iq:version'/>"
PING: Final = "<ping xmlns='urn:xmpp:ping'/>"
TO_US: Final = f"from='{JULIET}' to='{BOT}'"
FROM_US: Final = f"from='{BOT}' to='{JULIET}'"


def failed(kind: str, id: str, condition: str, type: str, addresses: str = FROM_US) -> str:
    """The error as a stranger gets it, without its text."""
    error = f"<error type='{type}'><{condition} xmlns='{XMPP_ERRORS}'/></error>"
    return f"<{kind} type='error' id='{id}' {addresses}>{error}</{kind}>"


@frozen
class Row:
    """A rule, what comes in, and what goes out; `down` has the endpoint fail with status 500."""

    rule: str
    name: str
    bytes_in: str
    out: tuple[str, ...]
    down: bool = False


YES: Final = f"<message type='chat' {FROM_US}><body>yes</body></message>"
ROWS: Final = (
    Row("S9", "ping", f"<iq type='get' id='1' {TO_US}>{PING}</iq>", (
        f"<iq type='result' id='1' {FROM_US}/>",)),
    Row("S28", "a reply has both addresses", f"<message {TO_US}><body>x</body></message>", (YES,)),
    Row("S28", "the domain as configured",
        f"<message from='{JULIET}' to='{BOT.upper()}'><body>x</body></message>", (
        f"<message type='chat' from='ECHO@{DOMAIN}' to='{JULIET}'><body>yes</body></message>",)),
    Row("S29", "a get without child", f"<iq type='get' id='1' {TO_US}/>", (
        failed("iq", "1", "bad-request", "modify"),)),
    Row("S29", "two children", f"<iq type='set' id='1' {TO_US}>{PING}{VERSION}</iq>", (
        failed("iq", "1", "bad-request", "modify"),)),
    Row("S29", "an unknown type", f"<iq type='x' id='1' {TO_US}>{PING}</iq>", (
        failed("iq", "1", "bad-request", "modify"),)),
    Row("S29", "no id", f"<iq type='get' {TO_US}>{PING}</iq>", ()),
    Row("S29", "a result", f"<iq type='result' id='1' {TO_US}/>", ()),
    Row("S29", "an error", failed("iq", "1", "conflict", "cancel", TO_US), ()),
    Row("S29", "an unknown request", f"<iq type='set' id='1' {TO_US}><a xmlns='u'/></iq>", (
        failed("iq", "1", "service-unavailable", "cancel"),)),
    Row("S30", "an error is POSTed, and not answered",
        failed("message", "1", "conflict", "cancel", TO_US), ()),
    Row("S30", "no error for a headline", f"<message type='headline' {TO_US}/>", (), down=True),
    Row("S30", "no error for groupchat", f"<message type='groupchat' {TO_US}/>", (), down=True),
    Row("S30", "no error for an occupant",
        f"<message id='1' type='chat' {TO_US}><x {X}/></message>", (), down=True),
    Row("S30", "no error into our room",
        f"{JOINED}<message id='1' type='chat' from='{ROOM}/x' to='{BOT}'/>", (), down=True),
    Row("S30", "a request from our room is answered all the same",
        f"{JOINED}<iq type='get' id='1' from='{ROOM}/x' to='{BOT}'>{PING}</iq>", (
        f"<iq type='result' id='1' from='{BOT}' to='{ROOM}/x'/>",), down=True),
    Row("S31", "an error", f"<message id='1' {TO_US}><body>x</body></message>", (
        failed("message", "1", "internal-server-error", "cancel"),), down=True),
    Row("S32", "in order", f"<message {TO_US}/><message {TO_US}/>", (YES, YES)),
    Row("S34", "a request for another domain",
        f"<iq type='get' id='1' from='{JULIET}' to='other.example'>{PING}</iq>", (
        failed("iq", "1", "item-not-found", "cancel", f"from='{DOMAIN}' to='{JULIET}'"),)),
    Row("S34", "a message for another domain",
        f"<message from='{JULIET}' to='other.example'/>", ()),
    Row("S34", "no from", f"<message to='{BOT}'/>", ()),
    Row("S34", "no to", f"<message from='{JULIET}'/>", ()),
    Row("S36", "our own message",
        f"{JOINED}<message type='groupchat' from='{ROOM}/us' to='{BOT}'><body>x</body></message>",
        ()),
    Row("S36", "history", f"{JOINED}<message type='groupchat' from='{ROOM}/x' to='{BOT}'>"
        "<body>x</body><delay xmlns='urn:xmpp:delay' stamp='2026-11-22T00:00:00Z'/></message>", ()),
    Row("S36", "somebody else's",
        f"{JOINED}<message type='groupchat' from='{ROOM}/x' to='{BOT}'><body>x</body></message>", (
        f"<message type='groupchat' from='{BOT}' to='{ROOM}'><body>yes</body></message>",)),
)  # fmt: skip


@pytest.mark.parametrize("size", [100_000, 1, 7], ids=["whole", "bytes", "sevens"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule} {row.name}")
async def test_row(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, row: Row, size: int
) -> None:
    async def answer(_: object) -> Outcome:
        await trio.lowlevel.checkpoint()
        return Rejected(500) if row.down else Replied("json", b'{"body": "yes"}')

    bench = running(nursery, evolve(COMPONENT_OF_BENCH, post_stanzas=frozenset({"message"})))
    bench.endpoint.rule = answer
    connection = ComponentConnection(Role.COMPONENT, domain=DOMAIN)
    connection.open()
    connection.receive_data(HEADER.encode())
    connection.authenticate("secret")
    connection.receive_data(b"<handshake/>")
    data = row.bytes_in.encode()
    for offset in range(0, len(data), size):
        for event in connection.receive_data(data[offset : offset + size]):
            assert isinstance(event, StanzaReceived)
            await bench.dispatcher.handle(event)
    await bench.dispatcher.drain()
    out = [without_text_and_id(one.decode()) for one in bench.outbox.take()]
    assert out == [meaning(stanza(one).element) for one in row.out]


def without_text_and_id(xml: str) -> object:
    """The meaning of what went out, but for the text of an error and the id of a message."""
    element = rehome(parse_element(xml.encode()), COMPONENT)
    if element.get("type") != "error" and element.local == "message":
        element = element.with_attributes(id=None)
    name, attributes, children = meaning(element)
    if element.get("type") == "error":
        [(error, kind, inner)] = children
        children = ((error, kind, inner[:1]),)
    return name, attributes, children
