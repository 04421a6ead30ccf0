"""`/healthz` and `/readyz`: for strangers."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from bridge.journal.store import JournalError, Operation
from bridge.listener.monitor.view import ANSWER_S, PROBE_S
from tests.bridge.listener.page.browser import Browser, open_browser
from tests.bridge.listener.stage import Actor, Stage, journal_at

BOT: Final = "bot.example"
OTHER: Final = "other.example"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage([Actor(BOT), Actor(OTHER)], journal_at(tmp_path))


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[Browser]:
    async with open_browser(stage) as opened:
        yield opened


async def readyz(browser: Browser) -> tuple[int, dict[str, Any]]:
    response = await browser.client.get("/readyz")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, response.json()


async def problems(browser: Browser) -> list[tuple[str, str]]:
    """Give the problems, each with its component; it is not ready just then where there are any."""
    status, answer = await readyz(browser)
    assert status == (503 if answer["reasons"] else 200)
    assert answer["ready"] == (not answer["reasons"])
    assert all(one["detail"] for one in answer["reasons"])
    return [(one["problem"], one.get("component", "")) for one in answer["reasons"]]


async def test_alive_whatever_is_wrong(browser: Browser, stage: Stage) -> None:
    stage.hangs = True
    stage.actors[0].detach()
    response = await browser.client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert stage.queries == 0


async def test_ready(browser: Browser) -> None:
    assert await readyz(browser) == (200, {"ready": True, "reasons": [], "journal": "ok"})


async def test_each_trouble_has_its_name(browser: Browser, stage: Stage) -> None:
    bot, other = stage.actors
    bot.detach("s3cret at 10.0.0.1")
    assert await problems(browser) == [("not_attached", BOT)]
    bot.link = replace(bot.link, state="attaching")
    assert await problems(browser) == [("not_attached", BOT)]
    bot.link = replace(bot.link, state="refused")
    other.fail()
    assert await problems(browser) == [("refused", BOT), ("endpoint_down", OTHER)]
    other.endpoint = replace(other.endpoint, state="probing")
    bot.link = replace(bot.link, state="attached")
    assert await problems(browser) == [("endpoint_down", OTHER)]
    other.endpoint = replace(other.endpoint, state="up")
    stage.stopping = True
    assert await problems(browser) == [("stopping", "")]


async def test_a_stand_by_is_ready(browser: Browser, stage: Stage) -> None:
    for actor in stage.actors:
        actor.stand_by()
    assert await readyz(browser) == (200, {"ready": True, "reasons": [], "journal": "ok"})


async def test_strangers_learn_no_addresses_and_no_words_of_others(
    browser: Browser, stage: Stage
) -> None:
    for actor in stage.actors:
        actor.detach("s3cret-words")
        actor.fail()
    stage.failure = JournalError("/srv/journal.sqlite: disk I/O error")
    text = (await browser.client.get("/readyz")).text
    for word in ("s3cret", "127.0.0.1", "http", "5347", "8000", "srv", "I/O"):
        assert word not in text


async def test_without_a_journal(autojump_clock: MockClock) -> None:
    async with open_browser(Stage([Actor(BOT)])) as browser:
        assert await readyz(browser) == (200, {"ready": True, "reasons": [], "journal": "off"})


async def test_a_journal_that_fails_and_works_again(
    browser: Browser, stage: Stage, autojump_clock: MockClock
) -> None:
    assert await problems(browser) == []
    stage.failure = JournalError("disk full")
    await trio.sleep(PROBE_S)
    assert await problems(browser) == [("journal_failing", "")]
    stage.failure = None
    await trio.sleep(PROBE_S)
    assert await problems(browser) == []


async def test_a_journal_that_cannot_be_written_though_it_can_be_read(
    browser: Browser, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(operations: Sequence[Operation]) -> None:
        assert not operations
        raise JournalError("read-only file system")

    monkeypatch.setattr(stage.journal, "commit", commit)
    assert await problems(browser) == [("journal_failing", "")]


async def test_a_disk_that_hangs(browser: Browser, stage: Stage, autojump_clock: MockClock) -> None:
    stage.hangs = True
    start = trio.current_time()
    assert await problems(browser) == [("journal_failing", "")]
    assert trio.current_time() - start == pytest.approx(ANSWER_S)


async def test_strangers_do_not_wear_out_the_disk(
    browser: Browser, stage: Stage, autojump_clock: MockClock
) -> None:
    for _ in range(50):
        await browser.client.get("/readyz")
    assert stage.queries == 1
    stage.hangs = True
    await trio.sleep(PROBE_S)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(browser.client.get, "/readyz")
    assert stage.queries == 2
