"""The bridge's own stanza errors, which senders may get one (S29, S30), and bad replies."""

from typing import Final

from xmppstream import ErrorType, LocalError, Stanza, StanzaCondition, StanzaError
from xmppstream.names import MUC_USER, expanded

_SHOWN: Final = 60
TIMEOUT: Final = (StanzaCondition.REMOTE_SERVER_TIMEOUT, ErrorType.WAIT)
BUSY: Final = (StanzaCondition.RESOURCE_CONSTRAINT, ErrorType.WAIT)
OVERLOADED: Final = StanzaError(*BUSY, "Too much is waiting here; try again later.")
EXCESSIVE: Final = StanzaError(*BUSY, "You send more than is taken here; try again later.")
UNKEPT: Final = StanzaError(*BUSY, "This cannot be kept here now; try again later.")
STOPPING: Final = StanzaError(*TIMEOUT, "The service is stopping; try again later.")
INTERNAL: Final = StanzaError(
    StanzaCondition.INTERNAL_SERVER_ERROR, ErrorType.CANCEL, "The service has failed."
)


class UnusableReply(Exception):
    """A reply cannot be sent. The message is for the endpoint's developer, and quotes little."""


def error_for(stanza: Stanza, error: StanzaError, *, in_room: bool) -> Stanza | None:
    """Return the error for a stanza's sender; None if it must not get one (S29, S30).

    `in_room`: whether the sender is in a room where the bridge has an occupant (S36).
    """
    if not stanza.is_request and (may_not_be_told(stanza) or in_room):
        return None
    try:
        return stanza.error_reply(error)
    except LocalError:
        return None


def may_not_be_told(stanza: Stanza) -> bool:
    """Return whether the sender of a stanza, not an iq get or set, must not get an error (S30)."""
    if stanza.type == "error" or stanza.kind == "presence":
        return True
    if stanza.kind == "message" and stanza.type in ("groupchat", "headline"):
        return True
    return stanza.element.find(expanded(MUC_USER, "x")) is not None


def quote(value: str) -> str:
    """Return a value from outside, short and printable, for a message."""
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
