"""How a server reacted to a probe, and the judgement of it.

The verdicts: *pass* is the behaviour that the RFC or XEP-0114 asks for. *Fail* is the opposite:
forbidden input is let through, bytes that must be understood are not, a stanza comes back changed
or in the wrong place, an error is not reported. *Differs* is everything between: a tolerated
deviation, a different error than the specified one, an end without a stream error, and behaviour
that no specification defines, so that servers are free. Each judge below is one such scale.

Invariant: only what is recognisably a probe, or the answer to one, counts (`is_probe`). A server
may say more on a component's stream: jabberd2 and Openfire ask each new component questions.
"""

from collections.abc import Callable
from typing import Final

from attrs import frozen

from bridge.conformance.report import Verdict
from xmppstream.jid import bare, domain_of, same_domain
from xmppstream.names import STANZA_ERRORS
from xmppstream.stanza import Stanza

PROBE: Final = "conformance-probe"
"""The id of a probe, or its beginning. No server makes up such an id."""


@frozen
class Judgement:
    """A verdict and a text, which is the same for the same behaviour in every run."""

    verdict: Verdict
    seen: str


@frozen
class Outcome:
    """The server's reaction to a probe.

    `stanzas` are what came of the probe (`is_probe`). `condition` is that of a stream error,
    `garbled` the error in the server's XML. `ended`: the stream or connection is over. `alive`: the
    barrier sent after the probe came back. `opening`: the probe was part of attaching, so silence
    is reported as "accepted", not as "ignored".
    """

    stanzas: tuple[Stanza, ...] = ()
    condition: str | None = None
    garbled: str = ""
    ended: bool = False
    alive: bool = False
    opening: bool = False

    @property
    def error(self) -> str | None:
        """The received stanza error, as `condition/type`."""
        return next((described(one) for one in self.stanzas if one.type == "error"), None)

    @property
    def passed_on(self) -> tuple[Stanza, ...]:
        """Stanzas that were routed back to us."""
        return tuple(stanza for stanza in self.stanzas if stanza.type != "error")

    @property
    def ignored(self) -> bool:
        """Whether the probe had no effect."""
        return self.alive and not self.stanzas and not self.ended

    @property
    def seen(self) -> str:
        """The whole outcome in a few words."""
        parts = []
        if self.passed_on:
            parts.append("passed on")
        if self.error:
            parts.append(f"stanza error {self.error}")
        if self.garbled:
            parts.append(f"the returned XML cannot be parsed ({self.garbled})")
        elif self.condition:
            parts.append(f"stream error {self.condition}")
        elif self.ended:
            parts.append("closed without a stream error")
        elif not self.alive and not (self.opening and parts):
            parts.append("no answer, the stream stays open")
        elif not parts:
            parts.append("accepted" if self.opening else "ignored, the stream continues")
        return ", then ".join(parts)


Judge = Callable[[Outcome], Judgement]


def is_probe(stanza: Stanza, domain: str) -> bool:
    """Return whether this is a probe that was passed on, or the answer to one.

    That is known by the id. A probe may have none, and an error may lack or change it: these are
    known by an address with a local part on `domain`, which only probes use.
    """
    if (stanza.id or "").startswith(PROBE):
        return True
    if stanza.id and stanza.type != "error":
        return False
    return any(_is_local(address, domain) for address in (stanza.from_, stanza.to) if address)


def _is_local(address: str, domain: str) -> bool:
    return "@" in bare(address) and same_domain(domain_of(address), domain)


def described(stanza: Stanza) -> str:
    """Return the condition and type of a stanza error."""
    error = stanza.child("error")
    if error is None:
        return "without <error/>"
    names = [one.local for one in error.elements if one.namespace == STANZA_ERRORS]
    condition = next((name for name in names if name != "text"), "(none)")
    return f"{condition}/{error.get('type')}"


def judged(good: bool, bad: bool, seen: str) -> Judgement:
    """Return *pass* if `good`, else *fail* if `bad`, else *differs*."""
    return Judgement(Verdict.PASS if good else Verdict.FAIL if bad else Verdict.DIFFERS, seen)


def refused(*conditions: str) -> Judge:
    """Return a judge: the probe must end the stream, with one of these stream errors."""

    def judge(outcome: Outcome) -> Judgement:
        good = outcome.condition in conditions and not outcome.passed_on
        let_through = bool(outcome.passed_on or outcome.garbled) or not outcome.ended
        return judged(good, let_through, outcome.seen)

    return judge


def not_well_formed(outcome: Outcome) -> Judgement:
    """Judge XML with invalid namespaces: a stream error `not-well-formed` is right.

    A stanza error or another end differs; passing it on is a failure (RFC 6120 §11.3).
    """
    good = outcome.condition == "not-well-formed" and not outcome.passed_on
    through = bool(outcome.passed_on or outcome.garbled) or not (outcome.ended or outcome.error)
    return judged(good, through, outcome.seen)


def turned_away(*conditions: str, let_in: Verdict) -> Judge:
    """Return a judge: one of these stream errors is right; `let_in` is the verdict if accepted."""

    def judge(outcome: Outcome) -> Judgement:
        if outcome.alive and not outcome.ended:
            return Judgement(let_in, outcome.seen)
        return judged(outcome.condition in conditions, False, outcome.seen)

    return judge


def accepted(otherwise: Verdict) -> Judge:
    """Return a judge: acceptance is right; `otherwise` is the verdict on a refusal."""

    def judge(outcome: Outcome) -> Judgement:
        good = outcome.alive and not outcome.ended
        return Judgement(Verdict.PASS if good else otherwise, outcome.seen)

    return judge


def passed_on(otherwise: Verdict) -> Judge:
    """Return a judge: passing it on is right; `otherwise` is the verdict on a refusal.

    A lost stanza is always a failure.
    """

    def judge(outcome: Outcome) -> Judgement:
        if outcome.garbled or not (outcome.stanzas or outcome.ended):
            return Judgement(Verdict.FAIL, outcome.seen)
        good = bool(outcome.passed_on) and not outcome.ended
        return Judgement(Verdict.PASS if good else otherwise, outcome.seen)

    return judge


def intact(text: str) -> Judge:
    """Return a judge: a message must be passed on with exactly this body."""

    def judge(outcome: Outcome) -> Judgement:
        bodies = [body.text for one in outcome.passed_on if (body := one.child("body")) is not None]
        if bodies and bodies != [text]:
            return Judgement(Verdict.FAIL, "passed on with a different text")
        return passed_on(Verdict.FAIL)(outcome)

    return judge


def not_passed_on(
    *conditions: str,
    errors: tuple[str, ...] = (),
    ignored: Verdict = Verdict.DIFFERS,
    otherwise: Verdict = Verdict.DIFFERS,
) -> Judge:
    """Return a judge: one of these stream errors (`conditions`) or stanza errors is right.

    `ignored` is the verdict on silence, `otherwise` on passing it on. Any other error differs.
    """

    def judge(outcome: Outcome) -> Judgement:
        if outcome.passed_on or outcome.garbled:
            return Judgement(otherwise, outcome.seen)
        if outcome.ignored:
            return Judgement(ignored, outcome.seen)
        told = (outcome.error or "").partition("/")[0] in errors or outcome.condition in conditions
        return judged(told, False, outcome.seen)

    return judge
