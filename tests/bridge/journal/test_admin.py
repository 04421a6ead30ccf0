"""Lists of dead letters that are looked for."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from bridge.journal.admin import QueueAdmin
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.request import ListQueue, Match, Page
from bridge.journal.store import Attempted, JournalStore, Settle
from tests.bridge.listener.stage import journal_at

T = TypeVar("T")
COUNT = 130


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalStore]:
    """A journal with `COUNT` dead letters, every tenth of which has a rare reason; number n died n
    seconds after 1000.
    """
    with closing(journal_at(tmp_path)) as opened:
        for number in range(COUNT):
            reason = "Rare" if number % 10 == 0 else "common"
            uid = f"msg_{number:04}"
            entry = Delivery.stored(
                uid, "bot.example", "message", "a@b", "c@d", "q", None, "<message/>", 1000.0
            )
            attempted = Attempted(uid, Attempt(1000.0, reason))
            opened.commit([entry, attempted, Settle(uid, (), 1000.0 + number, reason)])
        yield opened


async def listed(journal: JournalStore, request: ListQueue) -> list[list[int]]:
    """Give the numbers in the uids, page by page."""

    async def ask(query: Callable[[JournalStore], T]) -> T:
        return query(journal)

    admin, pages, after = QueueAdmin(ask, None), list[list[int]](), 0
    while True:
        page = await admin.answer(msgspec.structs.replace(request, after=after))
        assert isinstance(page, Page)
        pages.append([int(one.uid.removeprefix("msg_")) for one in page.items])
        if page.next is None:
            return pages
        after = page.next


async def test_a_reason_in_any_case(journal: JournalStore) -> None:
    request = ListQueue(state="dead", match=Match(reason="rARe"), limit=5)
    pages = await listed(journal, request)
    assert [len(one) for one in pages] == [5, 5, 3]
    assert [one for page in pages for one in page] == list(range(0, COUNT, 10))


@pytest.mark.parametrize(
    ("since", "until", "numbers"),
    [
        (1125.0, None, range(125, COUNT)),
        (None, 1003.0, range(4)),
        (1010.0, 1012.0, range(10, 13)),
        (1012.0, 1010.0, range(0)),
        (float("nan"), None, range(0)),
    ],
)
async def test_times_of_death(
    journal: JournalStore, since: float | None, until: float | None, numbers: range
) -> None:
    for limit in (1, 20, 500):
        request = ListQueue(state="dead", match=Match(since=since, until=until), limit=limit)
        found = await listed(journal, request)
        assert [one for page in found for one in page] == list(numbers)


@pytest.mark.parametrize("state", ["pending", "reply"])
async def test_only_dead_letters_have_these(journal: JournalStore, state: str) -> None:
    entry = Delivery.stored(
        "msg_9999", "bot.example", "message", "a@b", "c@d", "q", None, "<message/>", 1000.0
    )
    journal.commit([entry])
    for match in ({}, {"reason": ""}, {"since": 0.0}, {"until": 1e9}):
        raw = {"command": "queue.list", "state": state, "match": match}
        assert await listed(journal, msgspec.convert(raw, ListQueue)) == [[]]
    if state == "pending":
        assert await listed(journal, ListQueue(state="pending")) == [[9999]]


def test_a_daemon_of_an_earlier_version_understands_a_plain_list() -> None:
    """It refuses members that it does not know."""
    sent = msgspec.to_builtins(ListQueue(state="dead"))
    assert set(sent) == {"command", "protocol", "state", "component", "after", "limit", "xml"}


@pytest.mark.parametrize(
    "match", [{"reason": "x" * 201}, {"reason": None}, {"since": "now"}, {"more": 1}, []]
)
def test_a_match_that_is_none_is_refused(match: object) -> None:
    raw = {"command": "queue.list", "state": "dead", "match": match}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw, ListQueue)
