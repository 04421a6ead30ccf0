"""A reply that comes as a stream: what its objects mean, and when which part of it is sent.

`StreamedReply` takes the objects of a stream (`stream`) and returns stanzas: the first text of a
message, and corrections of it (XEP-0308), few and coarse, since each is a push on somebody's phone.
It has no clock and no task: the time comes with each call, and `due` says when the next part is.

Each message of the reply has an id of its own, `uid-1`, `uid-2`, … Its corrections refer to that id
and have ids `uid-1.A.N`, by attempt and number. What an earlier attempt of the same stanza has
begun (`Begun`, which is kept) is corrected as well, never said again. Only the first text and the
last correction are for archives: those between carry hints (XEP-0334).
"""

import math
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from bridge.payload.body import ReplyObject, RichObject, read_objects
from bridge.payload.check import is_answer
from bridge.payload.error import UnusableReply
from bridge.payload.reply import ReplyComposer, one_file_each, text_of_body
from xmppstream import Stanza
from xmppstream.jid import bare
from xmppstream.stanza import Kind

FIRST_S: Final = 1.0
FIRST_LENGTH: Final = 200
"""The first text is sent `FIRST_S` after it began to come, or with so many characters."""
INTERVALS_S: Final = (2.0, 2.0, 4.0, 8.0, 16.0)
"""The times between corrections; the last one is repeated."""
MESSAGES_LIMIT: Final = 100
_HINTS: Final = ["no-permanent-store", "no-store"]
_PINNED: Final = ("kind", "to", "from", "type", "id", "replace")
_SAYABLE: Final = (None, "", "chat", "normal")


class BegunMessage(msgspec.Struct, frozen=True):
    """A message whose first text was sent: the id that corrections refer to, and its addressee."""

    id: str
    to: str


class Begun(msgspec.Struct, frozen=True):
    """What attempts have sent of a streamed reply: to be kept while its stanza is pending.

    `messages` are those whose text has begun, by number, and the first `finished` are complete.
    """

    attempt: int = 0
    messages: dict[int, BegunMessage] = {}
    finished: int = 0


class Part(msgspec.Struct, frozen=True):
    """A stanza that is due. It must not be lost if `is_kept`: a first text, or a whole message."""

    stanza: Stanza
    is_kept: bool


class _Pace:
    """When the text of one message is sent."""

    def __init__(self) -> None:
        self.due = math.inf
        self._count = 0
        self._next = 0.0

    def note_change(self, length: int, now: float) -> None:
        """Record that the text has changed, and is now `length` characters long."""
        if self.due == math.inf:
            self.due = max(self._next, now) if self._count else now + FIRST_S
        if not self._count and length >= FIRST_LENGTH:
            self.due = now

    def note_sent(self, now: float) -> None:
        """Record that it was sent."""
        interval_s = INTERVALS_S[min(self._count, len(INTERVALS_S) - 1)]
        self._count += 1
        self._next, self.due = now + interval_s, math.inf


class _Message:
    """One message of a reply, as far as it has come."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pace = _Pace()
        self.begun: BegunMessage | None = None
        """What corrections refer to; None before the first text."""
        self.length = 0
        self.corrections = 0
        self.is_stored = False
        """Whether an archive has the message as it is now."""
        self.good: ReplyObject | None = None
        """What was sent last."""
        self._keys: dict[str, Any] = {}
        self._text: list[str] = []

    @property
    def says_nothing(self) -> bool:
        return not self._keys and not self.length

    def merge(self, one: dict[str, Any], now: float) -> None:
        """Add an object of the stream."""
        keys = {key: value for key, value in one.items() if value is not None and value != ""}
        body, added = keys.pop("body", None), keys.pop("append", None)
        if body is not None:
            self._text, self.length = [], 0
        for key, value in (("body", body), ("append", added)):
            if value is not None:
                self.append(text_of_body(value, key))
        for key in _PINNED if self.begun is not None else ():
            if key in keys and keys[key] != self._keys.get(key):
                raise UnusableReply(f"{key} must not change once the message has begun")
        if keys:
            self._keys |= keys
            self.is_stored = False
        if self.length and not self.is_stored:
            self.pace.note_change(self.length, now)

    def append(self, text: str) -> None:
        """Add to the text."""
        self._text.append(text)
        self.length += len(text)
        self.is_stored = False

    @property
    def value(self) -> dict[str, Any]:
        """The message as one object of H2."""
        self._text = ["".join(self._text)]
        return self._keys | ({"body": self._text[0]} if self._text[0] else {})


class StreamedReply:
    """One reply that comes as a stream. See the module."""

    def __init__(
        self,
        composer: ReplyComposer,
        request: Stanza,
        uid: str,
        attempt: int,
        *,
        in_room: bool,
        edits: bool,
        before: Begun | None = None,
    ) -> None:
        """Without `edits`, nothing is sent before the end. `before`: what earlier attempts sent."""
        self._composer = composer
        self._request = request
        self._uid = uid
        self._before = before or Begun()
        self.attempt = max(attempt, self._before.attempt + 1)
        self._in_room = in_room
        is_chat = request.kind == "message" and request.type in _SAYABLE
        self._edits = edits and is_chat and not in_room
        self._kind: Kind = "iq" if request.is_request else "message"
        self._messages: list[_Message] = []
        self._sent = 0  # the messages that are complete and sent
        self.unknown: dict[str, None] = {}
        """The keys that a reply does not have."""
        self.fault: str | None = None
        """After `end`: why the reply is not whole."""

    @property
    def has_text(self) -> bool:
        """Whether a text has come."""
        return any(one.length for one in self._messages)

    @property
    def has_begun(self) -> bool:
        """Whether something was sent, by this attempt or an earlier one."""
        return bool(self._before.messages) or any(one.begun is not None for one in self._messages)

    @property
    def begun(self) -> Begun:
        """What this attempt and those before it have sent."""
        own = {one.number: one.begun for one in self._messages if one.begun is not None}
        finished = max(self._before.finished, self._sent)
        return Begun(self.attempt, self._before.messages | own, finished)

    @property
    def due(self) -> float:
        """When `parts` has something to return; infinite if not before more has come."""
        if not self._edits or not self._messages:
            return math.inf
        if self._sent < len(self._messages) - 1:
            return -math.inf
        return self._messages[-1].pace.due

    def take(self, one: dict[str, Any], now: float) -> bool:
        """Take an object of the stream; return whether it says that the bot is typing.

        Raises:
            UnusableReply: if it cannot be used.
        """
        one = dict(one)
        is_new = one.pop("new", None)
        if is_new not in (None, "", True, False):
            raise UnusableReply("new is not true or false")
        is_typing = one.get("state") == "composing"
        if is_typing:
            del one["state"]
        if not self._messages or (is_new is True and not self._messages[-1].says_nothing):
            number = len(self._messages) + 1
            if number > MESSAGES_LIMIT:
                raise UnusableReply(f"more than {MESSAGES_LIMIT} messages")
            self._messages.append(_Message(number))
        self._messages[-1].merge(one, now)
        return is_typing

    def hold(self) -> None:
        """Send nothing more before the end."""
        self._edits = False

    def parts(self, now: float) -> list[Part]:
        """Return what is due. Whoever calls keeps `begun` first, then sends.

        Raises:
            UnusableReply: if it may not be sent.
        """
        parts: list[Part] = []
        while self._edits and self._sent < len(self._messages) - 1:
            message = self._messages[self._sent]
            objects = self._objects(message)
            if any(one.stanza for one in objects):  # XML is parsed elsewhere, and takes its time
                self.hold()
                return parts
            stanzas = self._last(message, objects)
            if any(one.kind != "message" or one.type == "groupchat" for one in stanzas):
                self.hold()  # the rooms follow what is settled
                return parts
            parts += [Part(one, is_kept=True) for one in stanzas]
            self._sent += 1
        if self._edits and self._messages and self._messages[-1].pace.due <= now:
            part = self._part(self._messages[-1])
            if part is not None:
                parts.append(part)
            self._messages[-1].pace.note_sent(now)
        return parts

    async def end(self, fault: str | None, broken: str = "") -> list[Stanza]:
        """Return the rest of the reply. `fault` says why the stream broke, if it did; the last text
        then ends with `broken`. If the rest cannot be sent, but something was, `fault` says why.

        Raises:
            UnusableReply: if nothing was sent, and the rest may not be.
        """
        self.fault = fault
        rest = self._messages[self._sent :]
        if fault is not None:
            rest = [one for one in rest if one.length]
            if rest and broken:
                rest[-1].append(broken)
        stanzas: list[Stanza] = []
        try:
            for message in rest:
                objects = self._objects(message)
                supplied = [one for one in objects if one.stanza]
                for one in supplied:
                    stanzas.append(await self._supplied(message, one))
                stanzas += self._last(message, objects) if not supplied else []
                self._sent = message.number
            if sum(map(is_answer, stanzas)) > 1:
                raise UnusableReply("more than one answer to one iq")
            if self.fault is None:
                stanzas += self._retractions()
        except UnusableReply as error:
            if not self.has_begun:
                raise
            self.fault = str(error)
            stanzas += self._as_sent(message)
        return stanzas

    def _objects(self, message: _Message) -> list[ReplyObject]:
        reading = read_objects([message.value], self._kind)
        self.unknown |= dict.fromkeys(reading.unknown)
        return [one for one in one_file_each(reading.objects) if not one.says_nothing]

    def _part(self, message: _Message) -> Part | None:
        """Return the first text of a message, or a correction of what has come."""
        objects = self._objects(message)
        if not objects or not _is_text(objects[0]):
            return None
        is_first = message.begun is None and message.number not in self._before.messages
        return Part(self._text(message, objects[0], last=False), is_kept=is_first)

    def _last(self, message: _Message, objects: list[ReplyObject]) -> list[Stanza]:
        """Return what completes a message."""
        stanzas: list[Stanza] = []
        for number, one in enumerate(objects):
            if number == 0 and _is_text(one):
                if not message.is_stored:
                    stanzas.append(self._text(message, one, last=True))
            elif message.number > self._before.finished:
                id = f"{self._uid}-{message.number}" + (f"-{number + 1}" if number else "")
                stanzas.append(self._compose(one, id))
        return stanzas

    def _text(self, message: _Message, one: ReplyObject, *, last: bool) -> Stanza:
        """Return the text of a message: the first one, or a correction of it."""
        fields = dict(one.fields) if isinstance(one, RichObject) else {}
        number = f"{self._uid}-{message.number}"
        if message.begun is None:
            if message.number == 1 and "replace" not in fields:
                ours = self._composer.corrected_by(self._request, in_room=self._in_room)
                fields |= {"replace": ours} if ours else {}
            stanza = self._compose(_with(one, fields), number)
            message.begun = self._before.messages.get(message.number)
            if message.number == 1:
                self._composer.note_answer(self._request, stanza, in_room=self._in_room)
            if message.begun is None or bare(message.begun.to) != bare(stanza.to or ""):
                original = fields.get("replace") or stanza.id or number
                message.begun = BegunMessage(original, stanza.to or "")
                message.good, message.is_stored = one, True
                return stanza
        fields["replace"] = message.begun.id
        if not last:
            own = fields.get("hints")
            fields["hints"] = [*(own if isinstance(own, list) else []), *_HINTS]
            fields["hints"] = [hint for hint in fields["hints"] if hint != "store"]
        id = f"{number}.{self.attempt}.{message.corrections + 1}"
        stanza = self._compose(replace(_with(one, fields), id=id), id)
        message.corrections += 1
        message.good, message.is_stored = one, last
        return stanza

    def _as_sent(self, message: _Message) -> list[Stanza]:
        """Return the text of a message as it was sent last, but for archives, too."""
        if message.good is None or message.is_stored:
            return []
        return [self._text(message, message.good, last=True)]

    def _retractions(self) -> list[Stanza]:
        """Return the retractions of messages that only an earlier attempt has said."""
        said = sum(not one.says_nothing for one in self._messages)
        lost = [(n, one) for n, one in self._before.messages.items() if n > said > 0]
        return [
            self._compose(
                RichObject(kind="message", to=one.to, fields={"retract": one.id}),
                f"{self._uid}-{number}.{self.attempt}.1",
            )
            for number, one in lost
        ]

    def _compose(self, one: ReplyObject, id: str) -> Stanza:
        return self._composer.compose_text(
            one, self._request, id, uid=self._uid, in_room=self._in_room
        )

    async def _supplied(self, message: _Message, one: ReplyObject) -> Stanza:
        return await self._composer.compose_object(
            *(one, self._request, f"{self._uid}-{message.number}"),
            uid=self._uid,
            in_room=self._in_room,
        )


def _is_text(one: ReplyObject) -> bool:
    """Return whether an object is a text that can be corrected."""
    is_chat = one.kind in (None, "", "message") and one.type in _SAYABLE
    return is_chat and one.body not in (None, "") and not one.stanza


def _with(one: ReplyObject, fields: dict[str, Any]) -> ReplyObject:
    own = (one.kind, one.to, one.from_, one.type, one.id, one.body)
    return RichObject(*own, fields=fields) if fields else ReplyObject(*own)
