"""Files that are to be uploaded: their names and media types, and those within replies and sends.

An object of a reply may have files whose content is in it (`data_base64`). They are taken out,
uploaded by a higher layer, and become files with a URL before anything is written as XML.
"""

import base64
import binascii
import mimetypes
import re
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from attrs import frozen
from msgspec.structs import replace

from bridge.payload.body import ReplyObject, RichObject
from bridge.payload.content import checked
from bridge.payload.error import UnusableReply, quote
from bridge.payload.shape import File, FileToSend

FILES_LIMIT: Final = 100
"""The files of one object, at most: each becomes a message."""
NOWHERE: Final = "https://upload.invalid/"  # RFC 6761 §6.4
"""A URL in the place of one that is not known, or never will be."""

NAME_LIMIT_BYTES: Final = 200
"""The longest name: file systems take 255 bytes, and some servers add to it."""
ANY_TYPE: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_SEPARATORS: Final = re.compile(r"[/\\]")
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,10}\Z")


def clean_name(given: str, media_type: str = ANY_TYPE) -> str:
    """Return a name that is safe in a URL, in a header and as a file: without directories, control
    characters, and invisible ones that could feign another extension, and not too long.
    """
    name = _SEPARATORS.split(given)[-1]
    name = "".join(
        one for one in name if unicodedata.category(one)[0] != "C" and one not in "\u2028\u2029"
    )
    name = name.strip().lstrip(".").strip()
    if not name:
        return f"file{mimetypes.guess_extension(media_type) or ''}"
    found = _EXTENSION.search(name)
    extension = found[0] if found is not None else ""
    stem = name[: len(name) - len(extension)].encode()[: NAME_LIMIT_BYTES - len(extension)]
    return stem.decode(errors="ignore") + extension


def media_type_of(given: str, name: str) -> str | None:
    """Return a media type in lower case, without parameters. If none is given, or only that of
    bytes, it is guessed by the name. None: what is given is not a media type.
    """
    media = given.partition(";")[0].strip().lower()
    if media in ("", ANY_TYPE):
        return mimetypes.guess_type(name)[0] or ANY_TYPE
    return media if _TYPE.fullmatch(media) else None


@frozen
class Attachment:
    """A file whose content is in a reply or a send."""

    name: str
    media_type: str
    content: bytes


Upload = Callable[[Attachment, str | None], Awaitable[File]]
"""Uploads a file on behalf of an address, by default the one that the reply comes from.

Raises:
    UnusableReply: if it cannot.
"""


def has_data(objects: Sequence[ReplyObject]) -> bool:
    """Return whether files with their content are among objects."""
    for one in objects:  # asked for every reply: any() would cost a generator
        if type(one) is RichObject and "files" in one.fields and _has_data(one):
            return True
    return False


async def with_urls(objects: Sequence[ReplyObject], upload: Upload) -> list[ReplyObject]:
    """Return objects whose files have URLs. All files are read before the first is uploaded.

    Raises:
        UnusableReply: if a file cannot be read, or by `upload`.
    """
    read: list[tuple[ReplyObject, list[Any]]] = []
    for number, one in enumerate(objects, 1):
        place = f"object {number}: " if len(objects) > 1 else ""
        try:
            read.append((one, _read_files(one)))
        except UnusableReply as error:
            raise UnusableReply(f"{place}{error}") from None
    changed = []
    for one, files in read:
        if not files:
            changed.append(one)
            continue
        entries = []
        for given, attachment in files:
            if attachment is None:
                entries.append(given)
                continue
            file = await upload(attachment, one.from_ or None)
            entry = {"url": file.url, "name": file.name, "media_type": file.media_type}
            more = {"size": file.size, "desc": given.get("desc")}
            entries.append(
                {key: value for key, value in (entry | more).items() if value is not None}
            )
        assert isinstance(one, RichObject)
        changed.append(replace(one, fields={**one.fields, "files": entries}))
    return changed


def _has_data(one: RichObject) -> bool:
    files = one.fields["files"]
    return isinstance(files, list) and any(map(_is_embedded, files))


def _is_embedded(file: Any) -> bool:
    return isinstance(file, dict) and file.get("data_base64") not in (None, "")


def _read_files(one: ReplyObject) -> list[tuple[Any, Attachment | None]]:
    """Return the files of an object, each with what is to be uploaded; an empty list if there is
    nothing to upload.
    """
    if not (type(one) is RichObject and "files" in one.fields and _has_data(one)):
        return []
    given = one.fields["files"]
    if len(given) > FILES_LIMIT:
        raise UnusableReply(f"files: more than {FILES_LIMIT} entries")
    files = checked("files", given, list[FileToSend])
    return [
        (raw, _attachment(file) if _is_embedded(raw) else None)
        for raw, file in zip(given, files, strict=True)
    ]


def _attachment(file: FileToSend) -> Attachment:
    data = file.data_base64 or ""
    if file.url:
        raise UnusableReply("files: url and data_base64 exclude each other")
    if data.startswith("data:"):
        raise UnusableReply("files.data_base64 is a data: URL; give only what is behind its comma")
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnusableReply("files.data_base64 is not base64") from None
    if not content:
        raise UnusableReply("files.data_base64 is empty")
    media = media_type_of(file.media_type or "", file.name or "")
    if media is None:
        raise UnusableReply(f"files.media_type: {quote(file.media_type or '')} is not a media type")
    return Attachment(clean_name(file.name or "", media), media, content)
