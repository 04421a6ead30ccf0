"""The README's first bot, typed as it stands, on a real Prosody with a real client; and the
functions that the manual's page on the contract offers to a service.
"""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.servers.peer import CLIENT, Peer, connect_client
from tests.servers.prosody import Prosody

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MANUAL = ROOT / "bridge" / "manual"
CONTRACT = MANUAL / "contract.md"
TYPING = (
    "<message to='anyone@bot.localhost' type='chat'>"
    "<composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
)


def block(language: str, holds: str, page: Path = README) -> str:
    """Return the block in that language that holds that text; there must be one."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)
    (found,) = (one for one in blocks if holds in one)
    return found


@pytest.mark.prosody
@pytest.mark.parametrize("language", ["python", "php"])
async def test_the_first_bot(tmp_path: Path, language: str) -> None:
    if language == "php" and shutil.which("php") is None:
        pytest.skip("php is not installed")
    secret = re.search(r'component_secret = "(.*)"', block("lua", "Component"))
    assert secret is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])  # in place of the recipe's 8000
    bot, config = tmp_path / f"bot.{language}", tmp_path / "bridge.toml"
    bot.write_text(block(language, "Did you say").replace("8000", port))
    interpreter = [sys.executable] if language == "python" else ["php", "-S", f"127.0.0.1:{port}"]
    async with Prosody(
        tmp_path, components={"bot.localhost": secret[1]}, users={"alice": "pw"}
    ) as server:
        lines = block("toml", '[component."bot.localhost"]').replace("8000", port)
        config.write_text(lines.replace("5347", str(server.component_port)))
        await trio.run_process(["sh", "-euc", block("sh", "bot.secret")], cwd=tmp_path)
        bridge = [sys.executable, "-m", "bridge", "run", str(config)]
        bridge += ["--state-dir", str(tmp_path / "state")]
        async with running([*interpreter, str(bot)]), running(bridge) as daemon:
            async with connect_client(server.c2s_port, "alice@localhost", "pw") as alice:
                assert await ask(alice) == "Did you say hello?"
                await alice.send(TYPING)  # must not disturb the bot
                assert await ask(alice, "still there") == "Did you say still there?"
            daemon.terminate()
            assert await daemon.wait() == 0


def test_repetitions_are_dropped_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block("python", "def once(", CONTRACT), names)
    replies = iter("123")
    seen = [names["once"](id, lambda: next(replies)) for id in ("msg_a", "msg_b", "msg_a")]
    assert seen == ["1", "2", "1"]


def test_repetitions_are_dropped_in_php(tmp_path: Path) -> None:
    if shutil.which("php") is None:
        pytest.skip("php is not installed")
    script = tmp_path / "once.php"
    script.write_text(
        block("php", "function once(", CONTRACT)
        + """$n = 0;
        foreach (["msg_a", "msg_b", "msg_a"] as $id) {
            $_SERVER["HTTP_WEBHOOK_ID"] = $id;
            echo once(function () use (&$n) { return (string) ++$n; });
        }"""
    )
    done = subprocess.run(["php", str(script)], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"121"


@asynccontextmanager
async def running(command: list[str]) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def ask(alice: Peer, text: str = "hello") -> str | None:
    """Send until daemon and bot are both up: before that, errors come back."""
    message = f"<message to='anyone@bot.localhost' type='chat'><body>{text}</body></message>"
    with trio.fail_after(20):
        while True:
            await alice.send(message)
            reply = await alice.receive()
            if reply.get("type") == "chat":
                body: str | None = reply.findtext(f"{{{CLIENT}}}body")
                return body
            await trio.sleep(0.1)
