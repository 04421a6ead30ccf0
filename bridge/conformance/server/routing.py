"""Checks of how a server handles stanzas: rules S23, S28 to S33, and S35."""

from typing import Final

from bridge.conformance.report import Verdict
from bridge.conformance.server.outcome import (
    PROBE,
    Judgement,
    judged,
    not_passed_on,
    passed_on,
)
from bridge.conformance.server.target import ANSWER_S, BARRIER, Check, Target, sends
from xmppstream.errors import ErrorType, StanzaCondition
from xmppstream.names import COMPONENT, PING, STANZA_ERRORS
from xmppstream.stanza import Stanza

MANY: Final = 100
_SELF: Final = f"{BARRIER}-self"
NOWHERE: Final = "nobody@no-such-host.invalid"  # RFC 2606: never resolves
_IQ: Final = f"<iq from='a@DOMAIN' to='b@DOMAIN' %s><ping xmlns='{PING}'/></iq>"
_MESSAGE: Final = f"<message %s id='{PROBE}'><body>x</body></message>"
_ADDRESSED: Final = not_passed_on("improper-addressing")
_OWN: Final = not_passed_on("invalid-from", otherwise=Verdict.FAIL)
_NO_JID: Final = not_passed_on(
    *("invalid-from", "improper-addressing"), errors=("jid-malformed",), otherwise=Verdict.FAIL
)
_UNANSWERABLE: Final = not_passed_on(errors=("bad-request",))
_BAD_REQUEST: Final = not_passed_on(errors=("bad-request",), ignored=Verdict.FAIL)  # iq is lost
_LEFT_ALONE: Final = not_passed_on("unsupported-stanza-type", ignored=Verdict.PASS)


async def namespace(target: Target) -> Judgement:
    outcome = await target.try_stanza((_MESSAGE % "from='a@DOMAIN' to='b@DOMAIN'").encode())
    if not outcome.passed_on:
        return Judgement(Verdict.NOT_TESTABLE, outcome.seen)
    names = {stanza.element.namespace for stanza in outcome.passed_on}
    return judged(names == {COMPONENT}, False, ", ".join(sorted(names)))


async def upper_case(target: Target) -> Judgement:
    sender = f"a@{target.domain.upper()}"
    xml = _MESSAGE % f"from='{sender}' to='DOMAIN'"
    return passed_on(Verdict.DIFFERS)(await target.try_stanza(xml.encode()))


async def error_of_server(target: Target) -> Judgement:
    error = await _unreachable(target, "")
    if error is None:
        return Judgement(Verdict.NOT_TESTABLE, f"no error within {ANSWER_S:g} s")
    found = error.child("error")
    defined = (
        [one.local for one in found.elements if one.namespace == STANZA_ERRORS] if found else []
    )
    conditions = [name for name in defined if name != "text"]
    faults = [
        fault
        for fault, holds in (
            ("a different id", error.id == PROBE),
            ("a different sender", error.from_ == NOWHERE),
            ("a different receiver", error.to == f"probe@{target.domain}"),
            ("not exactly one condition", len(conditions) == 1),
            ("an unknown condition", set(conditions) <= set(map(str, StanzaCondition))),
            ("an invalid type", found is not None and found.get("type") in list(ErrorType)),
        )
        if not holds
    ]
    kind = found.get("type") if found is not None else None
    seen = f"stanza error {', '.join(conditions)}/{kind}"
    return judged(not faults, True, "; ".join([seen, *faults]))


async def error_answered(target: Target) -> Judgement:
    error = (
        f"<message from='probe@DOMAIN' to='{NOWHERE}' id='{PROBE}-never' type='error'>"
        f"<error type='cancel'><item-not-found xmlns='{STANZA_ERRORS}'/></error></message>"
    )
    last = await _unreachable(target, error)
    if last is None:
        return Judgement(Verdict.NOT_TESTABLE, f"no answer within {ANSWER_S:g} s")
    answered = last.id == f"{PROBE}-never"
    return judged(not answered, True, "answered with an error" if answered else "not answered")


async def _unreachable(target: Target, first: str) -> Stanza | None:
    """Send `first`, then an iq to an address that cannot exist. Return the first error, or None."""
    wire = await target.attach()
    addresses = f"from='probe@DOMAIN' to='{NOWHERE}'"
    iq = f"<iq {addresses} id='{PROBE}' type='get'><ping xmlns='{PING}'/></iq>"
    await wire.send(target.fill((first + iq).encode()))

    def errors() -> list[Stanza]:
        return [stanza for stanza in target.probes(wire) if stanza.type == "error"]

    await wire.read_until(lambda: bool(errors()) or wire.ended, ANSWER_S)
    return errors()[0] if errors() else None


async def in_order(target: Target) -> Judgement:
    wire = await target.attach()
    numbers = [f"{PROBE}-{number}" for number in range(MANY)]
    messages = (_MESSAGE.replace(PROBE, number) for number in numbers)
    xml = "".join(message % "from='a@DOMAIN' to='b@DOMAIN'" for message in messages)
    await wire.send(target.fill(xml.encode()))
    outcome = await target.settle(wire)
    came = [stanza.id for stanza in outcome.stanzas]
    if came == numbers:
        return Judgement(Verdict.PASS, f"{MANY} in order")
    if sorted(map(str, came)) == sorted(numbers):
        return Judgement(Verdict.FAIL, "all arrived, out of order")
    return Judgement(Verdict.FAIL, f"{len(set(came) & set(numbers))} of {MANY} arrived")


async def barrier(target: Target) -> Judgement:
    wire = await target.attach()
    await wire.send(target.barrier(_SELF))

    def back() -> list[Stanza]:
        return [stanza for stanza in wire.stanzas if stanza.id == _SELF]

    await wire.read_until(lambda: bool(back()) or wire.ended, ANSWER_S)
    if not back():
        return Judgement(Verdict.DIFFERS, "not returned")
    kind = back()[0].type
    return judged(kind == "get", False, "returned" if kind == "get" else f"answered: {kind}")


async def barrier_behind(target: Target) -> Judgement:
    wire = await target.attach()
    message = _MESSAGE % "from='a@DOMAIN' to='b@DOMAIN'"
    await wire.send(target.fill((message * 20).encode()) + target.barrier(_SELF))

    def back() -> list[str | None]:
        return [stanza.id for stanza in wire.stanzas if stanza.id in (_SELF, PROBE)]

    await wire.read_until(lambda: len(back()) > 20 or wire.ended, ANSWER_S)
    ids = back()
    if _SELF not in ids or ids.count(PROBE) != 20:
        return Judgement(Verdict.DIFFERS, "not all are returned")
    behind = ids.index(_SELF) == 20
    return judged(behind, True, "after all messages" if behind else "overtakes messages")


CHECKS: Final = (
    Check("S23", "the namespace of stanzas that are passed on", namespace),
    sends("S28", "no to", _MESSAGE % "from='DOMAIN'", _ADDRESSED),
    sends(
        "S28",
        "no from",
        _MESSAGE % "to='DOMAIN'",
        not_passed_on("improper-addressing", "invalid-from"),
    ),
    sends("S28", "a foreign from", _MESSAGE % "from='a@example.invalid' to='DOMAIN'", _OWN),
    sends("S28", "a from on a subdomain", _MESSAGE % "from='a@sub.DOMAIN' to='DOMAIN'", _OWN),
    sends(
        "S28",
        "a full JID as from",
        _MESSAGE % "from='a@DOMAIN/r' to='b@DOMAIN'",
        passed_on(Verdict.FAIL),
    ),
    Check("S28", "a from in upper case", upper_case),
    sends(
        "S28",
        "a from with a trailing dot",
        _MESSAGE % "from='a@DOMAIN.' to='DOMAIN'",
        passed_on(Verdict.DIFFERS),
    ),
    sends(
        "S28", "a from with an empty local part", _MESSAGE % "from='@DOMAIN' to='DOMAIN'", _NO_JID
    ),
    sends("S28", "a to with an empty local part", _MESSAGE % "from='DOMAIN' to='@DOMAIN'", _NO_JID),
    sends("S29", "an iq without id", _IQ % "type='get'", _UNANSWERABLE),
    sends("S29", "an iq without type", _IQ % f"id='{PROBE}'", _BAD_REQUEST),
    sends("S29", "an iq of unknown type", _IQ % f"id='{PROBE}' type='bogus'", _BAD_REQUEST),
    sends(
        "S29",
        "an iq without a child",
        f"<iq from='a@DOMAIN' to='b@DOMAIN' id='{PROBE}' type='get'/>",
        _BAD_REQUEST,
    ),
    sends(
        "S29",
        "an iq with two children",
        (_IQ % f"id='{PROBE}' type='get'").replace("</iq>", "<x xmlns='urn:example:x'/></iq>"),
        _BAD_REQUEST,
    ),
    Check("S30", "a message of type error to an unknown host", error_answered),
    Check("S31", "the error for an iq to an unknown host", error_of_server),
    Check("S32", f"{MANY} messages", in_order),
    sends(
        "S33", "an unknown element in another namespace", "<x xmlns='urn:example:x'/>", _LEFT_ALONE
    ),
    sends(
        "S33",
        "an unknown element in the stream's namespace",
        "<x from='a@DOMAIN' to='b@DOMAIN'/>",
        _LEFT_ALONE,
    ),
    Check("S35", "a ping to the component's domain", barrier),
    Check("S35", "a ping to the component's domain after messages", barrier_behind),
)
