"""Elements as JSON values: one function for each shape that a row of `field` reads.

Reading never raises, whatever strangers send: an element without the attributes that its XEP
demands says nothing. The number of elements is bounded by the stream.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from bridge.payload import namespace as ns
from bridge.payload.shape import (
    Caps,
    Command,
    Delay,
    ErrorObject,
    File,
    Form,
    FormField,
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
    COMPONENT,
    MUC_USER,
    STANZA_ERRORS,
    VERSION,
    expanded,
)
from xmppstream.stanza import language_of

Elements = list[Element]
Read = Callable[[Elements, Stanza], Any]
"""Reads a value from elements of a row, at least one; None if they say nothing."""

STATES: Final = ("active", "composing", "paused", "inactive", "gone")
HINTS: Final = ("no-permanent-store", "no-store", "no-copy", "store")


def text_of(elements: Elements) -> str | None:
    """Return the text of the first element without xml:lang, else of the first."""
    plain = next((one for one in elements if language_of(one) is None), elements[0])
    return plain.text


def text(elements: Elements, _: Stanza) -> str | None:
    return text_of(elements)


def some_text(elements: Elements, _: Stanza) -> str | None:
    return text_of(elements) or None


def true(_: Elements, __: Stanza) -> bool:
    return True


def attribute(name: str) -> Read:
    return lambda elements, _: elements[0].get(name) or None


def thread_parent(elements: Elements, _: Stanza) -> str | None:
    return elements[0].get("parent") or None


def bodies(elements: Elements, stanza: Stanza) -> dict[str, str] | None:
    if len(elements) < 2:
        return None
    own = language_of(stanza.element) or stanza.lang or ""
    return {language_of(one) or own: one.text for one in reversed(elements)}


def local_in(known: tuple[str, ...]) -> Read:
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


def delay_of(element: Element) -> Delay:
    return Delay(stamp_of(element.get("stamp")), element.get("from"), element.text or None)


def delay(elements: Elements, _: Stanza) -> Delay:
    """The earliest: each hop that held the stanza back adds one."""
    return min(map(delay_of, elements), key=lambda one: one.stamp or "9")


def retract(elements: Elements, _: Stanza) -> str | None:
    for one in elements:
        if one.namespace == ns.RETRACT or one.find(expanded(ns.RETRACT_0, "retract")) is not None:
            return one.get("id") or None
    return None


def moderated(elements: Elements, stanza: Stanza) -> Moderated | None:
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


def reply(elements: Elements, _: Stanza) -> ReplyTo | None:
    id = elements[0].get("id")
    return ReplyTo(id, elements[0].get("to")) if id else None


def reactions(elements: Elements, _: Stanza) -> Reactions | None:
    id = elements[0].get("id")
    if not id:
        return None
    said = elements[0].find_all(expanded(ns.REACTIONS, "reaction"))
    return Reactions(id, list(dict.fromkeys(one.text for one in said if one.text)))


def oob(elements: Elements, _: Stanza) -> Oob | None:
    space = elements[0].namespace
    url, desc = (_child_text(elements[0], space, local) for local in ("url", "desc"))
    return Oob(url, desc) if url else None


def _child_text(element: Element, namespace: str, local: str) -> str | None:
    child = element.find(expanded(namespace, local))
    return None if child is None else child.text.strip() or None


def files(elements: Elements, _: Stanza) -> list[File] | None:
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
    found = oob([element], _NOBODY)
    if found is not None:
        yield File(found.url, desc=found.desc)


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


def fallback(elements: Elements, _: Stanza) -> list[str] | None:
    return list(dict.fromkeys(one.get("for") or "" for one in elements))


def stanza_ids(elements: Elements, _: Stanza) -> list[StanzaId] | None:
    pairs = [(one.get("by"), one.get("id")) for one in elements]
    return [StanzaId(by, id) for by, id in pairs if by and id] or None


def invite(elements: Elements, stanza: Stanza) -> Invite | None:
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


def error(elements: Elements, stanza: Stanza) -> ErrorObject | None:
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


def html(elements: Elements, _: Stanza) -> str | None:
    body = elements[0].find(expanded(ns.XHTML, "body"))
    return None if body is None else reduced(body) or None


def references(elements: Elements, _: Stanza) -> list[Reference] | None:
    return [
        Reference(
            one.get("type"), one.get("uri"), _number(one.get("begin")), _number(one.get("end"))
        )
        for one in elements
        if one.find(expanded(ns.SIMS, "media-sharing")) is None
    ] or None


def hints(elements: Elements, _: Stanza) -> list[str] | None:
    return list(dict.fromkeys(one.local for one in elements))


def payload(elements: Elements, _: Stanza) -> Payload | None:
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


def dataform(elements: Elements, _: Stanza) -> Form:
    return form_of(elements[0])


def priority(elements: Elements, _: Stanza) -> int | None:
    text = elements[0].text.strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,3}", text) else None


def show(elements: Elements, _: Stanza) -> str | None:
    text = elements[0].text.strip()
    return text if text in ("away", "chat", "dnd", "xa") else None


def caps(elements: Elements, _: Stanza) -> Caps:
    one = elements[0]
    return Caps(one.get("node"), one.get("ver"), one.get("hash"))


def photo(elements: Elements, _: Stanza) -> str | None:
    return _child_text(elements[0], ns.VCARD_UPDATE, "photo")


def since(elements: Elements, _: Stanza) -> str | None:
    return stamp_of(elements[0].get("since"))


def occupant(elements: Elements, _: Stanza) -> Occupant | None:
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


def version(elements: Elements, _: Stanza) -> Version | bool:
    name, version, os = (
        _child_text(elements[0], VERSION, local) for local in ("name", "version", "os")
    )
    return Version(name, version, os) if name or version or os else True


def query(elements: Elements, _: Stanza) -> str | bool | None:
    """A question that is empty, or about a node; answers are in `stanza`."""
    one = elements[0]
    if one.elements:
        return None
    return one.get("node") or True


def command(elements: Elements, _: Stanza) -> Command:
    one = elements[0]
    return Command(one.get("node"), one.get("sessionid"), one.get("action"))


def empty(elements: Elements, _: Stanza) -> bool | None:
    return None if elements[0].elements or elements[0].text.strip() else True


_BODY: Final = expanded(COMPONENT, "body")
_EME: Final = expanded(ns.EME, "encryption")
_NOBODY: Final = Stanza(Element(expanded(COMPONENT, "message")))


def encryption(_: Elements, stanza: Stanza) -> str | None:
    return encryption_of(stanza)
