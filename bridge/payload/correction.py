"""Which of our messages answered which of theirs: a corrected question corrects its answer."""

from collections import OrderedDict
from typing import Final

from bridge.payload.namespace import CORRECT
from xmppstream import Stanza
from xmppstream.names import expanded

_REPLACE: Final = expanded(CORRECT, "replace")
_LIMIT: Final = 10_000


class Answered:
    """The ids of the last replies to messages. A restart forgets them."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        # Ordered, because the first key of a dict is found slowly after many deletions.
        self._ids: OrderedDict[tuple[str, str], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def note(self, request: Stanza, reply: Stanza, *, in_room: bool) -> None:
        """Remember the reply to a message. Called for each: it must be cheap."""
        id, reply_id, ids = request.id, reply.id, self._ids
        if id and reply_id and reply.kind == "message":
            ids[_sender(request, in_room), id] = reply_id
            if len(ids) > self._limit:
                ids.popitem(last=False)

    def corrected_by(self, request: Stanza, *, in_room: bool) -> str | None:
        """Return the id of our reply to the message that `request` corrects, if it is known.

        A correction must come from who has sent the original (XEP-0308 §4): the same person or, in
        a room, the same occupant.
        """
        replace = request.element.find(_REPLACE)
        original = None if replace is None else replace.get("id")
        return self._ids.get((_sender(request, in_room), original)) if original else None


def _sender(request: Stanza, in_room: bool) -> str:
    sender = request.from_ or ""
    if in_room or request.type == "groupchat":
        return sender
    return sender.partition("/")[0]
