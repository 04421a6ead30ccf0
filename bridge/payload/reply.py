"""JSON to stanzas: part H2 of the HTTP contract.

A reply is read in two steps. `read_reply` parses the body: what web frameworks send by themselves
(`null`, `{"type": "success"}`) says nothing. `ReplyComposer` makes stanzas that may be sent on a
stream shared with strangers. It checks everything that S27 to S31 require, so a bad reply costs one
stanza and never the stream.
"""

import json
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from attrs import field, frozen
from msgspec.structs import replace

from bridge.payload.content import WRITERS, says_something, write_fields
from bridge.payload.correction import Answered
from bridge.payload.error import UnusableReply, error_for
from bridge.payload.field import FIELDS, READ_ONLY
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
_OWN_KEYS: Final = ("kind", "to", "from", "type", "id", "body", "stanza")
KEYS: Final = (*_OWN_KEYS, *WRITERS)
"""The keys of a reply and a send."""
IGNORED: Final = READ_ONLY | {field.key for field in FIELDS} - WRITERS.keys()
"""Keys of a request that a reply may have without effect: a service may send back what it got."""
_MEANT: Final = {
    **dict.fromkeys(("text", "message", "content", "msg", "reply", "answer", "response"), "body"),
    **dict.fromkeys(("recipient", "jid"), "to"),
    "sender": "from",
    "xml": "stanza",
}
_BOM: Final = b"\xef\xbb\xbf"
BLANK: Final = _BOM + b" \t\n\r\v\f"
"""The bytes of white space and of a byte order mark: a body of these is empty."""
_SHOWN: Final = 60
_UNKNOWN_LIMIT: Final = 20  # keys of one body that are named

# What XML cannot carry (XML 1.0 §2.2), and control sequences (ECMA-48 §5.4): colours, say.
_SUSPECT: Final = re.compile("[^\t\n\r -\x9a\x9c-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNSENDABLE: Final = re.compile(
    r"(?P<sequence>(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~])"
    "|[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


class _Literal(str):
    """A number with a fraction or an exponent, as spelled in the JSON."""


class NotJson(UnusableReply):
    """The body should be JSON, and is not."""


class ReplyBody(msgspec.Struct, frozen=True, gc=False):
    """A body that should hold stanzas, not yet read: a reply's (H2), or an API request's."""

    media: Literal["json", "xml", "text"]
    content: bytes


class ReplyObject(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """One object of a JSON reply, with checked types. None and "" mean absent. If `stanza` is
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
        return self.body in (None, "") and not (self.stanza or self.type or self.kind)


class RichObject(ReplyObject, frozen=True, gc=False):
    """An object with keys that stand for elements."""

    fields: dict[str, Any] = {}

    @property
    def says_nothing(self) -> bool:
        return not says_something(self.fields) and super().says_nothing


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The objects of a body, and what its developer should know about it."""

    objects: list[ReplyObject]
    unknown: tuple[str, ...] = ()
    """The keys that a reply does not have."""
    nothing: tuple[str, ...] = ()
    """Why objects, or the whole body, say nothing, if they seem to be meant to say something."""


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


def read_reply(reply: ReplyBody, kind: Kind = "message") -> Reading:
    """Parse the body of a reply into objects. `kind` is what they are by default.

    Raises:
        UnusableReply: if it is not JSON in UTF-8, is an array of something else than objects, or
            has a key of the wrong type.
    """
    if reply.media == "json":
        return _read_json(reply.content, kind)
    try:
        if reply.media == "xml":
            return Reading([ReplyObject(stanza=reply.content.lstrip(BLANK).decode())])
        return Reading([ReplyObject(kind="message", body=without_bom(reply.content).decode())])
    except UnicodeDecodeError:
        raise UnusableReply("the body is not UTF-8") from None


def without_bom(content: bytes) -> bytes:
    """Return a text without the byte order mark. Some have several, one of each file in it."""
    while content.startswith(_BOM):
        content = content[len(_BOM) :]
    return content


def decode_json(content: bytes) -> Any:
    """Return a JSON value. Numbers with a fraction or an exponent are strings of a type of ours,
    and strings may have halves of surrogate pairs.

    Raises:
        NotJson: if it is not JSON.
    """
    content = content.lstrip(BLANK)
    try:
        return _ANY_DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"the body is not JSON: {error}"
    except RecursionError:
        raise NotJson("the body is JSON nested too deeply") from None
    try:  # msgspec refuses half a surrogate pair, which other JSON libraries write
        return json.loads(content.decode(), parse_float=_Literal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NotJson(why) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read_json(content: bytes, kind: Kind) -> Reading:
    content = content.lstrip(BLANK)
    try:
        value: ReplyObject | list[ReplyObject] = _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_leniently(content, kind)
    if isinstance(value, ReplyObject):
        value = [value]
    for one in value:
        if not (one.body or one.stanza):  # it may say nothing
            return _read_leniently(content, kind)
    return Reading(value)


def _read_leniently(content: bytes, kind: Kind) -> Reading:
    """Read a body that the strict decoder refuses, or raise with an explanation in our own words.

    Unknown keys are read here, because msgspec skips them even if they are not valid UTF-8. So are
    wrong types in keys that are ignored.
    """
    value = decode_json(content)
    if value is None or isinstance(value, bool):
        return Reading([])
    if isinstance(value, int | float | str):
        noun = "string" if type(value) is str else "number"
        return Reading([], nothing=(f"the body is a {noun}",))
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in given):
        raise UnusableReply("the body is not a JSON object or an array of objects")
    unknown = dict.fromkeys(key for one in given for key in one if key not in KEYS)
    read = [_structured(one, kind) for one in given]
    nothing = tuple(why for _, why in read if why)
    return Reading([one for one, _ in read], tuple(unknown)[:_UNKNOWN_LIMIT], nothing)


def _structured(one: dict[str, Any], kind: Kind) -> tuple[ReplyObject, str]:
    """Return an object, and why it says nothing, if it seems to be meant to say something."""
    given = {key: one[key] for key in _OWN_KEYS if one.get(key) is not None and one[key] != ""}
    fields = {key: one[key] for key in WRITERS if one.get(key) is not None and one[key] != ""}
    if "stanza" in given:  # the ignored keys may have any type
        filling = {key: given[key] for key in ("to", "from", "id") if type(given.get(key)) is str}
        given = {"stanza": given["stanza"], **filling}
    elif "body" not in given and not says_something(fields):
        why = _why_nothing(given.get("kind"), given.get("type"), kind)
        if why == "" and fields:
            why = f"{next(iter(fields))} needs a body"
        if why is not None:
            return ReplyObject(), why
    wrong = [
        f"{key} is not a string"
        for key, value in given.items()
        if key != "body" and type(value) is not str  # a `_Literal` is a number
    ]
    if wrong:
        raise UnusableReply("; ".join(wrong))
    if fields and "stanza" not in given:
        renamed = {"from_" if key == "from" else key: value for key, value in given.items()}
        return RichObject(**renamed, fields=fields), ""
    return msgspec.convert(given, ReplyObject), ""


def _why_nothing(kind: Any, type: Any, default: Kind) -> str | None:
    """Return why an object without body and stanza says nothing; None if its kind or type has a
    meaning. Web frameworks have others: `{"type": "success"}`.
    """
    if kind is not None:
        known = ", ".join(KINDS)
        return None if kind in KINDS else f"kind {_quote(str(kind))} is not one of {known}"
    if type is None:
        return ""
    if isinstance(type, str) and type in TYPES[default]:
        return None
    return f"type {_quote(str(type))} is not valid for {default} stanzas"


def hint_for(key: str) -> str:
    """Return what may have been meant by a key that a reply does not have."""
    name = key[:_SHOWN].lower()
    close = [_MEANT[name]] if name in _MEANT else get_close_matches(name, KEYS, 1)
    return f"perhaps you meant {close[0]}" if close else f"known keys: {', '.join(KEYS)}"


def refuse_key(key: str) -> UnusableReply:
    """Return the refusal of a send with a key that it does not have."""
    name = _quote(key)
    if key in IGNORED and key not in _MEANT:
        return UnusableReply(f"key {name} is read only: only a POST of the bridge has it")
    return UnusableReply(f"key {name} is unknown; {hint_for(key)}")


_DECODER: Final = msgspec.json.Decoder(ReplyObject | list[ReplyObject], float_hook=_Literal)
_ANY_DECODER: Final = msgspec.json.Decoder(float_hook=_Literal)


@frozen
class ReplyComposer:
    """Makes stanzas from replies, on behalf of one component.

    `parse` parses untrusted XML (in a thread of bounded life, see `xmppstream.parser_thread`).
    `replaced` is told, by the uid of the request if there is one, how many characters and control
    sequences of a text could not be sent.
    """

    domain: str
    max_send_bytes: int
    parse: ParseElement = field(repr=False)
    replaced: Callable[[str, int], None] = field(default=lambda uid, count: None, repr=False)
    _answered: Answered = field(factory=Answered, init=False, repr=False)

    async def compose(
        self, objects: list[ReplyObject], request: Stanza, *, uid: str, in_room: bool
    ) -> list[Stanza]:
        """Return the checked stanzas of a reply to `request`; an empty list if it sends nothing.

        If the n-th object needs an id and has none, it gets `uid-n`. `in_room`: see `error_for`.

        Raises:
            UnusableReply: if any of the stanzas may not be sent; then none may.
        """
        stanzas: list[Stanza] = []
        if len(objects) != 1 or type(objects[0]) is not ReplyObject:
            objects = _one_file_each(objects)
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
        if len(stanzas) > 1 and sum(map(_is_answer, stanzas)) > 1:
            raise UnusableReply("more than one answer to one iq")
        return stanzas

    def _correct(
        self, objects: list[ReplyObject], request: Stanza, in_room: bool
    ) -> list[ReplyObject]:
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
        if supplied is None and one.kind == "iq" and not one.type:
            raise UnusableReply("an iq needs a type")
        # The defaults are those of a reply to a message without a sender.
        nothing = make("message", default_from, None)
        kind = one.kind if supplied is None else supplied.kind
        fresh = fresh_id if kind == "iq" else None
        return self._compose_one(one, supplied, nothing, fresh, in_room=False)

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
        if one.kind:
            kind = _kind(one.kind)
        to = _recipient(one.to, request) if one.to else request.from_ or ""
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
            type = "result"
        rich = one if isinstance(one, RichObject) else None
        if rich is not None and "error" in rich.fields:
            type = "error"
        elif type == "error":
            raise UnusableReply('type "error" needs the key error')
        if rich is not None:
            children = self._rich_children(rich, kind, request)
        else:
            children = _message_children(one, request) if kind == "message" else ()
        id = one.id or (request.id if kind == "iq" and request.is_request else fresh_id)
        return make(
            kind, to, self._sender(one.from_ or None, request), type=type, id=id, children=children
        )

    def _rich_children(self, one: RichObject, kind: Kind, request: Stanza) -> tuple[Element, ...]:
        """Return the children that the keys of an object describe."""
        body = None if one.body in (None, "") or kind != "message" else _text(one.body)
        content = write_fields(one.fields, body, kind, request)
        elements = tuple(self._sendable_element(element) for element in content.elements)
        if kind != "message":
            return elements
        plain = replace(ReplyObject(), body=self._sendable_text(content.body or ""))
        names = {element.name for element in elements}
        children = _message_children(plain, request)
        return (*(child for child in children if child.name not in names), *elements)

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
        return _own((request.to or "") if given is None else given, self.domain)


@lru_cache(maxsize=1024)
def _own(address: str, domain: str) -> str:
    """Return a sender's address with the domain spelled exactly as configured (S28)."""
    jid = _split("from", address)
    if not same_domain(jid.domain, domain):
        raise UnusableReply(f"from: {_quote(jid.domain)} is not {domain}")
    return str(Jid(jid.local, domain, jid.resource))


def _one_file_each(objects: list[ReplyObject]) -> list[ReplyObject]:
    """Return objects with at most one file each: clients show a picture only if it is alone. A
    body goes first, as a message of its own.
    """
    split: list[ReplyObject] = []
    for one in objects:
        files = one.fields.get("files") if isinstance(one, RichObject) else None
        if not isinstance(one, RichObject) or not isinstance(files, list) or not files:
            split.append(one)
            continue
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
        children = (Element(_BODY, (), (_text(body),)),)
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
