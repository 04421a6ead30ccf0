"""A stage with two components, and a browser that nobody has logged in with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bridge.listener.page.browser import BOT, OTHER, TOKENS, Browser, open_browser
from tests.bridge.listener.stage import Actor, Stage, journal_at


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage([Actor(BOT), Actor(OTHER)], journal_at(tmp_path))


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[Browser]:
    async with open_browser(stage, *TOKENS) as opened:
        yield opened
