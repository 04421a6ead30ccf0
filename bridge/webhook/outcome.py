"""What can come of a POST, and what the sender of the stanza is then told: the table H4.

Also the one place that decides who may be told anything at all (rules S29, S30).
"""

from typing import Final, Literal, assert_never

import msgspec

from xmppstream import ErrorType, LocalError, Stanza, StanzaCondition, StanzaError
from xmppstream.names import MUC_USER, expanded


class Replied(msgspec.Struct, frozen=True, gc=False):
    """Status 200 with a body that holds stanzas, not yet read."""

    # A Struct, since one is made for each POST: an attrs value takes four times as long to make;
    # it is never in a cycle, so that the collector need not look at it. So with the others.
    media: Literal["json", "xml"]
    content: bytes


class NoReply(msgspec.Struct, frozen=True, gc=False):
    """The stanza was accepted, with nothing to say (H3); `ignored` is the media type of a body
    that was there but could not be meant for us.
    """

    ignored: str | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A status outside 2xx; `retry_after_s` as the endpoint asks."""

    status: int
    retry_after_s: float | None = None


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """No connection, or a broken or garbled answer."""

    why: str


class TimedOut(msgspec.Struct, frozen=True, gc=False):
    """No whole answer in time."""


class BadReply(msgspec.Struct, frozen=True, gc=False):
    """Status 200 with a body that promises stanzas and holds none that may be sent."""

    why: str


Failure = Rejected | Unreachable | TimedOut | BadReply
Outcome = Replied | NoReply | Failure

_BAD_REQUEST: Final = (StanzaCondition.BAD_REQUEST, ErrorType.MODIFY)
_NOT_AUTHORIZED: Final = (StanzaCondition.NOT_AUTHORIZED, ErrorType.AUTH)
_FORBIDDEN: Final = (StanzaCondition.FORBIDDEN, ErrorType.AUTH)
_TIMEOUT: Final = (StanzaCondition.REMOTE_SERVER_TIMEOUT, ErrorType.WAIT)
_CONFLICT: Final = (StanzaCondition.CONFLICT, ErrorType.CANCEL)
_TOO_LARGE: Final = (StanzaCondition.RESOURCE_CONSTRAINT, ErrorType.MODIFY)
_NOT_IMPLEMENTED: Final = (StanzaCondition.FEATURE_NOT_IMPLEMENTED, ErrorType.CANCEL)
_BUSY: Final = (StanzaCondition.RESOURCE_CONSTRAINT, ErrorType.WAIT)

ERROR_OF_STATUS: Final[dict[int, tuple[StanzaCondition, ErrorType]]] = {
    400: _BAD_REQUEST,
    401: _NOT_AUTHORIZED,
    402: _FORBIDDEN,
    403: _FORBIDDEN,
    404: (StanzaCondition.ITEM_NOT_FOUND, ErrorType.CANCEL),
    405: (StanzaCondition.NOT_ALLOWED, ErrorType.CANCEL),
    406: (StanzaCondition.NOT_ACCEPTABLE, ErrorType.MODIFY),
    408: _TIMEOUT,
    409: _CONFLICT,
    410: (StanzaCondition.GONE, ErrorType.CANCEL),
    411: _BAD_REQUEST,
    412: _CONFLICT,
    413: _TOO_LARGE,
    414: _TOO_LARGE,
    415: _NOT_IMPLEMENTED,
    416: _BAD_REQUEST,
    422: _BAD_REQUEST,
    423: _BUSY,
    425: _BUSY,
    429: _BUSY,
    431: _TOO_LARGE,
    451: _FORBIDDEN,
    500: (StanzaCondition.INTERNAL_SERVER_ERROR, ErrorType.CANCEL),
    501: _NOT_IMPLEMENTED,
    502: (StanzaCondition.REMOTE_SERVER_TIMEOUT, ErrorType.CANCEL),
    503: _TIMEOUT,
    504: _TIMEOUT,
    507: _BUSY,
    511: _NOT_AUTHORIZED,
}
"""The table H4; any other status is `service-unavailable`/`cancel`."""

REFUSES_US: Final = frozenset({401, 403, 407})
"""Statuses that an operator should read as: the endpoint refuses the bridge."""

OVERLOADED: Final = StanzaError(*_BUSY, "Too much is waiting here; try again later.")
EXCESSIVE: Final = StanzaError(*_BUSY, "You send more than is taken here; try again later.")
UNKEPT: Final = StanzaError(*_BUSY, "This cannot be kept here now; try again later.")
STOPPING: Final = StanzaError(*_TIMEOUT, "The service is stopping; try again later.")
INTERNAL: Final = StanzaError(
    StanzaCondition.INTERNAL_SERVER_ERROR, ErrorType.CANCEL, "The service has failed."
)


def error_of(failure: Failure) -> StanzaError:
    """Give the stanza error for a failure. Its text is ours: nothing of the endpoint's."""
    match failure:
        case Rejected(status=status):
            default = (StanzaCondition.SERVICE_UNAVAILABLE, ErrorType.CANCEL)
            condition, type = ERROR_OF_STATUS.get(status, default)
            return StanzaError(condition, type, "The service has refused this.")
        case Unreachable():
            return StanzaError(*_TIMEOUT, "The service cannot be reached.")
        case TimedOut():
            return StanzaError(*_TIMEOUT, "The service has not answered in time.")
        case BadReply():
            return INTERNAL
    assert_never(failure)


def reason_of(outcome: Outcome) -> str:
    """Tell in a few words what came of an attempt, for the operator."""
    match outcome:
        case Rejected(status=status):
            return f"status {status}"
        case Unreachable(why=why):
            return f"unreachable: {why}"
        case TimedOut():
            return "no answer in time"
        case BadReply(why=why):
            return f"bad reply: {why}"
        case Replied() | NoReply():
            return "accepted"
    assert_never(outcome)


def error_for(stanza: Stanza, error: StanzaError, *, in_room: bool) -> Stanza | None:
    """Make the error for the sender of a stanza; None where none may be sent (S29, S30).

    `in_room` tells whether the sender is in a room where we have an occupant (S36).
    """
    if not stanza.is_request and (may_not_be_told(stanza) or in_room):
        return None
    try:
        return stanza.error_reply(error)
    except LocalError:
        return None


def may_not_be_told(stanza: Stanza) -> bool:
    """Tell whether the sender of a stanza that is no request must not get an error (S30)."""
    if stanza.type == "error" or stanza.kind == "presence":
        return True
    if stanza.kind == "message" and stanza.type in ("groupchat", "headline"):
        return True
    return stanza.element.find(expanded(MUC_USER, "x")) is not None
