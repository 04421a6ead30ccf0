"""A server that never comes up and ignores SIGTERM leaves no process behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from tests.servers import process
from tests.servers.process import Server, ServerFailed, accepts, reserve_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Stuck(Server):
    """Writes its process id, and a line to its log, and sleeps."""

    name = "stuck"

    def _configure(self) -> None:
        pass

    def _command(self) -> Sequence[str]:
        # an ignored signal stays ignored after exec
        return ["sh", "-c", "trap '' TERM; echo \"I am stuck\"; echo $$ > pid; exec sleep 600"]

    async def pid(self) -> int:
        path = self.directory / "pid"
        while not (path.exists() and (text := path.read_text())):  # noqa: ASYNC110
            await trio.sleep(0.005)
        return int(text)


@pytest.fixture
def stuck(tmp_path: Path) -> Stuck:
    return Stuck(tmp_path, None, None, None)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_cancelled_start_leaves_no_process(stuck: Stuck) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stuck.__aenter__)
        pid = await stuck.pid()
        assert is_alive(pid)
        nursery.cancel_scope.cancel()
    assert not is_alive(pid)


async def test_late_start_leaves_no_process(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_S", 0.5)
    with pytest.raises(ServerFailed, match=r"is not up after 0\.5 s(.|\n)*I am stuck"):
        await stuck.__aenter__()
    assert not is_alive(await stuck.pid())


async def test_stop_kills_what_ignores_sigterm(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def up(_: trio.Process) -> None:
        await stuck.pid()

    monkeypatch.setattr(stuck, "_up", up)
    monkeypatch.setattr(process, "STOP_S", 0.1)
    async with stuck:
        pid = await stuck.pid()
        await stuck.stop()
        assert not is_alive(pid)


async def test_reserved_port_is_closed_until_bound_again() -> None:
    with reserve_port() as held:
        port = held.getsockname()[1]
        assert not await accepts(port)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, _hang_up, port)
            assert await accepts(port)
            nursery.cancel_scope.cancel()


async def _hang_up(stream: trio.SocketStream) -> None:
    await stream.aclose()
