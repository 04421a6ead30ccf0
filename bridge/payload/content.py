"""JSON keys of replies and sends as elements: the other direction of `field`.

Each key is checked by its shape, then written as its XEP asks, with the fallback text and the hints
that belong to it. Keys of `field` that have no writer are read only.
"""

import re
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from attrs import frozen

from bridge.payload import namespace as ns
from bridge.payload.derived import ref_of, text_without_fallback
from bridge.payload.error import UnusableReply, quote
from bridge.payload.extension import (
    chat,
    choice,
    file,
    form,
    presence,
    query,
    room,
    stanza_error,
    text,
    vcard,
)
from bridge.payload.extension import common as write
from bridge.payload.extension.common import Asked, Write, Written, element
from bridge.payload.field import of_stanza
from bridge.payload.shape import (
    Archive,
    ArchiveResult,
    Caps,
    Command,
    Delay,
    Disco,
    ErrorObject,
    Extdisco,
    FileToSend,
    Form,
    Forwarded,
    Gateway,
    Invite,
    Item,
    LastActivity,
    Moderate,
    Muc,
    Oob,
    Page,
    Payload,
    Photo,
    QuickAction,
    QuickAnswer,
    Reactions,
    Reference,
    Register,
    ReplyTo,
    Slot,
    Stat,
    Thread,
    Time,
    UploadRequest,
    VCard,
    Version,
)
from bridge.payload.xhtml import plain_text
from xmppstream import Element, Stanza, make, rehome
from xmppstream.names import CLIENT, COMPONENT, expanded
from xmppstream.stanza import KINDS, Kind

QUOTED_LINES: Final = 3
RETRACTED: Final = "This message has been taken back; your client does not support that."
_EXPECTED: Final = re.compile(r"Expected `(?P<type>[^`]+)`(?P<rest>.*)\Z", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_BODY: Final = expanded(COMPONENT, "body")
_HTML: Final = expanded(ns.XHTML_IM, "html")
_SETTING: Final = frozenset({"command", "archive", "moderate"})
_REFERRING: Final = frozenset({"reply", "reactions", "displayed"})
_NOUNS: Final = {
    "str": ("a string",),
    "int": ("a whole number",),
    "float": ("a number",),
    "bool": ("true", "false"),
    "array": ("a list",),
    "object": ("an object",),
    "null": (),
}


@frozen
class Content:
    """What a reply's keys make of a message: a body, and elements behind it."""

    body: str | None
    elements: tuple[Element, ...]


@frozen
class _Row:
    kinds: tuple[Kind, ...]
    shape: Any
    write: Write
    doc: str
    makes_message: bool = True
    """Whether the key alone says something; a request for a receipt does not."""


def write_fields(fields: dict[str, Any], body: str | None, kind: Kind, request: Stanza) -> Content:
    """Return the content that keys describe, in reply to `request`.

    Raises:
        UnusableReply: if a key has a wrong value, is not for this kind, or contradicts another.
    """
    fields, body = _together(fields, body)
    _check_together(fields, body)
    if "answers" in fields or "actions" in fields:
        fields, body = _with_choices(fields, body)
    asked = Asked(request, kind, _ref(fields, request))
    elements: list[Element] = []
    for key, value in fields.items():
        row = WRITERS[key]
        if kind not in row.kinds:
            article = "an" if kind == "iq" else "a"
            raise UnusableReply(f"{key} is not a key of {article} {kind}")
        elements += row.write(checked(key, value, row.shape), asked)
    if "retract" in fields:
        body = RETRACTED
    if "files" in fields:
        body = checked("files", fields["files"], list[FileToSend])[0].url
    if "html" in fields and body is None:
        body = _text_of_html(elements)
    if fields.get("quote") and (quotation := _quotation(request)):
        body = quotation + (body or "")
        span = Element(
            expanded(ns.FALLBACK, "body"), (("start", "0"), ("end", str(len(quotation))))
        )
        elements.append(Element(text.FALLBACK, (("for", ns.REPLY),), (span,)))
    return Content(body, tuple(elements))


def _together(fields: dict[str, Any], body: str | None) -> tuple[dict[str, Any], str | None]:
    """Return fields and body, with one key for what two keys say."""
    fields = dict(fields)
    if "thread_parent" in fields:
        if not isinstance(fields.get("thread"), str):
            raise UnusableReply("thread_parent needs thread")
        fields["thread"] = {"id": fields["thread"], "parent": fields.pop("thread_parent")}
    bodies = fields.get("bodies")
    if isinstance(bodies, dict) and body is None and isinstance(bodies.get(""), str):
        body = bodies[""] or None
    return fields, body


def _with_choices(fields: dict[str, Any], body: str | None) -> tuple[dict[str, Any], str | None]:
    """Return fields and body with the list of what can be chosen, in the formatted body as well."""
    answers = checked("answers", fields.get("answers", []), list[QuickAnswer | str])
    actions = checked("actions", fields.get("actions", []), list[QuickAction])
    if not answers and not actions:
        return fields, body
    key = "answers" if answers else "actions"
    for other in ("files", "bodies"):
        if other in fields:
            raise UnusableReply(f"{key} and {other} exclude each other: send two messages")
    if isinstance(fields.get("html"), str):
        listed = choice.listing_html(answers, actions)
        fields = {**fields, "html": f"{fields['html']}{listed}"}
        if body is None:
            return fields, None  # its text is the body, with the list
    listed = choice.listing(answers, actions)
    return fields, f"{body}\n{listed}" if body else listed


def _ref(fields: dict[str, Any], request: Stanza) -> str | None:
    if request.kind != "message" or not _REFERRING & fields.keys():
        return None
    return ref_of(request, of_stanza(request))


def _text_of_html(elements: list[Element]) -> str | None:
    html = next(one for one in elements if one.name == _HTML)
    return plain_text(html.elements[0].children).strip() or None


def says_something(fields: dict[str, Any]) -> bool:
    """Return whether keys make a stanza without a body."""
    return any(key in WRITERS and WRITERS[key].makes_message for key in fields)


def kind_of(fields: dict[str, Any], default: Kind) -> Kind:
    """Return the kind of stanza that keys make, if none is given: `default` unless they all belong
    to another one.
    """
    kinds = [WRITERS[key].kinds for key in fields]
    if not kinds or any(default in one for one in kinds):
        return default
    return next((kind for kind in KINDS if all(kind in one for one in kinds)), default)


def type_of_question(fields: dict[str, Any]) -> str:
    """Return the type of an iq that is not an answer, if none is given."""
    return "set" if _SETTING & fields.keys() or isinstance(fields.get("register"), dict) else "get"


def checked(key: str, value: Any, shape: Any) -> Any:
    """Return a value in its shape.

    Raises:
        UnusableReply: if it does not fit; the message names the key within.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        choices = _choices(shape) if str(error).startswith("Invalid enum value") else ()
        why = _not_one_of(value, choices) if choices else _explain(str(error))
        raise UnusableReply(f"{key}{why}") from None
    except UnicodeEncodeError:  # msgspec compares choices as UTF-8
        raise UnusableReply(f"{key}: an unpaired surrogate") from None


def _choices(shape: Any) -> tuple[Any, ...]:
    """Return the values that a shape may have, or the items of its list."""
    if get_origin(shape) is Literal:
        return get_args(shape)
    return next(filter(None, map(_choices, get_args(shape))), ())


def _not_one_of(value: Any, choices: tuple[Any, ...]) -> str:
    if choices == (False,):
        return " is not false or a string"
    items = value if isinstance(value, list) else [value]
    wrong = next(one for one in items if one not in choices)
    return f": {quote(str(wrong))} is not one of {', '.join(choices)}"


def _explain(error: str) -> str:
    what, _, place = error.partition(" - at `$")
    path = re.sub(r"\[\.\.\.\]", "[]", place.rstrip("`"))
    missing = _MISSING.search(what)
    if missing is not None:
        return f"{path} has no {missing[1]}"
    found = _EXPECTED.match(what)
    if found is None:
        return f": {what[:1].lower()}{what[1:]}"
    names = [one.strip() for one in found["type"].split("|")]
    nouns = [noun for one in names for noun in _NOUNS.get(one, (one,))]
    listed = " or ".join(filter(None, (", ".join(nouns[:-1]), nouns[-1])))
    return f"{path} is not {listed}{found['rest'] if found['rest'].startswith(' of') else ''}"


def _check_together(fields: dict[str, Any], body: str | None) -> None:
    """Refuse keys that contradict each other."""
    for key in ("reactions", "retract", "receipt", "displayed", "files", "action"):
        if key in fields and body:
            raise UnusableReply(f"{key} and body exclude each other: send two messages")
    if fields.get("replace") and "files" in fields:
        raise UnusableReply("replace and files exclude each other (XEP-0308 §4)")
    if fields.get("replace") and not body and "html" not in fields:
        raise UnusableReply("replace needs a body: the whole corrected message")
    if fields.get("quote") and not (fields.get("reply") and body):
        raise UnusableReply('quote needs a body and "reply": true')
    if fields.get("quote") and fields["reply"] is not True:
        raise UnusableReply('quote needs "reply": true: only the request can be quoted')


def _quotation(request: Stanza) -> str:
    bodies = [one.text for one in request.element.find_all(expanded(COMPONENT, "body"))]
    text = text_without_fallback(request, bodies[0], of_stanza(request)) if bodies else ""
    lines = text.strip().splitlines()[:QUOTED_LINES]
    return "".join(f"> {line}\n" for line in lines)


_State = Literal["active", "composing", "paused", "inactive", "gone"]
_Hint = Literal["no-permanent-store", "no-store", "no-copy", "store"]
_Show = Literal["away", "chat", "dnd", "xa"]
_M: Final[tuple[Kind, ...]] = ("message",)
_P: Final[tuple[Kind, ...]] = ("presence",)
_I: Final[tuple[Kind, ...]] = ("iq",)
_ALL: Final[tuple[Kind, ...]] = ("message", "presence", "iq")


def _nothing(_: Any, __: Asked) -> Written:
    """What is written together with another key."""
    return ()


# fmt: off
WRITERS: Final[dict[str, _Row]] = {
    "subject": _Row(_M, str, write.write_text_in(expanded(COMPONENT, "subject")),
        "The subject; in a room, the room's."),
    "thread": _Row(_M, Thread | str, text.write_thread,
        "The id of a thread; without it, the request's is copied.", makes_message=False),
    "thread_parent": _Row(_M, str, _nothing,
        "With `thread`, the id of the thread that it branches from.", makes_message=False),
    "bodies": _Row(_M, dict[str, str], text.write_bodies,
        "Language and text of further bodies."),
    "html": _Row(_M, str, text.write_html,
        "The formatted body, as HTML; without `body`, its text is the body."),
    "nick": _Row((*_M, *_P), str, write.write_text_in(expanded(ns.NICK, "nick")),
        "The name that the bot goes by.", makes_message=False),
    "delay": _Row(_ALL, Delay | str, text.write_delay,
        "When it was said first: a time, or `{stamp, from, reason}`.", makes_message=False),
    "state": _Row(_M, _State, chat.write_state,
        "`active`, `composing`, `paused`, `inactive` or `gone`: what the bot is doing."),
    "replace": _Row(_M, str | Literal[False], chat.write_replace,
        "The id of an earlier message of the bot, which `body` corrects; or `false`, see below."),
    "retract": _Row(_M, str, chat.write_retract,
        "The id of an earlier message of the bot that is taken back."),
    "moderate": _Row(_I, Moderate | str, chat.write_moderate,
        "The room's id of a message that the bot, as moderator, removes, or `{id, reason}`."),
    "reply": _Row(_M, ReplyTo | bool, chat.write_reply,
        "`true` to reply to the request's message, or `{id, to}` of another one.",
        makes_message=False),
    "quote": _Row(_M, bool, _nothing,
        "`true`, with `reply`, for a quotation that older clients show.", makes_message=False),
    "reactions": _Row(_M, Reactions | list[str], chat.write_reactions,
        "A list of reactions to the request's message, or `{id, reactions}`; `[]` takes them "
        "back."),
    "oob": _Row((*_M, *_I), Oob, file.write_oob, "A URL, `{url, desc}`."),
    "files": _Row(_M, list[FileToSend], file.write_files,
        "A list of `{url, name, media_type, size, desc}`, or with `data_base64` in the place of "
        "`url`; each file becomes a message."),
    "attach_to": _Row(_M, str, write.write_id_in(expanded(ns.ATTACHING, "attach-to")),
        "The id of a message that this one is attached to.", makes_message=False),
    "origin_id": _Row(_M, str, write.write_id_in(expanded(ns.SID, "origin-id")),
        "An id that also rooms keep which change `id`.", makes_message=False),
    "receipt_requested": _Row(_M, bool, write.write_mark(expanded(ns.RECEIPTS, "request")),
        "`true` to ask whether the message arrives.", makes_message=False),
    "receipt": _Row(_M, str | bool, chat.write_receipt,
        "The id of a message that has arrived, or `true` for the request's."),
    "markable": _Row(_M, bool, write.write_mark(expanded(ns.MARKERS, "markable")),
        "`true` to ask whether the message is displayed.", makes_message=False),
    "displayed": _Row(_M, str | bool, chat.write_displayed,
        "The id of the last message that was read, or `true` for the request's."),
    "invite": _Row(_M, Invite, room.write_invite,
        "`{jid, reason, password}` invites to a room; with `to`, the room invites that person."),
    "references": _Row(_M, list[Reference], text.write_references,
        "A list of `{type, uri, begin, end}`, such as mentions.", makes_message=False),
    "fallback": _Row(_M, list[str] | bool, text.write_fallback,
        "`true`, or namespaces, if the body stands in for something else.", makes_message=False),
    "hints": _Row(_M, list[_Hint], text.write_hints,
        "A list of `no-store`, `no-permanent-store`, `no-copy` and `store`, for servers.",
        makes_message=False),
    "payload": _Row((*_M, *_I), Payload, text.write_payload,
        "`{datatype, data}`: any JSON, for a program."),
    "dataform": _Row(_ALL, Form, form.write_dataform,
        "`{type, title, instructions, fields}`: a form; or `{type, data}`, a filled one."),
    "answers": _Row(_M, list[QuickAnswer | str], choice.write_answers,
        "A list of `{value, label}`: answers to choose from, which are also added to the body.",
        makes_message=False),
    "actions": _Row(_M, list[QuickAction], choice.write_actions,
        "A list of `{id, label}`: actions to choose from, which are also added to the body.",
        makes_message=False),
    "action": _Row(_M, str, choice.write_action,
        "The id of an action that the bot chooses from those of another bot."),
    "forwarded": _Row(_M, Forwarded, lambda value, asked: _write_forwarded(value, asked),
        "`{delay, message}`: a message of somebody else, as JSON."),
    "show": _Row(_P, _Show, write.write_text_in(expanded(COMPONENT, "show")),
        "For a presence: `away`, `chat`, `dnd` or `xa`."),
    "status": _Row(_P, str, write.write_text_in(expanded(COMPONENT, "status")),
        "For a presence: a sentence about that."),
    "priority": _Row(_P, int, presence.write_priority,
        "For a presence: a number from -128 to 127."),
    "caps": _Row(_P, Caps, presence.write_caps,
        "For a presence: `{node, ver, hash}`.", makes_message=False),
    "vcard_update": _Row(_P, str | bool | Photo, presence.write_photo,
        "For a presence: the SHA-1 hash of the bot's avatar, or `false`.", makes_message=False),
    "idle_since": _Row(_P, str, presence.write_idle_since,
        "For a presence: since when the bot has been idle.", makes_message=False),
    "muc": _Row(_P, Muc | bool, room.write_muc,
        "For a presence: `true` to enter a room, or `{password, history}`."),
    "error": _Row(_ALL, ErrorObject, stanza_error.write_error,
        "`{condition, type, text}`: an error reply."),
    "ping": _Row(_I, bool, query.write_ping, "`true`: the answer to a ping, or a ping."),
    "version": _Row(_I, Version | bool, query.write_version,
        "`{name, version, os}`, or `true` to ask for them."),
    "disco": _Row(_I, Disco | str | bool, query.write_disco,
        "`{identities, features, extensions}`; or `true`, or a node, to ask for them."),
    "items": _Row(_I, list[Item | str] | str | bool, query.write_items,
        "A list of `{jid, name, node}`; or `true`, or a node, to ask for it."),
    "command": _Row(_I, Command | str, form.write_command,
        "`{note, fields, table}`, or `{status, form, actions}`; or a node, to run that command."),
    "register": _Row(_I, Register | bool, form.write_register,
        "The fields of a registration, `\"\"` for those to fill in; or `true` to ask for them."),
    "lastactivity": _Row(_I, LastActivity | int | bool, query.write_lastactivity,
        "Seconds since the last activity, or `true` to ask for them."),
    "time": _Row(_I, Time | bool, query.write_entity_time,
        "`{utc, tzo}`, or `true` to ask for them."),
    "vcard": _Row(_I, VCard | bool, vcard.write_vcard,
        "`{fn, nickname, url, desc, photo}` and more, or `true` to ask for them."),
    "upload_request": _Row(_I, UploadRequest, file.write_upload_request,
        "`{filename, size, content-type}`, to ask for a slot."),
    "upload_slot": _Row(_I, Slot, file.write_upload_slot, "`{put, get}`: a slot."),
    "extdisco": _Row(_I, Extdisco | bool, query.write_extdisco,
        "`{services}`, or `true` to ask for them."),
    "gateway": _Row(_I, Gateway | bool, query.write_gateway,
        "`{desc, prompt}` or `{jid}`; or `true` to ask how to ask."),
    "stats": _Row(_I, list[Stat] | bool, query.write_stats,
        "A list of `{name, value, unit}`, or `true` to ask for it."),
    "archive": _Row(_I, Archive, query.write_archive,
        "`{with, start, end, max}` and more: a query of an archive."),
    "result": _Row(_I, ArchiveResult, query.write_result,
        "`{page, complete}`: the end of an archive's answer."),
    "rsm": _Row(_ALL, Page, query.write_rsm, "`{max, after, before}`: a page.",
        makes_message=False),
}
# fmt: on
"""The keys that a reply or a send may have besides those of H2."""


def _write_forwarded(value: Forwarded, asked: Asked) -> Written:
    """Write a message within a message; that one forwards nothing (XEP-0297)."""
    given = dict(value.message or {})
    head = {key: given.pop(key, None) or None for key in ("to", "from", "id", "type")}
    body = given.pop("body", None) or None
    for key, one in (*head.items(), ("body", body)):
        if one is not None and not isinstance(one, str):
            raise UnusableReply(f"forwarded.message.{key} is not a string")
    fields = {key: one for key, one in given.items() if key in WRITERS and one not in (None, "")}
    if "forwarded" in fields or not (body or says_something(fields)):
        why = "forwards another" if "forwarded" in fields else "says nothing"
        raise UnusableReply(f"forwarded.message {why}")
    nobody = make("message", head["to"], head["from"])
    content = write_fields(fields, body, "message", nobody)
    text_ = () if content.body is None else (Element(_BODY, (), (content.body,)),)
    inner = element(expanded(COMPONENT, "message"), head, (*text_, *content.elements))
    delay = () if value.delay is None else text.write_delay(value.delay, asked)
    client = rehome(inner, CLIENT)
    return (Element(expanded(ns.FORWARD, "forwarded"), (), (*delay, client)),)
