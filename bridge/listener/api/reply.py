"""`POST /v1/replies/{token}`: the `reply_url` of a stanza, where its endpoint replies later.

The token in the path is the permission, so no other is asked for. It is checked before anything
else is read, in a time that says nothing about it; a stranger costs one HMAC for each component.
No response, log or metric has the token: the log names the route.
"""

from functools import partial
from typing import Final

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import json_response, not_json, refuse
from bridge.listener.api.request import key_in, media_type, read_body
from bridge.listener.api.stanza import JSON, XML, content_of
from bridge.listener.auth import BodyConcurrency, TokenConcurrency
from bridge.listener.problem import Problem
from bridge.listener.submission.deferral import ReplyClient
from bridge.listener.submission.singleflight import SendRefused
from bridge.payload.body import NotJson
from bridge.payload.error import UnusableReply
from bridge.webhook.reply_url import Promise

UNKNOWN: Final = "This reply_url is not valid: use it as the request has it, without any change."
_REALM: Final = "reply url"
"""In the place of a token's name, which has no space."""
_HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


@frozen
class ReplyRoutes:
    """The route of `reply_url`. Its limits are those of one token of the configuration, for all
    endpoints together.
    """

    client: ReplyClient
    counter: TokenConcurrency
    bodies: BodyConcurrency
    max_body_bytes: int

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/replies/{token}", self.reply, methods=["POST"])]

    async def reply(self, request: Request) -> Response:
        """Take a deferred reply."""
        try:
            return await self._reply(request)
        except Problem as problem:
            problem.headers = {**_HEADERS, **problem.headers}
            raise

    async def _reply(self, request: Request) -> Response:
        promise = self._promise(request.path_params["token"])
        request.state.token = "(reply_url)"  # for the log
        with self.counter.one(_REALM):
            media = media_type(request, JSON, XML)
            place = partial(self.bodies.one, _REALM)
            body = await read_body(request, self.max_body_bytes, place)
            parts = (request.headers.get("content-type", "").encode(), body)
            key = key_in(request, f"{_REALM} {promise.uid}", parts)
            try:
                batch, uids = await self.client.reply(promise, content_of(media, body), key)
            except NotJson as error:
                raise not_json(error) from None
            except UnusableReply as error:
                raise Problem(422, detail=str(error)) from None
            except SendRefused as refused:
                refuse(refused)
        accepted = [
            {"id": stanza.id, "uid": uid} for stanza, uid in zip(batch.stanzas, uids, strict=True)
        ]
        return json_response(accepted if batch.is_list else accepted[0], 202, _HEADERS)

    def _promise(self, token: str) -> Promise:
        """Return the promise of a token. Raises `Problem` 404 if there is none."""
        try:
            promise = self.client.promise_of(token)
        except SendRefused as refused:
            refuse(refused)
        if promise is None:
            raise Problem(404, detail=UNKNOWN)
        return promise
