"""A POST that begins while the acceptance of its stanza is being committed."""

from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.journal import committer
from bridge.journal.store import JournalError
from bridge.webhook.outcome import Outcome, Rejected, Unreachable
from tests.bridge.dispatch.life import BOT, DOMAIN, DONE, Life
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza
from xmppstream import Stanza

FULL: Final = JournalError("the disk is full")


def message(id: str, sender: str, to: str = BOT) -> Stanza:
    body = "<body>hi</body>"
    return stanza(f"<message id='{id}' from='{sender}' to='{to}' type='chat'>{body}</message>")


async def begin(nursery: trio.Nursery, slots: int = 256) -> tuple[Life, MemoryJournal]:
    journal = MemoryJournal()
    life = Life(journal, max_in_flight=slots, overlaps=True)
    await nursery.start(life.run)
    await wait_all_tasks_blocked()
    return life, journal


async def test_a_stanza_is_posted_while_it_is_being_committed(nursery: trio.Nursery) -> None:
    life, journal = await begin(nursery)
    life.disk.hold()
    await life.give(message("1", "a@x/1"))
    assert (life.running, journal.accepted) == (["1"], [])
    await life.answer("1")
    assert journal.settled == []
    life.disk.release()
    await wait_all_tasks_blocked()
    assert [one.stanza.id for one in journal.accepted] == ["1"]
    assert len(journal.settled) == 1


@pytest.mark.parametrize("outcome", [DONE, Rejected(404), Unreachable("ConnectError")])
async def test_while_the_disk_hangs_no_more_are_posted_than_there_are_slots(
    outcome: Outcome, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, journal = await begin(nursery, slots=2)
    life.disk.hold()
    await life.give(*(message(str(n), f"a{n}@x{n}/1") for n in range(2)))
    assert life.running == ["0", "1"]
    await life.answer("0", outcome)
    await life.answer("1", outcome)
    await trio.sleep(5)
    await life.give(*(message(str(n), f"a{n}@x{n}/1") for n in range(2, 7)))
    assert sorted(life.endpoint.ids) == ["0", "1"]
    life.disk.release()
    await wait_all_tasks_blocked()
    assert [one.stanza.id for one in journal.accepted] == [str(n) for n in range(7)]
    assert len(life.running) == 2


async def test_no_retry_begins_while_the_disk_hangs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, _ = await begin(nursery, slots=8)
    life.disk.hold()
    await life.give(message("1", "a@x/1"))
    await life.answer("1", Unreachable("ConnectError"))
    await trio.sleep(20)
    assert life.endpoint.ids == ["1"]
    life.disk.release()
    await trio.sleep(20)
    assert life.endpoint.ids[1] == "1"
    assert life.endpoint.posts[1].attempt == 2


async def test_a_stanza_behind_another_is_committed_first(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, journal = await begin(nursery)
    life.disk.hold()
    await life.give(message("1", "a@x/1"), message("2", "a@x/1"))
    journal.failure = FULL
    life.disk.release()
    await wait_all_tasks_blocked()
    assert life.running == ["1"]
    [error] = life.sent()
    assert (error.id, error.type) == ("2", "error")
    journal.failure = None
    await trio.sleep(committer.RETRY_S + 0.1)
    await life.answer("1")
    assert (life.endpoint.ids, len(journal.settled)) == (["1"], 1)


async def test_a_sender_with_its_share_of_slots_is_committed_first(nursery: trio.Nursery) -> None:
    life, journal = await begin(nursery, slots=8)
    life.disk.hold()
    for n in range(4):
        await life.give(message(str(n), "a@x/1", f"{n}@{DOMAIN}"))
    assert life.running == ["0", "1"], "a quarter"
    await life.give(message("b", "b@x/1"))
    assert life.running == ["0", "1"], "it does not overtake those that wait for their commit"
    life.disk.release()
    await wait_all_tasks_blocked()
    assert "b" in life.running
    assert len(journal.accepted) == 5


async def test_a_killed_process_may_forget_what_it_was_posting(nursery: trio.Nursery) -> None:
    life, journal = await begin(nursery)
    life.disk.hold()
    await life.give(message("1", "a@x/1"))
    await life.kill()
    assert (life.endpoint.ids, journal.accepted) == (["1"], [])
