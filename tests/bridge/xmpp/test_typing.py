"""Typing notices: who gets them, when, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from bridge.dispatch.pipeline import Surroundings
from bridge.webhook.outcome import Outcome, Rejected, Unreachable
from bridge.xmpp.typing import PROMISE_LIMIT, SENDER_LIMIT, Typing
from tests.bridge.dispatch.life import BOT, COMPONENT, DONE, Life, pass_time, said
from tests.bridge.sample import stanza
from xmppstream import Stanza

if TYPE_CHECKING:
    from trio.testing import MockClock

JULIET: Final = "juliet@capulet.lit/balcony"
STATES: Final = "xmlns='http://jabber.org/protocol/chatstates'"
ACTIVE: Final = f"<active {STATES}/>"
SHOWN: Final = ["active", "composing", "inactive", "gone", "paused"]


def message(id: str, inner: str = ACTIVE, *, body: str = "hi", type: str = "chat") -> Stanza:
    said = f"<body>{body}</body>" if body else ""
    return stanza(
        f"<message id='{id}' type='{type}' from='{JULIET}' to='{BOT}'>{said}{inner}</message>"
    )


def notice(state: str = "composing") -> Stanza:
    return message("n", f"<{state} {STATES}/>", body="")


def seen(sent: list[Stanza]) -> list[str]:
    """What a client shows of each stanza: its body, and its state."""
    found = []
    for one in sent:
        children = one.element.elements
        body = next((child.text for child in children if child.local == "body"), "")
        states = [child.local for child in children if child.local in SHOWN]
        found.append(" ".join(filter(None, (body, *states))) or str(one.type))
    return found


async def living(nursery: trio.Nursery, **options: Any) -> Life:
    one = Life(component=evolve(COMPONENT, **options))
    await nursery.start(one.run)
    return one


async def test_who_waits_sees_composing_once_and_then_active(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = await living(nursery)
    await one.give(message("m", f"{ACTIVE}<thread>t1</thread>"))
    await pass_time(1.9)
    assert one.sent() == []
    await pass_time(0.2)
    [shown] = one.sent()
    assert (shown.to, shown.from_, shown.type, shown.id) == (JULIET, BOT, "chat", None)
    assert [child.local for child in shown.element.elements] == ["composing", "no-store", "thread"]
    await pass_time(20)
    assert one.sent() == []
    await one.answer("m", said([{"body": "a"}, {"body": "b"}]))
    assert seen(one.sent()) == ["a active", "b"]
    await one.kill()


async def test_who_has_a_quick_answer_sees_nothing_else(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = await living(nursery)
    await one.give(message("m"))
    await pass_time(1)
    await one.answer("m", said({"body": "a"}))
    await pass_time(5)
    assert seen(one.sent()) == ["a"]
    await one.kill()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (DONE, ["paused"]),
        (said({"reactions": ["👍"]}), ["paused", "chat"]),
        (said({"state": "active"}), ["active"]),
        (said({"body": "a", "state": "inactive"}), ["a inactive"]),
        (said({"body": "a", "to": "romeo@montague.lit"}), ["paused", "a"]),
        (Rejected(404), ["paused", "error"]),
    ],
    ids=["nothing", "a reaction", "a state", "a body and a state", "for another", "a failure"],
)
async def test_what_ends_without_a_text_for_the_sender_is_paused(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome, expected: list[str]
) -> None:
    one = await living(nursery)
    await one.give(message("m"))
    await pass_time(3)
    assert seen(one.sent()) == ["composing"]
    await one.answer("m", outcome)
    assert seen(one.sent()) == expected
    await one.kill()


@pytest.mark.parametrize(
    ("before", "last", "is_shown"),
    [
        ([], message("m", ""), False),
        ([message("1", "")], message("m"), True),
        ([message("1")], message("m", ""), False),  # its client does not say so any more
        ([message("1")], message("m", "", body="", type="headline"), False),
        ([], message("m", type="normal"), False),
        ([], message("m", "<x xmlns='http://jabber.org/protocol/muc#user'/>" + ACTIVE), False),
    ],
    ids=["never", "from now on", "not any more", "no chat", "normal", "an occupant"],
)
async def test_only_clients_that_show_states_get_them(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    before: list[Stanza],
    last: Stanza,
    is_shown: bool,
) -> None:
    one = await living(nursery)
    for each in before:
        await one.give(each)
        await one.answer("1")
    await one.give(last)
    await pass_time(3)
    assert seen(one.sent()) == (["composing"] if is_shown else [])
    await one.kill()


async def test_a_notice_that_is_not_posted_counts_even_while_the_post_runs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = await living(nursery, post_events=frozenset({"message"}))
    await one.give(notice(), message("m", ""), notice("active"), message("k", ""))
    assert one.running == ["m"]
    await one.answer("m")
    await pass_time(3)
    assert seen(one.sent()) == []  # the latest message came without
    await one.give(notice("paused"))
    await one.answer("k")
    await one.give(message("l", ""))
    await pass_time(1)
    await one.give(notice())
    await pass_time(2)
    assert seen(one.sent()) == ["composing"]
    await one.kill()


async def test_a_retry_does_not_show_it_again_and_an_outage_shows_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = await living(nursery)
    await one.give(message("m"))
    await pass_time(3)
    await one.answer("m", Rejected(503))
    await pass_time(2)
    assert one.running == ["m"]
    await pass_time(3)
    await one.answer("m", said({"body": "a"}))
    assert seen(one.sent()) == ["composing", "a active"]
    one.endpoint.rule = lambda _: Unreachable("no")
    await one.give(message("k"))
    await pass_time(20)
    assert one.sent() == []
    await one.kill()


async def test_nobody_is_left_waiting_when_the_bridge_stops(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = await living(nursery)
    await one.give(message("m"))
    await pass_time(3)
    await one.stop()
    assert seen(one.sent())[:2] == ["composing", "paused"]
    await one.end()


async def test_zero_turns_it_off(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    one = await living(nursery, typing_after_s=0.0)
    await one.give(message("m"))
    await pass_time(10)
    assert one.sent() == []
    await one.kill()


# --- by itself


class Notices:
    """The notices of one component, and what was sent."""

    def __init__(self) -> None:
        self.sent: list[Stanza] = []
        self.typing = Typing(COMPONENT, Surroundings().rooms, self.sent.extend)

    def seen(self) -> list[str]:
        shown = seen(self.sent)
        self.sent.clear()
        return shown


@pytest.fixture
def notices(nursery: trio.Nursery) -> Notices:
    one = Notices()
    nursery.start_soon(one.typing.run)
    return one


async def test_a_promise_keeps_it_up_until_its_end(
    notices: Notices, autojump_clock: MockClock
) -> None:
    typing, one = notices.typing, message("m")
    typing.observe(one)
    typing.begin("m", one, trio.current_time())
    typing.promise("m", trio.current_time() + 60)
    assert typing.settle("m", []) == []
    await pass_time(3)
    assert notices.seen() == ["composing"]  # the answer was quick, what it promised is not
    replies = [stanza(f"<message type='chat' from='{BOT}' to='{JULIET}'><body>a</body></message>")]
    assert seen(typing.end("m", replies)) == ["a active"]
    assert seen(typing.end("m", replies)) == ["a"]
    await pass_time(100)
    assert notices.seen() == []
    typing.begin("k", one, trio.current_time())
    typing.promise("k", trio.current_time() + 60)
    await pass_time(59)
    assert notices.seen() == ["composing"]
    await pass_time(2)
    assert notices.seen() == ["paused"]


async def test_a_promise_does_not_delay_what_begins_later(
    notices: Notices, autojump_clock: MockClock
) -> None:
    typing, one = notices.typing, message("m")
    typing.observe(one)
    typing.show("m", one)
    typing.promise("m", trio.current_time() + 900)
    await wait_all_tasks_blocked()
    typing.begin("k", one, trio.current_time())
    await pass_time(3)
    assert notices.seen() == ["composing", "composing"]


def test_what_is_remembered_is_bounded() -> None:
    sent: list[Stanza] = []
    typing = Typing(COMPONENT, Surroundings().rooms, sent.extend, lambda: 0.0)
    first = message("m")
    typing.observe(first)
    for number in range(SENDER_LIMIT):
        typing.observe(Stanza(first.element.with_attributes(from_=f"{number}@example.com")))
    assert not typing.may_see(first)
    last = Stanza(first.element.with_attributes(from_="0@example.com"))
    for number in range(PROMISE_LIMIT + 1):
        typing.begin(f"m{number}", last, 0.0)
        typing.promise(f"m{number}", 1.0)
    for uid in ("m0", f"m{PROMISE_LIMIT}"):
        typing.show(uid, last)
        typing.settle(uid, [])
    assert seen(sent) == ["composing", "composing", "paused"]  # the last promise was one too many
