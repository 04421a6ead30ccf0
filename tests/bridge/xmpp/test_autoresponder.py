"""What the bridge answers itself (H6, H3), line by line."""

import pytest

from bridge import __version__
from bridge.xmpp.autoresponder import UNAVAILABLE, Autoresponder
from tests.bridge.sample import meanings, stanza
from xmppstream import Stanza, StanzaError
from xmppstream.errors import ErrorType, StanzaCondition

HOST = "bot.example.com"
BARE = "echo@bot.example.com"
FULL = "echo@bot.example.com/desk"
JULIET = "juliet@x.example/balcony"
NAME = "A & B"
INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"


def answers(xml: str) -> list[Stanza]:
    return Autoresponder(NAME).answer(stanza(xml))


def expected(*xml: str) -> list[object]:
    return meanings([stanza(one) for one in xml])


# --- presence


def presence(type: str, to: str) -> str:
    return f"<presence from='{JULIET}' to='{to}' type='{type}' id='p1'/>"


RESOURCES = [(HOST, HOST), (BARE, f"{BARE}/default"), (FULL, FULL)]


@pytest.mark.parametrize(
    ("to", "bare", "full"),
    [(HOST, HOST, HOST), (BARE, BARE, f"{BARE}/default"), (FULL, BARE, FULL)],
)
def test_subscribe_is_accepted_and_followed_by_presence(to: str, bare: str, full: str) -> None:
    assert meanings(answers(presence("subscribe", to))) == expected(
        f"<presence to='{JULIET}' from='{bare}' type='subscribed'/>",
        f"<presence to='{JULIET}' from='{full}'/>",
    )


@pytest.mark.parametrize(("to", "full"), RESOURCES)
def test_probe_gets_available_presence(to: str, full: str) -> None:
    assert meanings(answers(presence("probe", to))) == expected(
        f"<presence to='{JULIET}' from='{full}'/>"
    )


@pytest.mark.parametrize(("to", "full"), RESOURCES)
def test_unsubscribe_gets_unavailable_presence(to: str, full: str) -> None:
    assert meanings(answers(presence("unsubscribe", to))) == expected(
        f"<presence to='{JULIET}' from='{full}' type='unavailable'/>"
    )


def test_a_slash_in_the_resource_is_part_of_it() -> None:
    assert meanings(answers(presence("probe", f"{BARE}/a/b@c"))) == expected(
        f"<presence to='{JULIET}' from='{BARE}/a/b@c'/>"
    )


@pytest.mark.parametrize("to", [HOST, BARE, FULL])
@pytest.mark.parametrize("type", ["subscribed", "unsubscribed", "unavailable", "error", "x"])
def test_every_other_presence_gets_nothing(type: str, to: str) -> None:
    assert answers(presence(type, to)) == []


@pytest.mark.parametrize("to", [HOST, BARE, FULL])
def test_available_presence_gets_nothing(to: str) -> None:
    assert answers(f"<presence from='{JULIET}' to='{to}'/>") == []


# --- iq


def iq(payload: str, to: str = HOST, type: str = "get") -> str:
    return f"<iq from='{JULIET}' to='{to}' type='{type}' id='q1'>{payload}</iq>"


def result(payload: str = "", sender: str = HOST) -> str:
    return f"<iq to='{JULIET}' from='{sender}' type='result' id='q1'>{payload}</iq>"


def error(condition: str, type: str, sender: str = HOST) -> str:
    return (
        f"<iq to='{JULIET}' from='{sender}' type='error' id='q1'><error type='{type}'>"
        f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


FEATURES = "".join(
    f"<feature var='{var}'/>" for var in (INFO, ITEMS, "urn:xmpp:ping", "jabber:iq:version")
)


def info(category: str, type: str) -> str:
    identity = f"<identity category='{category}' type='{type}' name='A &amp; B'/>"
    return f"<query xmlns='{INFO}'>{identity}{FEATURES}</query>"


@pytest.mark.parametrize("to", [HOST, BARE, FULL])
def test_ping(to: str) -> None:
    found = answers(iq("<ping xmlns='urn:xmpp:ping'/>", to))
    assert meanings(found) == expected(result(sender=to))


IDENTITIES = [
    (HOST, "component", "generic"),
    (f"{HOST}/x@y", "component", "generic"),
    (BARE, "client", "bot"),
    (FULL, "client", "bot"),
]


@pytest.mark.parametrize(("to", "category", "type"), IDENTITIES)
def test_disco_info(to: str, category: str, type: str) -> None:
    found = answers(iq(f"<query xmlns='{INFO}'/>", to))
    assert meanings(found) == expected(result(info(category, type), to))


def test_disco_info_with_an_empty_node() -> None:
    found = answers(iq(f"<query xmlns='{INFO}' node=''/>"))
    assert meanings(found) == expected(result(info("component", "generic")))


@pytest.mark.parametrize("to", [HOST, BARE, FULL])
def test_disco_items_is_empty(to: str) -> None:
    found = answers(iq(f"<query xmlns='{ITEMS}'/>", to))
    assert meanings(found) == expected(result(f"<query xmlns='{ITEMS}'/>", to))


@pytest.mark.parametrize("namespace", [INFO, ITEMS])
def test_a_node_is_not_found(namespace: str) -> None:
    found = answers(iq(f"<query xmlns='{namespace}' node='n'/>"))
    assert meanings(found) == expected(error("item-not-found", "cancel"))


def test_version_has_name_and_version_and_no_os() -> None:
    found = answers(iq("<query xmlns='jabber:iq:version'/>"))
    payload = f"<name>A &amp; B</name><version>{__version__}</version>"
    assert meanings(found) == expected(
        result(f"<query xmlns='jabber:iq:version'>{payload}</query>")
    )


UNAVAILABLE_HERE = [
    ("unknown namespace", "get", "<query xmlns='jabber:iq:last'/>"),
    ("known namespace, unknown name", "get", "<pong xmlns='urn:xmpp:ping'/>"),
    ("known name, unknown namespace", "get", "<ping xmlns='urn:example'/>"),
    ("set", "set", "<query xmlns='jabber:iq:roster'/>"),
    ("ping as a set", "set", "<ping xmlns='urn:xmpp:ping'/>"),
    ("disco as a set", "set", f"<query xmlns='{INFO}'/>"),
]


@pytest.mark.parametrize(
    ("type", "payload"),
    [row[1:] for row in UNAVAILABLE_HERE],
    ids=[row[0].replace(" ", "-") for row in UNAVAILABLE_HERE],
)
def test_any_other_request_is_unavailable(type: str, payload: str) -> None:
    found = answers(iq(payload, type=type))
    assert meanings(found) == expected(error("service-unavailable", "cancel"))


@pytest.mark.parametrize("type", ["result", "error"])
@pytest.mark.parametrize("payload", ["", "<ping xmlns='urn:xmpp:ping'/>"])
def test_results_and_errors_are_dropped(type: str, payload: str) -> None:
    assert answers(iq(payload, type=type)) == []


def test_what_is_said_of_a_message_that_is_not_posted() -> None:
    expected = StanzaError(StanzaCondition.SERVICE_UNAVAILABLE, ErrorType.CANCEL)
    assert expected == UNAVAILABLE
