"""JSON to stanzas: part H2 of the HTTP contract.

A reply is read in two steps. `read_reply` parses the body, strictly. `ReplyComposer` makes stanzas
that may be sent on a stream shared with strangers. It checks everything that S27 to S31 require, so
a bad reply costs one stanza and never the stream.
"""

from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from attrs import field, frozen

from bridge.payload.error import error_for
from xmppstream import (
    Element,
    ErrorType,
    IllegalCharacter,
    InvalidJid,
    Jid,
    RemoteError,
    Stanza,
    StanzaCondition,
    StanzaError,
    TooLong,
    rehome,
    split,
)
from xmppstream.jid import bare, same_domain
from xmppstream.names import CLIENT, COMPONENT, STANZA_ERRORS, expanded
from xmppstream.parser_thread import ParseElement
from xmppstream.stanza import KINDS, TYPES, Kind, make

_BODY: Final = expanded(COMPONENT, "body")
_THREAD: Final = expanded(COMPONENT, "thread")
_NAMESPACES: Final = ("", CLIENT, COMPONENT)
_TEXTS: Final = ("kind", "to", "from", "type", "id", "stanza")
_BOM: Final = b"\xef\xbb\xbf"
_SHOWN: Final = 60


class _Literal(str):
    """A number with a fraction or an exponent, as spelled in the JSON."""


class UnusableReply(Exception):
    """A reply cannot be sent. The message is for the endpoint's developer, and quotes little."""


class NotJson(UnusableReply):
    """The body should be JSON, and is not."""


class ReplyBody(msgspec.Struct, frozen=True, gc=False):
    """A body that should hold stanzas, not yet read: a reply's (H2), or an API request's."""

    media: Literal["json", "xml"]
    content: bytes


class ReplyObject(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """One object of a JSON reply, with checked types. None means absent or null. If `stanza` is
    given, `to`, `from` and `id` fill in what it lacks, and the other keys are ignored.
    """

    kind: str | None = None
    to: str | None = None
    from_: str | None = None
    type: str | None = None
    id: str | None = None
    body: Any = None
    stanza: str | None = None

    @property
    def says_nothing(self) -> bool:
        return self.body is None and self.stanza is None and self.type is None and self.kind is None


@frozen
class Draft:
    """A stanza to send that is not a reply: a JSON object, or the XML stanza supplied in it."""

    one: ReplyObject
    supplied: Stanza | None = None

    @property
    def to(self) -> str | None:
        given = None if self.supplied is None else self.supplied.to
        return self.one.to if given is None else given

    @property
    def from_(self) -> str | None:
        given = None if self.supplied is None else self.supplied.from_
        return self.one.from_ if given is None else given


def read_reply(reply: ReplyBody) -> list[ReplyObject]:
    """Parse the body of a reply into objects.

    Raises:
        UnusableReply: if it is not JSON in UTF-8, is not an object or an array of objects, or has a
            key of the wrong type.
    """
    content = reply.content.removeprefix(_BOM)
    if reply.media == "xml":
        try:
            return [ReplyObject(stanza=content.decode())]
        except UnicodeDecodeError:
            raise UnusableReply("the body is not UTF-8") from None
    try:
        value: ReplyObject | list[ReplyObject] = _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_leniently(content)
    return value if isinstance(value, list) else [value]


def _read_leniently(content: bytes) -> list[ReplyObject]:
    """Read a body that the strict decoder refuses, or raise with an explanation in our own words.

    Unknown keys are read here, because msgspec skips them even if they are not valid UTF-8. So are
    wrong types in keys that are ignored.
    """
    try:
        value = _ANY_DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise NotJson("the body is JSON nested too deeply") from None
    objects = value if isinstance(value, list) else [value]
    for one in objects:
        if not isinstance(one, dict):
            raise UnusableReply("the body is not a JSON object or an array of objects")
    return [_structured(one) for one in objects]


def _structured(one: dict[str, Any]) -> ReplyObject:
    if one.get("stanza") is not None:  # the ignored keys may have any type
        one = {key: one[key] for key in ("to", "from", "id") if type(one.get(key)) is str} | {
            "stanza": one["stanza"]
        }
    texts = {key: one.get(key) for key in _TEXTS}
    wrong = [
        f"{key} is not a string"
        for key, value in texts.items()
        if value is not None and type(value) is not str  # a `_Literal` is a number
    ]
    if wrong:
        raise UnusableReply("; ".join(wrong))
    return msgspec.convert({**texts, "body": one.get("body")}, ReplyObject)


_DECODER: Final = msgspec.json.Decoder(ReplyObject | list[ReplyObject], float_hook=_Literal)
_ANY_DECODER: Final = msgspec.json.Decoder(float_hook=_Literal)


@frozen
class ReplyComposer:
    """Makes stanzas from replies, on behalf of one component.

    `parse` parses untrusted XML (in a thread of bounded life, see `xmppstream.parser_thread`).
    """

    domain: str
    max_send_bytes: int
    parse: ParseElement = field(repr=False)

    async def compose(
        self, objects: list[ReplyObject], request: Stanza, *, uid: str, in_room: bool
    ) -> list[Stanza]:
        """Return the checked stanzas of a reply to `request`; an empty list if it sends nothing.

        If the n-th object needs an id and has none, it gets `uid-n`. `in_room`: see `error_for`.

        Raises:
            UnusableReply: if any of the stanzas may not be sent; then none may.
        """
        stanzas: list[Stanza] = []
        for number, one in enumerate(objects, 1):
            if one.body is None and one.says_nothing:  # most have a body, which saves the call
                continue
            try:
                supplied = None if one.stanza is None else await self._supplied(one.stanza)
                fresh_id = f"{uid}-{number}"
                stanzas.append(self._compose_one(one, supplied, request, fresh_id, in_room))
            except UnusableReply as error:
                place = f"object {number}: " if len(objects) > 1 else ""
                raise UnusableReply(f"{place}{error}") from None
        if len(stanzas) > 1 and sum(map(_is_answer, stanzas)) > 1:
            raise UnusableReply("more than one answer to one iq")
        return stanzas

    async def draft(self, one: ReplyObject) -> Draft:
        """Parse the stanza that an object supplies as XML, if any.

        Raises:
            UnusableReply: if it is not XML, or not a stanza.
        """
        return Draft(one, None if one.stanza is None else await self._supplied(one.stanza))

    def compose_unasked(self, draft: Draft, default_from: str | None, fresh_id: str) -> Stanza:
        """Return a stanza that is not a reply, checked like one. An iq always has an id, other
        stanzas only if it was given.

        Raises:
            UnusableReply: if it may not be sent.
        """
        one = draft.one
        if draft.supplied is None and one.says_nothing:
            raise UnusableReply("there is nothing to send: no body, stanza, type or kind")
        if draft.to is None:
            raise UnusableReply("to is missing")
        if draft.supplied is None and one.kind == "iq" and one.type is None:
            raise UnusableReply("an iq needs a type")
        # The defaults are those of a reply to a message without a sender.
        nothing = make("message", default_from, None)
        kind = one.kind if draft.supplied is None else draft.supplied.kind
        fresh = fresh_id if kind == "iq" else None
        return self._compose_one(one, draft.supplied, nothing, fresh, in_room=False)

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
        _check_type(stanza)
        if stanza.kind == "iq" or stanza.type == "error":
            _check_answer(stanza, request, in_room)
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
        kind: Kind = "iq" if request.is_request else "message"
        if one.kind is not None:
            kind = _kind(one.kind)
        to = request.from_ or "" if one.to is None else _recipient(one.to, request)
        type = one.type
        if kind == "message":
            if type is None:
                in_reply = request.kind == "message" and request.type == "groupchat"
                type = "groupchat" if in_reply and bare(to) == bare(request.from_ or "") else "chat"
            if type == "groupchat" and (one.to is None or bare(to) == bare(request.from_ or "")):
                to = bare(to)
        elif kind == "iq" and type is None:
            type = "result"
        if type == "error":
            raise UnusableReply('type "error" needs an <error/>: use "stanza"')
        children = _message_children(one, request) if kind == "message" else ()
        id = one.id
        if id is None:
            id = request.id if kind == "iq" and request.is_request else fresh_id
        return make(kind, to, self._sender(one.from_, request), type=type, id=id, children=children)

    async def _supplied(self, text: str) -> Stanza:
        """Return the stanza that is supplied as XML."""
        try:
            element = await self.parse(text.encode())
        except UnicodeEncodeError:
            raise UnusableReply("stanza: an unpaired surrogate") from None
        except RemoteError as error:
            raise UnusableReply(f"stanza: {error}") from None
        if element.namespace not in _NAMESPACES or element.local not in KINDS:
            raise UnusableReply(f"stanza: {_quote(element.local)} is not a stanza")
        return Stanza(rehome(element, COMPONENT))

    def _filled(
        self, stanza: Stanza, one: ReplyObject, request: Stanza, fresh_id: str | None
    ) -> Stanza:
        """Fill in the missing attributes of a supplied stanza, and check its addresses."""
        to = one.to if stanza.to is None else stanza.to
        if to is not None:
            to = _recipient(to, request)
        elif stanza.type == "groupchat":
            to = bare(request.from_ or "")
        else:
            to = request.from_
        id = one.id if stanza.id is None else stanza.id
        if id is None:
            answers = stanza.type in ("result", "error")
            id = request.id if answers and request.id else fresh_id
        sender = self._sender(one.from_ if stanza.from_ is None else stanza.from_, request)
        return Stanza(stanza.element.with_attributes(to=to, from_=sender, id=id))

    def _sender(self, given: str | None, request: Stanza) -> str:
        return _own((request.to or "") if given is None else given, self.domain)


@lru_cache(maxsize=1024)
def _own(address: str, domain: str) -> str:
    """Return a sender's address with the domain spelled exactly as configured (S28)."""
    jid = _split("from", address)
    if not same_domain(jid.domain, domain):
        raise UnusableReply(f"from: {_quote(jid.domain)} is not {domain}")
    return str(Jid(jid.local, domain, jid.resource))


def _message_children(one: ReplyObject, request: Stanza) -> tuple[Element, ...]:
    body = one.body
    children: tuple[Element, ...] = ()
    if body is not None:
        children = (Element(_BODY, (), (_text(body),) if body != "" else ()),)
    if request.kind == "message" and (thread := request.element.find(_THREAD)) is not None:
        children = (*children, thread)
    return children


def _text(body: Any) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, bool | int):
        return msgspec.json.encode(body).decode()
    raise UnusableReply("body is not a string, a number or a boolean")


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise UnusableReply(f"kind {_quote(name)} is not one of {', '.join(KINDS)}")


def _recipient(address: str, request: Stanza) -> str:
    """Check an address to send to. The sender's own, also without its resource, is used as it came
    in: there are gateways whose addresses are not valid JIDs.
    """
    came = request.from_
    if not came or address not in (came, bare(came)):
        _split("to", address)
    return address


def _split(key: str, value: str) -> Jid:
    try:
        return split(value)
    except InvalidJid as error:
        raise UnusableReply(f"{key}: {_quote(value)} is not a valid JID: {error}") from None


def _check_type(stanza: Stanza) -> None:
    """Check a stanza by itself against the RFC (S29, S31)."""
    kind, type = stanza.kind, stanza.type
    if type is None and kind == "iq":
        raise UnusableReply("an iq needs a type")
    if type is not None and type not in TYPES[kind]:
        raise UnusableReply(f"type {_quote(type)} is not valid for {kind} stanzas")
    if stanza.id == "":
        raise UnusableReply("id is empty")
    if type == "error":
        _check_error(stanza.child("error"))
    elif kind == "iq":
        count = len(stanza.element.elements)
        if type in ("get", "set") and count != 1:
            raise UnusableReply(f"an iq of type {type} needs exactly one child element")
        if type == "result" and count > 1:
            raise UnusableReply("an iq result can have at most one child element")


def _check_error(error: Element | None) -> None:
    if error is None:
        raise UnusableReply('type "error" needs an <error/>')
    if error.get("type") not in set(ErrorType):
        raise UnusableReply("the type of the <error/> is not one of RFC 6120 §8.3.2")
    conditions = {expanded(STANZA_ERRORS, condition) for condition in StanzaCondition}
    if sum(child.name in conditions for child in error.elements) != 1:
        raise UnusableReply("the <error/> must have exactly one condition of RFC 6120 §8.3.3")


def _check_answer(stanza: Stanza, request: Stanza, in_room: bool) -> None:
    """Check a stanza against the request that it answers (S29, S30)."""
    if _is_answer(stanza):
        if not request.is_request:
            raise UnusableReply(f"an iq of type {stanza.type}, but there is no iq to answer")
        if stanza.id != request.id:
            raise UnusableReply("an iq answer whose id is not the request's")
        if stanza.to != request.from_:
            raise UnusableReply("an iq answer to an address other than the requester's")
    elif stanza.type == "error" and stanza.to in (request.from_, bare(request.from_ or "")):
        probe = StanzaError(StanzaCondition.UNDEFINED_CONDITION, ErrorType.CANCEL)
        if error_for(request, probe, in_room=in_room) is None:
            raise UnusableReply("an error to a sender that must not get one (RFC 6120, XEP-0045)")


def _is_answer(stanza: Stanza) -> bool:
    return stanza.kind == "iq" and stanza.type in ("result", "error")


def is_answer_to(stanzas: list[Stanza], request: Stanza) -> bool:
    """Return whether one of a reply's stanzas answers the iq get or set `request`."""
    return any(_is_answer(one) and one.id == request.id for one in stanzas)


def _quote(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
