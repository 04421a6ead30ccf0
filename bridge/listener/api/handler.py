"""The steps between a request and `Sender`: authorization, the sender address, the response.

The order is the same for all routes: token, scope, limit of concurrent requests, body, stanza,
sender address. Only then is anything sent.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, NoReturn

import msgspec
import trio
from attrs import frozen
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bridge.config.token import Scope
from bridge.dispatch.upload import Pieces
from bridge.listener.api.request import form_of, key_of, read_body, wait_of
from bridge.listener.api.upload import Uploads
from bridge.listener.auth import BodyConcurrency, Grant, TokenAuth, TokenConcurrency
from bridge.listener.problem import Problem, problem_of
from bridge.listener.submission.composition import Content, Objects, read_objects
from bridge.listener.submission.deferral import NoLongerTaken
from bridge.listener.submission.sender import (
    Batch,
    IdInUse,
    JournalUnavailable,
    Key,
    KeyReused,
    NoAnswer,
    NoSender,
    NotConfigured,
    NotRunning,
    QueueFull,
    Sender,
    SendRefused,
)
from bridge.payload.attachment import NOWHERE, Attachment, has_data, with_urls
from bridge.payload.body import NotJson, ReplyBody
from bridge.payload.error import UnusableReply
from bridge.payload.field import of_stanza
from bridge.payload.shape import File
from bridge.xmpp.archive import ArchivePage
from bridge.xmpp.upload import NewFile
from xmppstream import Stanza, split, write
from xmppstream.names import COMPONENT

RETRY_AFTER_S: Final = 5
_STATUS_OF: Final[dict[type[SendRefused], int]] = {
    KeyReused: 409,
    IdInUse: 409,
    QueueFull: 503,
    JournalUnavailable: 503,
    NotConfigured: 404,
    NoLongerTaken: 410,
    NotRunning: 503,
    NoAnswer: 504,
}


@frozen
class SubmissionHandler:
    """Accepts stanzas from HTTP clients."""

    sender: Sender
    access: TokenAuth
    counter: TokenConcurrency
    bodies: BodyConcurrency
    max_body_bytes: int
    uploads: Uploads
    default_host: str | None = None

    @asynccontextmanager
    async def authorized(self, request: Request, *scopes: Scope) -> AsyncIterator[Grant]:
        """Admit a request whose token has one of `scopes`, within the token's limit.

        Raises:
            Problem: 401, 403 or 429.
        """
        grant = self.access.grant(request)
        if not grant.token.scopes.intersection(scopes):
            raise _no_scope(*scopes)
        with self.counter.one(grant.token.name):
            yield grant

    async def body(self, request: Request, grant: Grant) -> bytes:
        """Return the body. Raises `Problem` 413, 408 or 429 if it exceeds a limit."""
        place = partial(self.bodies.one, grant.token.name)
        return await read_body(request, self.max_body_bytes, place)

    async def batch(
        self, grant: Grant, content: ReplyBody | Stanza, from_: str | None = None
    ) -> Batch:
        """Return the stanzas of a request, whose senders are addresses that the token may use.

        If the content has no sender, it is `from_`, the Basic user, or the only address of the
        token, in this order. Files whose content is in the request are uploaded.

        Raises:
            Problem: 400 if the body should be JSON and is not; 404 if there is no such component;
                422 if a stanza may not be sent; 403 if the token lacks the scope or the address.
        """
        default = from_ or grant.user or grant.token.only_address
        with refusals():
            given = read_objects(content) if isinstance(content, ReplyBody) else content
            if isinstance(given, Objects) and has_data(given.reading.objects):
                given = await self._with_urls(grant, given, default)
            return await self.checked(grant, given, default)

    async def checked(self, grant: Grant, content: Content, default: str | None) -> Batch:
        """Return the stanzas of a request; see `batch`. `default` is the sender if there is none.

        Raises:
            NotJson, UnusableReply, SendRefused: see `Sender.compose_all`.
            Problem: 403 if the token lacks the scope or the address.
        """
        batch = await self.sender.compose_all(content, default)
        for place, stanza in zip(batch.places, batch.stanzas, strict=True):
            _check(grant, place, stanza)
        return batch

    async def _with_urls(self, grant: Grant, given: Objects, default: str | None) -> Objects:
        """Upload the files of a request whose stanzas may all be sent: nothing is uploaded for
        others.
        """

        async def upload(one: Attachment, own: str | None) -> File:
            file = NewFile(one.name, one.media_type, len(one.content))
            return await self.uploads.upload(file, Pieces(one.content), own or default or "")

        await self.rehearse(grant, given, default)
        async with self.uploads.place(grant):
            return given.with_objects(await with_urls(given.reading.objects, upload))

    async def rehearse(self, grant: Grant, given: Objects, default: str | None) -> Batch:
        """Return the stanzas of a request as if its files were uploaded; see `checked`."""

        async def pretend(one: Attachment, _: str | None) -> File:
            return File(NOWHERE, one.name, one.media_type, len(one.content))

        objects = await with_urls(given.reading.objects, pretend)
        return await self.checked(grant, given.with_objects(objects), default)

    async def stanza(
        self, grant: Grant, content: ReplyBody | Stanza, from_: str | None = None
    ) -> Stanza:
        """Return the stanza of a request that must not become several; see `batch`."""
        batch = await self.batch(grant, content, from_)
        if len(batch.stanzas) != 1:
            detail = f"This becomes {len(batch.stanzas)} stanzas; POST it to /v1/stanzas."
            raise Problem(422, detail=detail)
        return batch.stanzas[0]

    async def take(
        self,
        request: Request,
        grant: Grant,
        content: Stanza | Batch,
        body: bytes,
        status: int = 202,
    ) -> Response:
        """Send the stanzas of a request and return the response. An iq waits for its answer."""
        key = key_of(request, grant, body)
        batch = Batch((content,)) if isinstance(content, Stanza) else content
        if batch.stanzas[0].is_request:
            return await self._answer(request, batch.stanzas[0], key)
        try:
            uids = await self.sender.send_all(batch, key)
        except SendRefused as refused:
            refuse(refused)
        accepted = [
            {"id": stanza.id or uid, "uid": uid}
            for stanza, uid in zip(batch.stanzas, uids, strict=True)
        ]
        return json_response(accepted if batch.is_list else accepted[0], status)

    async def _answer(self, request: Request, stanza: Stanza, key: Key | None) -> Response:
        wait_s, preferred = wait_of(request)
        answer = await self.ask(request, stanza, wait_s, key)
        headers = {"Preference-Applied": f"wait={wait_s}"} if preferred else {}
        xml = write(answer.element, COMPONENT)
        if form_of(request) == "xml":
            return Response(xml, 200, {**headers, "Vary": "Accept"}, "application/xmpp+xml")
        value = {
            "kind": answer.kind,
            "type": answer.type,
            "from": answer.from_,
            "to": answer.to,
            "id": answer.id,
            "stanza": xml,
            **of_stanza(answer),
        }
        return json_response(value, 200, {**headers, "Vary": "Accept"})

    @contextmanager
    def collecting(self, query: Stanza, queryid: str, max_count: int) -> Iterator[ArchivePage]:
        """Collect the messages that answer a query of an archive, until the end of the block.

        Raises:
            Problem: if too many are being collected, or there is no such component (any more).
        """
        with ExitStack() as stack:
            try:
                page = stack.enter_context(self.sender.collecting(query, queryid, max_count))
            except SendRefused as refused:
                refuse(refused)
            yield page

    async def ask(
        self, request: Request, stanza: Stanza, wait_s: float, key: Key | None = None
    ) -> Stanza:
        """Send an iq and return its result, as `answer_of` does.

        Raises:
            Problem: if the answer is an error, or none comes in time.
            starlette.requests.ClientDisconnect: if the client has disconnected.
        """
        answer = await self.answer_of(request, stanza, wait_s, key)
        if answer.type == "error":
            raise problem_of(answer)
        return answer

    async def answer_of(
        self, request: Request, stanza: Stanza, wait_s: float, key: Key | None = None
    ) -> Stanza:
        """Send an iq and return its answer, a result or an error.

        If the client disconnects before the iq is written, the iq is withdrawn. With a key, the
        client may come back for the answer.

        Raises:
            Problem: if no answer comes in time.
            starlette.requests.ClientDisconnect: if the client has disconnected.
        """
        answer: Stanza | None = None
        refused: SendRefused | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, request, nursery.cancel_scope)
            try:
                answer = await self.sender.ask(stanza, wait_s, key)
            except SendRefused as error:  # raised below: here it would end up in a group
                refused = error
            nursery.cancel_scope.cancel()
        if refused is not None:
            refuse(refused)
        if answer is None:
            raise ClientDisconnect
        return answer


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what refuses a stanza into a `Problem`."""
    try:
        yield
    except NotJson as error:
        raise not_json(error) from None
    except NoSender as error:
        remedy = 'this token may speak as several addresses, so set "from"'
        raise Problem(422, detail=f"{error}; {remedy}") from None
    except UnusableReply as error:
        raise Problem(422, detail=str(error)) from None
    except SendRefused as refused:
        refuse(refused)


async def _watch(request: Request, scope: trio.CancelScope) -> None:
    """Cancel a scope when the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return a JSON response."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def not_json(error: NotJson) -> Problem:
    """Return the problem of a body that should be JSON."""
    detail = str(error)
    return Problem(400, detail=f"{detail[:1].upper()}{detail[1:]}.")


def _check(grant: Grant, place: str, stanza: Stanza) -> None:
    """Check that a token may send a stanza. Raises `Problem` 422 or 403 if it may not."""
    if stanza.kind == "iq" and not stanza.is_request:
        raise Problem(422, detail="An iq must be of type get or set.")
    scope: Scope = "query" if stanza.kind == "iq" else "send"
    if scope not in grant.token.scopes:
        raise _no_scope(scope)
    if not grant.token.speaks_as(split(stanza.from_ or "")):
        raise Problem(403, detail=f"{place}from: this token may not speak as that address.")


def _no_scope(*scopes: Scope) -> Problem:
    names = " or ".join(f'"{scope}"' for scope in scopes)
    return Problem(403, detail=f"This token lacks the scope {names}: add it in [listen].")


def refuse(refused: SendRefused) -> NoReturn:
    """Raise the problem of a refusal."""
    status = _STATUS_OF.get(type(refused), 503)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    raise Problem(status, detail=refused.why, headers=headers) from None
