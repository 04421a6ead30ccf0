"""`xmpp-bridge conformance component`: the table of all checks of a component, and its run.

To add a check, add a function and a row to the module of its kind: `opening`, `ending`, `grammar`,
`stanza`, `transcript`. The checks are ordered by effort: connections are reused as long as they are
intact, and checks that make a component stay away come last.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from bridge.conformance.component import ending, grammar, opening, transcript
from bridge.conformance.component import stanza as exchange
from bridge.conformance.component.observation import (
    Check,
    Observation,
    failed,
    not_testable,
)
from bridge.conformance.component.profile import PROFILES, Profile
from bridge.conformance.component.session import Unanswered
from bridge.conformance.component.source import Absent, Awaited, Launched, Patience, Source
from bridge.conformance.component.subject import Subject
from bridge.conformance.report import Finding, Report, Verdict, in_order

CHECKS: Final[tuple[Check, ...]] = (
    *opening.CHECKS,
    *exchange.CHECKS,
    *grammar.TAKEN,
    *grammar.HOSTILE,
    *opening.EARLY_ERRORS,
    *ending.CHECKS,
    *opening.SEEN_ALL_ALONG,
    *transcript.CHECKS,
)

UNTRIED: Final = (
    Finding("S15", "white space", Verdict.NOT_APPLICABLE, "nothing can be observed"),
    Finding("S26", "the language", Verdict.NOT_TESTABLE, "not observable from outside"),
    Finding(
        "S32", "the order", Verdict.NOT_TESTABLE, "a component may handle messages as it likes"
    ),
    Finding(
        "S35",
        "the way back",
        Verdict.NOT_APPLICABLE,
        "a rule for servers; the scripted one follows it",
    ),
    Finding("S36", "the echo of a room", Verdict.NOT_TESTABLE, "a component need not join a room"),
)


async def probe_component(
    command: tuple[str, ...],
    listen: int | None,
    domain: str,
    profile: str,
    slow: bool,
    advance: Callable[[str, int], None],
) -> Report:
    """Play a server towards a component, and return the report.

    The component is started with `command`, or connects to the port `listen` by itself. If
    cancelled, the component is stopped.

    Raises:
        NothingTried: if the component cannot be started or never connects.
    """
    patience = Patience()
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        source: Source
        if listen is None:
            source = Launched(command, Path(name), domain, patience)
        else:
            source = Awaited(listen, Path(name), domain)
        findings = await examine(
            source, domain, PROFILES[profile], CHECKS, advance, patience=patience, slow=slow
        )
    title = f"the component {domain}, facing a server like {profile}"
    return Report(title, in_order([*findings, *UNTRIED]))


async def examine(
    source: Source,
    domain: str,
    profile: Profile,
    checks: Sequence[Check],
    advance: Callable[[str, int], None],
    *,
    patience: Patience,
    slow: bool = False,
) -> list[Finding]:
    """Run checks one after the other, then stop the component.

    Raises:
        Absent: if the component never connects. A later absence is a finding.
    """
    never_came: Absent | None = None
    findings: list[Finding] = []
    async with trio.open_nursery() as nursery:
        subject = Subject(source, nursery, domain, profile, patience, slow=slow)
        try:
            for check in checks:
                advance(check.name, len(checks))
                try:
                    observed = await _observe(check, subject)
                except Absent as error:
                    if not subject.was_here:
                        never_came = error
                        break
                    observed = not_testable(str(error).partition("\n")[0])
                if crash := await subject.crash():
                    observed = failed(crash)
                findings.append(Finding(check.rule, check.name, observed.verdict, observed.seen))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await subject.stop()
        nursery.cancel_scope.cancel()
    if never_came is not None:
        raise never_came
    return findings


async def _observe(check: Check, subject: Subject) -> Observation:
    """Run a check. A missing answer to a ping is evidence only of who answers pings.

    Raises:
        Absent: if the component does not connect.
    """
    try:
        return await check.run(subject)
    except Unanswered:
        if await subject.answers_pings():
            return await check.run(subject)
    return not_testable("the component answers no ping")
