"""What the log has and the tables have not: deliveries that are pending, replies not confirmed.

Most stanzas are settled, and their replies confirmed, before the log is folded into the tables. So
they never reach SQLite, which costs ten times as much as the log (`log`).

Only the operations of every stanza are for the log: accepting one that this process has made the
uid of, settling it without a dead letter, confirming the replies, sending. They concern only what
is in `Recent`. All others are for the tables, and `Recent` is folded into them first.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, msgpack

from bridge.config.event import EventName
from bridge.journal.delivery import Delivery, is_of_this_process
from bridge.journal.store import Confirm, Operation, Send, Sent, Settle
from bridge.xmpp.outbox import Outgoing

_MOST_COUNT: Final = 4096
_MOST_BYTES: Final = 8 * 1024 * 1024

Key = tuple[str, int]
_Head = tuple[str, str, str, str | None]  # kind, from, to, id
_Accepted = tuple[str, str, str, str, str, str | None, str | None, float, EventName | None, str]
_Replied = tuple[str, int, str, float, bytes, str, str, str, str | None]
_Frame = tuple[list[_Accepted], list[str], list[_Replied], list[Key]]

_ENCODER: Final = msgpack.Encoder()
_DECODER: Final = msgpack.Decoder(_Frame)


class Change(Struct):
    """What a batch changes. What begins and ends within the batch is not in it."""

    accepted: dict[str, Delivery]
    ended: set[str]
    replies: dict[Key, tuple[Outgoing, _Head]]
    confirmed: set[Key]

    def encode(self) -> bytes:
        """Return the change as the log keeps it.

        Raises:
            UnicodeEncodeError: if a text has a lone surrogate.
        """
        accepted: list[_Accepted] = []
        for uid, one in self.accepted.items():
            stanza = one.stanza
            about = (stanza.kind, stanza.from_ or "", stanza.to or "", stanza.id, stanza.lang)
            accepted.append((uid, one.component, *about, one.received, one.event, one.xml))
        replied: list[_Replied] = [
            (one.uid, one.place, one.component, one.made, one.data, *head)
            for one, head in self.replies.values()
        ]
        frame = (accepted, list(self.ended), replied, list(self.confirmed))
        return _ENCODER.encode(frame)

    @classmethod
    def decode(cls, data: bytes) -> "Change":
        """Return a change that was encoded.

        Raises:
            msgspec.DecodeError: if it was not.
        """
        accepted, ended, replied, confirmed = _DECODER.decode(data)
        deliveries: dict[str, Delivery] = {}
        for uid, component, kind, from_, to, id, lang, received, event, xml in accepted:
            head = (kind, from_, to, id, lang)
            deliveries[uid] = Delivery.stored(uid, component, *head, xml, received, event=event)
        replies: dict[Key, tuple[Outgoing, _Head]] = {}
        for uid, place, component, made, content, *about in replied:
            kind, from_, to, id = about
            outgoing = Outgoing(content, made, component, uid, place)
            replies[uid, place] = outgoing, (kind, from_, to, id)
        return cls(deliveries, set(ended), replies, set(confirmed))


class Recent:
    """What the log has, in memory. It changes only by `apply`."""

    def __init__(self) -> None:
        self._pending: dict[str, Delivery] = {}
        self._replies: dict[Key, tuple[Outgoing, _Head]] = {}
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._pending or self._replies)

    @property
    def is_large(self) -> bool:
        """Whether it should be folded: it is in memory, and may wait for hours."""
        count = len(self._pending) + len(self._replies)
        return count > _MOST_COUNT or self._bytes > _MOST_BYTES

    def change(self, operations: Sequence[Operation]) -> Change | None:
        """Return what a batch changes; None if it has an operation that is for the tables."""
        pending, known = self._pending, self._replies
        accepted: dict[str, Delivery] = {}
        ended: set[str] = set()
        replies: dict[Key, tuple[Outgoing, _Head]] = {}
        confirmed: set[Key] = set()
        for one in operations:
            if isinstance(one, Delivery):
                uid = one.uid
                if uid in pending or uid in accepted or not is_of_this_process(uid):
                    return None
                if one.accepted_attempts:
                    return None
                accepted[uid] = one
            elif isinstance(one, Settle):
                uid = one.uid
                if one.reason is not None:
                    return None
                delivery = accepted.pop(uid, None)
                if delivery is None:
                    delivery = pending.get(uid)
                    if delivery is None or uid in ended:
                        return None
                    ended.add(uid)
                if one.replies:
                    stanza = delivery.stanza
                    head = (stanza.kind, stanza.from_ or "", stanza.to or "", stanza.id)
                    for outgoing in one.replies:
                        key = outgoing.uid, outgoing.place
                        if key in known or key in replies:
                            return None
                        replies[key] = outgoing, head
            elif isinstance(one, Confirm):
                for key in one.replies:
                    if replies.pop(key, None) is None:
                        if key in confirmed or key not in known:
                            return None
                        confirmed.add(key)
            elif isinstance(one, Send):
                if one.claim is not None:
                    return None
                for sent in one.stanzas:
                    key = sent.reply.uid, sent.reply.place
                    if key in known or key in replies or not is_of_this_process(key[0]):
                        return None
                    replies[key] = sent.reply, (sent.kind, sent.from_, sent.to, sent.id)
            else:
                return None
        return Change(accepted, ended, replies, confirmed)

    def apply(self, change: Change) -> None:
        """Record a change that is in the log."""
        pending, replies = self._pending, self._replies
        for one in change.accepted.values():
            self._bytes += len(one.xml)
        pending.update(change.accepted)
        for uid in change.ended:
            self._bytes -= len(pending.pop(uid).xml)
        for outgoing, _ in change.replies.values():
            self._bytes += len(outgoing.data)
        replies.update(change.replies)
        for key in change.confirmed:
            self._bytes -= len(replies.pop(key)[0].data)

    def operations(self) -> list[Operation]:
        """Return the operations that bring all of it into the tables."""
        sent = [Sent(outgoing, *head) for outgoing, head in self._replies.values()]
        return [*self._pending.values(), *([Send(tuple(sent))] if sent else ())]
