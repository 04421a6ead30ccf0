"""What a message does besides its text: states, corrections, replies, reactions, receipts."""

from typing import Final, Literal

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import Asked, Elements, Written, child
from bridge.payload.extension.text import FALLBACK
from bridge.payload.shape import Moderate, Moderated, Reactions, ReplyTo, StanzaId
from xmppstream import Element, Stanza
from xmppstream.names import COMPONENT, expanded

STATES: Final = ("active", "composing", "paused", "inactive", "gone")
_BODY: Final = expanded(COMPONENT, "body")
_EME: Final = expanded(ns.EME, "encryption")
_WITH_PAYLOAD: Final = (ns.OMEMO, ns.OMEMO_2)
_ENCRYPTED: Final = frozenset(
    {
        expanded(ns.OMEMO, "encrypted"),
        expanded(ns.OMEMO_2, "encrypted"),
        expanded(ns.OPENPGP, "openpgp"),
        expanded(ns.LEGACY_PGP, "x"),
    }
)
_LOOKED_AT: Final = _ENCRYPTED | {_BODY, _EME}
_LIMIT: Final = 100  # reactions of one message


def write_state(value: str, _: Asked) -> Written:
    return (Element(expanded(ns.CHAT_STATES, value)),)


def write_replace(value: str | Literal[False], _: Asked) -> Written:
    return (Element(expanded(ns.CORRECT, "replace"), (("id", value),)),) if value else ()


def read_retract(elements: Elements, _: Stanza) -> str | None:
    for one in elements:
        if one.namespace == ns.RETRACT or one.find(expanded(ns.RETRACT_0, "retract")) is not None:
            return one.get("id") or None
    return None


def write_retract(value: str, _: Asked) -> Written:
    return (
        Element(expanded(ns.RETRACT, "retract"), (("id", value),)),
        Element(FALLBACK, (("for", ns.RETRACT),)),
        Element(expanded(ns.HINTS, "store")),
    )


def read_moderated(elements: Elements, stanza: Stanza) -> Moderated | None:
    """Only a room itself may say so (XEP-0425 §5)."""
    if "/" in (stanza.from_ or "") or stanza.type != "groupchat":
        return None
    for one in elements:
        for version in (ns.MODERATE, ns.MODERATE_0):
            mark = one.find(expanded(version, "moderated"))
            if mark is not None:
                reason = one.find(expanded(one.namespace, "reason")) or mark.find(
                    expanded(version, "reason")
                )
                occupant = mark.find(expanded(ns.OCCUPANT_ID, "occupant-id"))
                return Moderated(
                    mark.get("by"),
                    None if occupant is None else occupant.get("id"),
                    None if reason is None else reason.text or None,
                )
    return None


def write_moderate(value: Moderate | str, _: Asked) -> Written:
    """A request to the room (XEP-0425 §4)."""
    one = Moderate(value) if isinstance(value, str) else value
    inner = (
        Element(expanded(ns.RETRACT, "retract")),
        *child(ns.MODERATE, "reason", one.reason),
    )
    return (Element(expanded(ns.MODERATE, "moderate"), (("id", one.id),), inner),)


def read_reply(elements: Elements, _: Stanza) -> ReplyTo | None:
    id = elements[0].get("id")
    return ReplyTo(id, elements[0].get("to")) if id else None


def write_reply(value: ReplyTo | bool, asked: Asked) -> Written:
    if value is False:
        return ()
    if value is True:
        value = ReplyTo(asked.refer("reply"), asked.request.from_)
    pairs = (("id", value.id), ("to", value.to))
    given = tuple((name, one) for name, one in pairs if one)
    return (Element(expanded(ns.REPLY, "reply"), given),)


def read_reactions(elements: Elements, _: Stanza) -> Reactions | None:
    id = elements[0].get("id")
    if not id:
        return None
    said = elements[0].find_all(expanded(ns.REACTIONS, "reaction"))
    return Reactions(id, list(dict.fromkeys(one.text for one in said if one.text)))


def write_reactions(value: Reactions | list[str], asked: Asked) -> Written:
    if isinstance(value, list):
        value = Reactions(asked.refer("reactions"), value)
    if len(value.reactions) > _LIMIT:
        raise UnusableReply(f"reactions: more than {_LIMIT}")
    if not all(one.strip() for one in value.reactions):
        raise UnusableReply("reactions: one is empty")
    said = dict.fromkeys(value.reactions)
    children = tuple(Element(expanded(ns.REACTIONS, "reaction"), (), (one,)) for one in said)
    return (
        Element(expanded(ns.REACTIONS, "reactions"), (("id", value.id),), children),
        Element(expanded(ns.HINTS, "store")),
    )


def read_stanza_ids(elements: Elements, _: Stanza) -> list[StanzaId] | None:
    pairs = [(one.get("by"), one.get("id")) for one in elements]
    return [StanzaId(by, id) for by, id in pairs if by and id] or None


def write_receipt(value: str | bool, asked: Asked) -> Written:
    id = _id_of_request("receipt", value, asked.request.id)
    return (Element(expanded(ns.RECEIPTS, "received"), (("id", id),)),) if id else ()


def write_displayed(value: str | bool, asked: Asked) -> Written:
    in_group = asked.request.type == "groupchat"
    id = _id_of_request("displayed", value, asked.ref if in_group else asked.request.id)
    return (Element(expanded(ns.MARKERS, "displayed"), (("id", id),)),) if id else ()


def _id_of_request(key: str, value: str | bool, of_request: str | None) -> str | None:
    if value is True and not of_request:
        raise UnusableReply(f"{key}: there is no message with an id to refer to; name one")
    return of_request if value is True else value or None


def encryption_of(stanza: Stanza) -> str | None:
    """Return the namespace of an encrypted message's encryption; None if it is not encrypted.

    A message that only transports keys is not meant to be read, so it is not encrypted here.
    """
    found, has_payload = None, False
    for one in stanza.element.children:
        if isinstance(one, str) or one.name not in _LOOKED_AT:
            continue
        if one.name == _BODY:
            text = one.text
            has_payload = has_payload or bool(text)
            if text.startswith("?OTR"):
                found = found or ns.OTR
        elif one.name == _EME:
            found = one.get("namespace") or found
        else:
            space = one.namespace
            found = found or space
            has_payload = (
                has_payload
                or space not in _WITH_PAYLOAD
                or one.find(expanded(space, "payload")) is not None
            )
    return found if has_payload else None


def read_encryption(_: Elements, stanza: Stanza) -> str | None:
    return encryption_of(stanza)
