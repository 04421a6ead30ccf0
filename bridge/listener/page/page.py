"""The status page: the login, the page itself, and its forms.

Each form is a POST that proves three things: the cookie of a session (`SameSite=Strict`), the
second secret of that session, and that one of our own pages sent it. The response is a redirect, so
reloading the page repeats nothing.
"""

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

from bridge.journal.request import Changed, CommandError, Forget, Found, Retry, Show
from bridge.journal.store import JournalError
from bridge.listener.api.request import read_body
from bridge.listener.monitor.view import Answer, DaemonView, ask
from bridge.listener.page.dead_letter import address, drop_question, letters, told
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
from bridge.listener.page.overview import components, conversations, incidents, summary
from bridge.listener.page.session import Session, Sessions, TooManyFailures, is_own, is_proved
from bridge.listener.page.snapshot import look, may_see

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
_MAX_AFTER: Final = 2**63 - 1
_FILES: Final = {
    SCRIPT: "text/javascript; charset=utf-8",
    STYLE: "text/css; charset=utf-8",
    ICON: "image/svg+xml",
}

Fields = dict[str, list[str]]


@frozen
class PageRoutes:
    """The routes of the page, its login, its forms and its files."""

    view: DaemonView
    sessions: Sessions
    _deciding: trio.Lock = field(factory=trio.Lock, init=False)

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.page),
            Route("/part", self.part),
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
        parts = await self._parts(request, session)
        body = [header(session), tag("main", told, parts)]
        return _html(document("xmpp-bridge", *body, refreshes=True))

    async def part(self, request: Request) -> Response:
        """Return the parts that are refreshed; without a session, 401."""
        session = self.sessions.of(request)
        if session is None:
            return _html(Markup(""), 401)
        return _html(await self._parts(request, session))

    async def _parts(self, request: Request, session: Session) -> Markup:
        page = await look(self.view, session.token, _after(request.query_params.get("after")))
        await trio.lowlevel.checkpoint()  # each step takes some ms, and stanzas wait meanwhile
        first = join(summary(page), components(page))
        await trio.lowlevel.checkpoint()
        pair = tag("div", conversations(page), incidents(page), class_="pair")
        return join(first, pair, letters(page, session))

    # --- coming and going

    async def show_login(self, request: Request) -> Response:
        """Return the login form; with a session, redirect to the page."""
        return _go("./") if self.sessions.of(request) is not None else _html(login())

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
        """Retry or drop dead letters. Dropping asks for confirmation first."""
        session = self.sessions.of(request)
        if session is None:
            return _go("login")
        fields = await _fields(request)
        if not session.may_manage or not _may_act(request, session, fields):
            return _refusal(session)
        after = _after(_first(fields, "after"))
        verb = "drop" if "drop" in fields else "retry"
        given = _first(fields, verb)
        uids = fields.get("uid", []) if given == "selected" else [given]
        uids = list(dict.fromkeys(uid for uid in uids if 0 < len(uid) <= 100))
        if verb == "drop" and uids and not _first(fields, "confirmed"):
            return _html(drop_question(session, uids, after))
        session.notice = await self._do(verb, uids, session)
        return _go(address(after))

    async def _do(self, verb: str, uids: list[str], session: Session) -> str:
        """Carry out the action and return a notice with the result."""
        answer = self.view.answer
        if answer is None:
            return "There is no journal (durability is off), so nothing is kept."
        if not uids:
            return told((), (), "")
        try:
            async with self._deciding:
                own, failed = await self._own(answer, uids, session)
                if not own:
                    return told((), failed, "")
                request = Retry(uids=own) if verb == "retry" else Forget(uids=own)
                changed = await ask(answer, request, Changed)
        except (CommandError, JournalError) as error:
            return f"This failed: {error}."
        said = "pending again" if verb == "retry" else "dropped"
        failed += [f"{uid}: {why}." for uid, why in changed.failed.items()]
        return told(changed.done, failed, said)

    async def _own(
        self, answer: Answer, uids: list[str], session: Session
    ) -> tuple[tuple[str, ...], list[str]]:
        """Return the UIDs of stanzas that the token may see, and a sentence for each other UID."""
        own: list[str] = []
        failed: list[str] = []
        for uid in uids:
            try:
                items = (await ask(answer, Show(uid=uid), Found)).items
            except CommandError:
                items = ()
            seen = [one for one in items if may_see(self.view, session.token, one.component)]
            if seen and len(seen) == len(items):
                own.append(seen[0].uid)
            else:
                failed.append(f"{uid} no longer exists.")
        return tuple(own), failed


async def file(request: Request) -> Response:
    """Return a file of the package. It reveals nothing about the daemon and needs no session."""
    name = request.url.path.rpartition("/")[2]
    content, media = _contents()[name]
    return Response(content, headers={**HEADERS, "Content-Type": media})


@cache
def _contents() -> dict[str, tuple[bytes, str]]:
    here = Path(__file__).parent
    return {name: ((here / name).read_bytes(), media) for name, media in _FILES.items()}


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


def _after(text: str | None) -> int:
    number = int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else 0
    return min(number, _MAX_AFTER)


def _html(content: Markup, status: int = 200) -> Response:
    return HTMLResponse(content, status, HEADERS)


def _go(place: str) -> Response:
    return RedirectResponse(place, 303, HEADERS)
