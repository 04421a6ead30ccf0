"""The body of a reply or a send, read into objects: the first step of H2.

What web frameworks send by themselves (`null`, `{"type": "success"}`) says nothing; a body that the
strict decoder refuses is read leniently, or refused in our own words.
"""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from math import isfinite
from typing import Any, Final, Literal

import msgspec

from bridge.payload.content import WRITERS, says_something
from bridge.payload.error import UnusableReply, quote
from bridge.payload.field import FIELDS, READ_ONLY
from bridge.payload.key import keys_beside, unknown_within
from bridge.payload.mod_rest import from_mod_rest
from xmppstream.stanza import KINDS, TYPES, Kind

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
_MEANT_WITHIN: Final = {
    **dict.fromkeys(("uri", "href", "link", "src"), "url"),
    **dict.fromkeys(("mime_type", "mimetype", "content_type", "mime", "type"), "media_type"),
    **dict.fromkeys(("filename", "file_name"), "name"),
    **dict.fromkeys(("description", "text", "caption"), "desc"),
    **dict.fromkeys(("room", "address"), "jid"),
    **dict.fromkeys(("name", "key"), "var"),
    **dict.fromkeys(("emoji", "emojis", "reaction"), "reactions"),
}
_BOM: Final = b"\xef\xbb\xbf"
BLANK: Final = _BOM + b" \t\n\r\v\f"
"""The bytes of white space and of a byte order mark: a body of these is empty."""
_FORWARDED: Final = "forwarded.message."
_SHOWN: Final = 60
_UNKNOWN_LIMIT: Final = 20  # keys of one body that are named


class _Literal(str):
    """A number with a fraction or an exponent, as spelled in the JSON."""


class NotJson(UnusableReply):
    """The body should be JSON, and is not."""


class ReplyBody(msgspec.Struct, frozen=True, gc=False):
    """A body that should hold stanzas, not yet read: a reply's (H2), or an API request's."""

    media: Literal["json", "xml", "text", "ndjson", "sse"]
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
    """The keys that a reply does not have; within objects, their paths, such as `files.uri`."""
    unknown_in: tuple[int, ...] = ()
    """For each of these keys, the index of the first object that has it."""
    whys: tuple[str, ...] = ()
    """For each object, or the whole body, why it says nothing if it seems to be meant to say
    something; else an empty string. Empty if there is no such reason.
    """

    @property
    def nothing(self) -> tuple[str, ...]:
        """Why objects, or the whole body, say nothing."""
        return tuple(filter(None, self.whys)) if self.whys else ()


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


def decode_json(content: bytes, *, as_spelled: bool = True) -> Any:
    """Return a JSON value, whose strings may have halves of surrogate pairs.

    `as_spelled`: numbers with a fraction or an exponent are strings of a type of ours.

    Raises:
        NotJson: if it is not JSON.
    """
    content = content.lstrip(BLANK)
    try:
        return _ANY_DECODER.decode(content) if as_spelled else _PLAIN_DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"the body is not JSON: {error}"
    except RecursionError:
        raise NotJson("the body is JSON nested too deeply") from None
    try:  # msgspec refuses half a surrogate pair, which other JSON libraries write
        number = _Literal if as_spelled else float
        return json.loads(content.decode(), parse_float=number, parse_constant=_refuse)
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
        return Reading([], whys=(f"the body is a {noun}",))
    given = value if isinstance(value, list) else [value]
    for number, one in enumerate(given, 1):
        if not isinstance(one, dict):
            place = f": value {number} is not one" if len(given) > 1 else ""
            raise UnusableReply(f"the body is not a JSON object or an array of objects{place}")
    return read_objects(given, kind)


def read_objects(given: list[dict[str, Any]], kind: Kind = "message") -> Reading:
    """Read JSON objects, whose numbers may be as spelled; `kind` is what they are by default.

    Raises:
        UnusableReply: if a key has the wrong type.
    """
    given = [from_mod_rest(one) for one in given]
    unknown: dict[str, int] = {}
    for index, one in enumerate(given):
        for key in _unknown_keys(one):
            if len(unknown) < _UNKNOWN_LIMIT:
                unknown.setdefault(key, index)
    read: list[tuple[ReplyObject, str]] = []
    for number, one in enumerate(given, 1):
        try:
            read.append(_structured(one, kind))
        except UnusableReply as error:
            place = f"object {number}: " if len(given) > 1 else ""
            raise UnusableReply(f"{place}{error}") from None
    whys = tuple([why for _, why in read])
    return Reading([one for one, _ in read], tuple(unknown), tuple(unknown.values()), whys)


def _unknown_keys(one: dict[str, Any]) -> Iterator[str]:
    yield from (key for key in one if key not in KEYS)
    if one.get("stanza") in (None, ""):  # else the other keys are ignored
        for key in one:
            yield from unknown_within(key, one[key])
        yield from map(_FORWARDED.__add__, _unknown_in_message(one.get("forwarded")))


def _unknown_in_message(forwarded: Any) -> Iterator[str]:
    message = forwarded.get("message") if isinstance(forwarded, dict) else None
    for key, value in message.items() if isinstance(message, dict) else ():
        if key in KEYS:
            yield from unknown_within(key, value)
        elif key not in IGNORED:
            yield key


def _structured(one: dict[str, Any], kind: Kind) -> tuple[ReplyObject, str]:
    """Return an object, and why it says nothing, if it seems to be meant to say something."""
    given = {key: one[key] for key in _OWN_KEYS if one.get(key) is not None and one[key] != ""}
    fields = {
        key: _with_numbers(one[key])
        for key in WRITERS
        if one.get(key) is not None and one[key] != "" and not _is_no_question(key, one[key])
    }
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


def _is_no_question(key: str, value: Any) -> bool:
    """Return whether a question of an iq is not asked: `"version": false`."""
    return value is False and WRITERS[key].kinds == ("iq",)


def _with_numbers(value: Any) -> Any:
    """Return a value with numbers in place of those that were kept as spelled."""
    try:
        return _numbers_in(value)
    except RecursionError:
        raise NotJson("the body is JSON nested too deeply") from None


def _numbers_in(value: Any) -> Any:
    if isinstance(value, _Literal):
        number = float(value)
        return number if isfinite(number) else str(value)
    if isinstance(value, list):
        return [_numbers_in(one) for one in value]
    if isinstance(value, dict):
        return {key: _numbers_in(one) for key, one in value.items()}
    return value


def _why_nothing(kind: Any, type: Any, default: Kind) -> str | None:
    """Return why an object without body and stanza says nothing; None if its kind or type has a
    meaning. Web frameworks have others: `{"type": "success"}`.
    """
    if kind is not None:
        known = ", ".join(KINDS)
        return None if kind in KINDS else f"kind {quote(str(kind))} is not one of {known}"
    if type is None:
        return ""
    if isinstance(type, str) and type in TYPES[default]:
        return None
    return f"type {quote(str(type))} is not valid for {default} stanzas"


def hint_for(key: str) -> str:
    """Return what may have been meant by a key that a reply does not have."""
    if key == "deferred":
        return "answer with status 202 to reply later"
    if key.startswith(_FORWARDED):
        return hint_for(key.removeprefix(_FORWARDED))
    *outer, name = key[:_SHOWN].lower().split(".")
    known, meant = keys_beside(key), _MEANT_WITHIN
    if not known:
        name, known, meant, outer = key[:_SHOWN].lower(), KEYS, _MEANT, []
    close = [meant[name]] if meant.get(name) in known else get_close_matches(name, known, 1)
    if not close:
        return f"known keys: {', '.join(known)}"
    return f"perhaps you meant {'.'.join((*outer, close[0]))}"


def refuse_key(key: str) -> UnusableReply:
    """Return the refusal of a send with a key that it does not have."""
    name = quote(key)
    if key in IGNORED and key not in _MEANT:
        return UnusableReply(f"key {name} is read only: only a POST of the bridge has it")
    return UnusableReply(f"key {name} is unknown; {hint_for(key)}")


_DECODER: Final = msgspec.json.Decoder(ReplyObject | list[ReplyObject], float_hook=_Literal)
_ANY_DECODER: Final = msgspec.json.Decoder(float_hook=_Literal)
_PLAIN_DECODER: Final = msgspec.json.Decoder()
