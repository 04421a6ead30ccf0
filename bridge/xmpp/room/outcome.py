"""Why we are not in a room, and whether to try again: join errors and status codes as data.

The sentences are the same in the log, on the status page and in the API.
"""

from typing import Final, Literal

from attrs import frozen

from bridge.telemetry.text import printable
from bridge.xmpp.muc import statuses_of
from xmppstream import Element, Stanza, StanzaCondition
from xmppstream.names import COMPONENT, MUC_USER, STANZA_ERRORS, expanded

_X: Final = expanded(MUC_USER, "x")
_DESTROY: Final = expanded(MUC_USER, "destroy")
_REASON: Final = expanded(MUC_USER, "reason")
_ERROR: Final = expanded(COMPONENT, "error")

LeaveReason = Literal[
    "left",
    "kicked",
    "banned",
    "affiliation_changed",
    "members_only",
    "shutdown",
    "disconnected",
    "destroyed",
    "error",
]
"""The reason of `room_left`, in one word."""

NO_ANSWER: Final = "no answer came in time: the address may not be a room"
NOT_THERE: Final = "the room does not exist, and create = false"
SILENT: Final = "the room's server does not answer"
LOST: Final = "the room does not know us any more"
DETACHED: Final = "the component is not attached"
LEFT: Final = "left"
NO_ADDRESS: Final = "our address is not among local_parts any more"


@frozen
class Ending:
    """Why we are not in a room: a word, a sentence, and whether to join again by ourselves."""

    reason: LeaveReason
    text: str
    again: bool
    next_nick: bool = False
    """Whether to join with another nick."""


_ERRORS: Final[dict[str, tuple[str, bool]]] = {
    StanzaCondition.CONFLICT: ("the nick is taken", True),
    StanzaCondition.ITEM_NOT_FOUND: ("the room is locked or does not exist", True),
    StanzaCondition.SERVICE_UNAVAILABLE: ("the room is full, or the address is not a room", True),
    StanzaCondition.REMOTE_SERVER_NOT_FOUND: ("the room's server does not exist", True),
    StanzaCondition.REMOTE_SERVER_TIMEOUT: ("the room's server cannot be reached", True),
    StanzaCondition.RESOURCE_CONSTRAINT: ("the room's server has no room for us now", True),
    StanzaCondition.NOT_AUTHORIZED: ("the password is wrong or missing", False),
    StanzaCondition.FORBIDDEN: ("we are banned from the room", False),
    StanzaCondition.REGISTRATION_REQUIRED: ("the room is for members only", False),
    StanzaCondition.NOT_ALLOWED: ("we may not create or enter the room", False),
    StanzaCondition.NOT_ACCEPTABLE: ("the room does not accept the nick", False),
    StanzaCondition.JID_MALFORMED: ("the address or the nick is not valid", False),
}
"""The sentence and whether to try again (XEP-0045 §7.2); any other condition is final."""

_CODES: Final[tuple[tuple[str, LeaveReason, str, bool], ...]] = (
    # 333 stands beside 307 where the connection failed (§11.1), so it comes first.
    ("333", "disconnected", "removed because of an error", True),
    ("332", "shutdown", "the room's server is shutting down", True),
    ("301", "banned", "banned", False),
    ("307", "kicked", "kicked", False),
    ("321", "affiliation_changed", "removed, as our affiliation has changed", False),
    ("322", "members_only", "removed, as the room is for members only now", False),
)


def ending_of(presence: Stanza, statuses: frozenset[str]) -> Ending:
    """Return why an unavailable presence of our occupant says that we are out of a room."""
    x = presence.element.find(_X)
    destroy = None if x is None else x.find(_DESTROY)
    if destroy is not None:
        return Ending("destroyed", _destroyed(destroy), again=False)
    for code, reason, text, again in _CODES:
        if code in statuses:
            return Ending(reason, text + _said(x), again)
    return Ending("disconnected", "removed without a reason" + _said(x), again=True)


def refusal_of(presence: Stanza) -> Ending:
    """Return why a presence error says that we cannot join (XEP-0045 §7.2)."""
    condition, type, said = error_of(presence)
    text, again = _ERRORS.get(condition or "", (f"the room refuses us ({condition})", False))
    if said:
        text += f": {said}"
    again = again or type == "wait"
    return Ending("error", text, again, next_nick=condition == StanzaCondition.CONFLICT)


def leave_reason_of(presence: Stanza) -> LeaveReason:
    """Return the reason of `room_left`, by the presence that told us."""
    if presence.type != "unavailable":
        return "error"
    statuses = statuses_of(presence)
    ending = ending_of(presence, statuses)
    # A room answers our leave without a code for a reason; whom it removes, it tells one.
    is_own_wish = ending.reason == "disconnected" and "333" not in statuses
    return "left" if is_own_wish else ending.reason


def error_of(stanza: Stanza) -> tuple[str | None, str | None, str]:
    """Return the condition, the type and the text of a stanza error."""
    error = stanza.element.find(_ERROR)
    if error is None:
        return None, None, ""
    text = error.find(expanded(STANZA_ERRORS, "text"))
    conditions = [one.local for one in error.elements if one.namespace == STANZA_ERRORS]
    condition = next((one for one in conditions if one != "text"), None)
    return condition, error.get("type"), "" if text is None else _shown(text.text)


def _destroyed(destroy: Element) -> str:
    reason, jid = destroy.find(_REASON), destroy.get("jid")
    text = "the room was destroyed"
    if reason is not None and reason.text:
        text += f": {_shown(reason.text)}"
    return f"{text}; use {_shown(jid)} instead" if jid else text


def _said(x: Element | None) -> str:
    """Return a person's reason, as the end of a sentence."""
    item = None if x is None else x.find(expanded(MUC_USER, "item"))
    reason = None if item is None else item.find(_REASON)
    return f": {_shown(reason.text)}" if reason is not None and reason.text else ""


def _shown(text: str) -> str:
    """Return a stranger's text as one short line."""
    return printable(" ".join(text.split())[:200])
