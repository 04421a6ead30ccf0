"""What became of something that was sent to a server, and the judgement of it.

How is decided: *pass* is what the RFC or XEP-0114 asks. *Fail* is the opposite of what it demands:
forbidden input that is let through, bytes that must be understood and are not, a stanza that comes
back changed or in the wrong place, an error that is not told. *Differs* is all between: a deviation
that is tolerated, another error than the one asked for, an end without a stream error, and what no
specification says, so that servers may do either. Each judge below is one such scale.
"""

from collections.abc import Callable

from attrs import frozen

from bridge.conformance.report import Verdict
from xmppstream.names import STANZA_ERRORS
from xmppstream.stanza import Stanza


@frozen
class Judgement:
    """A verdict, and what was seen: the same words for the same behaviour, whenever it is tried."""

    verdict: Verdict
    seen: str


@frozen
class Outcome:
    """What came of a probe.

    `stanzas` are those that came behind it (no barrier among them); `condition` is that of a stream
    error; `garbled` the fault in what the server sent; `ended` says that the stream or connection
    is over; `alive` that the barrier behind the probe came back. `opening`: the probe was part of
    attaching, so that it is accepted rather than ignored.
    """

    stanzas: tuple[Stanza, ...] = ()
    condition: str | None = None
    garbled: str = ""
    ended: bool = False
    alive: bool = False
    opening: bool = False

    @property
    def error(self) -> str | None:
        """The stanza error that came, as `condition/type`."""
        return next((described(one) for one in self.stanzas if one.type == "error"), None)

    @property
    def passed_on(self) -> tuple[Stanza, ...]:
        """What was routed back to us."""
        return tuple(stanza for stanza in self.stanzas if stanza.type != "error")

    @property
    def ignored(self) -> bool:
        """Whether nothing came of it."""
        return self.alive and not self.stanzas and not self.ended

    @property
    def seen(self) -> str:
        """All of it in a few words."""
        parts = []
        if self.passed_on:
            parts.append("passed on")
        if self.error:
            parts.append(f"stanza error {self.error}")
        if self.garbled:
            parts.append(f"what comes back cannot be read ({self.garbled})")
        elif self.condition:
            parts.append(f"stream error {self.condition}")
        elif self.ended:
            parts.append("closed without a stream error")
        elif not self.alive and not (self.opening and parts):
            parts.append("no answer, the stream stays open")
        elif not parts:
            parts.append("accepted" if self.opening else "ignored, the stream lives")
        return ", then ".join(parts)


Judge = Callable[[Outcome], Judgement]


def described(stanza: Stanza) -> str:
    """Give the condition and type of a stanza error."""
    error = stanza.child("error")
    if error is None:
        return "without <error/>"
    names = [one.local for one in error.elements if one.namespace == STANZA_ERRORS]
    condition = next((name for name in names if name != "text"), "(none)")
    return f"{condition}/{error.get('type')}"


def judged(good: bool, bad: bool, seen: str) -> Judgement:
    """Pass where it is good, else fail where it is bad, else it differs."""
    return Judgement(Verdict.PASS if good else Verdict.FAIL if bad else Verdict.DIFFERS, seen)


def refused(*conditions: str) -> Judge:
    """It must end the stream, by one of these stream errors: fail where it does not end it."""

    def judge(outcome: Outcome) -> Judgement:
        good = outcome.condition in conditions and not outcome.passed_on
        let_through = bool(outcome.passed_on or outcome.garbled) or not outcome.ended
        return judged(good, let_through, outcome.seen)

    return judge


def not_well_formed(outcome: Outcome) -> Judgement:
    """Namespaces that do not hold: a stream error `not-well-formed`, or a stanza error; never
    passed on (RFC 6120 §11.3).
    """
    good = outcome.condition == "not-well-formed" and not outcome.passed_on
    through = bool(outcome.passed_on or outcome.garbled) or not (outcome.ended or outcome.error)
    return judged(good, through, outcome.seen)


def turned_away(*conditions: str, let_in: Verdict) -> Judge:
    """It should be refused by one of these stream errors; `let_in` is what accepting it is."""

    def judge(outcome: Outcome) -> Judgement:
        if outcome.alive and not outcome.ended:
            return Judgement(let_in, outcome.seen)
        return judged(outcome.condition in conditions, False, outcome.seen)

    return judge


def accepted(otherwise: Verdict) -> Judge:
    """It should be accepted; `otherwise` is what a refusal is."""

    def judge(outcome: Outcome) -> Judgement:
        good = outcome.alive and not outcome.ended
        return Judgement(Verdict.PASS if good else otherwise, outcome.seen)

    return judge


def passed_on(otherwise: Verdict) -> Judge:
    """It should be passed on; `otherwise` is what a refusal is, but a stanza lost is a failure."""

    def judge(outcome: Outcome) -> Judgement:
        if outcome.garbled or not (outcome.stanzas or outcome.ended):
            return Judgement(Verdict.FAIL, outcome.seen)
        good = bool(outcome.passed_on) and not outcome.ended
        return Judgement(Verdict.PASS if good else otherwise, outcome.seen)

    return judge


def intact(text: str) -> Judge:
    """A message must be passed on with exactly this body."""

    def judge(outcome: Outcome) -> Judgement:
        bodies = [body.text for one in outcome.passed_on if (body := one.child("body")) is not None]
        if bodies and bodies != [text]:
            return Judgement(Verdict.FAIL, "passed on with another text")
        return passed_on(Verdict.FAIL)(outcome)

    return judge


def not_passed_on(
    *conditions: str,
    errors: tuple[str, ...] = (),
    ignored: Verdict = Verdict.DIFFERS,
    otherwise: Verdict = Verdict.DIFFERS,
) -> Judge:
    """It should be answered by one of these stream errors or stanza errors. `ignored` is what
    silence is, `otherwise` what passing it on is; any other error differs.
    """

    def judge(outcome: Outcome) -> Judgement:
        if outcome.passed_on or outcome.garbled:
            return Judgement(otherwise, outcome.seen)
        if outcome.ignored:
            return Judgement(ignored, outcome.seen)
        told = (outcome.error or "").partition("/")[0] in errors or outcome.condition in conditions
        return judged(told, False, outcome.seen)

    return judge
