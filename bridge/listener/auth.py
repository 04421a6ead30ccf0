"""Who may do what: the Authorization header, against the tokens.

A secret is compared as its SHA-256 with that of each token, all of them, in constant time; so how
long a refusal takes tells nothing. No secret, and nothing that stood in the header, gets into a
log, an error or a response.
"""

import base64
import binascii
import hmac
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from attrs import frozen
from starlette.requests import Request

from bridge.config.token import SCOPES, Scope, Token, digest_of
from bridge.listener.problem import Problem
from xmppstream import InvalidJid, split

__all__ = ["SCOPES", "TokenAuth", "Grant", "Scope"]

_CHALLENGE: Final = {
    "WWW-Authenticate": 'Bearer realm="xmpp-bridge", Basic realm="xmpp-bridge", charset="UTF-8"'
}
AT_ONCE: Final = 256


@frozen
class Grant:
    """What a request has proved: its token, and for Basic the address that it speaks as."""

    token: Token
    user: str | None = None


class TokenAuth:
    """The tokens that hold now."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def replace(self, tokens: Iterable[Token]) -> None:
        """Let other tokens hold from now on; requests that are at work go on."""
        self._tokens = tuple(tokens)

    def holds(self, token: Token) -> bool:
        """Tell whether a token that was given once holds still."""
        return token in self._tokens

    def check(self, request: Request, scope: Scope) -> Token:
        """Give the token of a request that may do what `scope` names.

        Raises:
            Problem: 401 without a known secret, 403 where its token has not that scope, or where
                it may not speak as the user of Basic.
        """
        return self.grant(request, scope).token

    def grant(self, request: Request, scope: Scope | None = None) -> Grant:
        """As `check`, with the user of Basic; None is any scope."""
        lines = request.headers.getlist("authorization")
        if len(lines) != 1:
            raise _unknown("No token was given." if not lines else "Two Authorization headers.")
        scheme, _, credentials = lines[0].partition(" ")
        user = None
        match scheme.lower():
            case "bearer":
                secret = credentials.strip()
            case "basic":
                user, secret = _user_and_password(credentials.strip())
            case _:
                raise _unknown("The scheme of the Authorization header is not known here.")
        token = self.of_secret(secret)
        if token is None:
            raise _unknown("The token is not known.")
        request.state.token = token.name  # for the log, also of what is refused below
        if user is not None:
            _check_user(token, user)
        if scope is not None and scope not in token.scopes:
            raise Problem(403, detail=f'This token has not the scope "{scope}".')
        return Grant(token, user)

    def of_secret(self, secret: str) -> Token | None:
        """Give the token with that secret, or None, in a time that says nothing about it."""
        digest = digest_of(secret)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def _unknown(detail: str) -> Problem:
    remedy = "Send Authorization: Bearer SECRET, or Basic with local@component and the secret."
    return Problem(401, detail=f"{detail} {remedy}", headers=_CHALLENGE)


def _user_and_password(credentials: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):  # UnicodeDecodeError is one
        raise _unknown("The Basic credentials are not base64 of UTF-8.") from None
    user, colon, password = text.partition(":")
    if not colon:
        raise _unknown("The Basic credentials have no password.")
    return user, password


def _check_user(token: Token, user: str) -> None:
    try:
        known = token.speaks_as(split(user))
    except InvalidJid:
        known = False
    if not known:
        raise Problem(403, detail="This token may not speak as the user of the Basic credentials.")


class TokenConcurrency:
    """Counts the requests at work, by token; what is at nought is forgotten."""

    def __init__(self, limit: int = AT_ONCE) -> None:
        self._limit = limit
        self._at_work: Counter[str] = Counter()

    @contextmanager
    def one(self, token: str) -> Iterator[None]:
        """Count one more while it is open.

        Raises:
            Problem: 429 where the token has its bound already.
        """
        if self._at_work[token] >= self._limit:
            detail = f"This token has {self._limit} requests at work already. Wait for some."
            raise Problem(429, detail=detail, headers={"Retry-After": "1"})
        self._at_work[token] += 1
        try:
            yield
        finally:
            self._at_work[token] -= 1
            if not self._at_work[token]:
                del self._at_work[token]
