"""Events that are pulled, with a real server: by the manual's program, and by `forward`."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.bench.contestant import ROOT
from tests.manual.page import page
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Answer, Posted, Reaction, open_endpoint
from tests.servers.peer import connect_client
from tests.servers.process import LOOPBACK, write
from tests.servers.scene import BOT
from tests.servers.test_deferred import body, free_port, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.prosody import Prosody

SECTION: Final = "A bot in a notebook"
TOKEN: Final = "notebook-0123456789abcdef"
TABLE: Final[dict[str, Any]] = {
    "component_secret": "s3cret",
    "component_post_url": "pull:",
    "component_typing_after_s": 0,
}


@asynccontextmanager
async def pulled(server: Prosody, directory: Path, port: int) -> AsyncIterator[Daemon]:
    """A daemon whose only component is pulled."""
    token = {"name": "notebook", "secret": TOKEN, "scopes": ["receive"]}
    listen = {"address": f"{LOOPBACK}:{port}", "token": [token]}
    settings = settings_for(server.component_port, {BOT: TABLE}, listen=listen)
    async with run_daemon(directory, settings) as daemon:
        yield daemon


@asynccontextmanager
async def running(directory: Path, *arguments: str) -> AsyncIterator[trio.Process]:
    """Run Python with arguments; at the end it is killed if it still runs."""
    with (directory / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={"PYTHONPATH": str(ROOT)},
            start_new_session=True,  # Ctrl-C is for pytest alone
        )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_the_program_of_the_manual(prosody: Prosody, tmp_path: Path) -> None:
    [program] = [
        one.content for one in page("slow").section(SECTION).tokens if one.info == "python"
    ]
    port = free_port()
    for old, new in (("127.0.0.1:5280", f"{LOOPBACK}:{port}"), ("THE SECRET", TOKEN)):
        assert old in program
        program = program.replace(old, new)
    write(tmp_path / "bot.py", program.replace("sleep(40)", "sleep(0)"))
    async with (
        running(tmp_path, "bot.py"),  # it starts before the bridge, and keeps trying
        pulled(prosody, tmp_path, port),
        connect_client(prosody.c2s_port, "alice@localhost", "pw") as client,
    ):
        for text in ("hello", "Grüße"):
            await say(client, text)
            assert await body(client) == f"You said: {text}"
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_forward_to_a_service_behind_nat(prosody: Prosody, tmp_path: Path) -> None:
    def reply(posted: Posted) -> Reaction:
        return Answer(200, b'{"body": "You said: %s"}' % posted["text"].encode())

    port = free_port()
    write(tmp_path / "token", TOKEN)
    (tmp_path / "token").chmod(0o600)
    async with (
        open_endpoint(reply) as endpoint,
        pulled(prosody, tmp_path, port),
        connect_client(prosody.c2s_port, "alice@localhost", "pw") as client,
        running(
            tmp_path,
            *("-m", "bridge", "forward", "--bridge", f"http://{LOOPBACK}:{port}"),
            *("--token-file", "token", "--to", endpoint.url),
        ) as forward,
    ):
        for text in ("hello", "Grüße"):
            await say(client, text)
            assert await body(client) == f"You said: {text}"
        forward.send_signal(signal.SIGINT)
        assert await forward.wait() == 130
    assert "Traceback" not in (tmp_path / "log").read_text()
