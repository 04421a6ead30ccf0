"""The fuzzed property: whatever a peer sends, however it is cut, the core reports and never raises.

`check(data)` is what both the coverage-guided fuzzer (`python -m tests.fuzz`) and the replay of
the corpus in the suite call. The first byte says how the rest is cut, and which role reads it.
"""

from xmppstream import (
    ComponentConnection,
    Element,
    Event,
    Limits,
    RemoteError,
    Role,
    StanzaReceived,
    StreamClosed,
    StreamFaulted,
    parse_element,
    write,
)
from xmppstream.names import COMPONENT, STREAMS

HEADER = f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}' id='1'>".encode()
FLUSH = b";<a/>"
"""libxml2 may keep a fault in text to itself until the next markup, that of a `&` until a `;`."""
SMALL = Limits(
    max_stanza_bytes=200,
    max_depth=4,
    max_elements=6,
    max_attributes=3,
    max_name_bytes=48,
    endless_factor=4,
    max_header_bytes=300,
    life_bytes=256,
)


def check(data: bytes) -> None:
    """Check everything that must hold for any bytes; an AssertionError or any other is a find."""
    how, data = data[:1] or b"\0", data[1:]
    cut = how[0] & 15
    role = Role.SERVER if how[0] & 16 else Role.COMPONENT
    limits = SMALL if how[0] & 32 else Limits()
    flushed = data + FLUSH
    whole = receive(flushed, len(flushed), role, limits, attached=bool(how[0] & 64))
    parts = receive(flushed, cut + 1, role, limits, attached=bool(how[0] & 64))
    assert outline(whole) == outline(parts), "events depend on how the bytes were cut"
    for event in whole[:-1]:
        assert not isinstance(event, StreamFaulted | StreamClosed), "something after the end"
    for event in whole:
        if isinstance(event, StanzaReceived):
            check_round_trip(event.stanza.element)
    try:
        element = parse_element(data, limits)
    except RemoteError:
        return
    check_round_trip(element)


def outline(events: list[Event]) -> list[object]:
    """The events, but of a fault only that it is one: of two in one run of text, the one that
    libxml2 comes upon first depends on the cuts. (`tests/xmppstream` compares single faults.)
    """
    return [StreamFaulted if isinstance(one, StreamFaulted) else one for one in events]


def check_round_trip(element: Element) -> None:
    """What was parsed can be written, and means the same."""
    assert parse_element(write(element, "").encode()) == element


def receive(data: bytes, size: int, role: Role, limits: Limits, *, attached: bool) -> list[Event]:
    """Feed a fresh connection; the events behind the set-up."""
    connection = ComponentConnection(role, domain="bot.localhost", limits=limits)
    if role is Role.COMPONENT:
        connection.open()
    if attached:
        attach(connection)
    events: list[Event] = []
    for offset in range(0, len(data), size):
        events += connection.receive_data(data[offset : offset + size])
    fault = next((one for one in events if isinstance(one, StreamFaulted)), None)
    connection.close(fault)
    return events


def attach(connection: ComponentConnection) -> None:
    """Bring a connection to where stanzas flow."""
    if connection.role is Role.COMPONENT:
        connection.receive_data(HEADER)
        connection.authenticate("secret")
        connection.receive_data(b"<handshake/>")
    else:
        connection.open(stream_id="1")
        connection.receive_data(HEADER)
        connection.receive_data(b"<handshake>00</handshake>")
        connection.accept()
    assert connection.established
