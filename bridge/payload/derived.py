"""Keys that a service would else have to derive itself: `text`, `ref`, and those of rooms."""

import re
from typing import Any, Final

from attrs import frozen

from bridge.payload import namespace as ns
from xmppstream import Element, Stanza
from xmppstream.jid import bare
from xmppstream.names import MUC_USER, expanded

_FALLBACK: Final = expanded(ns.FALLBACK, "fallback")
_FALLBACK_BODY: Final = expanded(ns.FALLBACK, "body")
_MUC_USER: Final = expanded(MUC_USER, "x")
_KEYS_OF: Final = {
    ns.REPLY: ("reply",),
    ns.SFS: ("files",),
    ns.OOB: ("files", "oob"),
    ns.RETRACT: ("retract",),
    ns.RETRACT_0: ("retract",),
    ns.REACTIONS: ("reactions",),
    ns.CORRECT: ("replace",),
}
"""The keys that have in the JSON what a fallback of a namespace says in the body."""


@frozen
class Place:
    """Where a stanza came from: a room that the bridge is in, with its own nickname there."""

    in_room: bool = False
    nick: str | None = None
    address: str | None = None
    """The bridge's occupant or real JID, which a mention may name."""
    lacks: frozenset[str] = frozenset()
    """Features that the room does not have: ids of these namespaces may be anybody's invention."""
    reason: str | None = None
    """Why the bridge is not in the room any more, in one word."""


OUTSIDE: Final = Place()


def text_without_fallback(stanza: Stanza, body: str, fields: dict[str, Any]) -> str:
    """Return a body without the ranges that stand in for something that is in `fields`.

    Ranges count code points (XEP-0426); ranges that make no sense are ignored, and one without a
    known `for` stays (XEP-0428).
    """
    if "fallback" not in fields:
        return body
    cut: list[tuple[int, int]] = []
    for one in stanza.element.find_all(_FALLBACK):
        keys = _KEYS_OF.get(one.get("for") or "", ())
        if any(key in fields for key in keys):
            cut += _ranges(one, len(body))
    if not cut:
        return body
    kept, at = [], 0
    for start, end in sorted(cut):
        if start > at:
            kept.append(body[at:start])
        at = max(at, end)
    kept.append(body[at:])
    return "".join(kept)


def _ranges(fallback: Element, length: int) -> list[tuple[int, int]]:
    if not fallback.elements:
        return [(0, length)]
    found = []
    for one in fallback.find_all(_FALLBACK_BODY):
        start, end = one.get("start"), one.get("end")
        if start is None and end is None:
            found.append((0, length))
        elif (first := _index(start, 0)) is not None and (last := _index(end, length)) is not None:
            found.append((min(first, length), min(last, length)))
    return [(first, last) for first, last in found if first < last]


def _index(text: str | None, default: int) -> int | None:
    if text is None:
        return default
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def without_forgeable(
    stanza: Stanza, fields: dict[str, Any], lacks: frozenset[str]
) -> dict[str, Any]:
    """Return the fields without ids that only a room with the feature vouches for (XEP-0359 §6,
    XEP-0421 §4).
    """
    if ns.OCCUPANT_ID in lacks:
        fields = {key: value for key, value in fields.items() if key != "occupant_id"}
    if ns.SID in lacks and "stanza_ids" in fields:
        room = bare(stanza.from_ or "")
        ids = [one for one in fields["stanza_ids"] if one.by != room]
        fields = {key: value for key, value in fields.items() if key != "stanza_ids"}
        fields |= {"stanza_ids": ids} if ids else {}
    return fields


def ref_of(stanza: Stanza, fields: dict[str, Any]) -> str | None:
    """Return the id by which others refer to this message (XEP-0461 §4.1, XEP-0444 §4.2)."""
    if stanza.type == "groupchat":
        room = bare(stanza.from_ or "")
        return next((one.id for one in fields.get("stanza_ids", ()) if one.by == room), None)
    return fields.get("origin_id") or stanza.id


def room_keys(
    stanza: Stanza, text: str | None, fields: dict[str, Any], place: Place
) -> dict[str, Any]:
    """Return `room`, `sender_nick`, `mentioned` and `private`, where they apply."""
    sender = stanza.from_ or ""
    room, _, nick = sender.partition("/")
    is_group = stanza.type == "groupchat"
    mark = stanza.element.find(_MUC_USER) if stanza.kind == "message" else None
    is_private = not is_group and (
        (place.in_room and bool(nick))
        or (mark is not None and not {"invite", "decline"} & {one.local for one in mark.elements})
    )
    if not (is_group or is_private or place.in_room):
        return {}
    keys: dict[str, Any] = {"room": room}
    if nick:
        keys["sender_nick"] = nick
    if place.reason is not None:
        keys["reason"] = place.reason
    if is_private:
        keys["private"] = True
    elif is_group and _is_mentioned(text, fields, place):
        keys["mentioned"] = True
    return keys


def _is_mentioned(text: str | None, fields: dict[str, Any], place: Place) -> bool:
    for one in fields.get("references", ()):
        uri = (one.uri or "").removeprefix("xmpp:")
        if (
            one.type == "mention"
            and place.address
            and bare(uri)
            and uri
            in (
                place.address,
                bare(place.address),
            )
        ):
            return True
    if not text or not place.nick:
        return False
    word = rf"(?<!\w){re.escape(place.nick)}(?!\w)"
    return re.search(word, text, re.IGNORECASE) is not None
