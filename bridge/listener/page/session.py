"""The sessions of the status page, in memory, bounded and short-lived; and the checks that a form
must pass.

A cookie holds a random ID and nothing else. It is `HttpOnly` and `SameSite=Strict`. Each form has a
second secret of its session, and its request must come from the page's own origin. Each of these
three stops requests that another site makes a browser send.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from secrets import token_urlsafe
from typing import Final
from urllib.parse import urlsplit

import trio
from attrs import define, field
from starlette.requests import Request
from starlette.responses import Response

from bridge.config.token import Token, digest_of
from bridge.listener.auth import TokenAuth

SESSION_S: Final = 12 * 3600.0
SESSIONS: Final = 100
FAILURES: Final = 10
"""The number of wrong secrets that are checked at once; after that, one every `FAILURE_S`."""
FAILURE_S: Final = 6.0
_GUESSERS: Final = 10_000
_PREFIX: Final = 4
_BASE: Final = "xmpp_bridge_session"


@define(eq=False)
class Session:
    """One login. `notice` is shown on the next page."""

    token: Token
    expires: float  # trio's clock
    csrf: str = field(factory=token_urlsafe, repr=False)
    notice: str = ""

    @property
    def may_manage(self) -> bool:
        return "manage" in self.token.scopes


class TooManyFailures(Exception):
    """There were too many wrong secrets like this one from its address; wait for `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Guesses:
    """Counts wrong secrets by the address that they come from and the first characters.

    So nobody is locked out by guesses from elsewhere or, behind the same proxy, by guesses at
    another secret. Memory is bounded: who has guessed longest ago is forgotten.
    """

    def __init__(self, now: Callable[[], float], limit: int = _GUESSERS) -> None:
        self._now = now
        self._limit = limit
        self._failed: OrderedDict[tuple[str, bytes], tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def check(self, address: str, secret: str) -> None:
        """Refuse another secret if too many were wrong.

        Raises:
            TooManyFailures: if it must not be checked now.
        """
        count = self._count(_guesser(address, secret))
        if count >= FAILURES:
            raise TooManyFailures((count - FAILURES + 1) * FAILURE_S)

    def failed(self, address: str, secret: str) -> None:
        """Count a wrong secret."""
        key = _guesser(address, secret)
        self._failed[key] = (self._count(key) + 1, self._now())
        self._failed.move_to_end(key)
        if len(self._failed) > self._limit:
            self._failed.popitem(last=False)

    def _count(self, key: tuple[str, bytes]) -> float:
        count, at = self._failed.get(key, (0.0, 0.0))
        return max(count - (self._now() - at) / FAILURE_S, 0.0)


def _guesser(address: str, secret: str) -> tuple[str, bytes]:
    """Return whom a guess counts for; of an IPv6 address the first 64 bits, which one host has."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        network = address
    else:
        if ip.version == 6:
            # A socket on [::] gives IPv4 clients as ::ffff:192.0.2.1, all of one /64.
            network = str(ip.ipv4_mapped or ip_network((ip, 64), strict=False))
        else:
            network = str(ip)
    return network, digest_of(secret[:_PREFIX])


class Sessions:
    """All sessions. Create it within trio."""

    def __init__(self, access: TokenAuth, now: Callable[[], float] = trio.current_time) -> None:
        self._access = access
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._guesses = Guesses(now)
        # Browsers keep cookies by host, not by port; a random name avoids those of another daemon.
        self._cookie = f"{_BASE}_{token_urlsafe(6)}"

    def login(self, secret: str, address: str) -> Token | None:
        """Return the token with that secret, or None. `address`: where it came from.

        Raises:
            TooManyFailures: if too many such secrets were wrong just now; it was not checked.
        """
        self._guesses.check(address, secret)
        token = self._access.of_secret(secret)
        if token is None:
            self._guesses.failed(address, secret)
        return token

    def begin(self, token: Token, request: Request, response: Response) -> Session:
        """Start a session and set its cookie."""
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
        # Without a path the cookie gets the page's, also if a proxy serves it below another.
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
        """Return the session of a request, or None if it has none or its token is not valid."""
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
    """Return whether a form came over TLS, also if TLS ends at a proxy: the browser says so in
    Origin, which no site can forge.
    """
    return request.url.scheme == "https" or _origin(request).startswith("https://")


def is_own(request: Request) -> bool:
    """Return whether one of our own pages sent a form: by Fetch Metadata or, if the browser sends
    none (over plain HTTP), by Origin (RFC 6454 §7).
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    return bool(host) and urlsplit(_origin(request)).netloc == host


def is_proved(session: Session, given: str) -> bool:
    """Return whether a form belongs to that session."""
    return hmac.compare_digest(session.csrf.encode(), given.encode("utf-8", "surrogatepass"))


def _origin(request: Request) -> str:
    origin: str = request.headers.get("origin", "")
    return origin
