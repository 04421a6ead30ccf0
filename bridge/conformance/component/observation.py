"""What one check of a component saw, and the row that a check is in its table."""

from collections.abc import Awaitable, Callable

from attrs import frozen

from bridge.conformance.component.subject import Subject
from bridge.conformance.report import Verdict


@frozen
class Observation:
    """A verdict, and what was seen: in words that are the same each time (no ids, no times)."""

    verdict: Verdict
    seen: str = ""


@frozen
class Check:
    """One row: the rule, what is tried, and the function that tries it.

    `run` may raise `Absent` where the component does not come: it is then not testable.
    """

    rule: str
    name: str
    run: Callable[[Subject], Awaitable[Observation]]


def passed(seen: str = "") -> Observation:
    """The rule holds."""
    return Observation(Verdict.PASS, seen)


def failed(seen: str) -> Observation:
    """The rule is broken."""
    return Observation(Verdict.FAIL, seen)


def differs(seen: str) -> Observation:
    """It behaves in another way, which no specification forbids, or which does little harm."""
    return Observation(Verdict.DIFFERS, seen)


def not_applicable(why: str) -> Observation:
    """The rule says nothing about this component facing this server."""
    return Observation(Verdict.NOT_APPLICABLE, why)


def not_testable(why: str) -> Observation:
    """It cannot be seen from outside, or not now."""
    return Observation(Verdict.NOT_TESTABLE, why)
