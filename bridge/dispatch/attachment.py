"""Uploads the files within replies, before their stanzas are made.

A reply waits for its uploads within its attempt, so the order of its conversation stays as it is.
The attempt holds its slot meanwhile; uploads are therefore bounded in number and in time. If a file
is not uploaded by then, the reply is a bad one: the endpoint is not asked again.
"""

from collections.abc import Sequence
from typing import Final

import trio

from bridge.dispatch.upload import Pieces, Uploader
from bridge.payload.attachment import Attachment, with_urls
from bridge.payload.body import ReplyObject
from bridge.payload.error import UnusableReply
from bridge.payload.shape import File
from bridge.xmpp.upload import NewFile, UploadError

REPLY_UPLOADS: Final = 8
"""How many replies of a component upload their files at a time; further ones wait in turn."""
REPLY_UPLOAD_S: Final = 30.0
"""How long a reply waits for its files, its turn included."""


class ReplyUploads:
    """Uploads the files within replies of one component."""

    def __init__(self, uploader: Uploader) -> None:
        self._uploader = uploader
        self._places = trio.CapacityLimiter(REPLY_UPLOADS)

    async def with_urls(self, objects: Sequence[ReplyObject], from_: str) -> list[ReplyObject]:
        """Return the objects of a reply from `from_` with their files uploaded.

        Raises:
            UnusableReply: if a file is not uploaded in time.
        """

        async def upload(one: Attachment, own: str | None) -> File:
            file = NewFile(one.name, one.media_type, len(one.content))
            try:
                return await self._uploader.upload(file, Pieces(one.content), own or from_)
            except UploadError as error:
                raise UnusableReply(f"files: {error.why}") from None

        with trio.move_on_after(REPLY_UPLOAD_S):
            async with self._places:
                return await with_urls(objects, upload)
        raise UnusableReply(f"files: the upload took longer than {REPLY_UPLOAD_S:g} s")
