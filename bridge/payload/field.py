"""The table of fields: each JSON key, the elements that it stands for, and how they are read.

One row is one key. `of_stanza` looks children up by their expanded names; children without a row
are in `stanza` only. Reading never raises, whatever strangers send: an element without the
attributes that its XEP demands says nothing. The number of elements is bounded by the stream.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from attrs import frozen

from bridge.payload import namespace as ns
from bridge.payload.shape import (
    Caps,
    Command,
    Delay,
    ErrorObject,
    File,
    Form,
    FormField,
    Forwarded,
    Invite,
    Moderated,
    Occupant,
    Oob,
    Option,
    Payload,
    Reactions,
    Reference,
    ReplyTo,
    StanzaId,
    Version,
)
from bridge.payload.xhtml import reduced
from xmppstream import Element, Stanza
from xmppstream.jid import bare
from xmppstream.names import (
    CLIENT,
    COMPONENT,
    DELAY,
    DISCO_INFO,
    DISCO_ITEMS,
    MUC_USER,
    PING,
    STANZA_ERRORS,
    VERSION,
    expanded,
)
from xmppstream.stanza import Kind, language_of

Elements = list[Element]
Read = Callable[[Elements, Stanza], Any]
"""Reads a value from elements of a row, at least one; None if they say nothing."""

STATES: Final = ("active", "composing", "paused", "inactive", "gone")
HINTS: Final = ("no-permanent-store", "no-store", "no-copy", "store")


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
                found.setdefault(index, []).append(child)
    values: dict[str, Any] = {}
    for index in sorted(found):
        field = FIELDS[index]
        if depth and field.key == "forwarded":
            continue
        value = field.read(found[index], stanza)
        if value is not None:
            values[field.key] = value
    return values


# --- reading


def text_of(elements: Elements) -> str | None:
    """Return the text of the first element without xml:lang, else of the first."""
    plain = next((one for one in elements if language_of(one) is None), elements[0])
    return plain.text


def _text(elements: Elements, _: Stanza) -> str | None:
    return text_of(elements)


def _some_text(elements: Elements, _: Stanza) -> str | None:
    return text_of(elements) or None


def _true(_: Elements, __: Stanza) -> bool:
    return True


def _attribute(name: str) -> Read:
    return lambda elements, _: elements[0].get(name) or None


def _thread_parent(elements: Elements, _: Stanza) -> str | None:
    return elements[0].get("parent") or None


def _bodies(elements: Elements, stanza: Stanza) -> dict[str, str] | None:
    if len(elements) < 2:
        return None
    own = language_of(stanza.element) or stanza.lang or ""
    return {language_of(one) or own: one.text for one in reversed(elements)}


def _local_in(known: tuple[str, ...]) -> Read:
    def read(elements: Elements, _: Stanza) -> str | None:
        return next((one.local for one in elements if one.local in known), None)

    return read


def stamp_of(text: str | None) -> str | None:
    """Return a time of XEP-0082, or the older form, as ISO 8601 in UTC; None if it is neither."""
    text = (text or "").strip()
    if re.fullmatch(r"\d{8}T\d\d:\d\d:\d\d", text):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}Z"
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    written = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return written.replace("+00:00", "Z")


def _delay_of(element: Element) -> Delay:
    return Delay(stamp_of(element.get("stamp")), element.get("from"), element.text or None)


def _delay(elements: Elements, _: Stanza) -> Delay:
    """The earliest: each hop that held the stanza back adds one."""
    return min(map(_delay_of, elements), key=lambda one: one.stamp or "9")


def _retract(elements: Elements, _: Stanza) -> str | None:
    for one in elements:
        if one.namespace == ns.RETRACT or one.find(expanded(ns.RETRACT_0, "retract")) is not None:
            return one.get("id") or None
    return None


def _moderated(elements: Elements, stanza: Stanza) -> Moderated | None:
    """Only a room itself may say so (XEP-0425 §5)."""
    if "/" in (stanza.from_ or "") or stanza.type != "groupchat":
        return None
    for one in elements:
        for version in (ns.MODERATE, ns.MODERATE_0):
            mark = one.find(expanded(version, "moderated"))
            if mark is not None:
                reason = one.find(expanded(one.namespace, "reason")) or mark.find(
                    expanded(version, "reason")
                )
                occupant = mark.find(expanded(ns.OCCUPANT_ID, "occupant-id"))
                return Moderated(
                    mark.get("by"),
                    None if occupant is None else occupant.get("id"),
                    None if reason is None else reason.text or None,
                )
    return None


def _reply(elements: Elements, _: Stanza) -> ReplyTo | None:
    id = elements[0].get("id")
    return ReplyTo(id, elements[0].get("to")) if id else None


def _reactions(elements: Elements, _: Stanza) -> Reactions | None:
    id = elements[0].get("id")
    if not id:
        return None
    said = elements[0].find_all(expanded(ns.REACTIONS, "reaction"))
    return Reactions(id, list(dict.fromkeys(one.text for one in said if one.text)))


def _oob(elements: Elements, _: Stanza) -> Oob | None:
    space = elements[0].namespace
    url, desc = (_child_text(elements[0], space, local) for local in ("url", "desc"))
    return Oob(url, desc) if url else None


def _child_text(element: Element, namespace: str, local: str) -> str | None:
    child = element.find(expanded(namespace, local))
    return None if child is None else child.text.strip() or None


def _files(elements: Elements, _: Stanza) -> list[File] | None:
    """One entry for each URL; what the first source lacks comes from the next ones."""
    found: dict[str, File] = {}
    for one in sorted(elements, key=lambda one: _FILE_SOURCES.index(one.namespace)):
        for file in _FILE_READERS[one.namespace](one):
            known = found.get(file.url)
            if known is None:
                found[file.url] = file
            else:
                found[file.url] = File(
                    file.url,
                    known.name or file.name,
                    known.media_type or file.media_type,
                    file.size if known.size is None else known.size,
                    known.desc or file.desc,
                )
    return list(found.values()) or None


def _sfs(element: Element) -> Iterable[File]:
    meta = element.find(expanded(ns.FILE, "file"))
    sources = element.find(expanded(ns.SFS, "sources"))
    for source in () if sources is None else sources.find_all(expanded(ns.URL_DATA, "url-data")):
        url = source.get("target")
        if url:
            yield _file(url, meta, ns.FILE)


def _sims(element: Element) -> Iterable[File]:
    sharing = element.find(expanded(ns.SIMS, "media-sharing"))
    if sharing is None:
        return
    meta = sharing.find(expanded(ns.JINGLE_FILE, "file"))
    sources = sharing.find(expanded(ns.SIMS, "sources"))
    for source in () if sources is None else sources.find_all(expanded(ns.REFERENCE, "reference")):
        url = source.get("uri")
        if url:
            yield _file(url, meta, ns.JINGLE_FILE)


def _file(url: str, meta: Element | None, space: str) -> File:
    if meta is None:
        return File(url)
    name, media, size, desc = (
        _child_text(meta, space, local) for local in ("name", "media-type", "size", "desc")
    )
    return File(url, name, media, _number(size), desc)


def _file_of_oob(element: Element) -> Iterable[File]:
    oob = _oob([element], _NOBODY)
    if oob is not None:
        yield File(oob.url, desc=oob.desc)


_FILE_READERS: Final = {ns.SFS: _sfs, ns.REFERENCE: _sims, ns.OOB: _file_of_oob}
_FILE_SOURCES: Final = tuple(_FILE_READERS)


def _number(text: str | None) -> int | None:
    """Return a number of at most 18 digits (JSON readers lose longer ones); else None."""
    text = text or ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def encryption_of(stanza: Stanza) -> str | None:
    """Return the namespace of an encrypted message's encryption; None if it is not encrypted.

    A message that only transports keys is not meant to be read, so it is not encrypted here.
    """
    element, found, has_payload = stanza.element, None, False
    for child in element.elements:
        space, local = child.namespace, child.local
        if child.name == _EME:
            found = child.get("namespace") or found
        elif local == "encrypted" and space in (ns.OMEMO, ns.OMEMO_2):
            found = found or space
            has_payload |= child.find(expanded(space, "payload")) is not None
        elif (local, space) in (("openpgp", ns.OPENPGP), ("x", ns.LEGACY_PGP)):
            found, has_payload = found or space, True
        elif child.name == _BODY:
            has_payload |= bool(child.text)
            if child.text.startswith("?OTR"):
                found = found or ns.OTR
    return found if has_payload else None


def _fallback(elements: Elements, _: Stanza) -> list[str] | None:
    return list(dict.fromkeys(one.get("for") or "" for one in elements))


def _stanza_ids(elements: Elements, _: Stanza) -> list[StanzaId] | None:
    pairs = [(one.get("by"), one.get("id")) for one in elements]
    return [StanzaId(by, id) for by, id in pairs if by and id] or None


def _invite(elements: Elements, stanza: Stanza) -> Invite | None:
    mediated = direct = None
    for one in elements:
        if one.namespace == ns.CONFERENCE:
            jid = one.get("jid")
            if jid:
                direct = Invite(
                    jid,
                    stanza.from_,
                    one.get("reason"),
                    one.get("password"),
                    one.get("thread"),
                    direct=True,
                )
            continue
        invite = one.find(expanded(MUC_USER, "invite"))
        if invite is not None and stanza.from_:
            thread = invite.find(expanded(MUC_USER, "continue"))
            mediated = Invite(
                bare(stanza.from_),
                invite.get("from"),
                _child_text(invite, MUC_USER, "reason"),
                _child_text(one, MUC_USER, "password"),
                None if thread is None else thread.get("thread"),
            )
    return mediated or direct


def _error(elements: Elements, stanza: Stanza) -> ErrorObject | None:
    if stanza.type != "error":
        return None
    error, condition, text, application = elements[0], None, None, None
    for child in error.elements:
        if child.namespace != STANZA_ERRORS:
            application = application or child.name
        elif child.local == "text":
            text = text or child.text or None
        else:
            condition = condition or child.local
    return ErrorObject(error.get("type"), condition, text, error.get("by"), application)


def _html(elements: Elements, _: Stanza) -> str | None:
    body = elements[0].find(expanded(ns.XHTML, "body"))
    return None if body is None else reduced(body) or None


def _references(elements: Elements, _: Stanza) -> list[Reference] | None:
    return [
        Reference(
            one.get("type"), one.get("uri"), _number(one.get("begin")), _number(one.get("end"))
        )
        for one in elements
        if one.find(expanded(ns.SIMS, "media-sharing")) is None
    ] or None


def _hints(elements: Elements, _: Stanza) -> list[str] | None:
    return list(dict.fromkeys(one.local for one in elements))


def _payload(elements: Elements, _: Stanza) -> Payload | None:
    inner = elements[0].find(expanded(ns.JSON, "json"))
    if inner is None:
        return None
    try:
        data = msgspec.json.decode(inner.text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return Payload(elements[0].get("datatype"), data)


def form_of(element: Element) -> Form:
    """Return a data form (XEP-0004)."""

    def children(local: str) -> list[Element]:
        return list(element.find_all(expanded(ns.DATA, local)))

    instructions = "\n".join(one.text for one in children("instructions"))
    return Form(
        element.get("type"),
        _child_text(element, ns.DATA, "title"),
        instructions or None,
        [_form_field(one) for one in children("field")] or None,
        [
            [_form_field(one) for one in item.find_all(expanded(ns.DATA, "field"))]
            for item in children("item")
        ]
        or None,
    )


def _form_field(element: Element) -> FormField:
    def texts(local: str, within: Element = element) -> list[str]:
        return [one.text for one in within.find_all(expanded(ns.DATA, local))]

    values = texts("value")
    options = [
        Option((texts("value", one) or [""])[0], one.get("label"))
        for one in element.find_all(expanded(ns.DATA, "option"))
    ]
    is_many = len(values) > 1 or (element.get("type") or "").endswith("-multi")
    return FormField(
        element.get("var"),
        element.get("type"),
        element.get("label"),
        next(iter(texts("desc")), None),
        element.find(expanded(ns.DATA, "required")) is not None,
        values[0] if values and not is_many else None,
        values if is_many else None,
        options or None,
    )


def _dataform(elements: Elements, _: Stanza) -> Form:
    return form_of(elements[0])


def _forwarded(elements: Elements, stanza: Stanza) -> Forwarded | None:
    inner = elements[0].find(expanded(CLIENT, "message"))
    within = None if inner is None else Stanza.of(inner, stanza.lang)
    delay = elements[0].find(expanded(DELAY, "delay"))
    if within is None and delay is None:
        return None
    return Forwarded(
        None if delay is None else _delay_of(delay), None if within is None else _inner(within)
    )


def _inner(message: Stanza) -> dict[str, Any]:
    head = (("to", message.to), ("from", message.from_), ("id", message.id), ("type", message.type))
    bodies = list(message.element.find_all(_BODY))
    body = {"body": text_of(bodies)} if bodies else {}
    return {key: value for key, value in head if value} | body | of_stanza(message, 1)


def _priority(elements: Elements, _: Stanza) -> int | None:
    text = elements[0].text.strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,3}", text) else None


def _show(elements: Elements, _: Stanza) -> str | None:
    text = elements[0].text.strip()
    return text if text in ("away", "chat", "dnd", "xa") else None


def _caps(elements: Elements, _: Stanza) -> Caps:
    one = elements[0]
    return Caps(one.get("node"), one.get("ver"), one.get("hash"))


def _photo(elements: Elements, _: Stanza) -> str | None:
    return _child_text(elements[0], ns.VCARD_UPDATE, "photo")


def _since(elements: Elements, _: Stanza) -> str | None:
    return stamp_of(elements[0].get("since"))


def _occupant(elements: Elements, _: Stanza) -> Occupant | None:
    one = elements[0]
    item = one.find(expanded(MUC_USER, "item"))
    codes = [_number(one.get("code")) for one in one.find_all(expanded(MUC_USER, "status"))]
    statuses = [code for code in codes if code is not None] or None
    if item is None:
        return Occupant(statuses=statuses) if statuses else None
    actor = item.find(expanded(MUC_USER, "actor"))
    return Occupant(
        item.get("affiliation"),
        item.get("role"),
        item.get("jid"),
        item.get("nick"),
        statuses,
        _child_text(item, MUC_USER, "reason"),
        None if actor is None else actor.get("nick") or actor.get("jid"),
    )


def _version(elements: Elements, _: Stanza) -> Version | bool:
    name, version, os = (
        _child_text(elements[0], VERSION, local) for local in ("name", "version", "os")
    )
    return Version(name, version, os) if name or version or os else True


def _query(elements: Elements, _: Stanza) -> str | bool | None:
    """A question that is empty, or about a node; answers are in `stanza`."""
    one = elements[0]
    if one.elements:
        return None
    return one.get("node") or True


def _command(elements: Elements, _: Stanza) -> Command:
    one = elements[0]
    return Command(one.get("node"), one.get("sessionid"), one.get("action"))


def _empty(elements: Elements, _: Stanza) -> bool | None:
    return None if elements[0].elements or elements[0].text.strip() else True


_BODY: Final = expanded(COMPONENT, "body")
_EME: Final = expanded(ns.EME, "encryption")
_NOBODY: Final = Stanza(Element(expanded(COMPONENT, "message")))


def _encryption(_: Elements, stanza: Stanza) -> str | None:
    return encryption_of(stanza)


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
    Field("subject", _MESSAGE, _names(COMPONENT, "subject"), str, _text,
          "The subject of a message; in a room, of the room.", "RFC 6121 §5.2.4"),
    Field("thread", _MESSAGE, _names(COMPONENT, "thread"), str, _some_text,
          "The id of the thread that the message belongs to.", "RFC 6121 §5.2.5"),
    Field("thread_parent", _MESSAGE, _names(COMPONENT, "thread"), str, _thread_parent,
          "The id of the thread that this thread has branched from.", "XEP-0201"),
    Field("bodies", _MESSAGE, (_BODY,), dict[str, str], _bodies,
          "Language and text of each body, if there are several.", "RFC 6121 §5.2.3"),
    Field("nick", _BOTH, _names(ns.NICK, "nick"), str, _some_text,
          "The name that the sender goes by.", "XEP-0172"),
    Field("delay", _ALL, (*_names(DELAY, "delay"), *_names(ns.LEGACY_DELAY, "x")), Delay, _delay,
          "When and by whom the stanza was held back.", "XEP-0203"),
    Field("state", _MESSAGE, _names(ns.CHAT_STATES, *STATES), str, _local_in(STATES),
          "What the sender is doing: `active`, `composing`, `paused`, `inactive` or `gone`.",
          "XEP-0085"),
    Field("replace", _MESSAGE, _names(ns.CORRECT, "replace"), str, _attribute("id"),
          "The id of the message that this one corrects.", "XEP-0308"),
    Field("retract", _MESSAGE, _RETRACTIONS, str, _retract,
          "The id of the message that is taken back.", "XEP-0424"),
    Field("moderated", _MESSAGE, _RETRACTIONS, Moderated, _moderated,
          "Who of a room has removed the message `retract`.", "XEP-0425"),
    Field("reply", _MESSAGE, _names(ns.REPLY, "reply"), ReplyTo, _reply,
          "The message that this one replies to.", "XEP-0461"),
    Field("reactions", _MESSAGE, _names(ns.REACTIONS, "reactions"), Reactions, _reactions,
          "All reactions of the sender to one message.", "XEP-0444"),
    Field("oob", _ALL, (*_names(ns.OOB, "x"), *_names("jabber:iq:oob", "query")), Oob, _oob,
          "A URL, with a description.", "XEP-0066"),
    Field("files", _MESSAGE, _FILES, list[File], _files,
          "Shared files, one for each URL.", "XEP-0447, XEP-0385, XEP-0066"),
    Field("encryption", _MESSAGE, _ENCRYPTED, str, _encryption,
          "The namespace of the encryption, if the message is encrypted.", "XEP-0380"),
    Field("fallback", _MESSAGE, _names(ns.FALLBACK, "fallback"), list[str], _fallback,
          "The namespaces that parts of the body stand in for.", "XEP-0428"),
    Field("origin_id", _MESSAGE, _names(ns.SID, "origin-id"), str, _attribute("id"),
          "The id that the sender's client gave to the message.", "XEP-0359"),
    Field("stanza_ids", _MESSAGE, _names(ns.SID, "stanza-id"), list[StanzaId], _stanza_ids,
          "The ids that archives and rooms gave to the message.", "XEP-0359"),
    Field("occupant_id", _BOTH, _names(ns.OCCUPANT_ID, "occupant-id"), str, _attribute("id"),
          "The id of a room's occupant, which a new nickname does not change.", "XEP-0421"),
    Field("receipt_requested", _MESSAGE, _names(ns.RECEIPTS, "request"), bool, _true,
          "Whether the sender wants to know that the message arrived.", "XEP-0184"),
    Field("receipt", _MESSAGE, _names(ns.RECEIPTS, "received"), str, _attribute("id"),
          "The id of the message that has arrived.", "XEP-0184"),
    Field("markable", _MESSAGE, _names(ns.MARKERS, "markable"), bool, _true,
          "Whether the sender wants to know that the message was displayed.", "XEP-0333"),
    Field("displayed", _MESSAGE, _names(ns.MARKERS, "displayed"), str, _attribute("id"),
          "The id of the last message that was displayed.", "XEP-0333"),
    Field("invite", _MESSAGE, (*_names(MUC_USER, "x"), *_names(ns.CONFERENCE, "x")), Invite,
          _invite, "An invitation to a room.", "XEP-0249, XEP-0045 §7.8"),
    Field("error", _ALL, _names(COMPONENT, "error"), ErrorObject, _error,
          "Why a stanza was returned.", "RFC 6120 §8.3"),
    Field("html", _MESSAGE, _names(ns.XHTML_IM, "html"), str, _html,
          "The formatted body, reduced to what is safe to show.", "XEP-0071"),
    Field("references", _MESSAGE, _names(ns.REFERENCE, "reference"), list[Reference], _references,
          "References to URIs, such as mentions.", "XEP-0372"),
    Field("hints", _MESSAGE, _names(ns.HINTS, *HINTS), list[str], _hints,
          "How servers should treat the message, such as `no-store`.", "XEP-0334"),
    Field("payload", _MESSAGE, _names(ns.JSON_MESSAGE, "payload"), Payload, _payload,
          "A JSON payload.", "XEP-0432, XEP-0335"),
    Field("dataform", _ALL, _names(ns.DATA, "x"), Form, _dataform,
          "A form to fill in, or a form that was filled in.", "XEP-0004"),
    Field("forwarded", _MESSAGE, _names(ns.FORWARD, "forwarded"), Forwarded, _forwarded,
          "A forwarded message.", "XEP-0297"),
    Field("show", _PRESENCE, _names(COMPONENT, "show"), str, _show,
          "How available the sender is: `away`, `chat`, `dnd` or `xa`.", "RFC 6121 §4.7.2.1"),
    Field("status", _PRESENCE, _names(COMPONENT, "status"), str, _some_text,
          "The sender's own words about that.", "RFC 6121 §4.7.2.2"),
    Field("priority", _PRESENCE, _names(COMPONENT, "priority"), int, _priority,
          "The priority of the sender's client.", "RFC 6121 §4.7.2.3"),
    Field("caps", _PRESENCE, _names(ns.CAPS, "c"), Caps, _caps,
          "What the sender's client can do, as a hash.", "XEP-0115"),
    Field("vcard_update", _PRESENCE, _names(ns.VCARD_UPDATE, "x"), str, _photo,
          "The hash of the sender's avatar.", "XEP-0153"),
    Field("idle_since", _PRESENCE, _names(ns.IDLE, "idle"), str, _since,
          "Since when the sender has been idle.", "XEP-0319"),
    Field("muc", _PRESENCE, _names(ns.MUC, "x"), bool, _true,
          "Whether the sender asks to enter a room.", "XEP-0045 §7.2"),
    Field("occupant", _PRESENCE, _names(MUC_USER, "x"), Occupant, _occupant,
          "What a room says about its occupant.", "XEP-0045"),
    Field("ping", _IQ, _names(PING, "ping"), bool, _true,
          "A question whether somebody is there.", "XEP-0199"),
    Field("version", _IQ, _names(VERSION, "query"), Version | bool, _version,
          "A question about the software (`true`), or the answer.", "XEP-0092"),
    Field("disco", _IQ, _names(DISCO_INFO, "query"), str | bool, _query,
          "A question about identity and features: `true`, or the node.", "XEP-0030"),
    Field("items", _IQ, _names(DISCO_ITEMS, "query"), str | bool, _query,
          "A question about items: `true`, or the node.", "XEP-0030"),
    Field("command", _IQ, _names(ns.COMMANDS, "command"), Command, _command,
          "A request for a command.", "XEP-0050"),
    Field("register", _IQ, _names(ns.REGISTER, "query"), bool, _empty,
          "A question about registration.", "XEP-0077"),
    Field("lastactivity", _IQ, _names(ns.LAST, "query"), bool, _empty,
          "A question about the last activity.", "XEP-0012"),
    Field("time", _IQ, _names(ns.TIME, "time"), bool, _empty,
          "A question about the time.", "XEP-0202"),
    Field("vcard", _IQ, _names(ns.VCARD, "vCard"), bool, _empty,
          "A question about the vCard.", "XEP-0054"),
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
READ_ONLY: Final = frozenset(
    {
        *("received", "event", "text", "ref", "lang", "timestamp", "uid", "attempt"),
        *("room", "sender_nick", "mentioned", "private"),
    }
)
"""Keys of a request only. A reply may have them too: a service may send back what it got."""
