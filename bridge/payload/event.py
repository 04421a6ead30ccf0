"""What a stanza is, in one word: its event. `component_post_events` names those that are POSTed."""

from typing import Final

from bridge.config.event import EventName
from bridge.payload import namespace as ns
from bridge.payload.extension.chat import STATES, encryption_of
from bridge.payload.extension.choice import SELECTED
from xmppstream import Element, Stanza
from xmppstream.names import COMPONENT, MUC_USER, expanded

_BODY: Final = expanded(COMPONENT, "body")
_OTR: Final = "?OTR"
_SUBJECT: Final = expanded(COMPONENT, "subject")
_SUBSCRIPTIONS: Final = frozenset({"subscribe", "subscribed", "unsubscribe", "unsubscribed"})
_COMMAND: Final = expanded(ns.COMMANDS, "command")
_REGISTER: Final = expanded(ns.REGISTER, "query")
_FORM: Final = expanded(ns.DATA, "x")
_INVITE: Final = expanded(MUC_USER, "invite")
_MUC_USER: Final = expanded(MUC_USER, "x")
_CONFERENCE: Final = expanded(ns.CONFERENCE, "x")
_FASTENING: Final = expanded(ns.FASTEN, "apply-to")
_TYPING: Final = frozenset(expanded(ns.CHAT_STATES, state) for state in STATES)
_MARKS: Final[dict[str, EventName]] = {
    expanded(ns.RETRACT, "retract"): "retraction",
    _FASTENING: "retraction",
    expanded(ns.REACTIONS, "reactions"): "reaction",
    expanded(ns.CORRECT, "replace"): "edit",
    _CONFERENCE: "invite",
    _MUC_USER: "invite",
    SELECTED: "action",
    _FORM: "form",
    expanded(ns.RECEIPTS, "received"): "receipt",
    expanded(ns.MARKERS, "displayed"): "displayed",
    **dict.fromkeys(_TYPING, "typing"),
}
_BEFORE_BODY: Final[tuple[EventName, ...]] = ("retraction", "reaction", "edit", "invite")
_AFTER_SUBJECT: Final[tuple[EventName, ...]] = ("form", "action")
_AFTER_BODY: Final[tuple[EventName, ...]] = ("receipt", "displayed", "typing")


def plain_body(stanza: Stanza) -> str | None:
    """Return the body of a message that has one body that can be read, and nothing else.

    Called for each stanza: it must be cheap.
    """
    children = stanza.element.children
    if len(children) != 1 or stanza.kind != "message" or stanza.type == "error":
        return None
    [child] = children
    if isinstance(child, str) or child.name != _BODY or len(child.children) != 1:
        return None
    [text] = child.children
    return text if isinstance(text, str) and not text.startswith(_OTR) else None


def event_of(stanza: Stanza, *, is_encrypted: bool | None = None) -> EventName:
    """Return the event of a stanza: the first line of the manual's table that fits.

    `is_encrypted`, if it is known already, saves a second look.
    """
    if plain_body(stanza) is not None:  # nearly all stanzas
        return "message"
    match stanza.kind:
        case "presence":
            return "subscription" if stanza.type in _SUBSCRIPTIONS else "presence"
        case "iq":
            return _event_of_iq(stanza)
        case "message":
            if is_encrypted is None:
                is_encrypted = stanza.type != "error" and encryption_of(stanza) is not None
            return _event_of_message(stanza, is_encrypted)


def _event_of_iq(stanza: Stanza) -> EventName:
    payload = stanza.payload if stanza.is_request else None
    if payload is None:
        return "iq"
    if payload.name == _COMMAND:
        return "command"
    return "register" if payload.name == _REGISTER else "iq"


def _event_of_message(stanza: Stanza, is_encrypted: bool) -> EventName:
    if stanza.type == "error":
        return "error"
    if is_encrypted:
        return "encrypted"
    found: set[EventName] = set()
    has_body = has_subject = False
    for child in stanza.element.children:
        if isinstance(child, str):
            continue
        name = child.name
        if name == _BODY:
            has_body = True
        elif name == _SUBJECT:
            has_subject = True
        elif name in _MARKS and _says(child):
            found.add(_MARKS[name])
    for event in _BEFORE_BODY if found else ():
        if event in found:
            return event
    if has_subject and stanza.type == "groupchat" and not has_body:
        return "subject"
    for event in _AFTER_SUBJECT if found else ():
        if event in found:
            return event
    if has_body:
        return "message"
    return next((event for event in _AFTER_BODY if event in found), "other")


def _says(child: Element) -> bool:
    """Return whether an element of a mark has what its XEP demands."""
    if child.name in _TYPING:
        return True
    if child.name == _CONFERENCE:
        return bool(child.get("jid"))
    if child.name == _MUC_USER:
        return child.find(_INVITE) is not None
    if child.name == _FORM:
        return child.get("type") == "submit"
    if child.name == _FASTENING:
        return any(one.local in ("retract", "moderated") for one in child.elements)
    return bool(child.get("id"))
