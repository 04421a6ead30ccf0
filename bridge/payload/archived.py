"""A message out of an archive as JSON: the keys of a request, and the id that the archive gave."""

from typing import Any, Final

from bridge.payload import namespace as ns
from bridge.payload.address import parts_of
from bridge.payload.derived import ref_of, text_without_fallback
from bridge.payload.event import event_of
from bridge.payload.extension.common import time_of
from bridge.payload.field import of_stanza
from bridge.payload.request import body_of
from xmppstream import Stanza, write
from xmppstream.jid import bare, fold
from xmppstream.names import CLIENT, COMPONENT, DELAY, expanded
from xmppstream.stanza import language_of

_RESULT: Final = expanded(ns.MAM, "result")
_FORWARDED: Final = expanded(ns.FORWARD, "forwarded")
_MESSAGE: Final = expanded(CLIENT, "message")
_DELAY: Final = expanded(DELAY, "delay")


def archived(answer: Stanza) -> dict[str, Any] | None:
    """Return the JSON of the message in one of an archive's answers; None if there is none.

    `timestamp` is when the archive got it. In a room, the archive's id is the room's, so it is the
    id by which others refer to the message (XEP-0359).
    """
    result = answer.element.find(_RESULT)
    forwarded = None if result is None else result.find(_FORWARDED)
    inner = None if forwarded is None else forwarded.find(_MESSAGE)
    one = None if inner is None else Stanza.of(inner)
    if result is None or forwarded is None or one is None:
        return None
    id = result.get("id")
    delay = forwarded.find(_DELAY)
    fields = of_stanza(one)
    body = body_of(one)
    is_of_room = one.type == "groupchat" and fold(bare(one.from_ or "")) == fold(answer.from_ or "")
    head = {
        "archive_id": id,
        "timestamp": None if delay is None else time_of(delay.get("stamp")),
        "to": one.to,
        "from": one.from_,
        "kind": one.kind,
        "id": one.id,
        "type": one.type,
        "event": event_of(one, is_encrypted="encryption" in fields),
        "body": body,
        "text": None if body is None else text_without_fallback(one, body, fields),
        "ref": id if is_of_room else ref_of(one, fields),
        "lang": language_of(one.element),
        "stanza": write(one.element, COMPONENT),
    }
    parts = {**parts_of("to", one.to), **parts_of("from", one.from_)}
    return {key: value for key, value in head.items() if value is not None} | parts | fields
