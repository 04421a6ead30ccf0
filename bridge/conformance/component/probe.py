"""How a component behaves towards servers, rule by rule: the table of all checks, and its run.

Adding a check is one function and one row, in the module of its kind: `opening`, `ending`,
`grammar`, `exchange`, `transcript`. The order is that of effort: connections are reused as long as
they are whole, and what makes a component stay away comes last.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from bridge.conformance.component import ending, grammar, opening, transcript
from bridge.conformance.component import stanza as exchange
from bridge.conformance.component.observation import Check, not_testable
from bridge.conformance.component.profile import PROFILES, Profile
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
    Finding("S15", "white space", Verdict.NOT_APPLICABLE, "there is nothing to look for"),
    Finding("S26", "the language", Verdict.NOT_TESTABLE, "not seen from outside"),
    Finding("S32", "the order", Verdict.NOT_TESTABLE, "what it does with messages is its own"),
    Finding("S35", "the way back", Verdict.NOT_APPLICABLE, "a rule for servers; this one obeys"),
    Finding("S36", "the echo of a room", Verdict.NOT_TESTABLE, "it need not join any"),
)


async def probe_component(
    command: tuple[str, ...],
    listen: int | None,
    domain: str,
    profile: str,
    slow: bool,
    advance: Callable[[str, int], None],
) -> Report:
    """Play a server against a component, started by `command` or coming to the port `listen`.

    Raises:
        NothingTried: it cannot be started, or never came.

    Cancellation stops it.
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
    """Run checks, one after the other, and stop the component.

    Raises:
        Absent: it never came. A later absence is a finding.
    """
    never_came: Absent | None = None
    findings: list[Finding] = []
    async with trio.open_nursery() as nursery:
        subject = Subject(source, nursery, domain, profile, patience, slow=slow)
        try:
            for check in checks:
                advance(check.name, len(checks))
                try:
                    observed = await check.run(subject)
                except Absent as error:
                    if not subject.was_here:
                        never_came = error
                        break
                    observed = not_testable(str(error).partition("\n")[0])
                findings.append(Finding(check.rule, check.name, observed.verdict, observed.seen))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await subject.stop()
        nursery.cancel_scope.cancel()
    if never_came is not None:
        raise never_came
    return findings
