"""Receipts in a whole life: when they are sent, and what a crash does to them."""

from collections.abc import Callable
from typing import Any, Final, Literal

import pytest
import trio
from attrs import evolve

from bridge.journal.store import JournalError
from bridge.webhook.outcome import Outcome, Rejected, Replied
from tests.bridge.dispatch.life import BOT, COMPONENT, DONE, Life, said
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza
from xmppstream import Stanza

JULIET: Final = "juliet@capulet.example/balcony"
REQUEST: Final = "<request xmlns='urn:xmpp:receipts'/>"
LATER: Final = ("accepted", "handled")
Moment = Literal["handled", "accepted", "off"]


def message(id: str, inner: str = REQUEST, type: str = "chat") -> Stanza:
    inner = f"<body>hi</body>{inner}"
    return stanza(f"<message from='{JULIET}' to='{BOT}' id='{id}' type='{type}'>{inner}</message>")


def life(journal: MemoryJournal | None = None, moment: Moment = "handled", **keys: Any) -> Life:
    return Life(journal, component=evolve(COMPONENT, receipts=moment, **keys))


def shown(sent: list[Stanza]) -> list[str]:
    """Sum up what was sent: receipts, bodies, errors."""
    found = []
    for one in sent:
        for child in one.element.elements:
            if child.local == "received":
                found.append(f"received {child.get('id')}")
            elif child.local in ("body", "error"):
                found.append(child.text or child.local)
    return found


@pytest.mark.parametrize("make", [MemoryJournal, lambda: None], ids=["journal", "memory"])
async def test_a_handled_message_is_acknowledged_before_the_replies(
    nursery: trio.Nursery, make: Callable[[], MemoryJournal | None]
) -> None:
    one = life(make())
    await nursery.start(one.run)
    await one.give(message("m1"), message("m2", ""))
    assert one.sent() == []
    await one.answer("m1", said([{"body": "a"}, {"body": "b"}]))
    await one.answer("m2", said({"body": "c"}))
    sent = one.sent()
    assert shown(sent) == ["received m1", "a", "b", "c"]
    assert [(one.to, one.from_, one.type) for one in sent[:1]] == [(JULIET, BOT, "chat")]
    assert [str(one.id).rpartition("-")[2] for one in sent[1:3]] == ["1", "2"]
    assert one.meter.receipts == 1
    await one.kill()


@pytest.mark.parametrize(
    "outcome", [Rejected(404), Replied("json", b"{"), RuntimeError("a bug")], ids=repr
)
async def test_what_is_not_handled_is_not_acknowledged(
    nursery: trio.Nursery, outcome: Outcome | Exception
) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(message("m1"))
    await one.answer("m1", outcome)
    assert shown(one.sent()) == ["error"]
    await one.kill()


async def test_what_is_not_posted_is_not_acknowledged(nursery: trio.Nursery) -> None:
    for moment in ("handled", "accepted"):
        one = life(moment=moment, post_events=frozenset({"edit"}))
        await nursery.start(one.run)
        await one.give(message("m1"))
        assert (one.endpoint.ids, shown(one.sent())) == ([], ["error"])
        await one.kill()


async def test_an_accepted_message_is_acknowledged_at_once_and_only_then(
    nursery: trio.Nursery,
) -> None:
    one = life(MemoryJournal(), "accepted")
    await nursery.start(one.run)
    one.disk.hold()
    await one.give(message("m1"))
    assert one.sent() == []  # it is not kept yet
    one.disk.release()
    await one.give()
    assert shown(one.sent()) == ["received m1"]
    await one.answer("m1", said({"body": "a"}))
    assert shown(one.sent()) == ["a"]
    await one.kill()


async def test_a_message_that_cannot_be_kept_is_not_acknowledged(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    one = life(journal, "accepted")
    await nursery.start(one.run)
    journal.failure = JournalError("the disk is full")
    await one.give(message("m1"))
    assert shown(one.sent()) == ["error"]
    await one.kill()


async def test_without_room_an_accepted_message_is_not_acknowledged(nursery: trio.Nursery) -> None:
    one = life(moment="accepted")
    await nursery.start(one.run)
    while one.outbox.reserve(1):
        pass
    await one.give(message("m1"))
    assert shown(one.sent()) == []
    assert one.running == ["m1"]
    await one.kill()


@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_crash_loses_no_receipt_of_a_handled_message(
    nursery: trio.Nursery, is_committed: bool
) -> None:
    journal = MemoryJournal()
    first = life(journal)
    await nursery.start(first.run)
    await first.give(message("m1"))
    first.disk.hold(acts_first=is_committed)
    await first.answer("m1", said({"body": "a"}))
    assert first.sent() == []  # the end is not kept, or not known to be
    await first.kill()
    second = life(journal)
    await nursery.start(second.run)
    await second.give()
    assert second.endpoint.ids == ([] if is_committed else ["m1"])
    if not is_committed:
        await second.answer("m1", said({"body": "a"}))
    assert shown(second.sent()) == ["received m1", "a"]
    await second.kill()


async def test_a_crash_loses_no_receipt_of_an_accepted_message(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    first = life(journal, "accepted")
    await nursery.start(first.run)
    first.disk.hold(acts_first=True)
    await first.give(message("m1"))
    assert first.sent() == []
    await first.kill()
    second = life(journal, "accepted")
    await nursery.start(second.run)
    await second.give()
    assert shown(second.sent()) == ["received m1"]
    await second.answer("m1", DONE)
    assert second.sent() == []
    await second.kill()
