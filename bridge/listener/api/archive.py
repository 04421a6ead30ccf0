"""`GET /v1/archive/{jid}` reads a page of an archive (XEP-0313).

The messages are collected from the stream while the query waits for its answer, and are POSTed to
nobody.
"""

import re
from secrets import token_hex
from typing import Any, Final

import trio
from attrs import frozen
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import SubmissionHandler, json_response
from bridge.listener.api.query import Asking
from bridge.listener.problem import Problem
from bridge.payload import namespace as ns
from bridge.payload.archived import archived
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import Asked
from bridge.payload.extension.query import read_archive, read_result, write_archive
from bridge.payload.shape import Archive, ArchiveResult, Page
from bridge.xmpp.archive import PAGE_BYTES, ArchivePage
from xmppstream import Element, InvalidJid, Stanza, make, split
from xmppstream.names import expanded

COUNT: Final = 50
COUNT_LIMIT: Final = 500
PARAMETERS: Final = ("with", "start", "end", "after", "before", "max", "node")
_TEXTS: Final = ("with", "start", "end", "node")
_QUERY: Final = expanded(ns.MAM, "query")
_FIN: Final = expanded(ns.MAM, "fin")
_AT_ONCE: Final = 32  # messages that are read without a pause
_CLOSED: Final = frozenset(
    {"forbidden", "not-allowed", "not-authorized", "item-not-found", "service-unavailable"}
    | {"feature-not-implemented", "registration-required"}
)
_HINT: Final = (
    " The archive may not exist, or be closed to this address: servers open a person's archive to"
    " that person alone, and a room's to whoever may enter it."
)
_NOTHING: Final = make("iq", None, None)


@frozen
class ArchiveRoutes:
    """The route of archives."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/archive/{jid:path}", self.page, methods=["GET"])]

    async def page(self, request: Request) -> Response:
        """Return a page of an archive: its messages, and where the next page begins."""
        jid, parameters = request.path_params["jid"], request.query_params
        async with self.handler.authorized(request, "query") as grant:
            count = _count(parameters)
            queryid = token_hex(8)
            query = _query(jid, queryid, count, parameters)
            stanza = await self.handler.stanza(grant, query, parameters.get("from"))
            with self.handler.collecting(stanza, queryid, count) as page:
                try:
                    answer, head, headers = await Asking(self.handler, request).ask(stanza)
                except Problem as problem:
                    raise _explained(problem) from None
            value = {**head, **await _described(page, answer)}
        return json_response(value, 200, headers)


def _count(parameters: QueryParams) -> int:
    given = parameters.get("max") or str(COUNT)
    if re.fullmatch("[0-9]{1,9}", given) is None or not 0 < int(given) <= COUNT_LIMIT:
        raise Problem(422, detail=f"max: not a number from 1 to {COUNT_LIMIT}.")
    return int(given)


def _query(jid: str, queryid: str, count: int, parameters: QueryParams) -> Stanza:
    """Return the query. Raises `Problem` 422 if a parameter is not valid."""
    texts = {key: parameters.get(key) or None for key in _TEXTS}
    after, before = parameters.get("after") or None, parameters.get("before")
    if after is not None and before is not None:
        raise Problem(422, detail="after and before exclude each other.")
    try:
        if texts["with"] is not None:
            split(texts["with"])
        payload = write_archive(
            Archive(
                queryid,
                texts["node"],
                with_=texts["with"],
                start=texts["start"],
                end=texts["end"],
                after=after,
                before=before,
                max=count,
            ),
            Asked(_NOTHING, "iq", None),
        )
    except InvalidJid as error:
        raise Problem(422, detail=f"with: not a valid address: {error}.") from None
    except UnusableReply as error:
        raise Problem(422, detail=str(error).removeprefix("archive.")) from None
    return make("iq", jid, None, type="set", children=payload)


def _explained(problem: Problem) -> Problem:
    """Return the problem of an archive that refuses, with what that may mean."""
    error = problem.members.get("error")
    condition = error.get("condition") if isinstance(error, dict) else None
    if condition not in _CLOSED:
        return problem
    return Problem(
        problem.status,
        problem.title,
        f"{problem.detail}{_HINT}",
        problem.headers,
        type=problem.type,
        **problem.members,
    )


def identified(query: Stanza) -> tuple[Stanza, str, int] | None:
    """Return a query of an archive with an id that is its own, that id, and how many messages it
    asks for; None if an iq is none.
    """
    payload = query.payload
    if payload is None or payload.name != _QUERY or query.type != "set":
        return None
    queryid = payload.get("queryid") or token_hex(8)
    pairs = tuple(pair for pair in payload.attributes if pair[0] != "queryid")
    changed = Element(payload.name, (*pairs, ("queryid", queryid)), payload.children)
    page = read_archive([payload], _NOTHING).page or Page()
    count = COUNT_LIMIT if page.max is None else min(page.max, COUNT_LIMIT)
    one = query.element
    return Stanza(Element(one.name, one.attributes, (changed,)), query.lang), queryid, count


def check_page(page: ArchivePage) -> None:
    """Raises `Problem` 502 if an archive has sent more than was asked for."""
    if page.is_exceeded:
        detail = (
            f"The archive has sent more than was asked for, {page.max_count} messages, or than fits"
            f" into a page, {PAGE_BYTES} bytes. Ask for fewer: lower max."
        )
        raise Problem(502, detail=detail)


async def _described(page: ArchivePage, answer: Stanza) -> dict[str, Any]:
    check_page(page)
    messages = []
    for number, message in enumerate(page.messages, 1):
        one = archived(message)
        if one is not None:
            messages.append(one)
        if number % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    payload = answer.payload
    end = ArchiveResult()
    if payload is not None and payload.name == _FIN:
        end = read_result([payload], _NOTHING)
    rsm = end.page or Page()
    ids = [one["archive_id"] for one in messages if "archive_id" in one]
    last = {
        "first": rsm.first or next(iter(ids), None),
        "last": rsm.last or next(reversed(ids), None),
        "count": rsm.count,
    }
    found = {key: value for key, value in last.items() if value is not None}
    return {"messages": messages, "complete": end.complete, **found}
