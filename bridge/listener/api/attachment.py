"""`POST /v1/stanzas` as a multipart form: a message as JSON, and the files that belong to it."""

import hashlib
import json
import re
from typing import Any, Final

from attrs import frozen
from starlette.requests import Request

from bridge.listener.api.file import BodyPieces
from bridge.listener.api.form import Form, Part, Spool
from bridge.listener.api.handler import SubmissionHandler, not_json, refusals
from bridge.listener.api.upload import problem_of_upload
from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.listener.submission.composition import read_objects
from bridge.payload.attachment import FILES_LIMIT, NOWHERE, clean_name, media_type_of
from bridge.payload.body import NotJson, ReplyBody, decode_json
from bridge.xmpp.upload import FileTooLarge, NewFile, UploadError

FORM: Final = "multipart/form-data"
FILE_LIMIT_BYTES: Final = 1024 * 1024 * 1024
"""The largest file of a form, if the upload service names no limit."""
_FILE: Final = re.compile(r"file(?:\[\d{0,4}\])?")  # PHP numbers the elements of an array


@frozen
class FormReader:
    """Reads forms, and uploads their files one after the other."""

    handler: SubmissionHandler

    async def read(self, request: Request, grant: Grant) -> tuple[ReplyBody, bytes]:
        """Return the message of a form as if it had been sent as JSON, its files with their URLs;
        and what defines the form: the message as it came, and a digest of each file.

        Raises:
            Problem: 400 if the form is malformed, or the message not JSON; 413 if something is too
                long; 422 if a part is not as it should be, or the message may not be sent; or why a
                file was not uploaded.
        """
        async with self.handler.uploads.place(grant):
            form = Form(request.headers.get("content-type", ""), BodyPieces(request))
            first = await form.next_part()
            if first is None or first.name != "stanza":
                raise Problem(422, detail='The first part of the form must be "stanza", the JSON.')
            limit = self.handler.max_body_bytes
            detail = f"The part stanza is longer than {limit} bytes (max_body_bytes)."
            content = await first.read(limit, Problem(413, detail=detail))
            message = _message_of(content)
            entries: list[Any] = list(message.get("files") or [])
            digests = b""
            from_ = None
            while (part := await form.next_part()) is not None:
                if _FILE.fullmatch(part.name) is None:
                    raise Problem(422, detail='The parts after "stanza" must be named "file".')
                if len(entries) >= FILES_LIMIT:
                    raise Problem(422, detail=f"files: more than {FILES_LIMIT} entries")
                if message.get("stanza"):
                    raise Problem(422, detail="stanza: a message of XML has no files.")
                if from_ is None:
                    rehearsed = {**message, "files": [*entries, {"url": NOWHERE}]}
                    from_ = await self._sender(grant, rehearsed)
                entry, digest = await self._upload(part, from_)
                entries.append(entry)
                digests += digest
        if entries:
            message = {**message, "files": entries}
        return _body_of(message), content + digests

    async def _sender(self, grant: Grant, message: dict[str, Any]) -> str:
        """Return the address that a message is from, if it may be sent."""
        default = grant.user or grant.token.only_address
        with refusals():
            batch = await self.handler.rehearse(grant, read_objects(_body_of(message)), default)
        return batch.stanzas[0].from_ or ""

    async def _upload(self, part: Part, from_: str) -> tuple[dict[str, Any], bytes]:
        """Upload a part; return its entry in `files`, and the digest of its name and content."""
        media = media_type_of(part.media_type, part.file_name)
        if media is None:
            detail = "file: its Content-Type is not a media type, such as image/png."
            raise Problem(422, detail=detail)
        name = clean_name(part.file_name, media)
        uploads = self.handler.uploads
        try:
            service = await uploads.uploader(from_).service(from_)
        except UploadError as error:
            raise problem_of_upload(error) from None
        limit = FILE_LIMIT_BYTES if service.max_bytes is None else service.max_bytes
        digest = hashlib.sha256(f"{name}\0{media}\0".encode())
        with Spool() as spool:
            async for data in part:
                await spool.write(data)
                digest.update(data)
                if spool.size > limit:
                    why = f"a file has more than {limit} bytes, the limit of {service.jid}"
                    raise problem_of_upload(FileTooLarge(why))
            if not spool.size:
                raise Problem(422, detail="file: it is empty.")
            await spool.rewind()
            file = await uploads.upload(NewFile(name, media, spool.size), spool, from_)
        entry = {"url": file.url, "name": name, "media_type": media, "size": file.size}
        return entry, digest.digest()


def _message_of(content: bytes) -> dict[str, Any]:
    """Return the JSON object of the part `stanza`."""
    try:
        message = decode_json(content, as_spelled=False)
    except NotJson as error:
        raise not_json(error) from None
    if not isinstance(message, dict):
        raise Problem(422, detail="stanza: with files, it must be one JSON object.")
    if not isinstance(message.get("files") or [], list):
        raise Problem(422, detail="files is not a list")
    return message


def _body_of(message: dict[str, Any]) -> ReplyBody:
    return ReplyBody("json", json.dumps(message).encode())
