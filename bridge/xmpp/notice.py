"""The notice that the service cannot read encrypted messages, sent now and then to each sender."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from bridge.payload.error import may_not_be_told
from xmppstream import Element, Stanza
from xmppstream.jid import bare
from xmppstream.names import COMPONENT, expanded

INTERVAL_S: Final = 3600.0
_LIMIT: Final = 10_000
_BODY: Final = expanded(COMPONENT, "body")


class EncryptedNotice:
    """Answers encrypted messages, one to one, at most once in `INTERVAL_S` to a sender.

    Memory is bounded: the senders that were told longest ago are forgotten.
    """

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._told: OrderedDict[str, float] = OrderedDict()

    def answer(self, stanza: Stanza, text: str, *, in_room: bool) -> list[Stanza]:
        """Return the answer, if one is due. An empty `text` turns notices off."""
        if not text or in_room or may_not_be_told(stanza):
            return []
        sender, now = bare(stanza.from_ or ""), self._now()
        last = self._told.get(sender)
        if last is not None and now - last < INTERVAL_S:
            return []
        self._told[sender] = now
        self._told.move_to_end(sender)
        if len(self._told) > _LIMIT:
            self._told.popitem(last=False)
        return [stanza.reply(Element(_BODY, (), (text,)), type="chat")]
