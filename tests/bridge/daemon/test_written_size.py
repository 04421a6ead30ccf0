"""What is accepted can be read back from the journal, however much it grows when it is written."""

import pytest

from bridge.config.settings import WRITTEN_FACTOR, Settings, limits_written
from tests.bridge.dispatch.test_dispatcher import Bench
from xmppstream import Limits, Stanza, StanzaReceived, parse_element, write
from xmppstream.names import COMPONENT
from xmppstream.parser import ElementParser

LIMITS = Limits()
TO = "from='juliet@capulet.example/balcony' to='echo@bot.example' id='m1' type='chat'"
PREFIXED = "<a " + " ".join(f"n:a{number}='1'" for number in range(200)) + "/>"
GROWING = {
    "escapes": f"<message {TO}><body>{'>' * 400_000}</body></message>",
    "attributes": f"<message {TO}><x xmlns:n='urn:n' "
    + " ".join(f"n:a{number}='1'" for number in range(200))
    + "/></message>",
    "levels": f"<message {TO}>{'<a>' * 120}{'</a>' * 120}</message>",
    "elements": f"<message {TO}><x xmlns:n='urn:n'>{'<n:a/>' * 9000}</x></message>",
    "prefixed attributes": f"<message {TO}><x xmlns:n='urn:n'>{PREFIXED * 90}</x></message>",
}
EXPLODING = f"<message {TO}><x xmlns:n='{'u' * 900}'>{'<n:a/>' * 9000}</x></message>"


def received(xml: str) -> Stanza:
    """Read a stanza by the limits of a stream."""
    spaced = xml.replace("<message", f"<message xmlns='{COMPONENT}'", 1)
    made = Stanza.of(ElementParser(LIMITS).parse(spaced.encode()))
    assert made is not None
    return made


@pytest.mark.parametrize("xml", GROWING.values(), ids=GROWING)
def test_it_is_read_back(xml: str) -> None:
    stanza = received(xml)
    written = write(stanza.element, "")
    assert len(written) <= WRITTEN_FACTOR * LIMITS.max_stanza_bytes
    assert (
        ElementParser(limits_written(Settings(components=()))).parse(written.encode())
        == stanza.element
    )


async def test_one_that_explodes_is_refused() -> None:
    bench = Bench()
    await bench.give(received(EXPLODING))
    (error,) = bench.sent()
    assert error.type == "error"
    assert error.element == parse_element(
        f"<message xmlns='{COMPONENT}' to='juliet@capulet.example/balcony' from='echo@bot.example'"
        " type='error' id='m1'><error type='modify'>"
        "<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>This is over the limit of"
        " max_stanza_bytes, written out.</text></error></message>".encode()
    )
    assert bench.endpoint.bodies == []


async def test_its_neighbours_are_posted() -> None:
    bench = Bench()
    await bench.dispatcher.handle(StanzaReceived(received(GROWING["escapes"]), 100))
    assert bench.sent() == []
