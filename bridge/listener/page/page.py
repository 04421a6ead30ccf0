"""The status page: the login, the page itself, and its forms.

Each form is a POST that proves three things: the cookie of a session (`SameSite=Strict`), the
second secret of that session, and that one of our own pages sent it. The response is a redirect, so
reloading the page repeats nothing.
"""

import time
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import trio
from attrs import field, frozen
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from bridge.journal.store import JournalError
from bridge.listener.api.request import read_body
from bridge.listener.monitor.view import DaemonView
from bridge.listener.page.action import Actions, Many, Verb
from bridge.listener.page.dead_letter import letters
from bridge.listener.page.html import (
    ICON,
    SCRIPT,
    STYLE,
    document,
    header,
    join,
    login,
    question,
    tag,
)
from bridge.listener.page.overview import (
    all_incidents,
    components,
    conversations,
    incidents,
    jumps,
    nodes,
    summary,
)
from bridge.listener.page.question import all_question, drop_question
from bridge.listener.page.selection import Selection
from bridge.listener.page.session import Session, Sessions, TooManyFailures, is_own, is_proved
from bridge.listener.page.snapshot import PageSnapshot, look

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: a form would then be sent with "Origin: null", and refused here.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FORM_LIMIT_BYTES: Final = 64 * 1024
_FIELDS_LIMIT: Final = 200
_ENDED: Final = (
    "Your login has ended, for example because the daemon was restarted. Nothing was changed."
    " Log in, and try again."
)
_FILES: Final = {
    SCRIPT: "text/javascript; charset=utf-8",
    STYLE: "text/css; charset=utf-8",
    ICON: "image/svg+xml",
}

Fields = dict[str, list[str]]


@frozen
class PageRoutes:
    """The routes of the page, its login, its forms and its files. Create it within trio."""

    view: DaemonView
    sessions: Sessions
    actions: Actions = field(init=False)

    @actions.default
    def _make_actions(self) -> Actions:
        return Actions(self.view)

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.page),
            Route("/part", self.part),
            Route("/errors", self.errors),
            Route("/login", self.show_login, methods=["GET"]),
            Route("/login", self.login, methods=["POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/letters", self.letters, methods=["POST"]),
            *(Route(f"/{name}", file) for name in _FILES),
        ]

    # --- looking

    async def page(self, request: Request) -> Response:
        """Return the page; without a session, redirect to the login."""
        session = self.sessions.of(request)
        if session is None:
            return _go("login")
        notice, session.notice = session.notice, ""
        told = tag("p", notice, class_="notice", role="status") if notice else None
        selection = Selection.of(_query(request))
        page = await look(self.view, session.token, selection)
        parts = await _parts(page, session, letters(page, session))
        body = [header(session), tag("main", told, parts)]
        # A browser without scripts would lose the checked boxes and what is typed.
        plain = not session.may_manage or not (page.dead or selection.is_filter)
        return _html(document("xmpp-bridge", *body, refreshes=True, without_scripts=plain))

    async def part(self, request: Request) -> Response:
        """Return the parts that are refreshed; without a session, 401. Dead letters that somebody
        looks for stay as they are: finding them costs the journal more than the page may take
        every few seconds.
        """
        session = self.sessions.of(request)
        if session is None:
            return _html(Markup(""), 401)
        selection = Selection.of(_query(request))
        page = await look(self.view, session.token, selection, letters=not selection.is_filter)
        shown = None if selection.is_filter else letters(page, session)
        return _html(await _parts(page, session, shown))

    async def errors(self, request: Request) -> Response:
        """Return the page of all recent errors; without a session, redirect to the login."""
        session = self.sessions.of(request)
        if session is None:
            return _go("login")
        page = await look(self.view, session.token, letters=False)
        body = [header(session), tag("main", all_incidents(page))]
        return _html(document("xmpp-bridge: recent errors", *body))

    # --- coming and going

    async def show_login(self, request: Request) -> Response:
        """Return the login form; with a session, redirect to the page."""
        if self.sessions.of(request) is not None:
            return _go("./")
        return _html(login(_ENDED if "ended" in request.query_params else ""))

    async def login(self, request: Request) -> Response:
        """Start a session with the secret of a token."""
        if not is_own(request):
            return _html(login("This form came from another site. Log in here."), 403)
        fields = await _fields(request)
        try:
            address = "" if request.client is None else request.client.host
            token = self.sessions.login(_first(fields, "token").strip(), address)
        except TooManyFailures as error:
            wait_s = int(error.wait_s) + 1
            text = f"Too many wrong tokens. Try again in {wait_s} s."
            response = _html(login(text), 429)
            response.headers["Retry-After"] = str(wait_s)
            return response
        if token is None:
            return _html(login("This token is unknown. Check the secret."), 403)
        if "watch" not in token.scopes:
            return _html(login('This token lacks the scope "watch": add it in [listen].'), 403)
        response = _go("./")
        self.sessions.begin(token, request, response)
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        session = self.sessions.of(request)
        if session is not None and not _may_act(request, session, await _fields(request)):
            return _refusal(session)
        response = _go("login")
        self.sessions.end(request, response)
        return response

    # --- dead letters

    async def letters(self, request: Request) -> Response:
        """Retry or drop dead letters. A drop asks for confirmation first, and so does an action on
        all that match.
        """
        session = self.sessions.of(request)
        if session is None:
            return _go("login?ended")
        fields = await _fields(request)
        if not session.may_manage or not _may_act(request, session, fields):
            return _refusal(session)
        verb: Verb = "drop" if "drop" in fields else "retry"
        given, selection = _first(fields, verb), Selection.of(fields)
        is_confirmed = bool(_first(fields, "confirmed"))
        if given == "all":
            limits = _limits(fields)
            if limits is None or not is_confirmed:
                return await self._ask_about_all(verb, selection, session)
            token = session.token
            session.notice = await self.actions.act_on_all(verb, selection, limits, token)
            return _go(selection.address(after=0))
        uids = fields.get("uid", []) if given == "selected" else [given]
        uids = list(dict.fromkeys(uid for uid in uids if 0 < len(uid) <= 100))
        if verb == "drop" and uids and not is_confirmed:
            response = await self._ask_about(uids, selection, session)
            if response is not None:
                return response
        session.notice = await self.actions.act(verb, uids, session.token)
        return _go(selection.address())

    async def _ask_about(
        self, uids: list[str], selection: Selection, session: Session
    ) -> Response | None:
        """Return the question; None if there is nothing left to ask about."""
        try:
            items, texts = await self.actions.find(uids, session.token)
        except JournalError:
            return None
        if not items:
            return None
        return _html(drop_question(session, items, texts, selection, time.time()))

    async def _ask_about_all(self, verb: Verb, selection: Selection, session: Session) -> Response:
        try:
            many = await self.actions.count(verb, selection, session.token)
        except JournalError as error:
            session.notice = f"This failed: {error}."
            return _go(selection.address())
        return _html(all_question(session, verb, selection, many, time.time()))


async def file(request: Request) -> Response:
    """Return a file of the package. It reveals nothing about the daemon and needs no session."""
    name = request.url.path.rpartition("/")[2]
    content, media = _contents()[name]
    return Response(content, headers={**HEADERS, "Content-Type": media})


@cache
def _contents() -> dict[str, tuple[bytes, str]]:
    here = Path(__file__).parent
    return {name: ((here / name).read_bytes(), media) for name, media in _FILES.items()}


async def _parts(page: PageSnapshot, session: Session, letters: Markup | None) -> Markup:
    await trio.lowlevel.checkpoint()  # each step takes some ms, and stanzas wait meanwhile
    first = join(jumps(page), summary(page), components(page))
    await trio.lowlevel.checkpoint()
    pair = tag("div", conversations(page), incidents(page), class_="pair")
    return join(first, nodes(page), letters, pair)


def _may_act(request: Request, session: Session, fields: Fields) -> bool:
    return is_own(request) and is_proved(session, _first(fields, "csrf"))


def _refusal(session: Session) -> Response:
    text = (
        "Nothing was changed: the form is from another login, or the token lacks the scope manage."
    )
    back = tag("p", tag("a", "Back", href="./", class_="button"))
    return _html(question(session, "Refused", tag("p", text), back), 403)


async def _fields(request: Request) -> Fields:
    """Return the fields of a form. A body that is not a form has no fields.

    Raises:
        Problem: 413 or 408.
    """
    body = await read_body(request, _FORM_LIMIT_BYTES)
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_LIMIT)
    except ValueError:  # includes UnicodeDecodeError
        return {}


def _first(fields: Fields, name: str) -> str:
    return fields.get(name, [""])[0]


def _query(request: Request) -> Fields:
    query = request.query_params
    return {name: query.getlist(name) for name in query}


def _limits(fields: Fields) -> Many | None:
    """Return the times in the form of a question; None if they are not there."""
    try:
        until, since = float(_first(fields, "until")), _first(fields, "since")
        return Many(until, float(since) if since else None)
    except ValueError:
        return None


def _html(content: Markup, status: int = 200) -> Response:
    return HTMLResponse(content, status, HEADERS)


def _go(place: str) -> Response:
    return RedirectResponse(place, 303, HEADERS)
