"""The core: two of them back to back, and each end by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.xmppstream.wire import (
    DIGEST,
    DOMAIN,
    END,
    HANDSHAKE,
    HEADER,
    ROOT,
    SECRET,
    STREAM_ID,
    attached,
)
from xmppstream.component import ComponentConnection, Role, digest, encode, verify
from xmppstream.element import Element
from xmppstream.errors import LocalError, StreamCondition
from xmppstream.events import (
    ElementIgnored,
    HandshakeAccepted,
    HandshakeReceived,
    StanzaReceived,
    StanzaRefused,
    StreamClosed,
    StreamFaulted,
    StreamOpened,
)
from xmppstream.limit import Limits
from xmppstream.names import COMPONENT, STREAM_ERRORS, STREAMS
from xmppstream.stanza import Stanza, make
from xmppstream.state import Side
from xmppstream.writer import IllegalCharacter

if TYPE_CHECKING:
    from collections.abc import Callable

NWF = StreamCondition.NOT_WELL_FORMED
MESSAGE = make("message", "a@b", DOMAIN, children=(Element(f"{{{COMPONENT}}}body", (), ("hi",)),))


def component(limits: Limits | None = None) -> ComponentConnection:
    return ComponentConnection(Role.COMPONENT, domain=DOMAIN, limits=limits)


def server(domain: str = DOMAIN) -> ComponentConnection:
    return ComponentConnection(Role.SERVER, domain=domain)


def joined() -> tuple[ComponentConnection, ComponentConnection]:
    """Give a component and a server behind the handshake."""
    one, other = component(), server()
    other.receive_data(one.open())
    one.receive_data(other.open(stream_id=STREAM_ID))
    other.receive_data(one.authenticate(SECRET))
    one.receive_data(other.accept())
    return one, other


# --- the whole life, back to back


def test_a_whole_life() -> None:
    one, other = component(), server(domain="")
    assert other.receive_data(one.open()) == [StreamOpened(None, to=DOMAIN)]
    assert other.domain == DOMAIN
    assert one.receive_data(other.open(stream_id=STREAM_ID, lang="de")) == [
        StreamOpened(STREAM_ID, from_=DOMAIN, lang="de")
    ]
    assert other.receive_data(one.authenticate(SECRET)) == [HandshakeReceived(DIGEST)]
    assert (one.established, other.established) == (False, False)
    assert one.receive_data(other.accept()) == [HandshakeAccepted()]
    assert (one.established, other.established) == (True, True)
    assert other.receive_data(one.send(MESSAGE)) == [StanzaReceived(MESSAGE)]
    assert one.receive_data(other.send(MESSAGE)) == [StanzaReceived(Stanza(MESSAGE.element, "de"))]
    assert other.receive_data(one.close()) == [StreamClosed()]
    assert one.receive_data(other.close()) == [StreamClosed()]
    assert {one.local, one.remote, other.local, other.remote} == {Side.CLOSED}


@pytest.mark.parametrize("closer", [Role.COMPONENT, Role.SERVER])
def test_either_end_may_close_first(closer: Role) -> None:
    one, other = joined() if closer is Role.COMPONENT else reversed(joined())
    assert other.receive_data(one.close()) == [StreamClosed()]
    assert one.receive_data(other.close()) == [StreamClosed()]


@pytest.mark.parametrize("closer", [Role.COMPONENT, Role.SERVER])
def test_stanzas_are_still_delivered_after_our_own_close(closer: Role) -> None:
    one, other = joined() if closer is Role.COMPONENT else reversed(joined())
    one.close()
    assert one.receive_data(other.send(MESSAGE)) == [StanzaReceived(MESSAGE)]
    assert one.receive_data(other.close()) == [StreamClosed()]


def test_a_fault_is_told_and_understood() -> None:
    one, other = joined()
    [fault] = one.receive_data(b"<a></b>")
    assert isinstance(fault, StreamFaulted)
    assert other.receive_data(one.close(fault)) == [
        StreamFaulted(fault.condition, fault.text, by_peer=True)
    ]


def test_two_hundred_stanzas_in_one_chunk() -> None:
    one, other = joined()
    stanzas = [make("message", "a@b", DOMAIN, id=str(number)) for number in range(200)]
    data = b"".join(map(one.send, stanzas))
    assert other.receive_data(data) == [StanzaReceived(stanza) for stanza in stanzas]


def test_the_parser_is_renewed_within_a_stream() -> None:
    connection = attached(Limits(life_bytes=1))
    stanzas = b"".join(map(encode, [MESSAGE] * 20))
    assert connection.receive_data(stanzas + END) == [
        *[StanzaReceived(MESSAGE)] * 20,
        StreamClosed(),
    ]


# --- what is sent


def test_the_components_header() -> None:
    assert component().open() == (
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
        b"xmlns:stream='http://etherx.jabber.org/streams' to='bot.example'>"
    )


def test_the_servers_header() -> None:
    assert server().open(stream_id="1'2&3", lang="en") == (
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
        b"xmlns:stream='http://etherx.jabber.org/streams' from='bot.example' "
        b"id='1&apos;2&amp;3' xml:lang='en'>"
    )


def test_a_header_that_cannot_be_written_changes_nothing() -> None:
    connection = ComponentConnection(Role.COMPONENT, domain="a\x01b")
    with pytest.raises(IllegalCharacter):
        connection.open()
    assert connection.local is Side.IDLE


def test_a_stanza_goes_in_the_default_namespace() -> None:
    connection = attached()
    assert connection.send(MESSAGE) == encode(MESSAGE)
    assert encode(MESSAGE) == b"<message to='a@b' from='bot.example'><body>hi</body></message>"


def test_close_without_a_fault() -> None:
    assert attached().close() == END


def test_close_tells_condition_and_text() -> None:
    assert attached().close(StreamFaulted(NWF, "a < b")) == (
        b"<error xmlns='http://etherx.jabber.org/streams'>"
        b"<not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
        b"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>a &lt; b</text>"
        b"</error></stream:stream>"
    )


def test_close_leaves_an_empty_text_out() -> None:
    assert attached().close(StreamFaulted(NWF)) == (
        b"<error xmlns='http://etherx.jabber.org/streams'>"
        b"<not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></error></stream:stream>"
    )


def test_close_does_not_send_the_peers_error_back() -> None:
    assert attached().close(StreamFaulted(NWF, by_peer=True)) == END


def test_close_says_nothing_twice_or_before_the_header() -> None:
    assert component().close(StreamFaulted(NWF)) == b""
    connection = attached()
    connection.close()
    assert connection.close() == b""
    assert connection.close(StreamFaulted(NWF)) == b""


# --- the handshake (S4 to S7)


def test_the_vector_of_xep_0114() -> None:
    assert digest(STREAM_ID, SECRET) == DIGEST


@pytest.mark.parametrize(
    ("stream_id", "secret", "expected"),
    [
        ("3BF96D32", "", "84f31469cf456e7c406e883395cb5907ff056c6b"),
        ("3BF96D32", "pässwört🔑", "b3469bc118701976aefdbe479ff57138c930402b"),
    ],
)
def test_the_secret_is_hashed_as_utf_8(stream_id: str, secret: str, expected: str) -> None:
    assert digest(stream_id, secret) == expected


def test_the_stream_id_is_unescaped_before_it_is_hashed() -> None:
    connection = component()
    connection.open()
    connection.receive_data(ROOT.replace(STREAM_ID.encode(), b"a&amp;&lt;&#x31;"))
    assert connection.authenticate("s") == f"<handshake>{digest('a&<1', 's')}</handshake>".encode()


@pytest.mark.parametrize(
    ("received", "expected"),
    [(DIGEST, True), (DIGEST.upper(), False), (DIGEST[:-1], False), ("", False), ("ü", False)],
)
def test_verify(received: str, expected: bool) -> None:
    assert verify(received, STREAM_ID, SECRET) is expected


def test_the_handshake_has_no_white_space() -> None:
    connection = component()
    connection.open()
    connection.receive_data(HEADER)
    assert connection.authenticate(SECRET) == f"<handshake>{DIGEST}</handshake>".encode()


# --- calls that the state forbids


def before_the_header() -> ComponentConnection:
    return component()


def after_our_header() -> ComponentConnection:
    connection = component()
    connection.open()
    return connection


def after_a_header_without_id() -> ComponentConnection:
    connection = after_our_header()
    connection.receive_data(ROOT.replace(STREAM_ID.encode(), b""))
    return connection


def after_both_headers() -> ComponentConnection:
    connection = after_our_header()
    connection.receive_data(HEADER)
    return connection


def after_our_handshake() -> ComponentConnection:
    connection = after_both_headers()
    connection.authenticate(SECRET)
    return connection


def after_our_close() -> ComponentConnection:
    connection = attached()
    connection.close()
    return connection


def after_their_close() -> ComponentConnection:
    connection = attached()
    connection.receive_data(END)
    return connection


def after_their_fault() -> ComponentConnection:
    connection = attached()
    connection.receive_data(b"<!-- -->")
    return connection


def a_server_before_all() -> ComponentConnection:
    return server()


def a_server_with_a_header() -> ComponentConnection:
    connection = server()
    connection.open(stream_id=STREAM_ID)
    connection.receive_data(ROOT)
    return connection


def a_server_with_a_handshake_and_no_header() -> ComponentConnection:
    connection = server()
    connection.receive_data(ROOT + b"<handshake>x</handshake>")
    return connection


def a_server_that_is_attached() -> ComponentConnection:
    return joined()[1]


def opens(connection: ComponentConnection) -> None:
    connection.open()


def authenticates(connection: ComponentConnection) -> None:
    connection.authenticate(SECRET)


def accepts(connection: ComponentConnection) -> None:
    connection.accept()


def sends(connection: ComponentConnection) -> None:
    connection.send(MESSAGE)


def counts(connection: ComponentConnection) -> None:
    connection.count_sent()


@pytest.mark.parametrize(
    ("state", "calls"),
    [
        (before_the_header, [authenticates, accepts, sends, counts]),
        (after_our_header, [opens, authenticates, accepts, sends, counts]),
        (after_a_header_without_id, [opens, authenticates, accepts, sends, counts]),
        (after_both_headers, [opens, accepts, sends, counts]),
        (after_our_handshake, [opens, authenticates, accepts, sends, counts]),
        (attached, [opens, authenticates, accepts]),
        (after_our_close, [opens, authenticates, accepts, sends, counts]),
        (after_their_close, [opens, authenticates, accepts, sends, counts]),
        (after_their_fault, [opens, authenticates, accepts, sends, counts]),
        (a_server_before_all, [authenticates, accepts, sends, counts]),
        (a_server_with_a_header, [opens, authenticates, accepts, sends, counts]),
        (a_server_with_a_handshake_and_no_header, [authenticates, accepts, sends, counts]),
        (a_server_that_is_attached, [opens, authenticates, accepts]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_state_forbids_is_refused_and_changes_nothing(
    state: Callable[[], ComponentConnection], calls: list[Callable[[ComponentConnection], None]]
) -> None:
    for call in calls:
        connection = state()
        before = (connection.local, connection.remote)
        with pytest.raises(LocalError):
            call(connection)
        assert (connection.local, connection.remote) == before


def test_a_stanza_that_cannot_be_written_leaves_the_stream_unharmed() -> None:
    connection = attached()
    with pytest.raises(IllegalCharacter):
        connection.send(make("message", "a@b", DOMAIN, children=("\x01",)))
    assert connection.established
    assert connection.send(MESSAGE)


# --- what is received while opening


@pytest.mark.parametrize("header", [b"id=''", b"", b"id='' version='1.0'"])
@pytest.mark.parametrize("condition", ["host-unknown", "conflict", "not-authorized"])
def test_an_early_error_is_read_on_to(header: bytes, condition: str) -> None:
    connection = after_our_header()
    root = ROOT.replace(b"from='bot.example' id='3BF96D32'", header)
    opened, fault = connection.receive_data(
        root + f"<stream:error><{condition} xmlns='{STREAM_ERRORS}'/></stream:error>".encode() + END
    )
    assert isinstance(opened, StreamOpened)
    assert not opened.id
    assert fault == StreamFaulted(StreamCondition(condition), by_peer=True)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (b"id='7'", StreamOpened("7")),
        (b"id='7' version='1.0'", StreamOpened("7", version="1.0")),
        (b"id='7' from='x' to='y'", StreamOpened("7", from_="x", to="y")),
        (b"id='7' xml:lang='de'", StreamOpened("7", lang="de")),
        (b"id='7' strange='x'", StreamOpened("7")),
    ],
)
def test_a_header_may_have_or_lack_everything_else(
    attributes: bytes, expected: StreamOpened
) -> None:
    root = ROOT.replace(b"from='bot.example' id='3BF96D32'", attributes)
    assert after_our_header().receive_data(root) == [expected]


@pytest.mark.parametrize(
    ("root", "condition"),
    [
        (b"<html>", StreamCondition.BAD_FORMAT),
        (ROOT.replace(b"<stream:stream", b"<stream:features"), StreamCondition.BAD_FORMAT),
        (b"<stream xmlns='jabber:component:accept'>", StreamCondition.INVALID_NAMESPACE),
        (ROOT.replace(b"'jabber:component:accept'", b"'jabber:client'"), "invalid-namespace"),
        (ROOT.replace(b" xmlns='jabber:component:accept'", b""), "invalid-namespace"),
        (ROOT.replace(b"etherx", b"ether"), StreamCondition.INVALID_NAMESPACE),
    ],
)
def test_what_is_no_component_stream_is_a_fault(root: bytes, condition: str) -> None:
    [fault] = after_our_header().receive_data(root)
    assert isinstance(fault, StreamFaulted)
    assert fault.condition == condition


def test_another_prefix_for_the_stream_is_as_good() -> None:
    root = ROOT.replace(b"<stream:", b"<s:").replace(b"xmlns:stream", b"xmlns:s")
    connection = after_our_header()
    assert isinstance(connection.receive_data(root)[0], StreamOpened)
    assert connection.receive_data(b"</s:stream>") == [StreamClosed()]


@pytest.mark.parametrize(
    ("state", "data", "condition"),
    [
        (after_both_headers, HANDSHAKE, StreamCondition.NOT_AUTHORIZED),
        (after_both_headers, b"<message/>", StreamCondition.NOT_AUTHORIZED),
        (after_our_handshake, b"<message/>", StreamCondition.NOT_AUTHORIZED),
        (after_our_handshake, b"<iq xmlns='jabber:client'/>", StreamCondition.NOT_AUTHORIZED),
        (a_server_with_a_header, b"<presence/>", StreamCondition.NOT_AUTHORIZED),
        (a_server_with_a_handshake_and_no_header, b"<iq/>", StreamCondition.NOT_AUTHORIZED),
    ],
)
def test_stanzas_before_the_handshake_are_a_fault(
    state: Callable[[], ComponentConnection], data: bytes, condition: StreamCondition
) -> None:
    connection = state()
    if connection.role is Role.SERVER and connection.local is Side.IDLE:
        connection.open(stream_id=STREAM_ID)
    [fault] = connection.receive_data(data)
    assert isinstance(fault, StreamFaulted)
    assert (fault.condition, fault.by_peer) == (condition, False)


def test_a_limit_before_the_handshake_ends_the_stream() -> None:
    connection = component(Limits(max_stanza_bytes=10))
    connection.open()
    connection.receive_data(ROOT)
    assert connection.receive_data(b"<handshake>xxx</handshake>") == [
        StreamFaulted(StreamCondition.POLICY_VIOLATION, "over the limit of 10 bytes")
    ]


def test_a_handshake_with_text_or_in_pieces_is_one() -> None:
    connection = after_our_handshake()
    assert connection.receive_data(b"<handshake>") == []
    assert connection.receive_data(b" </handshake>") == [HandshakeAccepted()]


def test_early_stanzas_may_follow_the_handshake_in_one_chunk() -> None:
    assert after_our_handshake().receive_data(HANDSHAKE + encode(MESSAGE)) == [
        HandshakeAccepted(),
        StanzaReceived(MESSAGE),
    ]


def test_a_conflict_may_follow_an_accepted_handshake() -> None:
    error = f"<stream:error><conflict xmlns='{STREAM_ERRORS}'/></stream:error>".encode()
    assert after_our_handshake().receive_data(HANDSHAKE + error + END) == [
        HandshakeAccepted(),
        StreamFaulted(StreamCondition.CONFLICT, by_peer=True),
    ]


# --- what is received afterwards


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<unknown/>", f"{{{COMPONENT}}}unknown"),
        (b"<r xmlns='urn:xmpp:sm:3'/>", "{urn:xmpp:sm:3}r"),
        (b"<message xmlns='urn:x'/>", "{urn:x}message"),
        (b"<stream:features/>", f"{{{STREAMS}}}features"),
        (HANDSHAKE, f"{{{COMPONENT}}}handshake"),
        (b"<bind><host/></bind>", f"{{{COMPONENT}}}bind"),
    ],
)
def test_unknown_elements_are_ignored_and_the_stream_lives(data: bytes, name: str) -> None:
    assert attached().receive_data(data + encode(MESSAGE)) == [
        ElementIgnored(name),
        StanzaReceived(MESSAGE),
    ]


def test_a_server_may_send_features_before_the_handshake() -> None:
    assert after_both_headers().receive_data(b"<stream:features/>") == [
        ElementIgnored(f"{{{STREAMS}}}features")
    ]


@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
def test_a_refused_stanza_keeps_its_addresses(kind: str) -> None:
    connection = attached(Limits(max_stanza_bytes=50))
    data = f"<{kind} from='a@b' to='c@d' id='7'><body>{'x' * 50}</body></{kind}>".encode()
    name = f"{{{COMPONENT}}}{kind}"
    stub = Element(name, (("from", "a@b"), ("to", "c@d"), ("id", "7")))
    assert connection.receive_data(data + b"<message/>") == [
        StanzaRefused(Stanza(stub), "50 bytes"),
        StanzaReceived(Stanza(Element(f"{{{COMPONENT}}}message"))),
    ]


def test_a_refused_stanza_of_jabber_client_is_moved_too() -> None:
    connection = attached(Limits(max_stanza_bytes=50))
    [event] = connection.receive_data(b"<iq xmlns='jabber:client'>" + b"x" * 50 + b"</iq>")
    assert event == StanzaRefused(Stanza(Element(f"{{{COMPONENT}}}iq")), "50 bytes")


def test_an_unknown_element_over_a_limit_is_ignored() -> None:
    connection = attached(Limits(max_stanza_bytes=50))
    assert connection.receive_data(b"<r>" + b"x" * 50 + b"</r>") == [
        ElementIgnored(f"{{{COMPONENT}}}r")
    ]


def test_a_stanza_has_a_weight() -> None:
    [event] = attached().receive_data(encode(MESSAGE))
    assert isinstance(event, StanzaReceived)
    assert event.weight_bytes > len(encode(MESSAGE))


APPLICATION = Element("{urn:app}why", (), ("x",))


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        ("<conflict xmlns='{}'/>", StreamFaulted(StreamCondition.CONFLICT)),
        (
            "<reset xmlns='{0}'/><text xmlns='{0}' xml:lang='en'>so</text>",
            StreamFaulted(StreamCondition.RESET, "so"),
        ),
        (
            "<text xmlns='{0}'>so</text><reset xmlns='{0}'/><why xmlns='urn:app'>x</why>",
            StreamFaulted(StreamCondition.RESET, "so", application=APPLICATION),
        ),
        (
            "<why xmlns='urn:app'>x</why><more xmlns='urn:app'/>",
            StreamFaulted(StreamCondition.UNDEFINED_CONDITION, application=APPLICATION),
        ),
        (
            "<no-such-thing xmlns='{}'/>",
            StreamFaulted(
                StreamCondition.UNDEFINED_CONDITION, "the unknown condition no-such-thing"
            ),
        ),
        (
            "<see-other-host xmlns='{}'>other.example</see-other-host>",
            StreamFaulted(StreamCondition.SEE_OTHER_HOST),
        ),
        ("", StreamFaulted(StreamCondition.UNDEFINED_CONDITION)),
        ("text only", StreamFaulted(StreamCondition.UNDEFINED_CONDITION)),
    ],
)
def test_a_stream_error_is_read(inside: str, fault: StreamFaulted) -> None:
    data = f"<stream:error>{inside.format(STREAM_ERRORS)}</stream:error>".encode()
    assert attached().receive_data(data + END) == [
        StreamFaulted(fault.condition, fault.text, by_peer=True, application=fault.application)
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"<!-- -->",
        b"<a></b>",
        f"<stream:error><reset xmlns='{STREAM_ERRORS}'/></stream:error>".encode(),
    ],
)
def test_a_fault_is_the_last_event(data: bytes) -> None:
    connection = attached()
    events = connection.receive_data(encode(MESSAGE) + data + encode(MESSAGE) + END)
    assert [type(event) for event in events] == [StanzaReceived, StreamFaulted]
    assert connection.receive_data(encode(MESSAGE)) == []
    assert connection.receive_data(END) == []


@pytest.mark.parametrize("data", [b"<message/>", END, b"<!DOCTYPE x>", b"\xff\0"])
def test_nothing_comes_after_the_end_of_the_stream(data: bytes) -> None:
    connection = attached()
    assert connection.receive_data(END + data) == [StreamClosed()]
    assert connection.receive_data(data) == []


def test_the_servers_own_domain_is_not_replaced() -> None:
    connection = server("own.example")
    connection.receive_data(ROOT.replace(b"from=", b"to="))
    assert connection.domain == "own.example"
