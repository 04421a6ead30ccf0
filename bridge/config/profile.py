"""`[component."DOMAIN".profile."LOCAL"]`: who an address is. Everything that is checked here is
checked in the same words if the HTTP API sets a profile.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import field, frozen

from bridge.config.value import BadValue, check_text

AVATAR_LIMIT_BYTES: Final = 64 * 1024
AVATAR_LARGE_BYTES: Final = 8 * 1024
"""The size above which a picture is a burden for clients (XEP-0153 §4.6)."""
EVERYBODY: Final = "*"
"""The profile of every local part that has none of its own."""
DOMAIN: Final = ""
"""The profile of the domain itself."""
_TEXT_LIMIT: Final = 4_000
_FEATURES_LIMIT: Final = 100
_SIGNATURES: Final = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}

Fault = Callable[[str, BadValue], None]
"""Told the key of a profile, and what is wrong with its value."""


@frozen
class ProfileTable:
    """A profile, as written in the file; in the HTTP API, `avatar` is the picture in base64."""

    name: str | None = None
    description: str | None = None
    url: str | None = None
    avatar: str | None = None
    category: str | None = None
    type: str | None = None
    features: list[str] = field(factory=list)


@frozen
class Avatar:
    """A picture; `hash` is the SHA-1 of its bytes, in hexadecimal digits, by which it is known."""

    data: bytes = field(repr=False)
    media_type: str
    hash: str

    @property
    def base64(self) -> str:
        return base64.b64encode(self.data).decode()

    @property
    def warning(self) -> str:
        """A sentence if the picture is large; else empty."""
        if len(self.data) <= AVATAR_LARGE_BYTES:
            return ""
        return (
            f"the picture has {len(self.data)} bytes, more than {AVATAR_LARGE_BYTES}:"
            " each contact loads it"
        )


@frozen
class Profile:
    """A profile, checked. What is empty is not shown."""

    name: str = ""
    description: str = ""
    url: str = ""
    avatar: Avatar | None = None
    category: str = ""
    type: str = ""
    features: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the profile as an object of the HTTP API, without what is empty."""
        keys: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "url": self.url,
            "avatar": self.avatar and self.avatar.base64,
            "category": self.category,
            "type": self.type,
            "features": list(self.features),
        }
        return {key: value for key, value in keys.items() if value}


def parse_avatar(data: bytes, size: int | None = None) -> Avatar:
    """Return a picture, by its bytes; `size` is the number of all of them.

    Raises:
        BadValue: if it is too large, or neither PNG nor JPEG.
    """
    size = len(data) if size is None else size
    if size > AVATAR_LIMIT_BYTES:
        raise BadValue(
            f"the picture has {size} bytes, more than {AVATAR_LIMIT_BYTES}",
            "Make it smaller: 96 pixels by 96 are enough for every client",
        )
    for signature, media_type in _SIGNATURES.items():
        if data.startswith(signature) and len(data) > len(signature):
            digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            return Avatar(data, media_type, digest)
    raise BadValue("this is not a picture in PNG or JPEG", "Convert it to one of them")


def parse_avatar_text(text: str) -> Avatar:
    """Return a picture that is given in base64.

    Raises:
        BadValue: if it is not base64, or as `parse_avatar` does.
    """
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadValue("this is not base64", "Send the picture's bytes in base64") from None
    return parse_avatar(data)


def profile_of(table: ProfileTable, read_avatar: Callable[[str], Avatar], fault: Fault) -> Profile:
    """Return the profile of a table. `read_avatar` returns the picture that `avatar` stands for."""
    for key in ("name", "description", "url", "category", "type"):
        text = getattr(table, key) or ""
        try:
            check_text(text)
            if len(text) > _TEXT_LIMIT:
                raise BadValue(f"the text is longer than {_TEXT_LIMIT} characters", "Shorten it")
            if key == "url":
                _check_url(text)
            elif key in ("category", "type"):
                _check_word(text)
        except BadValue as error:
            fault(key, error)
    if bool(table.category) != bool(table.type):
        missing = "type" if table.category else "category"
        fault(missing, BadValue("category and type belong together", "Set both, or neither"))
    if len(table.features) > _FEATURES_LIMIT:
        problem = f"there are more than {_FEATURES_LIMIT} features"
        fault("features", BadValue(problem, "Remove some"))
    for feature in table.features:
        try:
            if not feature:
                raise BadValue("a feature is empty", "Remove it")
            check_text(feature)
            _check_word(feature)
        except BadValue as error:
            fault("features", error)
    avatar = None
    if table.avatar:
        try:
            avatar = read_avatar(table.avatar)
        except BadValue as error:
            fault("avatar", error)
    return Profile(
        table.name or "",
        table.description or "",
        table.url or "",
        avatar,
        table.category or "",
        table.type or "",
        tuple(table.features),
    )


def _check_url(text: str) -> None:
    example = 'Use a URL such as "https://example.com/bot"'
    if any(character.isspace() for character in text):
        raise BadValue("the URL contains white space", example)
    try:
        scheme = urlsplit(text).scheme
    except ValueError:
        scheme = ""
    if text and not scheme:
        raise BadValue(f"{text!r} is not a URL", example)


def _check_word(text: str) -> None:
    """Refuse what would make two different lists of features look alike (XEP-0115 §5.1)."""
    if len(text) > _TEXT_LIMIT:
        raise BadValue(f"the text is longer than {_TEXT_LIMIT} characters", "Shorten it")
    if any(character.isspace() or character == "<" for character in text):
        raise BadValue(f"{text[:60]!r} contains white space or <", "Remove it")
