"""Attaching as a component, for `--connect`, trying its rooms, and leaving again."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import trio

from bridge.cli.check.report import Report
from bridge.cli.check.room import RoomTrial
from bridge.cli.check.server import told
from bridge.cli.check.upload import SlotTrial
from bridge.config.settings import Component, Settings
from bridge.daemon.daemon import ExitCode
from bridge.xmpp.backoff import Reaction, reaction_to
from bridge.xmpp.link import SHARED, SHARED_REMEDY
from xmppstream import ComponentStream, Event, StreamEnd, StreamFailed, StreamOptions, connect

_BARRIER_TIMEOUT_S: Final = 10.0
_BARRIERS: Final = 8
"""If the server deals them to two instances, all come back to us once in 256 times."""
_STRAY_S: Final = 2.0
"""How long the others may take when one has come back: they travel together."""


class _Trial(Protocol):
    """Tries something on a stream once it is attached."""

    def receive(self, event: Event) -> None:
        """Learn from what the server sends."""
        ...

    async def run(self, stream: ComponentStream) -> None:
        """Try it.

        Raises:
            StreamFailed: if the stream ends.
        """
        ...

    def report(self, domain: str, report: Report) -> None:
        """Report how it went."""
        ...


async def check_attach(component: Component, settings: Settings, report: Report) -> bool:
    """Attach, try the rooms, and ask for a slot for a file. Return whether there is a slot, or it
    was not asked for.
    """
    what = f"attach to {component.server}"
    options = StreamOptions(handshake_timeout_s=settings.stream.handshake_timeout_s)
    attached = shared = False
    slot = SlotTrial(component)
    trials: list[_Trial] = [*([RoomTrial(component)] if component.rooms else []), slot]
    try:
        stream = await connect(component.server, component.domain, component.secret.value, options)
        attached = True
        end, shared = await _prove(stream, trials)
    except StreamFailed as failure:
        end = failure.end
    if end is None:
        if shared:
            report.warn(component.domain, what, f"handshake accepted; {SHARED}: {SHARED_REMEDY}")
        else:
            report.good(component.domain, what, "handshake accepted")
        for trial in trials:
            trial.report(component.domain, report)
        return slot.is_given
    refused = reaction_to(end, attached=attached) is Reaction.REFUSED
    code = ExitCode.REFUSED if refused else ExitCode.OTHER
    report.bad(component.domain, what, told(end, component.server), code)
    return True


async def _prove(
    stream: ComponentStream, trials: Sequence[_Trial]
) -> tuple[StreamEnd | None, bool]:
    """Send barriers, wait for them, make the trials, and close. Return the stream's end if the
    server ended it, and whether another instance is attached: it gets some of our barriers, or we
    get some of its own.

    Some servers return no barrier: then it suffices that the stream stays open for
    `_BARRIER_TIMEOUT_S`.
    """
    ended: StreamEnd | None = None
    shared = False
    returned = [trio.Event() for _ in range(_BARRIERS)]
    first = trio.Event()

    async def handle(event: Event) -> None:
        await trio.lowlevel.checkpoint()
        for trial in trials:
            trial.receive(event)

    async def ask(one: trio.Event) -> None:
        with suppress(StreamFailed):
            await stream.barrier()
            one.set()
        first.set()  # also if the stream has ended

    async def watch() -> None:
        nonlocal shared
        await stream.wait_foreign_barrier()
        shared = True

    async def leave() -> None:
        nonlocal ended, shared
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for one in returned:
                nursery.start_soon(ask, one)
            with trio.move_on_after(_BARRIER_TIMEOUT_S):
                await first.wait()
            if stream.end is None and first.is_set():
                with trio.move_on_after(_STRAY_S):
                    for one in returned:
                        await one.wait()
            nursery.cancel_scope.cancel()
        with suppress(StreamFailed):
            for trial in trials:
                await trial.run(stream)
        ended = stream.end
        if any(one.is_set() for one in returned) and not all(one.is_set() for one in returned):
            shared = True
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await stream.serve(handle)
    return ended, shared
