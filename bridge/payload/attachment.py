"""The name and the media type of a file that is to be uploaded."""

import mimetypes
import re
import unicodedata
from typing import Final

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
    """Return a media type in lower case, without parameters. If none is given, it is guessed by the
    name. None: what is given is not a media type.
    """
    media = given.partition(";")[0].strip().lower()
    if not media:
        return mimetypes.guess_type(name)[0] or ANY_TYPE
    return media if _TYPE.fullmatch(media) else None
