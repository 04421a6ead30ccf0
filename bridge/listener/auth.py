"""Authentication and authorization: the Authorization header, checked against the tokens.

The SHA-256 of a secret is compared with that of every token, in constant time, so the duration of
a refusal reveals nothing. No secret and no other part of the header gets into a log, an error or a
response.
"""

import base64
import binascii
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Self

import trio
from attrs import frozen
from starlette.requests import Request

from bridge.config.settings import ListenSettings
from bridge.config.token import SCOPES, Scope, Token, digest_of
from bridge.listener.problem import Problem
from xmppstream import InvalidJid, split

__all__ = ["SCOPES", "TokenAuth", "Grant", "Scope"]

_CHALLENGE: Final = {
    "WWW-Authenticate": 'Bearer realm="xmpp-bridge", Basic realm="xmpp-bridge", charset="UTF-8"'
}
AT_ONCE: Final = 256
POLLERS: Final = 128
BODIES: Final = 32
"""How many bodies of one token are read at a time, of those that do not come in one piece."""
BODY_WAIT_S: Final = 10.0


@frozen
class Grant:
    """The proven identity of a request: its token and, with Basic, the address it speaks as."""

    token: Token
    user: str | None = None


class TokenAuth:
    """The tokens that are valid now."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def replace(self, tokens: Iterable[Token]) -> None:
        """Replace the tokens. Requests in progress continue."""
        self._tokens = tuple(tokens)

    def holds(self, token: Token) -> bool:
        """Return whether a token is still valid."""
        return token in self._tokens

    def check(self, request: Request, scope: Scope) -> Token:
        """Return the token of a request, which must have `scope`.

        Raises:
            Problem: 401 if there is no known secret; 403 if the token lacks the scope or may not
                speak as the Basic user.
        """
        return self.grant(request, scope).token

    def grant(self, request: Request, scope: Scope | None = None) -> Grant:
        """Like `check`, but also return the Basic user. If `scope` is None, it is not checked."""
        lines = request.headers.getlist("authorization")
        if len(lines) != 1:
            raise _unknown("There is no token." if not lines else "There are several tokens.")
        scheme, _, credentials = lines[0].partition(" ")
        user = None
        match scheme.lower():
            case "bearer":
                secret = credentials.strip()
            case "basic":
                user, secret = _user_and_password(credentials.strip())
            case _:
                raise _unknown("The scheme of the Authorization header is not supported.")
        token = self.of_secret(secret)
        if token is None:
            raise _unknown("The token is unknown.")
        request.state.token = token.name  # for the log, also if it is refused below
        if user is not None:
            user = _speaker(token, user)
        if scope is not None and scope not in token.scopes:
            raise Problem(403, detail=f'This token lacks the scope "{scope}": add it in [listen].')
        return Grant(token, user)

    def of_secret(self, secret: str) -> Token | None:
        """Return the token with that secret, or None, in a time that reveals nothing about it."""
        digest = digest_of(secret)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def _unknown(detail: str) -> Problem:
    remedy = "Send Authorization: Bearer SECRET, or Basic with local@component and the SECRET."
    return Problem(401, detail=f"{detail} {remedy}", headers=_CHALLENGE)


def _user_and_password(credentials: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):  # includes UnicodeDecodeError
        raise _unknown("The Basic credentials are not base64-encoded UTF-8.") from None
    user, colon, password = text.partition(":")
    if not colon:
        raise _unknown("The Basic credentials have no password.")
    return user, password


def _speaker(token: Token, user: str) -> str:
    """Return the address of a Basic user; a name without a host is at the token's only component.

    Raises:
        Problem: 403 if the token may not speak as it.
    """
    only = token.components if len(token.components) == 1 else ()
    for address in (user, *(f"{user}@{domain}" for domain in only)):
        try:
            if token.speaks_as(split(address)):
                return address
        except InvalidJid:
            continue
    raise Problem(403, detail="This token may not speak as the user of the Basic credentials.")


class TokenConcurrency:
    """Counts the requests in progress of each token. A token without any takes no memory."""

    def __init__(self, limit: int = AT_ONCE) -> None:
        self._limit = limit
        self._at_work: Counter[str] = Counter()

    @contextmanager
    def one(self, token: str) -> Iterator[None]:
        """Count one more request while the context is open.

        Raises:
            Problem: 429 if the token has reached its limit.
        """
        if self._at_work[token] >= self._limit:
            detail = f"This token already has {self._limit} requests in progress. Try again later."
            raise Problem(429, detail=detail, headers={"Retry-After": "1"})
        self._at_work[token] += 1
        try:
            yield
        finally:
            self._at_work[token] -= 1
            if not self._at_work[token]:
                del self._at_work[token]


class PollerLimit:
    """Bounds the requests that wait for events. They are not counted in `TokenConcurrency`, so that
    idle pollers do not keep their token from sending; and together they take no more than half of
    the connections, one token no more than half of that.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: Counter[str] = Counter()

    @classmethod
    def of(cls, listen: ListenSettings) -> Self:
        """Return the limit for a listener."""
        return cls(max(min(POLLERS, listen.max_connections // 2), 2))

    @contextmanager
    def one(self, token: str) -> Iterator[None]:
        """Count one more poller while the context is open.

        Raises:
            Problem: 429 if there are too many of this token, 503 of all tokens.
        """
        own, headers = self._limit // 2, {"Retry-After": "5"}
        if self._waiting.total() >= self._limit:
            detail = f"{self._limit} requests already wait for events here. Try again later."
            raise Problem(503, detail=detail, headers=headers)
        if self._waiting[token] >= own:
            detail = f"{own} requests of this token already wait for events. Try again later."
            raise Problem(429, detail=detail, headers=headers)
        self._waiting[token] += 1
        try:
            yield
        finally:
            self._waiting[token] -= 1
            if not self._waiting[token]:
                del self._waiting[token]


class BodyConcurrency:
    """Bounds the bodies of each token that are read at a time; further ones wait in turn.

    A token without any takes no memory.
    """

    def __init__(
        self, limit: int = BODIES, busy: str = "slow bodies of this token are being read"
    ) -> None:
        """`busy` says, behind the limit, what takes up all places."""
        self._limit = limit
        self._busy = busy
        self._limiters: dict[str, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def one(self, token: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it while the context is open. Cancellation gives it up.

        Raises:
            Problem: 429 if there is none within `BODY_WAIT_S`.
        """
        limiter = self._limiters.setdefault(token, trio.CapacityLimiter(self._limit))
        try:
            with trio.move_on_after(BODY_WAIT_S) as scope:
                await limiter.acquire()
            if scope.cancelled_caught:
                detail = f"{self._limit} {self._busy}. Try again later."
                raise Problem(429, detail=detail, headers={"Retry-After": f"{BODY_WAIT_S:g}"})
            try:
                yield
            finally:
                limiter.release()
        finally:
            state = limiter.statistics()
            if not state.borrowed_tokens and not state.tasks_waiting:
                self._limiters.pop(token, None)
