"""The outcomes of a POST, and the stanza error for each failure: the table of H4.

`bridge.payload.error` decides which senders may get an error at all (rules S29, S30).
"""

from typing import ClassVar, Final, assert_never

import msgspec

from bridge.payload.body import ReplyBody
from bridge.payload.error import BUSY, INTERNAL, TIMEOUT
from bridge.telemetry.meter import PostResult
from xmppstream import ErrorType, StanzaCondition, StanzaError


class Replied(ReplyBody, frozen=True, gc=False):
    """Status 200 with a body that should hold stanzas, not yet read."""

    # Every POST makes one of these classes. Making an attrs value takes four times as long as a
    # Struct. No instance is ever in a reference cycle, so the collector can skip them.
    name: ClassVar[PostResult] = "replied"
    is_success: ClassVar[bool] = True


class NoReply(msgspec.Struct, frozen=True, gc=False):
    """The stanza was accepted without a reply (H3). `ignored` is the media type of a body that
    is not read, since its format or the status is not that of a reply. `deferred`: the endpoint
    promises to reply later.
    """

    name: ClassVar[PostResult] = "no_reply"
    is_success: ClassVar[bool] = True

    ignored: str | None = None
    status: int = 200
    deferred: bool = False


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A status outside 2xx. `retry_after_s` is the delay that the endpoint asks for, `location`
    the address that a 3xx names, without credentials and query.
    """

    name: ClassVar[PostResult] = "rejected"
    is_success: ClassVar[bool] = False

    status: int
    retry_after_s: float | None = None
    location: str | None = None


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """No connection, or a broken or malformed answer. `is_down`: this says that the whole endpoint
    is down, not only that there is none for the address of this stanza.
    """

    name: ClassVar[PostResult] = "unreachable"
    is_success: ClassVar[bool] = False

    why: str
    is_down: bool = True


CUT: Final = "no answer before the stanza expired"


class TimedOut(msgspec.Struct, frozen=True, gc=False):
    """No complete answer in time. `was_cut`: the stanza's own budget ended first, so this says
    nothing about the endpoint. `is_down` as for `Unreachable`.
    """

    name: ClassVar[PostResult] = "timed_out"
    is_success: ClassVar[bool] = False

    why: str = "no answer in time"
    was_cut: bool = False
    is_down: bool = True


class BadReply(msgspec.Struct, frozen=True, gc=False):
    """Status 200 with a body that should hold stanzas, but holds none that may be sent."""

    name: ClassVar[PostResult] = "bad_reply"
    is_success: ClassVar[bool] = False

    why: str


Failure = Rejected | Unreachable | TimedOut | BadReply
Outcome = Replied | NoReply | Failure

_BAD_REQUEST: Final = (StanzaCondition.BAD_REQUEST, ErrorType.MODIFY)
_NOT_AUTHORIZED: Final = (StanzaCondition.NOT_AUTHORIZED, ErrorType.AUTH)
_FORBIDDEN: Final = (StanzaCondition.FORBIDDEN, ErrorType.AUTH)
_CONFLICT: Final = (StanzaCondition.CONFLICT, ErrorType.CANCEL)
_TOO_LARGE: Final = (StanzaCondition.RESOURCE_CONSTRAINT, ErrorType.MODIFY)
_NOT_IMPLEMENTED: Final = (StanzaCondition.FEATURE_NOT_IMPLEMENTED, ErrorType.CANCEL)

ERROR_OF_STATUS: Final[dict[int, tuple[StanzaCondition, ErrorType]]] = {
    400: _BAD_REQUEST,
    401: _NOT_AUTHORIZED,
    402: _FORBIDDEN,
    403: _FORBIDDEN,
    404: (StanzaCondition.ITEM_NOT_FOUND, ErrorType.CANCEL),
    405: (StanzaCondition.NOT_ALLOWED, ErrorType.CANCEL),
    406: (StanzaCondition.NOT_ACCEPTABLE, ErrorType.MODIFY),
    408: TIMEOUT,
    409: _CONFLICT,
    410: (StanzaCondition.GONE, ErrorType.CANCEL),
    411: _BAD_REQUEST,
    412: _CONFLICT,
    413: _TOO_LARGE,
    414: _TOO_LARGE,
    415: _NOT_IMPLEMENTED,
    416: _BAD_REQUEST,
    422: _BAD_REQUEST,
    423: BUSY,
    425: BUSY,
    429: BUSY,
    431: _TOO_LARGE,
    451: _FORBIDDEN,
    500: (StanzaCondition.INTERNAL_SERVER_ERROR, ErrorType.CANCEL),
    501: _NOT_IMPLEMENTED,
    502: (StanzaCondition.REMOTE_SERVER_TIMEOUT, ErrorType.CANCEL),
    503: TIMEOUT,
    504: TIMEOUT,
    507: BUSY,
    511: _NOT_AUTHORIZED,
}
"""The table of H4. Any other status is `service-unavailable`/`cancel`."""

REFUSES_US: Final = frozenset({401, 403, 407})
"""Statuses that mean, to an operator, that the endpoint refuses the bridge."""


def error_of(failure: Failure) -> StanzaError:
    """Return the stanza error for a failure. Its text is ours and never quotes the endpoint."""
    match failure:
        case Rejected(status=status):
            default = (StanzaCondition.SERVICE_UNAVAILABLE, ErrorType.CANCEL)
            condition, type = ERROR_OF_STATUS.get(status, default)
            text = "The service has refused this." if 400 <= status < 500 else INTERNAL.text
            return StanzaError(condition, type, text)
        case Unreachable():
            return StanzaError(*TIMEOUT, "The service cannot be reached.")
        case TimedOut():
            return StanzaError(*TIMEOUT, "The service has not answered in time.")
        case BadReply():
            return INTERNAL
    assert_never(failure)


def reason_of(outcome: Outcome) -> str:
    """Describe an outcome in a few words, for the operator."""
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
