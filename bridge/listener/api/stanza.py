"""`POST /v1/stanzas`: one stanza, as JSON, as XML, or as text with its head in the path."""

from typing import Final

import msgspec
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import Intake
from bridge.listener.api.request import media_type, text_of
from bridge.listener.problem import Problem
from bridge.payload.reply import ReplyBody
from xmppstream import Element, IllegalCharacter, Stanza, make, write
from xmppstream.names import COMPONENT, expanded
from xmppstream.stanza import Kind

JSON: Final = "application/json"
XML: Final = "application/xmpp+xml"
TEXT: Final = "text/plain"
_CHILD_OF_TEXT: Final[dict[Kind, str]] = {"message": "body", "presence": "status"}


@frozen
class StanzaRoutes:
    """The routes of `/v1/stanzas`."""

    intake: Intake

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/stanzas", self.stanza, methods=["POST"]),
            Route("/v1/stanzas/{kind}/{type}/{to:path}", self.text, methods=["POST"]),
        ]

    async def stanza(self, request: Request) -> Response:
        """One stanza, whole."""
        async with self.intake.admitted(request, "send", "query") as grant:
            media = media_type(request, JSON, XML)
            body = await self.intake.body(request)
            stanza = await self.intake.stanza(grant, content_of(media, body))
            return await self.intake.take(request, grant, stanza, body)

    async def text(self, request: Request) -> Response:
        """The body is text; its head is in the path."""
        async with self.intake.admitted(request, "send") as grant:
            media_type(request, TEXT)
            body = await self.intake.body(request)
            kind, type, to = (request.path_params[name] for name in ("kind", "type", "to"))
            content = of_text(kind, type, to, text_of(body))
            stanza = await self.intake.stanza(grant, content, request.query_params.get("from"))
            return await self.intake.take(request, grant, stanza, body)


def content_of(media: str, body: bytes) -> ReplyBody:
    """Take a body for what its media type says.

    Raises:
        Problem: 400 where it is empty, or no JSON.
    """
    if not body.strip():
        raise Problem(400, detail="The body is empty.")
    if media == XML:
        return ReplyBody("xml", body)
    decoded(body)
    return ReplyBody("json", body)


def decoded(body: bytes) -> object:
    """Read JSON. Raises: Problem: 400 where it is none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, detail=f"The body is not JSON: {error}") from None
    except RecursionError:
        raise Problem(400, detail="The body is JSON nested too deeply.") from None


def of_text(kind: str, type: str, to: str, text: str) -> ReplyBody:
    """Make the stanza of a text: a message's body, or a presence's status.

    Raises:
        Problem: 404 for a kind that is none, 422 for one that text cannot make.
    """
    match kind:
        case "message" if not text:
            raise Problem(422, detail="The message has no text.")
        case "message" | "presence":
            local = _CHILD_OF_TEXT[kind]
            children = [Element(expanded(COMPONENT, local), (), (text,))] if text else []
            name = None if (kind, type) == ("presence", "available") else type
            return written(make(kind, to, None, type=name, children=tuple(children)))
        case "iq":
            raise Problem(422, detail=f"An iq needs a payload: POST it to /v1/stanzas as {XML}.")
        case _:
            raise Problem(404, detail="There are stanzas of kind message, presence and iq.")


def written(stanza: Stanza) -> ReplyBody:
    """Write a stanza that we have made, to be checked as all others are.

    Raises:
        Problem: 422 where XML cannot hold it.
    """
    try:
        return ReplyBody("xml", write(stanza.element, COMPONENT).encode())
    except IllegalCharacter as error:
        raise Problem(422, detail=str(error)) from None
