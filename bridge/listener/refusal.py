"""Stanza errors as HTTP statuses: the one table, in spirit the contract's H4 the other way round.

Four statuses are never the other side's: 401 and 405 are about the request to us, 413 about its
size, and 503 is the bridge's own, with Retry-After. A client can tell by the member `error`, which
is there where the other side has refused.
"""

from typing import Final

from bridge.listener.problem import Problem
from xmppstream import Element, Stanza, StanzaCondition, write
from xmppstream.names import COMPONENT, STANZA_ERRORS, expanded

STATUS_OF: Final[dict[str, int]] = {
    StanzaCondition.BAD_REQUEST: 400,
    StanzaCondition.CONFLICT: 409,
    StanzaCondition.FEATURE_NOT_IMPLEMENTED: 501,
    StanzaCondition.FORBIDDEN: 403,
    StanzaCondition.GONE: 410,
    StanzaCondition.INTERNAL_SERVER_ERROR: 502,
    StanzaCondition.ITEM_NOT_FOUND: 404,
    StanzaCondition.JID_MALFORMED: 400,
    StanzaCondition.NOT_ACCEPTABLE: 406,
    StanzaCondition.NOT_ALLOWED: 403,
    StanzaCondition.NOT_AUTHORIZED: 403,
    StanzaCondition.POLICY_VIOLATION: 403,
    StanzaCondition.RECIPIENT_UNAVAILABLE: 502,
    StanzaCondition.REDIRECT: 410,
    StanzaCondition.REGISTRATION_REQUIRED: 403,
    StanzaCondition.REMOTE_SERVER_NOT_FOUND: 404,
    StanzaCondition.REMOTE_SERVER_TIMEOUT: 504,
    StanzaCondition.RESOURCE_CONSTRAINT: 429,
    StanzaCondition.SERVICE_UNAVAILABLE: 502,
    StanzaCondition.SUBSCRIPTION_REQUIRED: 403,
    StanzaCondition.UNDEFINED_CONDITION: 502,
    StanzaCondition.UNEXPECTED_REQUEST: 409,
}
_OTHER: Final = 502


def problem_of(answer: Stanza) -> Problem:
    """Make the problem that an error in answer to an iq is."""
    error = answer.child("error")
    found = None if error is None else _condition(error)
    condition = found or StanzaCondition.UNDEFINED_CONDITION.value
    text = None if error is None else error.find(expanded(STANZA_ERRORS, "text"))
    return Problem(
        STATUS_OF.get(condition, _OTHER),
        detail=f"{answer.from_ or 'The server'} answered with the error {condition}.",
        error={
            "condition": condition,
            "type": (None if error is None else error.get("type")) or "cancel",
            "text": None if text is None else text.text,
        },
        stanza=write(answer.element, COMPONENT),
    )


def _condition(error: Element) -> str | None:
    for child in error.elements:
        if child.namespace == STANZA_ERRORS and child.local in STATUS_OF:
            return child.local
    return None
