"""Checks of everything that a component sent (S17, S24, S27, S28, S31, S33)."""

from collections.abc import Iterator
from typing import Final

from bridge.conformance.component.ledger import Asked
from bridge.conformance.component.observation import (
    Check,
    Observation,
    differs,
    failed,
    not_testable,
    passed,
)
from bridge.conformance.component.session import name_of
from bridge.conformance.component.subject import Subject
from xmppstream import Element, ErrorType, Stanza, StanzaCondition, write
from xmppstream.jid import domain_of
from xmppstream.names import CLIENT, COMPONENT, STANZA_ERRORS, STREAMS, expanded, local_of

_KNOWN: Final = frozenset({expanded(COMPONENT, "handshake"), expanded(STREAMS, "error")})


def _stanzas(subject: Subject) -> Iterator[Stanza]:
    """Yield everything that was sent, except for answers to iqs that no server should send."""
    for session in subject.sessions:
        for stanza in session.stanzas:
            asked = _asked(subject, stanza)
            if asked is None or asked.legal:
                yield stanza


def _asked(subject: Subject, stanza: Stanza) -> Asked | None:
    """Return the addresses of the iq that a stanza may answer; an iq without id has the id ""."""
    return subject.in_flight.asked.get(stanza.id or "") if stanza.kind == "iq" else None


async def no_client_namespace(subject: Subject) -> Observation:
    for session in subject.sessions:
        for element in session.elements:
            if element.namespace == CLIENT:
                return failed(f"{element.local} in {CLIENT}")
    return passed()


async def readable(subject: Subject) -> Observation:
    for session in subject.sessions:
        if session.fault is not None and not session.echoed:
            return failed(f"{session.fault.condition}: {session.fault.text}")
    return passed()


async def addressed(subject: Subject) -> Observation:
    for stanza in _stanzas(subject):
        for name in ("to", "from"):
            if not stanza.element.get(name):
                return failed(f"{name_of(stanza)} has no {name}")
    return passed()


async def from_own_domain(subject: Subject) -> Observation:
    for stanza in _stanzas(subject):
        if stanza.from_ and domain_of(stanza.from_) != subject.domain:
            seen = f"{name_of(stanza)} is from another domain, or another spelling of it"
            return failed(seen) if subject.profile.checks_from else differs(seen)
    return passed()


async def within_limit(subject: Subject) -> Observation:
    limit = subject.profile.max_stanza_bytes
    if limit is None:
        return passed("no limit by default")
    for stanza in _stanzas(subject):
        if len(write(stanza.element, COMPONENT).encode()) > limit:
            return failed(f"{name_of(stanza)} is over the limit")
    return passed()


async def only_stanzas(subject: Subject) -> Observation:
    for session in subject.sessions:
        for element in session.elements:
            if Stanza.of(element) is None and element.name not in _KNOWN:
                return failed(f"sends {element.name}")
    return passed()


async def error_shape(subject: Subject) -> Observation:
    errors = [
        (stanza, _asked(subject, stanza)) for stanza in _stanzas(subject) if stanza.type == "error"
    ]
    if not errors:
        return not_testable("no error was sent")
    faults = (fault for stanza, asked in errors for fault in _faults(stanza, asked))
    fault = next(faults, None)
    return passed() if fault is None else failed(fault)


def _faults(stanza: Stanza, asked: Asked | None) -> Iterator[str]:
    children = [one for one in stanza.element.elements if one.local == "error"]
    if len(children) != 1:
        yield f"{len(children)} error elements in one stanza"
        return
    error = children[0]
    if error.namespace != stanza.element.namespace:
        yield f"an error element in {error.namespace or 'no namespace'}"
    if error.get("type") not in ErrorType.__members__.values():
        yield f"the invalid error type {error.get('type')}"
    yield from _condition_faults(error)
    if stanza.kind == "iq" and asked is None:
        yield "an id that no request had"
    elif asked is not None and stanza.to != asked.from_:
        yield "not sent back to the sender of the request"


def _condition_faults(error: Element) -> Iterator[str]:
    names = [local_of(one.name) for one in error.elements if one.namespace == STANZA_ERRORS]
    conditions = [name for name in names if name != "text"]
    if len(conditions) != 1:
        yield f"{len(conditions)} conditions in one error"
    elif conditions[0] not in StanzaCondition.__members__.values():
        yield f"the unknown condition {conditions[0]}"


CHECKS: Final = (
    Check("S17", "no sent stanza is over the server's limit", within_limit),
    Check("S24", "no sent stanza is in jabber:client", no_client_namespace),
    Check("S27", "all sent bytes can be parsed", readable),
    Check("S28", "every sent stanza has to and from", addressed),
    Check("S28", "every sent stanza is from the component's domain", from_own_domain),
    Check("S31", "the structure of sent errors", error_shape),
    Check("S33", "no unknown top-level element is sent", only_stanzas),
)
"""Checks of all connections, run after all others."""
