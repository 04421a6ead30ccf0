"""Who is logged in to the page: sessions in memory, bounded and short-lived, and what a form must
prove before anything is done for it.

A cookie holds a random id and nothing else. It is `HttpOnly` and `SameSite=Strict`; each form has a
second secret of its session, and its request must come from the page's own origin: each of the
three keeps off what another site has a browser send.
"""

import hmac
from collections.abc import Callable
from secrets import token_urlsafe
from typing import Final
from urllib.parse import urlsplit

import trio
from attrs import define, field
from starlette.requests import Request
from starlette.responses import Response

from bridge.config.token import Token
from bridge.listener.auth import TokenAuth

SESSION_S: Final = 12 * 3600.0
SESSIONS: Final = 100
FAILURES: Final = 10
"""How many wrong secrets are looked at in one go; after that one each `FAILURE_S`."""
FAILURE_S: Final = 6.0
_BASE: Final = "xmpp_bridge_session"


@define(eq=False)
class Session:
    """One login. `notice` is what is to be told on the next page."""

    token: Token
    expires: float  # trio's clock
    csrf: str = field(factory=token_urlsafe, repr=False)
    notice: str = ""

    @property
    def may_manage(self) -> bool:
        return "manage" in self.token.scopes


class TooManyFailures(Exception):
    """Nobody can log in for `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Sessions:
    """All sessions. To be made within trio."""

    def __init__(self, access: TokenAuth, now: Callable[[], float] = trio.current_time) -> None:
        self._access = access
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._failures = 0.0
        self._failed_at = now()
        # Browsers keep cookies by host, not by port: another daemon's shall not be in the way.
        self._cookie = f"{_BASE}_{token_urlsafe(6)}"

    def login(self, secret: str) -> Token | None:
        """Give the token with that secret.

        Raises:
            TooManyFailures: too many were wrong just now; this one was not looked at.
        """
        self._forgive()
        if self._failures >= FAILURES:
            raise TooManyFailures((self._failures - FAILURES + 1) * FAILURE_S)
        token = self._access.of_secret(secret)
        if token is None:
            self._failures += 1
        return token

    def _forgive(self) -> None:
        now = self._now()
        self._failures = max(self._failures - (now - self._failed_at) / FAILURE_S, 0.0)
        self._failed_at = now

    def begin(self, token: Token, request: Request, response: Response) -> Session:
        """Begin a session, and have the browser keep its id."""
        self._drop_expired()
        while len(self._sessions) >= SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        id = token_urlsafe(32)
        session = self._sessions[id] = Session(token, self._now() + SESSION_S)
        self._set(request, response, id)
        return session

    def _set(
        self, request: Request, response: Response, id: str, max_age: int | None = None
    ) -> None:
        # Without a path it is the page's own, also where a proxy has put that below another.
        response.set_cookie(
            self._cookie,
            id,
            max_age,
            path=None,
            secure=is_secure(request),
            httponly=True,
            samesite="strict",
        )

    def of(self, request: Request) -> Session | None:
        """Give the session of a request; None without one, and where its token holds no more."""
        session = self._sessions.get(request.cookies.get(self._cookie, ""))
        if session is None or session.expires <= self._now():
            return None
        return session if self._access.holds(session.token) else None

    def end(self, request: Request, response: Response) -> None:
        """End the session of a request."""
        self._sessions.pop(request.cookies.get(self._cookie, ""), None)
        self._set(request, response, "", max_age=0)

    def _drop_expired(self) -> None:
        now = self._now()
        self._sessions = {id: one for id, one in self._sessions.items() if one.expires > now}


def is_secure(request: Request) -> bool:
    """Tell whether a form came over TLS, also where that ends at a proxy: the browser says so, and
    no other site can make it say so.
    """
    return request.url.scheme == "https" or _origin(request).startswith("https://")


def is_own(request: Request) -> bool:
    """Tell whether a form was sent by a page of ours (Fetch Metadata; Origin, RFC 6454 §7, where a
    browser sends none of that: over plain HTTP).
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    return bool(host) and urlsplit(_origin(request)).netloc == host


def is_proved(session: Session, given: str) -> bool:
    """Tell whether a form is of that session."""
    return hmac.compare_digest(session.csrf.encode(), given.encode("utf-8", "surrogatepass"))


def _origin(request: Request) -> str:
    origin: str = request.headers.get("origin", "")
    return origin
