"""Which of our messages answered which of theirs: a corrected question corrects its answer."""

from typing import Final

from bridge.payload.namespace import CORRECT
from xmppstream import Stanza
from xmppstream.names import expanded

_REPLACE: Final = expanded(CORRECT, "replace")
_LIMIT: Final = 10_000


class Answered:
    """The ids of the last replies to messages: `limit` to twice as many. A restart forgets them."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        # Two generations, since to forget one id for each new one costs more than to forget many.
        self._ids: dict[tuple[str, str], str] = {}
        self._older: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._ids) + len(self._older)

    def note(self, request: Stanza, reply: Stanza, *, in_room: bool) -> None:
        """Remember the reply to a message. Called for each: it must be cheap."""
        id = request.id
        if id and reply.id and reply.kind == "message":
            ids = self._ids
            ids[_sender(request, in_room), id] = reply.id
            if len(ids) >= self._limit:
                self._ids, self._older = {}, ids

    def corrected_by(self, request: Stanza, *, in_room: bool) -> str | None:
        """Return the id of our reply to the message that `request` corrects, if it is known.

        A correction must come from who has sent the original (XEP-0308 §4): the same person or, in
        a room, the same occupant.
        """
        replace = request.element.find(_REPLACE)
        original = None if replace is None else replace.get("id")
        if not original:
            return None
        key = _sender(request, in_room), original
        return self._ids.get(key) or self._older.get(key)


def _sender(request: Stanza, in_room: bool) -> str:
    sender = request.from_ or ""
    return sender if in_room or request.type == "groupchat" else sender.partition("/")[0]
