"""The story of the manual for a command bot: record, redact, replay, and what a change shows."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from tests.bridge.capture.test_capturing import DOMAIN, ROOT, World
from tests.bridge.http_server import Exchange, response
from tests.bridge.recorder import Recorder as Log
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import XmppServer
from xmppstream import Stanza

WORDS: Final = "/order\n/help\n42\n7\nshipped  # an answer\nunknown\ntry\n"
SAID: Final = (
    "/order 42",
    "help",
    "Order 7!",
    "good morning, dear robot",
    "/order 42",
    "reorder everything",
)
Bot = Callable[[str], str | None]


def bot(body: str) -> str | None:
    """A small command bot."""
    match body.lower().strip("/!").split():
        case ["order", number]:
            return f"Order {number}: shipped"
        case ["help"]:
            return "try /order 42"
        case _:
            return "unknown; try help"


def changed(body: str) -> str | None:
    answer = bot(body)
    return answer and answer.replace("shipped", "lost")


def silent(body: str) -> str | None:
    return None if "help" in body else bot(body)


class Endpoint:
    """The service of the bot; `bot` may be replaced."""

    def __init__(self) -> None:
        self.bot: Bot = bot

    async def answer(self, exchange: Exchange) -> None:
        text = self.bot(exchange.request.json["body"])
        if text is None:
            await exchange.send(response("204 No Content"))
        else:
            await exchange.send(response(content=json.dumps({"body": text}).encode()))


def message(number: int, body: str) -> Stanza:
    sender = f"juliet{number % 2}@capulet.example/balcony"
    return stanza(
        f"<message id='m{number}' type='chat' from='{sender}' to='shop@{DOMAIN}'>"
        f"<body>{body}</body></message>"
    )


async def command(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "bridge", *map(str, arguments)]
    return await trio.run_process(
        words, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False
    )


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    with log.installed():
        yield log


async def test_a_command_bot_in_ci(
    nursery: trio.Nursery, mock_clock: MockClock, tmp_path: Path, log: Log
) -> None:
    directory = tmp_path / "captures"
    directory.mkdir()
    world, service = World(nursery, directory, await XmppServer.start(nursery)), Endpoint()
    endpoint = await world.endpoint(service.answer)
    daemon = world.start(world.component(endpoint.url().url))
    session = await world.server.attached(DOMAIN)
    for number, body in enumerate(SAID):
        await session.send(message(number, body))
    await session.receive(len(SAID))
    await world.stop(daemon)
    [recorded] = directory.iterdir()

    words, kept, bare = (tmp_path / name for name in ("words.txt", "kept.xcap", "bare.xcap"))
    words.write_text(WORDS)
    for done in (
        await command("redact", "--keep-words", words, recorded, kept),
        await command("redact", recorded, bare),
    ):
        assert done.returncode == 0, done.stderr
    text = kept.read_text()
    assert not re.search("juliet|balcony|shop|morning|robot|reorder|everything", text)
    assert text.count("/order 42</body>") >= 2

    async def replayed(path: Path, bot: Bot) -> tuple[int, dict[str, Any]]:
        service.bot = bot
        url = endpoint.url().url
        options = ("--post-url", url, "--speed", "max", "--expect", "--json")
        done = await command("replay", path, *options)
        return done.returncode, json.loads(done.stdout)

    code, found = await replayed(kept, bot)
    assert (code, found["differences"], found["compared"]) == (0, 0, {"stanzas": 6, "posts": 6})
    code, found = await replayed(kept, changed)
    assert (code, [kind_of(one) for one in found["first_differences"]]) == (
        1,
        ["sent differently"] * 3,
    )
    assert all("lost</body>" in one for one in found["first_differences"])
    code, found = await replayed(kept, silent)
    assert (code, [kind_of(one) for one in found["first_differences"]]) == (
        1,
        ["sent then, not now"],
    )
    code, found = await replayed(bare, bot)
    assert (code, found["differences"]) == (1, 6), "without the words it is no command bot"


def kind_of(difference: str) -> str:
    return difference.partition(" s: ")[2].partition(":")[0]
