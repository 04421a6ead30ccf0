"""Checks of a stanza that is to be sent: by itself and against the request (S27 to S31)."""

from bridge.payload.error import UnusableReply, error_for, quote
from xmppstream import (
    Element,
    ErrorType,
    Stanza,
    StanzaCondition,
    StanzaError,
)
from xmppstream.jid import bare
from xmppstream.names import STANZA_ERRORS, expanded
from xmppstream.stanza import TYPES


def check_type(stanza: Stanza) -> None:
    """Check a stanza by itself against the RFC (S29, S31)."""
    kind, type = stanza.kind, stanza.type
    if type is None and kind == "iq":
        raise UnusableReply("an iq needs a type")
    if type is not None and type not in TYPES[kind]:
        raise UnusableReply(f"type {quote(type)} is not valid for {kind} stanzas")
    if stanza.id == "":
        raise UnusableReply("id is empty")
    if type == "error":
        _check_error(stanza.child("error"))
    elif kind == "iq":
        count = len(stanza.element.elements)
        if type in ("get", "set") and count != 1:
            raise UnusableReply(f"an iq of type {type} needs exactly one child element")
        if type == "result" and count > 1:
            raise UnusableReply("an iq result can have at most one child element")


def _check_error(error: Element | None) -> None:
    if error is None:
        raise UnusableReply('type "error" needs an <error/>')
    if error.get("type") not in set(ErrorType):
        raise UnusableReply("the type of the <error/> is not one of RFC 6120 §8.3.2")
    conditions = {expanded(STANZA_ERRORS, condition) for condition in StanzaCondition}
    if sum(child.name in conditions for child in error.elements) != 1:
        raise UnusableReply("the <error/> must have exactly one condition of RFC 6120 §8.3.3")


def check_answer(stanza: Stanza, request: Stanza, in_room: bool) -> None:
    """Check a stanza against the request that it answers (S29, S30)."""
    if is_answer(stanza):
        if not request.is_request:
            raise UnusableReply(f"an iq of type {stanza.type}, but there is no iq to answer")
        if stanza.id != request.id:
            raise UnusableReply("an iq answer whose id is not the request's")
        if stanza.to != request.from_:
            raise UnusableReply("an iq answer to an address other than the requester's")
    elif stanza.type == "error" and stanza.to in (request.from_, bare(request.from_ or "")):
        probe = StanzaError(StanzaCondition.UNDEFINED_CONDITION, ErrorType.CANCEL)
        if error_for(request, probe, in_room=in_room) is None:
            raise UnusableReply("an error to a sender that must not get one (RFC 6120, XEP-0045)")


def is_answer(stanza: Stanza) -> bool:
    return stanza.kind == "iq" and stanza.type in ("result", "error")


def is_answer_to(stanzas: list[Stanza], request: Stanza) -> bool:
    """Return whether one of a reply's stanzas answers the iq get or set `request`."""
    return any(is_answer(one) and one.id == request.id for one in stanzas)
