"""Uploads of files for HTTP clients: who may, how many at a time, and what each failure becomes."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from attrs import field, frozen

from bridge.dispatch.upload import Uploader
from bridge.listener.auth import BodyConcurrency, Grant
from bridge.listener.problem import Problem, problem_of
from bridge.payload.shape import File
from bridge.xmpp.upload import (
    FileTooLarge,
    NewFile,
    NoUploadService,
    SlotRefused,
    SlotUnanswered,
    UploadError,
    UploadUnavailable,
)
from xmppstream import InvalidJid, split
from xmppstream.jid import same_domain

UPLOADS: Final = 16
"""How many files are uploaded at a time. They are beside the bodies of sends, so that a client that
uploads slowly delays no message.
"""
UPLOADS_OF_TOKEN: Final = 8
RETRY_AFTER_S: Final = 5

Uploaders = Callable[[], Mapping[str, Uploader]]
"""Returns the uploaders of all configured components, by domain."""


def _places(limit: int, whose: str) -> BodyConcurrency:
    return BodyConcurrency(limit, f"uploads{whose} are under way")


@frozen
class Uploads:
    """Uploads files, a bounded number at a time."""

    uploaders: Uploaders
    _all: BodyConcurrency = field(factory=lambda: _places(UPLOADS, ""))
    _of_token: BodyConcurrency = field(factory=lambda: _places(UPLOADS_OF_TOKEN, " of this token"))

    def sender(self, grant: Grant, from_: str | None) -> str:
        """Return the address on whose behalf a file is uploaded: `from_`, the Basic user, or the
        only address of the token.

        Raises:
            Problem: 422 if there is none, or it is not an address; 403 if it is not the token's.
        """
        address = from_ or grant.user or grant.token.only_address
        if address is None:
            detail = 'from is missing: this token may speak as several addresses, so set "from".'
            raise Problem(422, detail=detail)
        try:
            jid = split(address)
        except InvalidJid as error:
            raise Problem(422, detail=f"from is not a valid address: {error}.") from None
        if not grant.token.speaks_as(jid):
            raise Problem(403, detail="from: this token may not speak as that address.")
        return address

    @asynccontextmanager
    async def place(self, grant: Grant) -> AsyncIterator[None]:
        """Wait for a place, and hold it. Raises `Problem` 429 if none is free in time."""
        async with self._of_token.one(grant.token.name), self._all.one(""):
            yield

    async def upload(self, file: NewFile, pieces: AsyncIterator[bytes], from_: str) -> File:
        """Upload a file on behalf of an address of a component; see `Uploader.upload`.

        Raises:
            Problem: 404 if there is no such component; or why the file was not uploaded.
        """
        uploader = self.uploader(from_)
        try:
            return await uploader.upload(file, pieces, from_)
        except UploadError as error:
            raise problem_of_upload(error) from None

    def uploader(self, from_: str) -> Uploader:
        """Return the uploader of an address. Raises `Problem` 404 if it is of no component."""
        domain = split(from_).domain
        for name, uploader in self.uploaders().items():
            if same_domain(name, domain):
                return uploader
        raise Problem(404, detail=f"from: {domain[:60]!r} is not a component here.")


def problem_of_upload(error: UploadError) -> Problem:
    """Return the problem of a file that was not uploaded."""
    detail = f"{error.why[:1].upper()}{error.why[1:]}."
    match error:
        case SlotRefused(answer=answer):
            problem = problem_of(answer)
            problem.detail = detail
            return problem
        case FileTooLarge():
            return Problem(413, detail=detail)
        case NoUploadService():
            return Problem(501, detail=detail)
        case SlotUnanswered():
            return Problem(504, detail=detail)
        case UploadUnavailable():
            return Problem(503, detail=detail, headers={"Retry-After": str(RETRY_AFTER_S)})
        case _:
            return Problem(502, detail=detail)
