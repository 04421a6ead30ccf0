"""Answers of archives among everything else that comes in: they are POSTed to nobody."""

from typing import Final

import pytest
import trio

from bridge.xmpp.archive import PAGES_LIMIT, ArchiveQueries, TooManyQueries
from tests.bridge.dispatch.life import BOT, Life
from tests.bridge.sample import stanza
from xmppstream import Stanza

ROOM: Final = "coven@chat.example"
QUERY: Final = stanza(f"<iq type='set' id='q' to='{ROOM}' from='{BOT}'/>")


def answer(queryid: str, inner: str = "", from_: str = ROOM, id: str = "m") -> Stanza:
    return stanza(
        f"<message from='{from_}' to='{BOT}' id='{id}'>{inner}"
        f"<result xmlns='urn:xmpp:mam:2' queryid='{queryid}' id='a'/></message>"
    )


async def test_answers_are_not_posted_in_time_or_late(nursery: trio.Nursery) -> None:
    """Here all events are POSTed."""
    one = Life()
    await nursery.start(one.run)
    with one.pipeline.submitter.archives.collecting(QUERY, "q1", 9) as page:
        await one.give(answer("q1"), answer("q2"), answer("q1", from_="mallory@chat.example"))
        await one.give(stanza(f"<message from='{ROOM}' to='{BOT}' id='other'><x/></message>"))
    await one.give(answer("q1"))
    assert len(page.messages) == 1
    assert one.endpoint.ids == ["other"]
    assert one.sent() == []
    await one.kill()


async def test_a_stranger_cannot_hide_a_message(nursery: trio.Nursery) -> None:
    one = Life()
    await nursery.start(one.run)
    with one.pipeline.submitter.archives.collecting(QUERY, "q1", 9):
        body = "<body>hello</body>"
        await one.give(answer("q1", body, "mallory@chat.example", "m1"), answer("", body, id="m2"))
    assert sorted(one.endpoint.ids) == ["m1", "m2"]
    assert [post.json["event"] for post in one.endpoint.posts] == ["message", "message"]
    await one.kill()


def test_pages_are_bounded_and_end() -> None:
    queries = ArchiveQueries()
    pages = [queries.collecting(QUERY, str(number), 1) for number in range(PAGES_LIMIT + 1)]
    for page in pages[:-1]:
        page.__enter__()
    with pytest.raises(TooManyQueries):
        pages[-1].__enter__()
    for page in pages[:-1]:
        page.__exit__(None, None, None)
    assert not queries.is_any
