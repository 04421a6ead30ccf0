"""A subscription that the bridge accepts outlives a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from tests.bridge.dispatch.life import BOT, COMPONENT, Life
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza

if TYPE_CHECKING:
    import trio

ALWAYS_ON: Final = evolve(COMPONENT, post_stanzas=frozenset({"message"}))
SUBSCRIBE: Final = stanza(f"<presence type='subscribe' from='juliet@capulet.lit' to='{BOT}'/>")


async def test_a_subscription_is_accepted_once_it_is_kept(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    one = Life(journal, component=ALWAYS_ON)
    await nursery.start(one.run)
    one.disk.hold()
    await one.give(SUBSCRIBE)
    assert one.sent() == []  # a crash would forget the contact
    one.disk.release()
    await one.give()
    assert [each.type for each in one.sent()] == ["subscribed", None]
    await one.kill()
    after = Life(journal, component=ALWAYS_ON)
    await nursery.start(after.run)
    assert after.pipeline.contacts.subscriber_count == 1
    await after.kill()
