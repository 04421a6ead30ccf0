"""Checks of how a server ends or keeps a stream: rules S10, S12, S13, S17 and S21."""

from collections.abc import Callable
from typing import Final

from bridge.conformance.report import Verdict
from bridge.conformance.server.connection import END_TAG, Wire
from bridge.conformance.server.outcome import (
    PROBE,
    Judgement,
    accepted,
    intact,
    judged,
    not_passed_on,
)
from bridge.conformance.server.target import ANSWER_S, CLOSE_S, Check, Target, handshake, sends

_MESSAGE: Final = f"<message from='a@DOMAIN' to='b@DOMAIN' id='{PROBE}'><body>%s</body></message>"
LEAST_BYTES: Final = 10_000
LARGE_BYTES: Final = 1_000_000
LAST_S: Final = 2.0
"""For the answer to what was sent byte by byte, before a space is sent after it."""
_TEXT: Final = "é € 😀 \u200d&amp;&#x1F600;"
_TEXT_READ: Final = "é € 😀 \u200d&😀"


async def error_in_order(target: Target) -> Judgement:
    wire = await target.attach()
    await wire.send(b"<message></body>")
    await wire.read_until(lambda: wire.gone or wire.end_tag, ANSWER_S)
    await wire.read_until(lambda: wire.gone, CLOSE_S)
    seen = [f"stream error {wire.condition}" if wire.condition else "no stream error"]
    seen.append("end tag" if wire.end_tag else "no end tag")
    ended = wire.gone
    if not ended:
        await wire.send(END_TAG)
        ended = await wire.read_until(lambda: wire.gone, CLOSE_S)
        seen.append("connection closed after our end tag" if ended else "the connection stays open")
    else:
        seen.append("connection closed")
    whole = wire.condition is not None and wire.end_tag and ended
    return judged(whole, not whole, ", ".join(seen))


async def nothing_behind_error(target: Target) -> Judgement:
    wire = await target.attach()
    await wire.send(target.fill(f"<message></body>{_MESSAGE % 'late'}".encode()))
    await wire.read_until(lambda: wire.gone, CLOSE_S)
    late = bool(target.probes(wire))
    return judged(not late, late, "passed on" if late else "not passed on")


async def end_tag(target: Target) -> Judgement:
    wire = await target.attach()
    await wire.send(END_TAG)
    await wire.read_until(lambda: wire.ended, ANSWER_S)
    closed = await wire.read_until(lambda: wire.gone, CLOSE_S)
    told = f"stream error {wire.condition}" if wire.condition else ""
    tag = "end tag" if wire.end_tag else "no end tag"
    end = "connection closed" if closed else "the connection is left for us to close"
    seen = ", ".join(part for part in (told, tag, end) if part)
    return judged(wire.end_tag and not told, not wire.end_tag, seen)


async def before_end_tag(target: Target) -> Judgement:
    wire = await target.attach()
    await wire.send(target.fill((_MESSAGE % "last").encode()) + END_TAG)
    await wire.read_until(lambda: wire.ended, ANSWER_S)
    back = bool(target.probes(wire))
    return judged(back, False, "passed on before the end" if back else "not passed on")


async def space_around_handshake(target: Target) -> Judgement:
    _, outcome = await target.enter(target.header + b"\n  \r\n\t")
    return accepted(Verdict.FAIL)(outcome)


async def large(target: Target) -> Judgement:
    outcome = await target.try_stanza((_MESSAGE % ("x" * LARGE_BYTES)).encode())
    if outcome.passed_on and outcome.alive:
        return Judgement(Verdict.PASS, outcome.seen)
    judge = not_passed_on(
        "policy-violation", errors=("policy-violation", "not-acceptable", "not-allowed")
    )
    return judge(outcome)


async def singly(target: Target) -> Judgement:
    wire = await target.connect()
    steps: tuple[tuple[Callable[[], bytes], Callable[[], bool]], ...] = (
        (lambda: target.header, lambda: wire.root is not None),
        (lambda: handshake(target.digest(wire)), lambda: wire.accepted),
        (lambda: target.fill((_MESSAGE % _TEXT).encode()), lambda: bool(target.probes(wire))),
    )
    late = [await _sent_singly(wire, data(), read) for data, read in steps]
    judgement = intact(_TEXT_READ)(await target.settle(wire))
    if judgement.verdict is Verdict.PASS and any(late):
        seen = "the last > is read when more bytes come (expat's reparse deferral does that)"
        return Judgement(Verdict.FAIL, seen)
    return judgement


async def _sent_singly(wire: Wire, data: bytes, read: Callable[[], bool]) -> bool:
    """Send bytes one by one. Return whether `read()` holds only after a space behind them.

    expat defers a token that it has already seen a part of (CVE-2023-52425): ejabberd 26.07 waits
    for bytes after the last `>`, while we wait for its answer.
    """
    await wire.send_singly(data)
    if await wire.read_until(lambda: read() or wire.ended, LAST_S):
        return False
    await wire.send(b" ")
    await wire.read_until(lambda: read() or wire.ended, ANSWER_S)
    return read()


CHECKS: Final = (
    Check("S10", "the end after a stream error", error_in_order),
    Check("S10", "a message after a stream error", nothing_behind_error),
    Check("S12", "an end tag", end_tag),
    Check("S12", "a message right before the end tag", before_end_tag),
    sends("S13", "white space between stanzas", f" \r\n\t \n{_MESSAGE % 'x'}  ", intact("x")),
    Check("S13", "white space before the handshake", space_around_handshake),
    sends(
        "S17",
        f"a message of {LEAST_BYTES:,} bytes",
        _MESSAGE % ("x" * (LEAST_BYTES - len(_MESSAGE) + 2)),
        intact("x" * (LEAST_BYTES - len(_MESSAGE) + 2)),
    ),
    Check("S17", f"a message of {LARGE_BYTES:,} bytes", large),
    sends("S21", "characters of one to four bytes", _MESSAGE % _TEXT, intact(_TEXT_READ)),
    Check("S21", "byte by byte, splitting characters", singly),
)
