"""`POST /v1/files` uploads a file to the server's upload service, and returns its URL."""

from typing import Final

import trio
from attrs import frozen
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import SubmissionHandler, json_response
from bridge.listener.api.request import Pace
from bridge.listener.problem import Problem
from bridge.payload.attachment import clean_name, media_type_of
from bridge.xmpp.upload import NewFile

PIECE_S: Final = 30.0
"""Time limit for each piece of a file."""
_FORM: Final = "application/x-www-form-urlencoded"
_LENGTH_LIMIT: Final = 18


@frozen
class FileRoutes:
    """The route of `/v1/files`."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/files", self.file, methods=["POST"])]

    async def file(self, request: Request) -> Response:
        """Upload the body as a file."""
        async with self.handler.authorized(request, "send") as grant:
            uploads = self.handler.uploads
            from_ = uploads.sender(grant, request.query_params.get("from"))
            file = file_of(request)
            async with uploads.place(grant):
                shared = await uploads.upload(file, BodyPieces(request), from_)
            value = {
                "url": shared.url,
                "size": shared.size,
                "media_type": shared.media_type,
                "name": shared.name,
            }
            return json_response(value, 201, {"Location": shared.url})


class BodyPieces:
    """The body of a request as it comes.

    Raises:
        Problem: 408 if a piece does not come in time.
        starlette.requests.ClientDisconnect: if the client has disconnected.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pace = Pace()
        self._is_over = False

    def __aiter__(self) -> "BodyPieces":
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        with trio.move_on_after(PIECE_S) as scope:
            message = await self._request.receive()
        if scope.cancelled_caught:
            raise Problem(408, detail=f"Nothing came of the file for {PIECE_S:g} s.")
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        self._is_over = not message.get("more_body", False)
        if not self._is_over:
            await self._pace.wait_after(piece)
        return piece


def file_of(request: Request) -> NewFile:
    """Return what a request says about its body.

    Raises:
        Problem: 411 if there is no Content-Length; 415 if the body is not a file as it is; 422 if
            it is empty.
    """
    headers = request.headers
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        detail = "The body must have no Content-Encoding."
        raise Problem(415, detail=detail, headers={"Accept-Encoding": "identity"})
    given = headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() == _FORM:
        given = ""  # what curl says if nobody tells it
    name = request.query_params.get("name", "")
    media = media_type_of(given, name)
    if media is None:
        raise Problem(415, detail="The Content-Type is not a media type, such as image/png.")
    if media.startswith("multipart/"):
        detail = "Send the file itself as the body; forms are for /v1/stanzas."
        raise Problem(415, detail=detail)
    length = headers.get("content-length", "")
    if not length.isdecimal() or len(length) > _LENGTH_LIMIT:
        detail = "Set Content-Length: an upload service must know the size before (XEP-0363)."
        raise Problem(411, detail=detail)
    if int(length) == 0:
        raise Problem(422, detail="The file is empty.")
    return NewFile(clean_name(name, media), media, int(length))
