"""Files: URLs with what is known about them (XEP-0066, XEP-0385, XEP-0447), and upload slots."""

import re
from collections.abc import Iterable
from typing import Final

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import (
    Asked,
    Elements,
    Written,
    child_text,
    children_of,
    element,
    number_of,
)
from bridge.payload.extension.text import FALLBACK
from bridge.payload.shape import (
    File,
    FileToSend,
    Header,
    Oob,
    Slot,
    UploadGet,
    UploadPut,
    UploadRequest,
)
from xmppstream import Element, Stanza
from xmppstream.names import expanded

_HEADERS: Final = ("Authorization", "Cookie", "Expires")  # XEP-0363 §4
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def read_oob(elements: Elements, _: Stanza) -> Oob | None:
    space = elements[0].namespace
    url, desc = (child_text(elements[0], space, local) for local in ("url", "desc"))
    return Oob(url, desc) if url else None


def write_oob(value: Oob, asked: Asked) -> Written:
    if asked.kind == "iq":
        return (_oob_element("jabber:iq:oob", "query", value),)
    return (_oob_element(ns.OOB, "x", value),)


def _oob_element(space: str, name: str, value: Oob) -> Element:
    inner = children_of(space, {"url": value.url, "desc": value.desc})
    return Element(expanded(space, name), (), inner)


def read_files(elements: Elements, _: Stanza) -> list[File] | None:
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
        child_text(meta, space, local) for local in ("name", "media-type", "size", "desc")
    )
    return File(url, name, media, number_of(size), desc)


def _file_of_oob(element: Element) -> Iterable[File]:
    url, desc = (child_text(element, ns.OOB, local) for local in ("url", "desc"))
    if url:
        yield File(url, desc=desc)


_FILE_READERS: Final = {ns.SFS: _sfs, ns.REFERENCE: _sims, ns.OOB: _file_of_oob}
_FILE_SOURCES: Final = tuple(_FILE_READERS)


def write_files(value: list[FileToSend], _: Asked) -> Written:
    """Clients show a picture only if the body is its URL, so a message has one file."""
    if not value:
        raise UnusableReply("files is empty: list a file, or leave the key out")
    if len(value) != 1:
        raise UnusableReply("files: a message has one file; send one message for each")
    file = value[0]
    if file.data_base64:
        raise UnusableReply("files.data_base64 is not uploaded here; give the url of the file")
    if file.url is None:
        raise UnusableReply("files[0] has no url")
    if not _URL.match(file.url):
        raise UnusableReply("files.url is not a URL")
    if file.size is not None and file.size < 0:
        raise UnusableReply("files.size is negative")
    pairs = (
        ("media-type", file.media_type),
        ("name", file.name),
        ("size", None if file.size is None else str(file.size)),
        ("desc", file.desc),
    )
    meta = tuple(Element(expanded(ns.FILE, name), (), (text,)) for name, text in pairs if text)
    source = Element(expanded(ns.URL_DATA, "url-data"), (("target", file.url),))
    sharing = (
        Element(expanded(ns.FILE, "file"), (), meta),
        Element(expanded(ns.SFS, "sources"), (), (source,)),
    )
    return (
        Element(expanded(ns.SFS, "file-sharing"), (("disposition", "inline"),), sharing),
        Element(FALLBACK, (("for", ns.SFS),), (Element(expanded(ns.FALLBACK, "body")),)),
        _oob_element(ns.OOB, "x", Oob(file.url, file.desc)),
    )


def read_upload_request(elements: Elements, _: Stanza) -> UploadRequest | None:
    one = elements[0]
    name, size = one.get("filename"), number_of(one.get("size"))
    return None if not name or size is None else UploadRequest(name, size, one.get("content-type"))


def write_upload_request(value: UploadRequest, _: Asked) -> Written:
    if not value.filename or value.size <= 0:
        raise UnusableReply("upload_request: a file has a name, and a size in bytes above 0")
    pairs = {"filename": value.filename, "size": str(value.size), "content-type": value.media_type}
    return (element(expanded(ns.UPLOAD, "request"), pairs),)


def read_upload_slot(elements: Elements, _: Stanza) -> Slot | None:
    put, get = (elements[0].find(expanded(ns.UPLOAD, name)) for name in ("put", "get"))
    if put is None or get is None:
        return None
    headers = [
        Header(one.get("name") or "", one.text)
        for one in put.find_all(expanded(ns.UPLOAD, "header"))
        if (one.get("name") or "").title() in _HEADERS
    ]
    return Slot(UploadPut(put.get("url") or "", headers), UploadGet(get.get("url") or ""))


def write_upload_slot(value: Slot, _: Asked) -> Written:
    for header in value.put.headers:
        if header.name not in _HEADERS:
            raise UnusableReply(f"upload_slot.put.headers: only {', '.join(_HEADERS)} are allowed")
    headers = tuple(
        Element(expanded(ns.UPLOAD, "header"), (("name", one.name),), (one.value,))
        for one in value.put.headers
        if one.value
    )
    put = Element(expanded(ns.UPLOAD, "put"), (("url", value.put.url),), headers)
    get = Element(expanded(ns.UPLOAD, "get"), (("url", value.get.url),))
    return (Element(expanded(ns.UPLOAD, "slot"), (), (put, get)),)
