"""Scenes of the stream itself: how it begins, ends, begins again, or never does."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from tests.capture.stage import BOT, Stage, message, says
from tests.servers.endpoint import echo

REFUSED: Final = "the server refuses this component"


async def shutdown(stage: Stage) -> None:
    """The server is stopped in order."""
    stage.endpoint.react = echo
    async with stage.bridge() as daemon:
        async with stage.user("alice", "phone") as alice:
            await alice.send(message("the last", id="1"))
            await alice.receive(says("the last"))
        await stage.server.stop()
        await daemon.wait_logged("detached")


async def restart(stage: Stage) -> None:
    """The server is restarted, and the bridge attaches again."""
    stage.endpoint.react = echo
    async with stage.bridge() as daemon:
        for number in (1, 2):
            async with stage.user("alice", "phone") as alice:
                await alice.send(message(f"life {number}", id=str(number)))
                await alice.receive(says(f"life {number}"))
            if number == 1:
                await stage.server.restart()
                await daemon.wait_logged("attached", 2)


async def conflict(stage: Stage) -> None:
    """Another instance is attached as the same component, and leaves.

    Prosody refuses the second by `conflict`; ejabberd has both, and sends to either.
    """
    stage.endpoint.react = echo
    async with AsyncExitStack() as stack:
        async with stage.component(BOT, answer_pings=False):
            daemon = await stack.enter_async_context(stage.bridge(wait_attached=False))
            is_refused = stage.server.name == "prosody"
            await daemon.wait_logged("cannot attach" if is_refused else "attached")
        await daemon.wait_logged("attached")
        async with stage.user("alice", "phone") as alice:
            await alice.send(message("are you alone?", id="1"))
            await alice.receive(says("are you alone?"))


async def wrong_secret(stage: Stage) -> None:
    """The secret is not the one that the server has."""
    async with stage.bridge(secret="wrong-horse-battery", wait_attached=False) as daemon:
        await daemon.wait_logged(REFUSED)


async def unknown_host(stage: Stage) -> None:
    """The server has no such component."""
    async with stage.bridge(domain="unknown.localhost", wait_attached=False) as daemon:
        await daemon.wait_logged(REFUSED)
