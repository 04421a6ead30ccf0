"""What the bridge answers itself (H6, H3), line by line."""

import pytest
from attrs import evolve

from bridge import __version__
from bridge.config.profile import Profile
from bridge.config.settings import Component, Invitations
from bridge.config.value import Secret, parse_post_url
from bridge.xmpp.autoresponder import UNAVAILABLE, Autoresponder
from bridge.xmpp.identity.book import IdentityBook
from tests.bridge.sample import meanings, stanza
from xmppstream import Server, Stanza, StanzaError
from xmppstream.errors import ErrorType, StanzaCondition
from xmppstream.stanza import KINDS

HOST = "bot.example.com"
BARE = "echo@bot.example.com"
FULL = "echo@bot.example.com/desk"
JULIET = "juliet@x.example/balcony"
NAME = "A & B"
INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"
CAPS = "http://jabber.org/protocol/caps"
COMMANDS = "http://jabber.org/protocol/commands"
ITEMS_OF = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{}'/></pubsub>"


COMPONENT = Component(
    HOST,
    Secret("s3cret"),
    parse_post_url("http://127.0.0.1/"),
    Server("127.0.0.1", 5347),
    name=NAME,
)
POSTED = evolve(COMPONENT, post_stanzas=frozenset(KINDS))
NOW = 1_700_000_000.0


def responder(component: Component = COMPONENT) -> Autoresponder:
    return Autoresponder(IdentityBook(component), lambda: NOW)


def answers(xml: str, component: Component = COMPONENT) -> list[Stanza]:
    return responder(component).answer(stanza(xml))


def expected(*xml: str) -> list[object]:
    return meanings([stanza(one) for one in xml])


# --- presence


def presence(type: str, to: str) -> str:
    return f"<presence from='{JULIET}' to='{to}' type='{type}' id='p1'/>"


RESOURCES = [(HOST, HOST), (BARE, f"{BARE}/default"), (FULL, FULL)]


def available(full: str) -> str:
    """The presence of an address, with the capabilities that it answers with."""
    node, sharp, ver = responder().book.info(full).node.partition("#")
    caps = f"<c xmlns='{CAPS}' hash='sha-1' node='{node}' ver='{ver}'/>"
    assert sharp
    return f"<presence to='{JULIET}' from='{full}'>{caps}</presence>"


@pytest.mark.parametrize(
    ("to", "bare", "full"),
    [(HOST, HOST, HOST), (BARE, BARE, f"{BARE}/default"), (FULL, BARE, FULL)],
)
def test_subscribe_is_accepted_and_followed_by_presence(to: str, bare: str, full: str) -> None:
    assert meanings(answers(presence("subscribe", to))) == expected(
        f"<presence to='{JULIET}' from='{bare}' type='subscribed'/>", available(full)
    )


@pytest.mark.parametrize(("to", "full"), RESOURCES)
def test_probe_gets_available_presence(to: str, full: str) -> None:
    assert meanings(answers(presence("probe", to))) == expected(available(full))


@pytest.mark.parametrize(
    ("posted", "events"),
    [("iq", COMPONENT.post_events), ("presence", frozenset({"message", "presence"}))],
)
def test_presence_is_plain_where_the_endpoint_answers_for_itself(
    posted: str, events: frozenset[str]
) -> None:
    component = evolve(COMPONENT, post_stanzas=frozenset({posted}), post_events=events)
    assert meanings(answers(presence("probe", BARE), component)) == expected(
        f"<presence to='{JULIET}' from='{BARE}/default'/>"
    )


@pytest.mark.parametrize(("to", "full"), RESOURCES)
def test_unsubscribe_gets_unavailable_presence(to: str, full: str) -> None:
    assert meanings(answers(presence("unsubscribe", to))) == expected(
        f"<presence to='{JULIET}' from='{full}' type='unavailable'/>"
    )


def test_a_slash_in_the_resource_is_part_of_it() -> None:
    assert meanings(answers(presence("probe", f"{BARE}/a/b@c"))) == expected(
        available(f"{BARE}/a/b@c")
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


BASE = (INFO, ITEMS, "jabber:iq:last", "jabber:iq:version", "urn:xmpp:ping", "urn:xmpp:time")
FEATURES = (
    "http://jabber.org/protocol/caps",
    "http://jabber.org/protocol/chatstates",
    INFO,
    ITEMS,
    "jabber:iq:last",
    "jabber:iq:version",
    "jabber:x:data",
    "jabber:x:oob",
    "urn:xmpp:message-correct:0",
    "urn:xmpp:ping",
    "urn:xmpp:receipts",
    "urn:xmpp:reply:0",
    "urn:xmpp:sfs:0",
    "urn:xmpp:time",
    "urn:xmpp:tmp:quick-response",
)


def info(category: str, type: str, features: tuple[str, ...] = FEATURES, node: str = "") -> str:
    identity = f"<identity category='{category}' type='{type}' name='A &amp; B'/>"
    vars = "".join(f"<feature var='{var}'/>" for var in features)
    about = f" node='{node}'" if node else ""
    return f"<query xmlns='{INFO}'{about}>{identity}{vars}</query>"


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


@pytest.mark.parametrize("to", [HOST, BARE])
def test_the_announced_capabilities_and_the_commands_are_nodes(to: str) -> None:
    whole = ("client", "bot") if to == BARE else ("component", "generic")
    for node in (responder().book.info(to).node, COMMANDS):
        found = answers(iq(f"<query xmlns='{INFO}' node='{node}'/>", to))
        assert meanings(found) == expected(result(info(*whole, node=node), to))
    found = answers(iq(f"<query xmlns='{ITEMS}' node='{COMMANDS}'/>", to))
    assert meanings(found) == expected(result(f"<query xmlns='{ITEMS}' node='{COMMANDS}'/>", to))


@pytest.mark.parametrize("node", [COMMANDS, responder().book.info(BARE).node])
def test_where_iqs_are_posted_no_node_is_known(node: str) -> None:
    for namespace in (INFO, ITEMS):
        found = answers(iq(f"<query xmlns='{namespace}' node='{node}'/>"), POSTED)
        assert meanings(found) == expected(error("item-not-found", "cancel"))


def test_where_iqs_are_posted_only_the_base_is_told() -> None:
    component = evolve(POSTED, profiles={"*": Profile(name="Echo", features=("urn:example",))})
    found = answers(iq(f"<query xmlns='{INFO}'/>", BARE), component)
    assert meanings(found) == expected(result(info("client", "bot", BASE), BARE))
    for payload in ("<vCard xmlns='vcard-temp'/>", ITEMS_OF.format("urn:xmpp:vcard4")):
        found = answers(iq(payload, BARE), component)
        assert meanings(found) == expected(error("service-unavailable", "cancel", BARE))


INVITED = {"jabber:x:conference", "http://jabber.org/protocol/muc"}


@pytest.mark.parametrize(
    ("events", "more"),
    [
        ({"reaction"}, {"urn:xmpp:reactions:0"}),
        ({"edit", "retraction"}, {"urn:xmpp:message-correct:0", "urn:xmpp:message-retract:1"}),
        ({"message"}, {"urn:xmpp:reply:0", "urn:xmpp:sfs:0"}),
        ({"displayed", "receipt", "typing"}, {"urn:xmpp:chat-markers:0"}),
        ({"invite"}, INVITED),
        ({"error", "other", "presence", "encrypted", "subject"}, set()),
    ],
)
def test_a_feature_is_told_where_its_event_is_posted(events: set[str], more: set[str]) -> None:
    component = evolve(COMPONENT, post_events=frozenset(events))
    always = {FEATURES[0], FEATURES[1], "jabber:x:oob", "urn:xmpp:receipts", *BASE}
    assert {*responder(component).book.info(BARE).features} == always | more


@pytest.mark.parametrize("events", [set[str](), {"invite"}], ids=["not posted", "posted"])
@pytest.mark.parametrize(
    ("policy", "is_told"), [("accept", True), ("post", True), ("ignore", False)]
)
def test_invitations_are_told_where_they_are_taken(
    policy: Invitations, is_told: bool, events: set[str]
) -> None:
    component = evolve(COMPONENT, post_events=frozenset(events), invitations=policy)
    found = {*responder(component).book.info(BARE).features}
    assert found & INVITED == (INVITED if is_told else set())
    quiet = evolve(component, post_stanzas=frozenset({"presence"}))
    assert not {*responder(quiet).book.info(BARE).features} & INVITED


def test_receipts_and_markers_are_told_where_the_bridge_sends_them() -> None:
    off = evolve(COMPONENT, receipts="off")
    assert "urn:xmpp:receipts" not in responder(off).book.info(BARE).features
    marking = evolve(COMPONENT, markers=True)
    assert "urn:xmpp:chat-markers:0" in responder(marking).book.info(BARE).features


def test_without_messages_there_is_nothing_to_react_to() -> None:
    component = evolve(COMPONENT, post_stanzas=frozenset({"presence"}))
    assert {*responder(component).book.info(BARE).features} == {*BASE}


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


@pytest.mark.parametrize("to", [HOST, BARE, FULL])
def test_the_time_is_told_in_utc(to: str) -> None:
    found = answers(iq("<time xmlns='urn:xmpp:time'/>", to))
    payload = "<tzo>+00:00</tzo><utc>2023-11-14T22:13:20Z</utc>"
    assert meanings(found) == expected(result(f"<time xmlns='urn:xmpp:time'>{payload}</time>", to))


@pytest.mark.parametrize(("to", "seconds"), [(HOST, 90), (BARE, 0), (FULL, 0)])
def test_an_account_is_never_idle_and_the_domain_tells_how_long_it_is_up(
    to: str, seconds: int
) -> None:
    times = [NOW, NOW + 90.9]
    one = Autoresponder(IdentityBook(COMPONENT), lambda: times.pop(0) if times else NOW + 90.9)
    found = one.answer(stanza(iq("<query xmlns='jabber:iq:last'/>", to)))
    assert meanings(found) == expected(
        result(f"<query xmlns='jabber:iq:last' seconds='{seconds}'/>", to)
    )


@pytest.mark.parametrize(
    ("node", "client"),
    [
        ("eu.siacs.conversations.axolotl.devicelist", "Conversations, Dino, Gajim, profanity"),
        ("urn:xmpp:omemo:2:devices", "the newer OMEMO"),
        ("urn:xmpp:openpgp:0:public-keys", "Gajim"),
        ("urn:xmpp:microblog:0", "Movim"),
        ("urn:xmpp:avatar:metadata", "Movim"),
        ("http://jabber.org/protocol/nick", "Dino"),
        ("urn:xmpp:vcard4", "Gajim, Movim"),
        ("", "nobody"),
    ],
)
def test_an_address_without_a_profile_has_no_nodes(node: str, client: str) -> None:
    found = answers(iq(ITEMS_OF.format(node), BARE))
    assert meanings(found) == expected(error("item-not-found", "cancel", BARE)), client


UNAVAILABLE_HERE = [
    ("unknown namespace", "get", "<query xmlns='jabber:iq:private'/>"),
    ("vCard of nobody", "get", "<vCard xmlns='vcard-temp'/>"),
    ("vCard4 of nobody", "get", "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/>"),
    ("set of a vCard", "set", "<vCard xmlns='vcard-temp'><FN>Mine now</FN></vCard>"),
    ("set of the last activity", "set", "<query xmlns='jabber:iq:last'/>"),
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


# --- addresses that do not exist (RFC 6121 §8.5.1)

KNOWN = evolve(COMPONENT, local_parts=frozenset({"echo"}))
NOBODY = f"nobody@{HOST}"


@pytest.mark.parametrize(
    ("address", "exists"),
    [
        (HOST, True),
        (f"{HOST}/x@y", True),
        (BARE, True),
        (f"ECHO@{HOST}/desk", True),
        (NOBODY, False),
        (f"{NOBODY}/echo", False),
    ],
)
def test_which_addresses_exist(address: str, exists: bool) -> None:
    assert responder(KNOWN).book.exists(address) is exists
    assert responder().book.exists(address)


def test_the_answers_for_an_address_that_does_not_exist() -> None:
    one = responder(KNOWN)
    for type in ("get", "set"):
        found = one.answer_nobody(stanza(iq("<ping xmlns='urn:xmpp:ping'/>", NOBODY, type)))
        assert meanings(found) == expected(error("service-unavailable", "cancel", NOBODY))
    found = one.answer_nobody(stanza(presence("probe", f"{NOBODY}/desk")))
    assert meanings(found) == expected(
        f"<presence to='{JULIET}' from='{NOBODY}' type='unsubscribed'/>"
    )
    for type in ("subscribe", "unsubscribe", "subscribed", "unavailable", "error"):
        assert one.answer_nobody(stanza(presence(type, NOBODY))) == []
    assert one.answer_nobody(stanza(iq("<x xmlns='urn:x'/>", NOBODY, "result"))) == []
