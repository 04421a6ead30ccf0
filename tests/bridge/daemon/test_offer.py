"""A whole daemon is restarted between a question and its answer."""

import json
from typing import Any, Final

import pytest
from trio.testing import MockClock

from bridge.config.settings import Component
from tests.bridge.daemon.test_daemon import BOT, DOMAIN
from tests.bridge.daemon.test_supervisor import Stage, log, stage
from tests.bridge.http_server import Exchange, response
from tests.bridge.leak import nothing_left
from tests.bridge.sample import stanza

__all__ = ["log", "stage"]  # fixtures
pytestmark = pytest.mark.usefixtures(nothing_left.__name__)

QUESTION: Final = {"body": "Book it?", "answers": ["yes", "no"]}


async def test_an_answer_after_a_restart_counts(stage: Stage, mock_clock: MockClock) -> None:
    asked: list[dict[str, Any]] = []

    async def answer(exchange: Exchange) -> None:
        asked.append(exchange.request.json)
        reply = QUESTION if asked[-1]["body"] == "hello" else {"body": "done"}
        await exchange.send(response(content=json.dumps(reply).encode()))

    endpoint = await stage.endpoint(answer)
    bot: Component = stage.component(endpoint)
    for number, (body, said) in enumerate((("hello", "Book it?\n1. yes\n2. no"), ("2", "done")), 1):
        async with stage.running_with(bot):
            session = await stage.server.attached(DOMAIN, number)
            await session.send(
                stanza(
                    f"<message id='m{number}' type='chat' from='juliet@capulet.example/x'"
                    f" to='{BOT}'><body>{body}</body></message>"
                )
            )
            [reply] = await session.receive(1)
            assert reply.element.elements[0].text == said
    assert [one.get("answer") for one in asked] == [None, "no"]
