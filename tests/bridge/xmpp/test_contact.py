"""Who is subscribed to whom, step by step and over restarts."""

from typing import Final

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.settings import Component
from bridge.xmpp.autoresponder import Autoresponder
from bridge.xmpp.contact import CONTACT_LIMIT, Contact, Contacts, ContactView
from bridge.xmpp.identity.book import IdentityBook
from bridge.xmpp.state import MemoryState
from tests.bridge.recorder import Recorder
from tests.bridge.sample import meanings, stanza
from tests.bridge.xmpp.test_autoresponder import BARE, COMPONENT, HOST
from xmppstream import Stanza
from xmppstream.stanza import KINDS

ALICE: Final = "alice@x.example"
BACK: Final = evolve(COMPONENT, subscribe="back")
PAIR: Final = ("echo", ALICE)


def contacts(
    component: Component = COMPONENT, state: MemoryState | None = None, limit: int = CONTACT_LIMIT
) -> Contacts:
    log = Recorder().logger()
    found = Contacts(IdentityBook(component), state or MemoryState(), log, limit)
    found.load()
    return found


def presence(type: str = "", from_: str = ALICE, to: str = BARE) -> Stanza:
    word = f" type='{type}'" if type else ""
    return stanza(f"<presence from='{from_}' to='{to}'{word}/>")


def known(one: Contacts) -> tuple[bool, str] | None:
    found = one.find(PAIR)
    return None if found is None else (found.subscribed, found.subscription)


STEPS = [
    ("nothing", [], None),
    ("a subscriber", ["subscribe"], (True, "none")),
    ("a prober is subscribed", ["probe"], (True, "none")),
    ("unsubscribed again", ["subscribe", "unsubscribe"], None),
    ("never asked", ["subscribed"], None),
    ("never asked, subscribed", ["subscribe", "subscribed"], (True, "none")),
    ("asked", [">subscribe"], (False, "asked")),
    ("asked and granted", [">subscribe", "subscribed"], (False, "to")),
    ("asked and refused", [">subscribe", "unsubscribed"], None),
    ("both ways", ["subscribe", ">subscribe", "subscribed"], (True, "to")),
    ("granted twice", [">subscribe", "subscribed", "subscribed"], (False, "to")),
    ("asked again", [">subscribe", "subscribed", ">subscribe"], (False, "to")),
    ("taken back", [">subscribe", "subscribed", "unsubscribed"], None),
    ("we leave", ["subscribe", ">subscribe", "subscribed", ">unsubscribe"], (True, "none")),
    ("we grant", [">subscribed"], (True, "none")),
    ("we take back", ["subscribe", ">unsubscribed"], None),
    ("available", ["", "unavailable", "error", ">", ">unavailable"], None),
]


@pytest.mark.parametrize(
    ("steps", "expected"), [row[1:] for row in STEPS], ids=[row[0] for row in STEPS]
)
def test_what_is_remembered(steps: list[str], expected: tuple[bool, str] | None) -> None:
    state = MemoryState()
    one = contacts(state=state)
    for step in steps:
        if step.startswith(">"):
            one.observe_sent(presence(step[1:], f"{BARE}/default", f"{ALICE}/phone"))
        else:
            assert one.receive(presence(step)) == []
    assert known(one) == expected
    assert known(contacts(state=state)) == expected  # after a restart
    assert len(state.entries("contact")) == (expected is not None)


def test_who_subscribes_is_subscribed_to_if_that_is_configured() -> None:
    one = contacts(BACK)
    asked = one.receive(presence("subscribe"))
    assert meanings(asked) == meanings([presence("subscribe", BARE, ALICE)])
    assert known(one) == (True, "asked")
    assert one.receive(presence("subscribe")) == []  # once is enough
    one.receive(presence("subscribed"))
    assert one.receive(presence("subscribe")) == []
    assert known(one) == (True, "to")
    assert contacts(BACK).receive(presence("probe")) == []


def test_the_answer_to_a_subscription_comes_before_the_question() -> None:
    one = contacts(BACK)
    answers = Autoresponder(one.book, contacts=one).answer(presence("subscribe"))
    assert [(each.type, each.from_, each.to) for each in answers] == [
        ("subscribed", BARE, ALICE),
        (None, f"{BARE}/default", ALICE),
        ("subscribe", BARE, ALICE),
    ]


def test_who_is_online() -> None:
    one = contacts()
    one.observe_sent(presence("subscribe", BARE, ALICE))
    one.receive(presence("subscribed"))

    def online() -> bool | None:
        [view] = one.views()
        return view.online

    assert online() is False
    one.receive(presence("", f"{ALICE}/phone"))
    one.receive(presence("", f"{ALICE}/desk"))
    one.receive(presence("unavailable", f"{ALICE}/phone"))
    assert online() is True
    one.receive(presence("unavailable", f"{ALICE}/desk"))
    assert online() is False
    one.receive(presence("", f"{ALICE}/phone"))
    one.receive(presence("unavailable", ALICE))
    assert online() is False
    one.receive(presence("", f"{ALICE}/phone"))
    one.forget_online()
    assert online() is False
    one.receive(presence("", f"{ALICE}/phone"))
    one.receive(presence("subscribe"))
    one.receive(presence("unsubscribed"))
    assert online() is None


def test_the_list_is_sorted_and_leaves_out_addresses_that_do_not_exist() -> None:
    one = contacts()
    for from_, to in (("bob@y", BARE), (ALICE, HOST), (ALICE, BARE), (ALICE, f"zoo@{HOST}")):
        one.receive(presence("subscribe", from_, to))
    assert [(view.address, view.jid) for view in one.views()] == [
        (HOST, ALICE),
        (BARE, ALICE),
        (BARE, "bob@y"),
        (f"zoo@{HOST}", ALICE),
    ]
    assert one.views()[0] == ContactView(HOST, ALICE, True, "none", None)
    one.book.change(evolve(COMPONENT, local_parts=frozenset({"zoo"})))
    assert [view.address for view in one.views()] == [HOST, f"zoo@{HOST}"]


def test_addresses_are_compared_as_servers_do_and_written_as_they_came() -> None:
    one = contacts()
    one.receive(presence("subscribe", "Alice@X.example", f"ECHO@{HOST}/desk"))
    one.receive(presence("probe", f"{ALICE}/phone"))
    [view] = one.views()
    assert (view.address, view.jid) == (BARE, "Alice@X.example")


def test_strangers_cannot_fill_the_memory() -> None:
    one = contacts(limit=2)
    for name in ("a@x", "b@x", "c@x", "d@x"):
        one.receive(presence("subscribe", name))
    assert [view.jid for view in one.views()] == ["a@x", "b@x"]
    one.receive(presence("unsubscribe", "a@x"))
    one.receive(presence("subscribe", "c@x"))
    assert [view.jid for view in one.views()] == ["b@x", "c@x"]


def test_resources_of_a_contact_cannot_either() -> None:
    one = contacts()
    one.observe_sent(presence("subscribe", BARE, ALICE))
    one.receive(presence("subscribed"))
    for number in range(1000):
        one.receive(presence("", f"{ALICE}/{number}"))
    assert len(one._online[PAIR]) == 32


def test_before_the_state_is_loaded_nothing_is_remembered() -> None:
    one = Contacts(IdentityBook(BACK), MemoryState(), Recorder().logger())
    assert one.receive(presence("subscribe")) == []
    assert known(one) is None


@pytest.mark.parametrize(
    "component",
    [evolve(COMPONENT, presence=False), evolve(COMPONENT, post_stanzas=frozenset(KINDS))],
    ids=["off", "posted"],
)
def test_where_the_bridge_provides_no_presence_nobody_is_remembered(component: Component) -> None:
    one = contacts(component)
    answers = Autoresponder(one.book, contacts=one).answer(presence("subscribe"))
    assert len(answers) == (2 if component.presence else 0)
    one.observe_sent(presence("subscribe", BARE, ALICE))
    assert one.views() == []


def test_a_component_that_leaves_shows_nobody_that_it_is_there() -> None:
    one = contacts()
    responder = Autoresponder(one.book, contacts=one)
    one.is_leaving = True
    [accepted] = responder.answer(presence("subscribe"))
    assert accepted.type == "subscribed"
    assert responder.answer(presence("probe")) == []
    assert known(one) == (True, "none")


TYPES = ["", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "unavailable", "probe"]


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(TYPES), st.integers(0, 2)), max_size=30),
    st.booleans(),
)
def test_a_restart_changes_nothing(steps: list[tuple[bool, str, int]], back: bool) -> None:
    state = MemoryState()
    component = BACK if back else COMPONENT
    one = contacts(component, state)
    for is_sent, type, who in steps:
        jid = f"user{who}@x.example"
        if is_sent:
            one.observe_sent(presence(type, BARE, jid))
        else:
            one.receive(presence(type, f"{jid}/r" if type in ("", "unavailable") else jid))
    again = contacts(component, state)
    assert dict(one) == dict(again)
    assert all(isinstance(found, Contact) and found.is_any for _, found in again)


def test_no_room_is_a_contact() -> None:
    state, log = MemoryState(), Recorder().logger()
    room = "room@rooms.example"
    one = Contacts(IdentityBook(BACK), state, log, is_room=lambda jid: jid.startswith(room))
    one.load()
    for type in ("probe", "subscribe", "subscribed", ""):
        assert one.receive(presence(type, f"{room}/juliet")) == []
        assert one.receive(presence(type, room)) == []
    for type in ("subscribe", "subscribed"):
        one.observe_sent(presence(type, BARE, room))
    assert (list(one), state.entries("contact")) == ([], {})
    one.receive(presence("probe"))
    assert known(one) == (True, "none")
