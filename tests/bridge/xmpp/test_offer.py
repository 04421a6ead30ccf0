"""Quick answers in a whole life: which message chooses, and what a restart does to that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import trio
from attrs import evolve

from bridge.config.event import ALL_EVENTS
from bridge.journal.store import Requeue
from bridge.payload.body import ReplyBody
from bridge.webhook.outcome import Rejected
from bridge.xmpp.offer import CHOICE_S, OFFER_S, Offers
from bridge.xmpp.state import MemoryState
from tests.bridge.dispatch.life import BOT, COMPONENT, DOMAIN, Life, pass_time, said
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza
from xmppstream import Stanza

if TYPE_CHECKING:
    from trio.testing import MockClock

JULIET: Final = "juliet@capulet.lit/balcony"
PHONE: Final = "Juliet@capulet.lit/phone"
QUICK: Final = "urn:xmpp:tmp:quick-response"
QUESTION: Final = {
    "body": "Book it?",
    "answers": [{"value": "yes", "label": "Yes!"}, {"value": "no"}],
    "actions": [{"id": "m1", "label": "Merge now"}],
}


def message(id: str, body: str | None, from_: str = JULIET, type: str = "chat") -> Stanza:
    inner = (
        f"<action-selected xmlns='{QUICK}' id='m1'/>" if body is None else f"<body>{body}</body>"
    )
    return stanza(f"<message id='{id}' type='{type}' from='{from_}' to='{BOT}'>{inner}</message>")


async def asked(nursery: trio.Nursery, journal: MemoryJournal | None = None, **keys: Any) -> Life:
    """A life in which the bot has asked Juliet."""
    one = Life(journal, component=evolve(COMPONENT, **keys))
    await nursery.start(one.run)
    await one.give(message("m0", "hello"))
    await one.answer("m0", said(QUESTION))
    [question] = one.sent()
    assert question.element.elements[0].text == "Book it?\n1. Yes!\n2. no\n3. Merge now"
    return one


def told(one: Life, id: str) -> tuple[str, str | None, str | None, str | None]:
    """The event, body, answer and action of the last POST of a message."""
    post = one.endpoint.of(id)[-1].json
    return post["event"], post.get("body"), post.get("answer"), post.get("action")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("yes", ("message", "yes", "yes", None)),
        ("2", ("message", "2", "no", None)),
        ("3", ("action", "3", None, "m1")),
        (None, ("action", None, None, "m1")),
        ("4", ("message", "4", None, None)),
        ("tomorrow", ("message", "tomorrow", None, None)),
    ],
)
async def test_an_answer_names_what_it_chooses(
    nursery: trio.Nursery, body: str | None, expected: tuple[Any, ...]
) -> None:
    one = await asked(nursery)
    await one.give(message("m1", body, PHONE))  # another of her devices
    assert told(one, "m1") == expected
    # It was the next message, so the offer has ended.
    await one.give(message("m2", "2", "juliet@capulet.lit/tablet", "normal"))
    await one.answer("m1")
    assert told(one, "m2") == ("message", "2", None, None)
    await one.kill()


async def test_a_number_is_an_action_only_where_actions_are_posted(nursery: trio.Nursery) -> None:
    one = await asked(nursery, post_events=ALL_EVENTS - {"action"})
    await one.give(message("m1", "3"), message("m2", None))
    assert told(one, "m1") == ("message", "3", None, "m1")
    assert one.endpoint.of("m2") == []
    await one.kill()


@pytest.mark.parametrize("is_by_api", [False, True])
async def test_our_next_message_ends_the_offer(nursery: trio.Nursery, is_by_api: bool) -> None:
    one = await asked(nursery)
    if is_by_api:
        await send(one, {"to": "JULIET@capulet.lit", "from": BOT, "body": "Never mind."})
    else:
        await one.give(message("m1", "Wait."))
        await one.answer("m1", said({"body": "I wait."}))
    await one.give(message("m2", "2"))
    assert told(one, "m2") == ("message", "2", None, None)
    await one.kill()


async def send(one: Life, content: dict[str, Any]) -> None:
    body = ReplyBody("json", msgspec.json.encode(content))
    await one.sender.send_all(await one.sender.compose_all(body, None))


async def test_what_has_no_body_ends_nothing(nursery: trio.Nursery) -> None:
    one = await asked(nursery)
    await send(one, {"to": JULIET, "from": BOT, "state": "composing"})
    await one.give(
        stanza(
            f"<message type='chat' from='{JULIET}' to='{BOT}' id='t'>"
            "<composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
        ),
        message("other", "2", "romeo@montague.lit/orchard"),
        stanza(
            f"<message type='chat' from='{JULIET}' to='other@bot.example' id='o'><body>2</body>"
            "</message>"
        ),
        message("m1", "2"),
    )
    assert told(one, "other")[2] is None
    assert told(one, "o")[2] is None
    await one.answer("t")
    assert told(one, "m1") == ("message", "2", "no", None)
    await one.kill()


async def test_a_send_offers_like_a_reply(nursery: trio.Nursery) -> None:
    one = Life()
    await nursery.start(one.run)
    await send(one, {"to": "juliet@capulet.lit", "from": BOT, **QUESTION})
    await one.give(message("m1", "2"))
    assert told(one, "m1") == ("message", "2", "no", None)
    await one.kill()


async def test_an_offer_ends_after_ten_minutes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for wait_s, value in ((OFFER_S - 1, "no"), (OFFER_S, None)):
        one = await asked(nursery)
        await pass_time(wait_s)
        await one.give(message("m1", "2"))
        assert told(one, "m1") == ("message", "2", value, None)
        await one.kill()


async def test_a_restart_between_question_and_answer(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    first = await asked(nursery, journal)
    await first.give()
    await first.kill()
    second = Life(journal)
    await nursery.start(second.run)
    await second.give(message("m1", "3"))
    assert told(second, "m1") == ("action", "3", None, "m1")
    await second.kill()
    third = Life(journal)
    await nursery.start(third.run)
    await third.give()
    assert told(third, "m1") == ("action", "3", None, "m1")  # the POST that the crash repeats
    await third.answer("m1")
    await third.give()
    assert [one.kind for one in journal.state(DOMAIN) if one.kind in ("offer", "choice")] == []
    await third.kill()


async def test_a_dead_letter_keeps_its_choice(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    first = await asked(nursery, journal)
    await first.give(message("m1", "2"))
    await first.answer("m1", Rejected(404))
    await first.kill()
    [dead] = journal.dead(None, limit=9)
    journal.commit([Requeue((dead.entry.uid,), 1.0)])
    second = Life(journal)
    await nursery.start(second.run)
    await second.give()
    assert told(second, "m1") == ("message", "2", "no", None)
    await second.kill()


async def test_in_a_room_numbers_are_only_numbers(nursery: trio.Nursery) -> None:
    one = Life()
    await nursery.start(one.run)
    await one.give(message("m1", "vote", "hall@muc.example/nurse", "groupchat"))
    await one.answer("m1", said(QUESTION))
    [question] = one.sent()
    assert question.type == "groupchat"
    assert "\n1. Yes!\n2. no" in question.element.elements[0].text
    await one.give(message("m2", "2", "hall@muc.example/nurse", "groupchat"))
    assert told(one, "m2")[2] is None
    await one.kill()


# --- the table alone


def question(to: str) -> Stanza:
    inner = f"<body>Q</body><response xmlns='{QUICK}' value='yes'/>"
    return stanza(f"<message type='chat' to='{to}' from='{BOT}'>{inner}</message>")


def test_offers_and_choices_are_bounded() -> None:
    state = MemoryState()
    offers = Offers(state, limit=3)
    for number in range(10):
        offers.observe_sent(question(f"p{number}@a.example"))
    assert len(state.entries("offer")) == 3
    assert offers.take(message("m", "yes", "p0@a.example/x")) is None
    choice = offers.take(message("m", "yes", "p9@a.example/x"))
    assert choice is not None
    for number in range(10):
        offers.keep(f"u{number}", choice)
    assert list(state.entries("choice")) == ["u7", "u8", "u9"]
    assert (offers.choice_of("u0"), offers.choice_of("u9")) == (None, choice)


def test_what_has_ended_by_its_age_is_swept_by_whatever_comes() -> None:
    state, now = MemoryState(), [1_000_000.0]
    offers = Offers(state, now=lambda: now[0])
    offers.observe_sent(question("a@a.example"))
    now[0] += OFFER_S
    offers.observe_sent(question("b@a.example"))
    assert list(state.entries("offer")) == [f"b@a.example {BOT}"]
    now[0] += OFFER_S
    assert offers.take(message("m", "hello", "c@a.example/x")) is None
    assert not offers.made
    assert state.entries("offer") == {}


def test_occupants_of_a_room_are_persons_of_their_own() -> None:
    offers = Offers(MemoryState(), lambda address: address.startswith("hall@"))
    offers.observe_sent(question("hall@muc.example/nurse"))
    assert offers.take(message("m", "yes", "hall@muc.example/Romeo")) is None
    assert offers.take(message("m", "yes", "hall@muc.example/nurse")) is not None


def test_what_is_old_or_unreadable_is_swept_at_the_start() -> None:
    state, now = MemoryState(), 1_000_000.0
    first = Offers(state, now=lambda: now)
    first.observe_sent(question("a@a.example"))
    first.observe_sent(question("b@a.example"))
    choice = first.take(message("m", "yes", "b@a.example/x"))
    assert choice is not None
    first.keep("u1", choice)
    state.put("offer", "odd", b"{}")
    later = Offers(state, now=lambda: now + OFFER_S)
    later.load()
    assert (bool(later.made), bool(later.chosen)) == (False, True)
    assert (state.entries("offer"), list(state.entries("choice"))) == ({}, ["u1"])
    much_later = Offers(state, now=lambda: now + CHOICE_S)
    much_later.load()
    assert not much_later.chosen
    assert state.entries("choice") == {}
