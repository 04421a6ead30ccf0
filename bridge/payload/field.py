"""The table of fields: each JSON key, the elements that it stands for, and how they are read.

One row is one key. `of_stanza` looks children up by their expanded names; children without a row
are in `stanza` only.
"""

from typing import Any, Final

from attrs import frozen

from bridge.payload import namespace as ns
from bridge.payload.address import ADDRESS_KEYS
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
from bridge.payload.extension import common as read
from bridge.payload.extension.common import Elements, Read
from bridge.payload.shape import (
    Archive,
    ArchiveResult,
    Caps,
    Command,
    Delay,
    Disco,
    ErrorObject,
    Extdisco,
    File,
    Form,
    Forwarded,
    Gateway,
    Invite,
    Item,
    LastActivity,
    Moderated,
    Muc,
    Occupant,
    Oob,
    Page,
    Payload,
    QuickAction,
    QuickAnswer,
    Reactions,
    Reference,
    Register,
    ReplyTo,
    Slot,
    StanzaId,
    Stat,
    Time,
    UploadRequest,
    VCard,
    Version,
)
from xmppstream import Stanza
from xmppstream.names import (
    CLIENT,
    COMPONENT,
    DELAY,
    DISCO_INFO,
    DISCO_ITEMS,
    MUC_USER,
    PING,
    VERSION,
    expanded,
)
from xmppstream.stanza import Kind, language_of


@frozen
class Field:
    """One row: a key of the JSON and what it stands for."""

    key: str
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    shape: Any
    """The type of the value, as msgspec describes it."""
    read: Read
    doc: str
    source: str
    """The section or XEP that it follows."""


def of_stanza(stanza: Stanza, depth: int = 0) -> dict[str, Any]:
    """Return the fields of a stanza, as key and value. `depth`: of the forwarding."""
    found: dict[int, Elements] = {}
    rows = _ROWS[stanza.kind]
    for child in stanza.element.children:
        if not isinstance(child, str):
            for index in rows.get(child.name, ()):
                if index in found:
                    found[index].append(child)
                else:
                    found[index] = [child]
    values: dict[str, Any] = {}
    for index in sorted(found):
        key, read = _READS[index]
        value = read(found[index], stanza) if not depth or key != "forwarded" else None
        if value is not None:
            values[key] = value
    return values


def _forwarded(elements: Elements, stanza: Stanza) -> Forwarded | None:
    inner = elements[0].find(expanded(CLIENT, "message"))
    within = None if inner is None else Stanza.of(inner, stanza.lang)
    delay = elements[0].find(expanded(DELAY, "delay"))
    if within is None and delay is None:
        return None
    return Forwarded(
        None if delay is None else text.delay_of(delay),
        None if within is None else _inner(within),
    )


def _inner(message: Stanza) -> dict[str, Any]:
    head = (
        *(("to", message.to), ("from", message.from_), ("id", message.id), ("type", message.type)),
        ("lang", language_of(message.element)),
    )
    bodies = list(message.element.find_all(_BODY))
    body = {"body": read.text_of(bodies)} if bodies else {}
    return {key: value for key, value in head if value} | body | of_stanza(message, 1)


_BODY: Final = expanded(COMPONENT, "body")
_EME: Final = expanded(ns.EME, "encryption")


def _names(namespace: str, *locals: str) -> tuple[str, ...]:
    return tuple(expanded(namespace, local) for local in locals)


_MESSAGE: Final[tuple[Kind, ...]] = ("message",)
_PRESENCE: Final[tuple[Kind, ...]] = ("presence",)
_IQ: Final[tuple[Kind, ...]] = ("iq",)
_BOTH: Final[tuple[Kind, ...]] = ("message", "presence")
_ALL: Final[tuple[Kind, ...]] = ("message", "presence", "iq")
_ENCRYPTED: Final = (
    _EME,
    _BODY,
    *_names(ns.OMEMO, "encrypted"),
    *_names(ns.OMEMO_2, "encrypted"),
    *_names(ns.OPENPGP, "openpgp"),
    *_names(ns.LEGACY_PGP, "x"),
)
_RETRACTIONS: Final = (*_names(ns.RETRACT, "retract"), *_names(ns.FASTEN, "apply-to"))
_FILES: Final = (
    *_names(ns.SFS, "file-sharing"),
    *_names(ns.REFERENCE, "reference"),
    *_names(ns.OOB, "x"),
)

# fmt: off
FIELDS: Final = (
    Field("subject", _MESSAGE, _names(COMPONENT, "subject"), str, read.read_text,
          "The subject of a message; in a room, of the room.", "RFC 6121 §5.2.4"),
    Field("thread", _MESSAGE, _names(COMPONENT, "thread"), str, read.read_some_text,
          "The id of the thread that the message belongs to.", "RFC 6121 §5.2.5"),
    Field("thread_parent", _MESSAGE, _names(COMPONENT, "thread"), str, text.read_thread_parent,
          "The id of the thread that this thread has branched from.", "XEP-0201"),
    Field("bodies", _MESSAGE, (_BODY,), dict[str, str], text.read_bodies,
          "Language and text of each body, if there are several.", "RFC 6121 §5.2.3"),
    Field("nick", _BOTH, _names(ns.NICK, "nick"), str, read.read_some_text,
          "The name that the sender goes by.", "XEP-0172"),
    Field("delay", _ALL, (*_names(DELAY, "delay"), *_names(ns.LEGACY_DELAY, "x")), Delay,
          text.read_delay,
          "When and by whom the stanza was held back.", "XEP-0203"),
    Field("state", _MESSAGE, _names(ns.CHAT_STATES, *chat.STATES), str,
          read.read_local(chat.STATES),
          "What the sender is doing: `active`, `composing`, `paused`, `inactive` or `gone`.",
          "XEP-0085"),
    Field("replace", _MESSAGE, _names(ns.CORRECT, "replace"), str, read.read_attribute("id"),
          "The id of the message that this one corrects.", "XEP-0308"),
    Field("retract", _MESSAGE, _RETRACTIONS, str, chat.read_retract,
          "The id of the message that is taken back.", "XEP-0424"),
    Field("moderated", _MESSAGE, _RETRACTIONS, Moderated, chat.read_moderated,
          "Who of a room has removed the message `retract`.", "XEP-0425"),
    Field("reply", _MESSAGE, _names(ns.REPLY, "reply"), ReplyTo, chat.read_reply,
          "The message that this one replies to.", "XEP-0461"),
    Field("reactions", _MESSAGE, _names(ns.REACTIONS, "reactions"), Reactions, chat.read_reactions,
          "All reactions of the sender to one message.", "XEP-0444"),
    Field("oob", _ALL, (*_names(ns.OOB, "x"), *_names("jabber:iq:oob", "query")), Oob,
          file.read_oob, "A URL, with a description.", "XEP-0066"),
    Field("files", _MESSAGE, _FILES, list[File], file.read_files,
          "Shared files, one for each URL.", "XEP-0447, XEP-0385, XEP-0066"),
    Field("encryption", _MESSAGE, _ENCRYPTED, str, chat.read_encryption,
          "The namespace of the encryption, if the message is encrypted.", "XEP-0380"),
    Field("fallback", _MESSAGE, _names(ns.FALLBACK, "fallback"), list[str], text.read_fallback,
          "The namespaces that parts of the body stand in for.", "XEP-0428"),
    Field("origin_id", _MESSAGE, _names(ns.SID, "origin-id"), str, read.read_attribute("id"),
          "The id that the sender's client gave to the message.", "XEP-0359"),
    Field("stanza_ids", _MESSAGE, _names(ns.SID, "stanza-id"), list[StanzaId], chat.read_stanza_ids,
          "The ids that archives and rooms gave to the message.", "XEP-0359"),
    Field("occupant_id", _BOTH, _names(ns.OCCUPANT_ID, "occupant-id"), str,
          read.read_attribute("id"),
          "The id of a room's occupant, which a new nickname does not change.", "XEP-0421"),
    Field("attach_to", _MESSAGE, _names(ns.ATTACHING, "attach-to"), str,
          read.read_attribute("id"),
          "The id of the message that this one is attached to.", "XEP-0367"),
    Field("receipt_requested", _MESSAGE, _names(ns.RECEIPTS, "request"), bool, read.read_true,
          "Whether the sender wants to know that the message arrived.", "XEP-0184"),
    Field("receipt", _MESSAGE, _names(ns.RECEIPTS, "received"), str, read.read_attribute("id"),
          "The id of the message that has arrived.", "XEP-0184"),
    Field("markable", _MESSAGE, _names(ns.MARKERS, "markable"), bool, read.read_true,
          "Whether the sender wants to know that the message was displayed.", "XEP-0333"),
    Field("displayed", _MESSAGE, _names(ns.MARKERS, "displayed"), str, read.read_attribute("id"),
          "The id of the last message that was displayed.", "XEP-0333"),
    Field("invite", _MESSAGE, (*_names(MUC_USER, "x"), *_names(ns.CONFERENCE, "x")), Invite,
          room.read_invite, "An invitation to a room.", "XEP-0249, XEP-0045 §7.8"),
    Field("error", _ALL, _names(COMPONENT, "error"), ErrorObject, stanza_error.read_error,
          "Why a stanza was returned.", "RFC 6120 §8.3"),
    Field("html", _MESSAGE, _names(ns.XHTML_IM, "html"), str, text.read_html,
          "The formatted body, reduced to what is safe to show.", "XEP-0071"),
    Field("references", _MESSAGE, _names(ns.REFERENCE, "reference"), list[Reference],
          text.read_references,
          "References to URIs, such as mentions.", "XEP-0372"),
    Field("hints", _MESSAGE, _names(ns.HINTS, *text.HINTS), list[str], text.read_hints,
          "How servers should treat the message, such as `no-store`.", "XEP-0334"),
    Field("payload", (*_MESSAGE, *_IQ), _names(ns.JSON_MESSAGE, "payload"), Payload,
          text.read_payload,
          "A JSON payload.", "XEP-0432, XEP-0335"),
    Field("dataform", _ALL, _names(ns.DATA, "x"), Form, form.read_dataform,
          "A form to fill in, or a form that was filled in.", "XEP-0004"),
    Field("answers", _MESSAGE, _names(ns.ACTION, "response"), list[QuickAnswer],
          choice.read_answers, "Answers to choose from.", "XEP-0439"),
    Field("actions", _MESSAGE, _names(ns.ACTION, "action"), list[QuickAction],
          choice.read_actions, "Actions to choose from.", "XEP-0439"),
    Field("action", _MESSAGE, _names(ns.ACTION, "action-selected"), str,
          read.read_attribute("id"), "The id of the action that was chosen.", "XEP-0439"),
    Field("forwarded", _MESSAGE, _names(ns.FORWARD, "forwarded"), Forwarded, _forwarded,
          "A forwarded message.", "XEP-0297"),
    Field("show", _PRESENCE, _names(COMPONENT, "show"), str, presence.read_show,
          "How available the sender is: `away`, `chat`, `dnd` or `xa`.", "RFC 6121 §4.7.2.1"),
    Field("status", _PRESENCE, _names(COMPONENT, "status"), str, read.read_some_text,
          "The sender's own words about that.", "RFC 6121 §4.7.2.2"),
    Field("priority", _PRESENCE, _names(COMPONENT, "priority"), int, presence.read_priority,
          "The priority of the sender's client.", "RFC 6121 §4.7.2.3"),
    Field("caps", _PRESENCE, _names(ns.CAPS, "c"), Caps, presence.read_caps,
          "What the sender's client can do, as a hash.", "XEP-0115"),
    Field("vcard_update", _PRESENCE, _names(ns.VCARD_UPDATE, "x"), str | bool,
          presence.read_photo, "The hash of the sender's avatar, or `false`.", "XEP-0153"),
    Field("idle_since", _PRESENCE, _names(ns.IDLE, "idle"), str, read.read_time("since"),
          "Since when the sender has been idle.", "XEP-0319"),
    Field("muc", _PRESENCE, _names(ns.MUC, "x"), Muc | bool, room.read_muc,
          "The wish to enter a room: `true`, or with a password and bounds of the history.",
          "XEP-0045 §7.2"),
    Field("occupant", _PRESENCE, _names(MUC_USER, "x"), Occupant, room.read_occupant,
          "What a room says about its occupant.", "XEP-0045"),
    Field("ping", _IQ, _names(PING, "ping"), bool, read.read_true,
          "A question whether somebody is there.", "XEP-0199"),
    Field("version", _IQ, _names(VERSION, "query"), Version | bool, query.read_version,
          "A question about the software (`true`), or the answer.", "XEP-0092"),
    Field("disco", _IQ, _names(DISCO_INFO, "query"), Disco | str | bool, query.read_disco,
          "Identities and features; a question about them is `true`, or the node.", "XEP-0030"),
    Field("items", _IQ, _names(DISCO_ITEMS, "query"), list[Item] | str | bool, query.read_items,
          "A list of items; a question about them is `true`, or the node.", "XEP-0030"),
    Field("command", _IQ, _names(ns.COMMANDS, "command"), Command, form.read_command,
          "A request for a command, or its answer.", "XEP-0050"),
    Field("register", _IQ, _names(ns.REGISTER, "query"), Register | bool, form.read_register,
          "A registration; a question about its fields is `true`.", "XEP-0077"),
    Field("lastactivity", _IQ, _names(ns.LAST, "query"), LastActivity | bool,
          query.read_lastactivity,
          "The seconds since the last activity; a question about them is `true`.", "XEP-0012"),
    Field("time", _IQ, _names(ns.TIME, "time"), Time | bool, query.read_entity_time,
          "The time and its offset; a question about them is `true`.", "XEP-0202"),
    Field("vcard", _IQ, _names(ns.VCARD, "vCard"), VCard | bool, vcard.read_vcard,
          "A vCard; a question about it is `true`.", "XEP-0054"),
    Field("upload_request", _IQ, _names(ns.UPLOAD, "request"), UploadRequest,
          file.read_upload_request, "A file for which a slot is wanted.", "XEP-0363"),
    Field("upload_slot", _IQ, _names(ns.UPLOAD, "slot"), Slot, file.read_upload_slot,
          "Where the file is put, and where it is found then.", "XEP-0363"),
    Field("extdisco", _IQ, _names(ns.EXTDISCO, "services"), Extdisco | bool, query.read_extdisco,
          "External services, such as STUN; a question about them is `true`.", "XEP-0215"),
    Field("gateway", _IQ, _names(ns.GATEWAY, "query"), Gateway | bool, query.read_gateway,
          "A foreign address as a JID; a question how to ask for it is `true`.", "XEP-0100"),
    Field("stats", _IQ, _names(ns.STATS, "query"), list[Stat] | bool, query.read_stats,
          "A list of figures; a question about them is `true`.", "XEP-0039"),
    Field("archive", _IQ, _names(ns.MAM, "query"), Archive, query.read_archive,
          "A query of an archive of messages.", "XEP-0313"),
    Field("result", _IQ, _names(ns.MAM, "fin"), ArchiveResult, query.read_result,
          "The end of an archive's answer.", "XEP-0313"),
    Field("rsm", _ALL, _names(ns.RSM, "set"), Page, query.read_rsm,
          "A page of a long result.", "XEP-0059"),
)
"""The rows, in the order of the manual's page."""
# fmt: on


def _rows(kind: Kind) -> dict[str, tuple[int, ...]]:
    rows: dict[str, tuple[int, ...]] = {}
    for index, field in enumerate(FIELDS):
        if kind in field.kinds:
            for name in field.names:
                rows[name] = (*rows.get(name, ()), index)
    return rows


_ROWS: Final[dict[Kind, dict[str, tuple[int, ...]]]] = {kind: _rows(kind) for kind in _ALL}
_READS: Final = tuple((field.key, field.read) for field in FIELDS)
READ_ONLY: Final = frozenset(
    {
        *("received", "event", "text", "ref", "lang", "timestamp", "uid", "attempt", "reply_url"),
        *("room", "sender_nick", "mentioned", "private", "reason", "answer"),
        *ADDRESS_KEYS,
    }
)
"""Keys of a request only. A reply may have them too: a service may send back what it got."""
