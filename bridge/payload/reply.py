"""Stanzas that may be sent, made of the objects of a reply or a send: the second step of H2.

`ReplyComposer` checks everything that S27 to S31 require, so a bad reply costs one stanza and never
the stream, which is shared with strangers.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from attrs import field, frozen
from msgspec.structs import replace

from bridge.payload.attachment import FILES_LIMIT
from bridge.payload.body import ReplyObject, RichObject
from bridge.payload.check import check_answer, check_type, is_answer
from bridge.payload.content import kind_of, type_of_question, write_fields
from bridge.payload.correction import Answered
from bridge.payload.error import UnusableReply, quote
from xmppstream import (
    Element,
    IllegalCharacter,
    InvalidJid,
    Jid,
    RemoteError,
    Stanza,
    TooLong,
    rehome,
    split,
)
from xmppstream.jid import bare, same_domain
from xmppstream.names import CLIENT, COMPONENT, expanded
from xmppstream.parser_thread import ParseElement
from xmppstream.stanza import KINDS, Kind, make

_BODY: Final = expanded(COMPONENT, "body")
_THREAD: Final = expanded(COMPONENT, "thread")
_NAMESPACES: Final = ("", CLIENT, COMPONENT)
# What XML cannot carry (XML 1.0 §2.2), and control sequences (ECMA-48 §5.4): colours, say.
_SUSPECT: Final = re.compile("[^\t\n\r -\x9a\x9c-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNSENDABLE: Final = re.compile(
    r"(?P<sequence>(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~])"
    "|[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


@frozen
class Draft:
    """A stanza to send that is not a reply: a JSON object, or the XML stanza supplied in it."""

    one: ReplyObject
    supplied: Stanza | None = None

    @property
    def to(self) -> str | None:
        given = None if self.supplied is None else self.supplied.to
        return self.one.to or None if given is None else given

    @property
    def from_(self) -> str | None:
        given = None if self.supplied is None else self.supplied.from_
        return self.one.from_ or None if given is None else given


@frozen
class ReplyComposer:
    """Makes stanzas from replies, on behalf of one component.

    `parse` parses untrusted XML (in a thread of bounded life, see `xmppstream.parser_thread`).
    `outgoing` returns a stanza as it must leave: to a room, from the address that is in it, say.
    `replaced` is told, by the uid of the request if there is one, how many characters and control
    sequences of a text could not be sent.
    """

    domain: str
    max_send_bytes: int
    parse: ParseElement = field(repr=False)
    replaced: Callable[[str, int], None] = field(default=lambda uid, count: None, repr=False)
    outgoing: Callable[[Stanza], Stanza] = field(default=lambda stanza: stanza, repr=False)
    _answered: Answered = field(factory=Answered, init=False, repr=False)

    async def compose(
        self, objects: Sequence[ReplyObject], request: Stanza, *, uid: str, in_room: bool
    ) -> list[Stanza]:
        """Return the checked stanzas of a reply to `request`; an empty list if it sends nothing.

        If the n-th object needs an id and has none, it gets `uid-n`. `in_room`: see `error_for`.

        Raises:
            UnusableReply: if any of the stanzas may not be sent; then none may.
        """
        stanzas: list[Stanza] = []
        if len(objects) != 1 or type(objects[0]) is not ReplyObject:
            objects = one_file_each(objects)
        if len(request.element.children) > 1 and objects and request.kind == "message":
            objects = self._correct(objects, request, in_room)
        for number, one in enumerate(objects, 1):
            body = one.body  # most have one, of visible characters only, which saves the calls
            if type(body) is not str or not body.isprintable():
                one = self._sendable(one, uid)
                if one.says_nothing:
                    continue
            try:
                supplied = await self._supplied(one.stanza) if one.stanza else None
                fresh_id = f"{uid}-{number}"
                stanzas.append(self._compose_one(one, supplied, request, fresh_id, in_room))
            except UnusableReply as error:
                place = f"object {number}: " if len(objects) > 1 else ""
                raise UnusableReply(f"{place}{error}") from None
        if stanzas and request.kind == "message":
            self._answered.note(request, stanzas[0], in_room=in_room)
        if len(stanzas) > 1 and sum(map(is_answer, stanzas)) > 1:
            raise UnusableReply("more than one answer to one iq")
        return stanzas

    async def compose_object(
        self, one: ReplyObject, request: Stanza, id: str, *, uid: str, in_room: bool
    ) -> Stanza:
        """Return the checked stanza of one object of a reply; `id` is its id if it needs one.

        Raises:
            UnusableReply: if it may not be sent.
        """
        supplied = await self._supplied(one.stanza) if one.stanza else None
        return self._compose_one(self._sendable(one, uid), supplied, request, id, in_room)

    def compose_text(
        self, one: ReplyObject, request: Stanza, id: str, *, uid: str, in_room: bool
    ) -> Stanza:
        """Like `compose_object`, for an object without `stanza`."""
        return self._compose_one(self._sendable(one, uid), None, request, id, in_room)

    def corrected_by(self, request: Stanza, *, in_room: bool) -> str | None:
        """Return the id of our reply to the message that a request corrects, if it is known."""
        is_plain = len(request.element.children) < 2 or request.kind != "message"
        return None if is_plain else self._answered.corrected_by(request, in_room=in_room)

    def note_answer(self, request: Stanza, reply: Stanza, *, in_room: bool) -> None:
        """Remember the reply to a message, for a correction of it; `compose` does so itself."""
        if request.kind == "message":
            self._answered.note(request, reply, in_room=in_room)

    def _correct(
        self, objects: Sequence[ReplyObject], request: Stanza, in_room: bool
    ) -> Sequence[ReplyObject]:
        """Make the reply to a correction correct our reply to the original, if that is known."""
        first, rest = objects[0], objects[1:]
        fields = first.fields if isinstance(first, RichObject) else {}
        ours = self._answered.corrected_by(request, in_room=in_room)
        is_text = first.body not in (None, "") and not first.stanza and "files" not in fields
        if ours is None or not is_text or first.kind not in (None, "", "message"):
            return objects
        if "replace" in fields:
            return objects
        own = (first.kind, first.to, first.from_, first.type, first.id, first.body)
        return [RichObject(*own, fields={**fields, "replace": ours}), *rest]

    async def draft(self, one: ReplyObject) -> Draft:
        """Parse the stanza that an object supplies as XML, if any.

        Raises:
            UnusableReply: if it is not XML, or not a stanza.
        """
        return Draft(one, await self._supplied(one.stanza) if one.stanza else None)

    def compose_unasked(self, draft: Draft, default_from: str | None, fresh_id: str) -> Stanza:
        """Return a stanza that is not a reply, checked like one. An iq always has an id, other
        stanzas only if it was given.

        Raises:
            UnusableReply: if it may not be sent.
        """
        one, supplied = self._sendable(draft.one), draft.supplied
        if supplied is not None and not one.stanza:  # made of text
            supplied = Stanza(self._sendable_element(supplied.element))
        if supplied is None and one.says_nothing:
            raise UnusableReply("there is nothing to send: no body, stanza, type or kind")
        if draft.to is None:
            raise UnusableReply("to is missing")
        if supplied is None and one.kind == "iq" and not one.type and type(one) is ReplyObject:
            raise UnusableReply("an iq needs a type")
        # The defaults are those of a reply to a message without a sender.
        nothing = make("message", default_from, None)
        kind = self._kind_unasked(one) if supplied is None else supplied.kind
        fresh = fresh_id if kind == "iq" else None
        return self._compose_one(one, supplied, nothing, fresh, in_room=False)

    @staticmethod
    def _kind_unasked(one: ReplyObject) -> str | None:
        if one.kind or one.body not in (None, "") or not isinstance(one, RichObject):
            return one.kind
        return kind_of(one.fields, "message")

    def _sendable(self, one: ReplyObject, uid: str = "") -> ReplyObject:
        """Return an object whose body can be sent."""
        body = one.body
        return replace(one, body=self._sendable_text(body, uid)) if type(body) is str else one

    def _sendable_element(self, element: Element) -> Element:
        """Return an element whose texts can be sent."""
        children = (
            self._sendable_text(one) if isinstance(one, str) else self._sendable_element(one)
            for one in element.children
        )
        return Element(element.name, element.attributes, tuple(one for one in children if one))

    def _sendable_text(self, text: str, uid: str = "") -> str:
        """Return a text without control sequences, and with U+FFFD for what XML cannot carry."""
        if _SUSPECT.search(text) is None:
            return text
        text, count = _UNSENDABLE.subn(lambda found: "" if found["sequence"] else "\ufffd", text)
        self.replaced(uid, count)
        return text

    def _compose_one(
        self,
        one: ReplyObject,
        supplied: Stanza | None,
        request: Stanza,
        fresh_id: str | None,
        in_room: bool,
    ) -> Stanza:
        if supplied is None:
            stanza = self._made(one, request, fresh_id)
        else:
            stanza = self._filled(supplied, one, request, fresh_id)
        stanza = self.outgoing(stanza)
        check_type(stanza)
        if stanza.kind == "iq" or stanza.type == "error":
            check_answer(stanza, request, in_room)
        limit = f"max_send_bytes ({self.max_send_bytes})"
        try:
            size = len(stanza.encode(self.max_send_bytes))
        except IllegalCharacter as error:
            raise UnusableReply(str(error)) from None
        except TooLong as error:
            raise UnusableReply(f"{error}, over {limit}") from None
        if size > self.max_send_bytes:
            raise UnusableReply(f"{size} bytes, over {limit}")
        return stanza

    def _made(self, one: ReplyObject, request: Stanza, fresh_id: str | None) -> Stanza:
        """Return the stanza that the keys of a JSON object describe."""
        rich = one if isinstance(one, RichObject) else None
        kind: Kind = "iq" if request.is_request else "message"
        if one.kind:
            kind = _kind(one.kind)
        elif rich is not None and rich.body in (None, ""):
            kind = kind_of(rich.fields, kind)
        to = _recipient(one.to, request) if one.to else request.from_ or ""
        if rich is not None and "moderate" in rich.fields and not one.to:
            to = bare(to)  # the room's
        type = one.type or None
        if kind == "presence" and type == "available":  # what no type means
            type = None
        elif kind == "message":
            if type is None:
                in_reply = request.kind == "message" and request.type == "groupchat"
                type = "groupchat" if in_reply and bare(to) == bare(request.from_ or "") else "chat"
            if type == "groupchat" and (not one.to or bare(to) == bare(request.from_ or "")):
                to = bare(to)
        elif kind == "iq" and type is None:
            type = "result" if request.is_request or rich is None else type_of_question(rich.fields)
        if rich is not None and "error" in rich.fields:
            type = "error"
        elif type == "error":
            raise UnusableReply('type "error" needs the key error')
        if rich is not None:
            children = self._rich_children(rich, kind, request)
        else:
            children = _message_children(one, request) if kind == "message" else ()
        answers = kind == "iq" and type in ("result", "error") and request.is_request
        id = one.id or (request.id if answers else fresh_id)
        return make(
            kind, to, self._sender(one.from_ or None, request), type=type, id=id, children=children
        )

    def _rich_children(self, one: RichObject, kind: Kind, request: Stanza) -> tuple[Element, ...]:
        """Return the children that the keys of an object describe."""
        body = None if one.body in (None, "") or kind != "message" else text_of_body(one.body)
        content = write_fields(one.fields, body, kind, request)
        elements = tuple(self._sendable_element(element) for element in content.elements)
        if kind != "message":
            return elements
        plain = replace(ReplyObject(), body=self._sendable_text(content.body or ""))
        names = {element.name for element in elements}
        children = _message_children(plain, request)
        return (*(one for one in children if one.name not in names or one.name == _BODY), *elements)

    async def _supplied(self, text: str) -> Stanza:
        """Return the stanza that is supplied as XML."""
        try:
            element = await self.parse(text.encode())
        except UnicodeEncodeError:
            raise UnusableReply("stanza: an unpaired surrogate") from None
        except RemoteError as error:
            raise UnusableReply(f"stanza: {error}") from None
        if element.namespace not in _NAMESPACES or element.local not in KINDS:
            raise UnusableReply(f"stanza: {quote(element.local)} is not a stanza")
        return Stanza(rehome(element, COMPONENT))

    def _filled(
        self, stanza: Stanza, one: ReplyObject, request: Stanza, fresh_id: str | None
    ) -> Stanza:
        """Fill in the missing attributes of a supplied stanza, and check its addresses."""
        to = one.to or None if stanza.to is None else stanza.to
        if to is not None:
            to = _recipient(to, request)
        elif stanza.type == "groupchat":
            to = bare(request.from_ or "")
        else:
            to = request.from_
        id = stanza.id
        if id is None:
            answers = stanza.type in ("result", "error")
            id = one.id or (answers and request.id) or fresh_id
        sender = self._sender(one.from_ or None if stanza.from_ is None else stanza.from_, request)
        return Stanza(stanza.element.with_attributes(to=to, from_=sender, id=id))

    def _sender(self, given: str | None, request: Stanza) -> str:
        return own_address((request.to or "") if given is None else given, self.domain)


@lru_cache(maxsize=1024)
def own_address(address: str, domain: str) -> str:
    """Return a sender's address with the domain spelled exactly as configured (S28).

    Raises:
        UnusableReply: if it is not an address of the domain.
    """
    jid = check_jid("from", address)
    if not same_domain(jid.domain, domain):
        raise UnusableReply(f"from: {quote(jid.domain)} is not {domain}")
    return str(Jid(jid.local, domain, jid.resource))


def one_file_each(objects: Sequence[ReplyObject]) -> list[ReplyObject]:
    """Return objects with at most one file each: clients show a picture only if it is alone. A
    body goes first, as a message of its own.

    Raises:
        UnusableReply: if an object has too many files.
    """
    split: list[ReplyObject] = []
    for one in objects:
        files = one.fields.get("files") if isinstance(one, RichObject) else None
        if not isinstance(one, RichObject) or not isinstance(files, list) or not files:
            split.append(one)
            continue
        if len(files) > FILES_LIMIT:
            raise UnusableReply(f"files: more than {FILES_LIMIT} entries")
        rest = {key: value for key, value in one.fields.items() if key != "files"}
        if one.body not in (None, ""):
            split.append(replace(one, fields=rest))
            rest, one = {}, replace(one, body=None, id=None)
        for file in files:
            split.append(replace(one, fields={**rest, "files": [file]}))
            rest, one = {}, replace(one, id=None)
    return split


def _message_children(one: ReplyObject, request: Stanza) -> tuple[Element, ...]:
    body = one.body
    children: tuple[Element, ...] = ()
    if body is not None and body != "":
        children = (Element(_BODY, (), (text_of_body(body),)),)
    if request.kind == "message":
        for child in request.element.children:
            if not isinstance(child, str) and child.name == _THREAD:
                return (*children, child)
    return children


def text_of_body(body: Any, key: str = "body") -> str:
    """Return the text that a value is, as JSON spells it.

    Raises:
        UnusableReply: if it is a list or an object; `key` names it.
    """
    if isinstance(body, str):
        return body
    if isinstance(body, bool | int):
        return msgspec.json.encode(body).decode()
    raise UnusableReply(f"{key} is not a string, a number or a boolean")


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise UnusableReply(f"kind {quote(name)} is not one of {', '.join(KINDS)}")


def _recipient(address: str, request: Stanza) -> str:
    """Check an address to send to. The sender's own, also without its resource, is used as it came
    in: there are gateways whose addresses are not valid JIDs.
    """
    came = request.from_
    if not came or address not in (came, bare(came)):
        check_jid("to", address)
    return address


def check_jid(key: str, value: str) -> Jid:
    try:
        return split(value)
    except InvalidJid as error:
        raise UnusableReply(f"{key}: {quote(value)} is not a valid JID: {error}") from None
