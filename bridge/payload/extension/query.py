"""Questions and answers: one function for each payload of an iq that has a key.

An empty payload is a question and reads as `true`, or as its node.
"""

import re
from typing import Any, Final

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import (
    Asked,
    Elements,
    Written,
    check_time,
    child_text,
    children_of,
    element,
    number_of,
    time_of,
)
from bridge.payload.extension.form import FORM_TYPE, form_element, form_of, values_of
from bridge.payload.shape import (
    Archive,
    ArchiveResult,
    Disco,
    Extdisco,
    Form,
    Gateway,
    Identity,
    Item,
    LastActivity,
    Page,
    Service,
    Stat,
    Time,
    Version,
)
from xmppstream import Element, Stanza
from xmppstream.names import DISCO_INFO, DISCO_ITEMS, PING, VERSION, expanded

_FORM: Final = expanded(ns.DATA, "x")
_TZO: Final = re.compile(r"Z|[+-]\d\d:\d\d")
_SET: Final = expanded(ns.RSM, "set")
_PAGE_TEXTS: Final = ("after", "before", "first", "last")
_PAGE_NUMBERS: Final = ("count", "index", "max")


def write_ping(value: bool, asked: Asked) -> Written:
    return () if asked.request.is_request or not value else (Element(expanded(PING, "ping")),)


def read_version(elements: Elements, _: Stanza) -> Version | bool:
    name, version, os = (
        child_text(elements[0], VERSION, local) for local in ("name", "version", "os")
    )
    return Version(name, version, os) if name or version or os else True


def write_version(value: Version | bool, asked: Asked) -> Written:
    asked.refuse_a_question("version", value)
    inner: Written = ()
    if isinstance(value, Version):
        pairs = {"name": value.name, "version": value.version, "os": value.os}
        inner = children_of(VERSION, pairs)
    return (Element(expanded(VERSION, "query"), (), inner),)


def read_disco(elements: Elements, stanza: Stanza) -> Disco | str | bool:
    """Identities, features and extensions (XEP-0128); a question is `true`, or its node."""
    one = elements[0]
    if not one.elements and stanza.type != "result":
        return one.get("node") or True
    identities = [
        Identity(each.get("category") or "", each.get("type") or "", each.get("name"))
        for each in one.find_all(expanded(DISCO_INFO, "identity"))
    ]
    features = [each.get("var") or "" for each in one.find_all(expanded(DISCO_INFO, "feature"))]
    extensions: dict[str, Any] = {}
    for form in one.find_all(_FORM):
        values = values_of(form)
        kind = values.pop(FORM_TYPE, "")
        if isinstance(kind, str) and kind:
            extensions[kind] = values
    return Disco(identities, features, one.get("node") or None, extensions or None)


def write_disco(value: Disco | str | bool, asked: Asked) -> Written:
    asked.refuse_a_question("disco", value)
    name = expanded(DISCO_INFO, "query")
    if not isinstance(value, Disco):
        return (element(name, {"node": value or None if isinstance(value, str) else None}),)
    inner = (
        *(
            element(
                expanded(DISCO_INFO, "identity"),
                {"category": one.category, "type": one.type, "name": one.name},
            )
            for one in value.identities
        ),
        *(Element(expanded(DISCO_INFO, "feature"), (("var", one),)) for one in value.features),
        *(
            form_element("disco.extensions", Form("result", data={FORM_TYPE: kind, **values}))
            for kind, values in (value.extensions or {}).items()
        ),
    )
    return (element(name, {"node": value.node or _node_asked(asked, name)}, inner),)


def _node_asked(asked: Asked, name: str) -> str | None:
    """The answer to a question about a node names it (XEP-0030 §3.2)."""
    query = asked.request.element.find(name) if asked.request.is_request else None
    return None if query is None else query.get("node")


def read_items(elements: Elements, stanza: Stanza) -> list[Item] | str | bool:
    one = elements[0]
    if not one.elements and stanza.type != "result":
        return one.get("node") or True
    return [
        Item(each.get("jid") or "", each.get("name"), each.get("node"))
        for each in one.find_all(expanded(DISCO_ITEMS, "item"))
    ]


def write_items(value: list[Item | str] | str | bool, asked: Asked) -> Written:
    asked.refuse_a_question("items", value)
    name = expanded(DISCO_ITEMS, "query")
    if not isinstance(value, list):
        return (element(name, {"node": value or None if isinstance(value, str) else None}),)
    given = (Item(one) if isinstance(one, str) else one for one in value)
    item = expanded(DISCO_ITEMS, "item")
    inner = (element(item, {"jid": o.jid, "name": o.name, "node": o.node}) for o in given)
    return (element(name, {"node": _node_asked(asked, name)}, tuple(inner)),)


def read_lastactivity(elements: Elements, _: Stanza) -> LastActivity | bool:
    seconds = number_of(elements[0].get("seconds"))
    return True if seconds is None else LastActivity(seconds, elements[0].text or None)


def write_lastactivity(value: LastActivity | int | bool, asked: Asked) -> Written:
    asked.refuse_a_question("lastactivity", value)
    name = expanded(ns.LAST, "query")
    if isinstance(value, bool):
        return (Element(name),)
    last = LastActivity(value) if isinstance(value, int) else value
    if last.seconds < 0:
        raise UnusableReply("lastactivity is negative")
    pairs = (("seconds", str(last.seconds)),)
    return (Element(name, pairs, (last.status,) if last.status else ()),)


def read_entity_time(elements: Elements, _: Stanza) -> Time | bool:
    tzo, utc = (child_text(elements[0], ns.TIME, local) for local in ("tzo", "utc"))
    return Time(time_of(utc), tzo) if utc else True


def write_entity_time(value: Time | bool, asked: Asked) -> Written:
    asked.refuse_a_question("time", value)
    name = expanded(ns.TIME, "time")
    if isinstance(value, bool):
        return (Element(name),)
    if value.utc is None or not value.utc.endswith("Z"):
        raise UnusableReply('time.utc is not a time in UTC, such as "2026-06-30T12:00:00Z"')
    check_time("time.utc", value.utc)
    tzo = value.tzo or "Z"
    if _TZO.fullmatch(tzo) is None:
        raise UnusableReply('time.tzo is not an offset, such as "+02:00"')
    return (Element(name, (), children_of(ns.TIME, {"tzo": tzo, "utc": value.utc})),)


def read_gateway(elements: Elements, _: Stanza) -> Gateway | bool:
    desc, prompt, jid = (
        child_text(elements[0], ns.GATEWAY, local) for local in ("desc", "prompt", "jid")
    )
    return Gateway(desc, prompt, jid) if desc or prompt or jid else True


def write_gateway(value: Gateway | bool, asked: Asked) -> Written:
    asked.refuse_a_question("gateway", value)
    inner: Written = ()
    if isinstance(value, Gateway):
        pairs = {"desc": value.desc, "prompt": value.prompt, "jid": value.jid}
        inner = children_of(ns.GATEWAY, pairs)
    return (Element(expanded(ns.GATEWAY, "query"), (), inner),)


def read_stats(elements: Elements, _: Stanza) -> list[Stat] | bool:
    stats = [
        Stat(one.get("name") or "", _float(one.get("value")), one.get("units"))
        for one in elements[0].find_all(expanded(ns.STATS, "stat"))
    ]
    return stats or True


def _float(text: str | None) -> float | None:
    """Return a number of at most 30 characters, without an exponent; else None."""
    text = text or ""
    if len(text) > 30 or re.fullmatch(r"-?\d+(\.\d+)?", text) is None:
        return None
    return float(text) if "." in text else int(text)


def write_stats(value: list[Stat] | bool, asked: Asked) -> Written:
    asked.refuse_a_question("stats", value)
    given = value if isinstance(value, list) else []
    inner = (
        element(
            expanded(ns.STATS, "stat"),
            {
                "name": one.name,
                "units": one.unit,
                "value": None if one.value is None else f"{one.value}",
            },
        )
        for one in given
    )
    return (Element(expanded(ns.STATS, "query"), (), tuple(inner)),)


def read_extdisco(elements: Elements, _: Stanza) -> Extdisco | bool:
    one = elements[0]
    services = [_service(each) for each in one.find_all(expanded(ns.EXTDISCO, "service"))]
    type = one.get("type")
    return Extdisco(type, services or None) if type or services else True


def _service(one: Element) -> Service:
    texts = {
        name: one.get(name)
        for name in ("transport", "username", "password", "expires", "name", "action")
    }
    is_restricted = one.get("restricted") in ("true", "1")
    return Service(
        one.get("type") or "",
        one.get("host") or "",
        number_of(one.get("port")),
        restricted=is_restricted,
        **texts,
    )


def write_extdisco(value: Extdisco | bool, asked: Asked) -> Written:
    asked.refuse_a_question("extdisco", value)
    name = expanded(ns.EXTDISCO, "services")
    if isinstance(value, bool):
        return (Element(name),)
    inner = []
    for one in value.services or ():
        if one.port is not None and not 0 < one.port <= 65535:
            raise UnusableReply("extdisco.services.port is not from 1 to 65535")
        check_time("extdisco.services.expires", one.expires)
        pairs = {
            "type": one.type,
            "host": one.host,
            "transport": one.transport,
            "port": None if one.port is None else str(one.port),
            "username": one.username,
            "password": one.password,
            "expires": one.expires,
            "name": one.name,
            "restricted": "true" if one.restricted else None,
            "action": one.action,
        }
        inner.append(element(expanded(ns.EXTDISCO, "service"), pairs))
    return (element(name, {"type": value.type}, tuple(inner)),)


def read_rsm(elements: Elements, _: Stanza) -> Page:
    return page_of(elements[0])


def page_of(element: Element) -> Page:
    """Return a page of a result (XEP-0059)."""
    given: dict[str, Any] = {}
    for name in (*_PAGE_TEXTS, *_PAGE_NUMBERS):
        one = element.find(expanded(ns.RSM, name))
        if one is not None:
            given[name] = number_of(one.text) if name in _PAGE_NUMBERS else one.text
    first = element.find(expanded(ns.RSM, "first"))
    if first is not None and first.get("index") is not None:
        given["index"] = number_of(first.get("index"))
    return Page(**given)


def write_rsm(value: Page, _: Asked) -> Written:
    return (page_element(value),)


def page_element(page: Page) -> Element:
    """Return the element of a page. `before` may be empty: the last page (XEP-0059 §2.5)."""
    inner: list[Element] = []
    for name in ("after", "before", "first", "last"):
        text = getattr(page, name)
        if text is not None:
            index = page.index if name == "first" else None
            pairs = {"index": None if index is None else str(index)}
            inner.append(element(expanded(ns.RSM, name), pairs, (text,) if text else ()))
    for name in ("count", "max") if page.first is not None else _PAGE_NUMBERS:
        number = getattr(page, name)
        if number is not None:
            if number < 0:
                raise UnusableReply(f"rsm.{name} is negative")
            inner.append(Element(expanded(ns.RSM, name), (), (str(number),)))
    return Element(_SET, (), tuple(inner))


def read_archive(elements: Elements, _: Stanza) -> Archive:
    one = elements[0]
    form, page = one.find(_FORM), one.find(_SET)
    return Archive(
        one.get("queryid"),
        one.get("node"),
        None if form is None else form_of(form),
        None if page is None else page_of(page),
    )


def write_archive(value: Archive, _: Asked) -> Written:
    """The conditions `with`, `start`, `end`, … are the form's, and `after`, `before`, `max` the
    page's.
    """
    conditions = {
        "with": value.with_,
        "start": value.start,
        "end": value.end,
        "before-id": value.before_id,
        "after-id": value.after_id,
        "ids": value.ids,
    }
    given = {name: one for name, one in conditions.items() if one is not None}
    check_time("archive.start", value.start)
    check_time("archive.end", value.end)
    form = value.form
    if given:
        if form is not None:
            raise UnusableReply(f"archive: {next(iter(given))} and form exclude each other")
        form = Form("submit", data={FORM_TYPE: ns.MAM, **given})
    page = value.page
    if (value.after, value.before, value.max) != (None, None, None):
        if page is not None:
            raise UnusableReply("archive: page and after, before, max exclude each other")
        page = Page(after=value.after, before=value.before, max=value.max)
    inner = (
        *(() if form is None else (form_element("archive.form", form),)),
        *(() if page is None else (page_element(page),)),
    )
    pairs = {"queryid": value.queryid, "node": value.node}
    return (element(expanded(ns.MAM, "query"), pairs, inner),)


def read_result(elements: Elements, _: Stanza) -> ArchiveResult:
    one = elements[0]
    page = one.find(_SET)
    is_complete = one.get("complete") in ("true", "1")
    return ArchiveResult(None if page is None else page_of(page), is_complete)


def write_result(value: ArchiveResult, _: Asked) -> Written:
    pairs = {"complete": "true" if value.complete else None}
    page = () if value.page is None else (page_element(value.page),)
    return (element(expanded(ns.MAM, "fin"), pairs, page),)
