"""Stanza errors (RFC 6120 §8.3)."""

from difflib import get_close_matches

from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import Asked, Elements, Written
from bridge.payload.shape import ErrorObject
from xmppstream import ErrorType, Stanza, StanzaCondition, StanzaError
from xmppstream.names import STANZA_ERRORS


def read_error(elements: Elements, stanza: Stanza) -> ErrorObject | None:
    if stanza.type != "error":
        return None
    error, condition, text, application = elements[0], None, None, None
    for child in error.elements:
        if child.namespace != STANZA_ERRORS:
            application = application or child.name
        elif child.local == "text":
            text = text or child.text or None
        else:
            condition = condition or child.local
    return ErrorObject(error.get("type"), condition, text, error.get("by"), application)


def write_error(value: ErrorObject, _: Asked) -> Written:
    known = [one.value for one in StanzaCondition]
    if value.condition not in known:
        close = get_close_matches(value.condition or "", known, 1)
        hint = f"perhaps you meant {close[0]}" if close else f"use one of {', '.join(known)}"
        raise UnusableReply(f"error.condition is not one of RFC 6120 §8.3.3; {hint}")
    types = [one.value for one in ErrorType]
    if value.type is not None and value.type not in types:
        raise UnusableReply(f"error.type is not one of {', '.join(types)}")
    error = StanzaError(
        StanzaCondition(value.condition), ErrorType(value.type or "cancel"), value.text or ""
    )
    return (error.to_element(),)
