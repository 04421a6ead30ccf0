"""Checks of how a stream ends and how the component reacts (S8, S10 to S12)."""

from functools import partial
from typing import Final

import trio

from bridge.conformance.component.observation import (
    Check,
    Observation,
    differs,
    failed,
    not_applicable,
    not_testable,
    passed,
)
from bridge.conformance.component.profile import Moment
from bridge.conformance.component.session import Session
from bridge.conformance.component.subject import Subject

_HAMMERING: Final = 2
"""So many reconnects at once, within `count_s`, fail the check."""


async def ends(session: Session, within_s: float) -> bool:
    """Wait until the component ends the stream or the connection. Return whether it did in time."""
    return await session.until(lambda: session.ended or session.gone, within_s)


async def conflict(moment: Moment, subject: Subject) -> Observation:
    profile = subject.profile
    if moment not in profile.conflicts:
        return not_applicable(f"{profile.name} sends no conflict {moment}")
    session = await _refused(subject, "conflict", moment)
    ended = await ends(session, subject.patience.answer_s)
    if not ended:
        return failed("leaves the stream open")
    return _reaction(subject, await _reconnects(subject, "conflict", moment))


async def refused(subject: Subject) -> Observation:
    session = await _refused(subject, "not-authorized", Moment.HANDSHAKE)
    if not await ends(session, subject.patience.answer_s):
        return failed("leaves the stream open")
    pauses_s = await _reconnects(subject, "not-authorized", Moment.HANDSHAKE)
    return _reaction(subject, pauses_s)


def _reaction(subject: Subject, pauses_s: list[float]) -> Observation:
    if not pauses_s:
        return passed("stays away" if subject.source.exit_code is None else "exits")
    if sum(pause_s < subject.patience.at_once_s for pause_s in pauses_s) >= _HAMMERING:
        return failed("reconnects at once, repeatedly")
    return differs("reconnects within 3 s")


async def _refused(subject: Subject, condition: str, moment: Moment) -> Session:
    if moment is Moment.ATTACHED:
        session = await subject.attached(fresh=True)
        await session.exchange()
    else:
        session = await subject.opened(anew=True)
    await _refuse(session, condition, moment)
    return session


async def _refuse(session: Session, condition: str, moment: Moment) -> None:
    profile = session.profile
    if moment is Moment.HEADER:
        await session.fail(condition, profile.open_early(session.domain))
        return
    if moment is Moment.HANDSHAKE:
        await session.open()
        await session.shakes_hands()
    await session.fail(condition)


async def _reconnects(subject: Subject, condition: str, moment: Moment) -> list[float]:
    """Return the pause before each reconnect, in seconds, and refuse each in the same way."""
    pauses_s: list[float] = []
    ended = trio.current_time()
    with trio.move_on_after(subject.patience.count_s):
        while (session := await subject.comes(subject.patience.count_s)) is not None:
            pauses_s.append(trio.current_time() - ended)
            if await session.greets(1):
                if moment is Moment.ATTACHED:
                    await session.open()
                    await session.accept()
                await _refuse(session, condition, moment)
                await ends(session, 1)
            await session.hang_up()
            ended = trio.current_time()
    return pauses_s


async def stream_error(subject: Subject) -> Observation:
    session = await subject.attached(fresh=True)
    await session.exchange()
    await session.fail("reset")
    if not await ends(session, subject.patience.answer_s):
        return failed("leaves the stream open")
    how = "" if session.ended else "sends no end tag, "
    return passed(f"{how}{await _afterwards(subject, subject.patience.answer_s)}")


async def system_shutdown(subject: Subject) -> Observation:
    session = await subject.attached(fresh=True)
    await session.exchange()
    await session.fail("system-shutdown")
    await ends(session, 1)
    await session.hang_up()
    later = await _afterwards(subject, subject.patience.restart_s)
    return failed(later) if later.startswith("stays") else passed(later)


async def _afterwards(subject: Subject, within_s: float) -> str:
    if await subject.comes(within_s) is not None:
        return "reconnects"
    if subject.source.exit_code is not None:
        return "exits"
    return f"stays away for {within_s:g} s"


async def end_tag(subject: Subject) -> Observation:
    session = await subject.attached(fresh=True)
    await session.exchange()
    await session.close()
    if not await ends(session, subject.patience.answer_s):
        return failed("leaves the stream open")
    return passed() if session.ended else failed("closes the connection without an end tag")


async def sigterm(subject: Subject) -> Observation:
    if not subject.source.can_restart:
        return not_testable("started by hand")
    session = await subject.attached()
    await session.exchange()
    await subject.source.terminate()
    if not await ends(session, 2 * subject.patience.answer_s):
        return failed("keeps running")
    return passed() if session.ended else differs("closes the connection without an end tag")


CHECKS: Final = (
    Check("S12", "end tag on SIGTERM", sigterm),
    Check("S12", "end tag in reply to ours", end_tag),
    Check("S10", "a stream error", stream_error),
    Check("S11", "system-shutdown: reconnects", system_shutdown),
    *(
        Check("S8", f"a conflict {moment}: ends the stream and waits", partial(conflict, moment))
        for moment in Moment
    ),
    Check("S11", "not-authorized: gives up or waits", refused),
)
