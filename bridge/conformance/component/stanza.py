"""Checks of how a component handles stanzas (S14, S16, S17, S29, S30, S33, S34).

A stanza that must not be answered is sent from an address that is used nowhere else, and followed
by a ping: its answer shows that the component has read the stanza and chose not to answer.
"""

from functools import partial
from typing import Final

import trio

from bridge.conformance.component.ledger import Asked
from bridge.conformance.component.observation import (
    Check,
    Observation,
    differs,
    failed,
    not_testable,
    passed,
)
from bridge.conformance.component.session import PING_PAYLOAD, Session, condition_of, name_of
from bridge.conformance.component.subject import Subject
from xmppstream import Stanza
from xmppstream.names import STANZA_ERRORS, STREAMS

_UNKNOWN: Final = "<query xmlns='urn:example:nobody-knows-this'/>"
_ERROR: Final = f"<error type='cancel'><item-not-found xmlns='{STANZA_ERRORS}'/></error>"
_FLOOD_BYTES: Final = 2_000_000
_OTHER_DOMAIN: Final = "other.example"


async def answered_once(type: str, payload: str, subject: Subject) -> Observation:
    session = await subject.attached()
    first = await session.ask(payload, type=type, within_s=session.answer_s)
    if first is None:
        return failed(session.silence)
    alive = await session.answers_ping()
    await trio.sleep(subject.patience.settle_s)
    count = len(session.answers(first.id or ""))
    if count > 1:
        return failed(f"{count} answers")
    return passed() if alive else failed(f"then {session.silence}")


async def refused(
    type: str, payload: str, condition: str | None, silence: str, subject: Subject
) -> Observation:
    """Send an iq that must be answered with an error; `condition` is the expected one, if any."""
    session = await subject.attached()
    id = session.in_flight.fresh_id()
    await session.send(session.iq(payload, id=id, type=type))
    await session.exchange()
    await session.until(lambda: bool(session.answers(id)) or session.over, 1)
    answer = next(iter(session.answers(id)), None)
    if answer is None:
        alive = await session.answers_ping()
        why = "no answer" if alive else session.silence
        return differs(why) if silence == "differs" and alive else failed(why)
    if answer.type != "error":
        return failed("answered with a result")
    seen = condition_of(answer)
    return passed(seen) if condition in (None, seen) else differs(seen)


async def silent(stanzas: str, subject: Subject) -> Observation:
    """Expect no stanza to the sender of `stanzas`; `{}` stands for addresses and id."""
    session = await subject.attached()
    answers = await _answers_to(session, stanzas, session.in_flight.fresh_id(), subject)
    if session.over:
        return failed(session.silence)
    return passed() if not answers else failed(f"answered with {name_of(answers[0])}")


async def no_errors(stanzas: str, subject: Subject) -> Observation:
    """Expect no error to the sender of `stanzas`; other answers are allowed."""
    session = await subject.attached()
    answers = await _answers_to(session, stanzas, session.in_flight.fresh_id(), subject)
    if session.over:
        return failed(session.silence)
    errors = [answer for answer in answers if answer.type == "error"]
    return passed() if not errors else failed(f"answered with {name_of(errors[0])}")


async def without_id(subject: Subject) -> Observation:
    session = await subject.attached()
    iq = f"<iq {{}} type='get'>{PING_PAYLOAD}</iq>"
    answers = await _answers_to(session, iq, "", subject)
    if session.over:
        return differs(session.silence)
    return passed() if not answers else differs(f"answered with {name_of(answers[0])}")


async def _answers_to(session: Session, stanzas: str, id: str, subject: Subject) -> list[Stanza]:
    sender = session.in_flight.fresh_address()
    session.in_flight.asked[id] = Asked(sender, session.domain)
    attributes = f"from='{sender}' to='{session.domain}'" + (f" id='{id}'" if id else "")
    await session.send(stanzas.replace("{}", attributes))
    await session.answers_ping()
    await trio.sleep(subject.patience.settle_s)
    return session.said_to(sender)


async def unknown_element(subject: Subject) -> Observation:
    session = await subject.attached()
    await session.send(f"<features xmlns='{STREAMS}'/><r xmlns='urn:xmpp:sm:3'/>")
    alive = await session.answers_ping()
    return passed() if alive else differs(session.silence)


async def other_domain(subject: Subject) -> Observation:
    session = await subject.attached()
    id, sender = session.in_flight.fresh_id(), session.in_flight.fresh_address()
    to = f"bot@{_OTHER_DOMAIN}"
    await session.send(session.iq(PING_PAYLOAD, id=id, from_=sender, to=to, legal=False))
    alive = await session.answers_ping()
    await trio.sleep(subject.patience.settle_s)
    if not alive:
        return failed(session.silence)
    answer = next(iter(session.answers(id)), None)
    if answer is None:
        return passed("no answer")
    if (answer.from_ or "").endswith(_OTHER_DOMAIN):
        seen = "answered from that domain"
        return failed(seen) if subject.profile.checks_from else differs(seen)
    return passed(f"answered from its own domain: {condition_of(answer)}")


async def without_sender(subject: Subject) -> Observation:
    session = await subject.attached()
    id = session.in_flight.fresh_id()
    session.in_flight.asked[id] = Asked(None, session.domain, legal=False)
    await session.send(f"<iq to='{session.domain}' type='get' id='{id}'>{PING_PAYLOAD}</iq>")
    alive = await session.answers_ping()
    await trio.sleep(subject.patience.settle_s)
    if not alive:
        return failed(session.silence)
    return differs("answered despite the missing from") if session.answers(id) else passed()


async def flood(subject: Subject) -> Observation:
    """Send a flood of results that nobody waits for: they must be read, and not answered."""
    session = await subject.attached()
    text = "x" * 4000
    one = session.iq(f"<q xmlns='u:q'>{text}</q>", id="unasked", type="result").encode()
    sent = answered = False
    with trio.move_on_after(subject.patience.flood_s):
        sent = await session.send(one * (_FLOOD_BYTES // len(one)))
        answered = sent and await session.answers_ping(within_s=subject.patience.flood_s)
    if answered:
        return passed()
    session.spoilt = True
    return failed(session.silence if session.over else "stops reading")


async def ten_thousand(subject: Subject) -> Observation:
    session = await subject.attached()
    answer = await session.ping("x" * 10_000)
    return passed() if answer is not None else failed(session.silence)


async def two_million(subject: Subject) -> Observation:
    session = await subject.attached()
    answer = await session.ping("x" * _FLOOD_BYTES, within_s=subject.patience.flood_s)
    if answer is None:
        session.spoilt = True
        return differs(session.silence) if session.over else failed(session.silence)
    alive = await session.answers_ping()
    seen = condition_of(answer) if answer.type == "error" else "answered"
    return passed(seen) if alive else failed(f"{seen}, then {session.silence}")


async def keepalive(subject: Subject) -> Observation:
    if not subject.slow:
        return not_testable("only with --slow")
    session = await subject.attached(fresh=True)
    await session.exchange()
    await trio.sleep(subject.patience.quiet_s)
    said, spaces = len(session.elements), session.keepalives

    def spoke() -> bool:
        return session.keepalives > spaces or len(session.elements) > said

    if await session.until(lambda: spoke() or session.over, subject.patience.silence_s):
        if not spoke():
            return failed(session.silence)
        return passed("a space" if session.keepalives > spaces else "a stanza")
    limit_s = subject.profile.idle_close_s
    if limit_s is None:
        return differs("silence")
    return failed(f"silence; {subject.profile.name} closes after {limit_s / 60:g} min")


_MESSAGE_ERROR: Final = f"<message {{}} type='error'><body>lost</body>{_ERROR}</message>"
_CHECKS_REFUSED: Final = (
    ("an unknown payload is refused", "get", _UNKNOWN, None, "fails"),
    ("a get without a child is refused", "get", "", "bad-request", "fails"),
    ("a get with two children is refused", "get", PING_PAYLOAD + _UNKNOWN, "bad-request", "fails"),
    ("an iq of unknown type is refused", "fetch", PING_PAYLOAD, "bad-request", "differs"),
)
CHECKS: Final = (
    Check("S17", "an iq of 10,000 bytes", ten_thousand),
    Check("S29", "one answer to a get", partial(answered_once, "get", PING_PAYLOAD)),
    Check("S29", "one answer to a set", partial(answered_once, "set", _UNKNOWN)),
    *(
        Check("S29", name, partial(refused, type, payload, condition, silence))
        for name, type, payload, condition, silence in _CHECKS_REFUSED
    ),
    Check("S29", "no answer to a result", partial(silent, "<iq {} type='result'/>")),
    Check("S29", "no answer to an iq without id", without_id),
    Check(
        "S30",
        "no answer to an iq of type error",
        partial(silent, f"<iq {{}} type='error'>{PING_PAYLOAD}{_ERROR}</iq>"),
    ),
    Check("S30", "no answer to a message of type error", partial(silent, _MESSAGE_ERROR)),
    Check(
        "S30",
        "no answer to a presence of type error",
        partial(silent, f"<presence {{}} type='error'>{_ERROR}</presence>"),
    ),
    Check(
        "S30",
        "no error to presence, groupchat and headline",
        partial(
            no_errors,
            "<presence {}/><message {} type='groupchat'><body>a</body></message>"
            "<message {} type='headline'><body>b</body></message>",
        ),
    ),
    Check("S33", "an unknown top-level element", unknown_element),
    Check("S34", "an iq for another domain", other_domain),
    Check("S34", "an iq without from", without_sender),
    Check("S16", "2 MB of stanzas", flood),
    Check("S17", "an iq of 2 MB", two_million),
    Check("S14", "a space in two minutes of silence", keepalive),
)
