"""`POST /v1/stanzas` sends stanzas."""

from typing import Final

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.attachment import FORM, FormReader
from bridge.listener.api.handler import SubmissionHandler, not_json
from bridge.listener.api.request import media_type, text_of
from bridge.listener.problem import Problem
from bridge.payload.body import BLANK, NotJson, ReplyBody, decode_json
from xmppstream import Element, Stanza, make
from xmppstream.names import COMPONENT, expanded
from xmppstream.stanza import Kind

JSON: Final = "application/json"
XML: Final = "application/xmpp+xml"
TEXT: Final = "text/plain"
_CHILD_OF_TEXT: Final[dict[Kind, str]] = {"message": "body", "presence": "status"}


@frozen
class StanzaRoutes:
    """The routes of `/v1/stanzas`."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/stanzas", self.stanza, methods=["POST"]),
            Route("/v1/stanzas/{kind}/{type}/{to:path}", self.text, methods=["POST"]),
        ]

    async def stanza(self, request: Request) -> Response:
        """Send stanzas: one or several as JSON, one as XML, or one with its files as a form."""
        async with self.handler.authorized(request, "send", "query") as grant:
            media = media_type(request, JSON, XML, FORM)
            if media == FORM:
                content, body = await FormReader(self.handler).read(request, grant)
            else:
                body = await self.handler.body(request, grant)
                content = content_of(media, body)
            batch = await self.handler.batch(grant, content)
            return await self.handler.take(request, grant, batch, body)

    async def text(self, request: Request) -> Response:
        """Send a text body. The kind, type and address are in the path."""
        async with self.handler.authorized(request, "send") as grant:
            media_type(request, TEXT)
            body = await self.handler.body(request, grant)
            kind, type, to = (request.path_params[name] for name in ("kind", "type", "to"))
            content = of_text(kind, type, to, text_of(body))
            stanza = await self.handler.stanza(grant, content, request.query_params.get("from"))
            return await self.handler.take(request, grant, stanza, body)


def content_of(media: str, body: bytes) -> ReplyBody:
    """Return a body in the form that its media type names.

    Raises:
        Problem: 400 if it is empty.
    """
    if not body.strip(BLANK):
        raise Problem(400, detail="The body is empty.")
    if media == XML:
        return ReplyBody("xml", body)
    return ReplyBody("json", body)


def decoded(body: bytes) -> object:
    """Return a body decoded from JSON. Raises `Problem` 400 if it is not valid JSON."""
    try:
        return decode_json(body, as_spelled=False)
    except NotJson as error:
        raise not_json(error) from None


def of_text(kind: str, type: str, to: str, text: str) -> Stanza:
    """Return a stanza with a text: the body of a message, or the status of a presence.

    Raises:
        Problem: 404 if there is no such kind; 422 if the stanza cannot be made of text.
    """
    match kind:
        case "message" if not text:
            raise Problem(422, detail="The message has no text.")
        case "message" | "presence":
            local = _CHILD_OF_TEXT[kind]
            children = [Element(expanded(COMPONENT, local), (), (text,))] if text else []
            name = None if (kind, type) == ("presence", "available") else type
            return make(kind, to, None, type=name, children=tuple(children))
        case "iq":
            raise Problem(422, detail=f"An iq needs a payload: POST it to /v1/stanzas as {XML}.")
        case _:
            raise Problem(404, detail="The kind must be message, presence or iq.")
