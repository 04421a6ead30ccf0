"""The result of one check of a component, and a check as a row of its table."""

from collections.abc import Awaitable, Callable

from attrs import frozen

from bridge.conformance.component.subject import Subject
from bridge.conformance.report import Verdict


@frozen
class Observation:
    """A verdict, and a text that is the same in every run (no ids, no times)."""

    verdict: Verdict
    seen: str = ""


@frozen
class Check:
    """One row: the rule, the name of the check, and the function that runs it.

    `run` may raise `Absent` if the component does not connect: the check is then not testable.
    """

    rule: str
    name: str
    run: Callable[[Subject], Awaitable[Observation]]


def passed(seen: str = "") -> Observation:
    """Return an observation that the rule holds."""
    return Observation(Verdict.PASS, seen)


def failed(seen: str) -> Observation:
    """Return an observation that the rule is broken."""
    return Observation(Verdict.FAIL, seen)


def differs(seen: str) -> Observation:
    """Return an observation of a deviation that is not forbidden, or does little harm."""
    return Observation(Verdict.DIFFERS, seen)


def not_applicable(why: str) -> Observation:
    """Return an observation that the rule does not apply to this component and server."""
    return Observation(Verdict.NOT_APPLICABLE, why)


def not_testable(why: str) -> Observation:
    """Return an observation that the rule cannot be tested from outside, or not in this run."""
    return Observation(Verdict.NOT_TESTABLE, why)
