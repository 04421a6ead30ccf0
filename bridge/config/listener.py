"""Turns `[listen]` and its tokens into `ListenSettings`, and collects every fault.

A secret is read here; only its digest is kept.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from bridge.config.settings import ListenSettings, ListenTable, TcpAddress, TokenTable, UnixAddress
from bridge.config.token import SCOPES, Scope, Token, digest_of
from bridge.config.value import (
    BadValue,
    Secret,
    check_domain,
    is_local_part,
    is_loopback,
    parse_post_url,
    parse_server,
)
from xmppstream.jid import same_domain

_SHORTEST: Final = 16
_HASH: Final = re.compile(r"sha256:([0-9A-Fa-f]{64})")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_NAME: Final = re.compile(r"[\w.@+-]{1,64}")
_PATH_LIMIT_BYTES: Final = 107  # unix(7)
_SOURCES: Final = ("secret", "secret_file", "secret_env", "secret_hash")
_EXAMPLE: Final = (
    'Use an address such as "127.0.0.1:5280", "[::1]:5280" or "unix:/run/xmpp-bridge/http.sock"'
)
_MAKE: Final = "Generate one with: openssl rand -hex 32"
_PUBLIC: Final = 'Use the address that endpoints reach it at, such as "https://example.com/bridge"'
_PUBLIC_LIMIT: Final = 1_000
SHORTEST_TTL_S: Final = 10.0


def parse_listen_address(text: str) -> TcpAddress | UnixAddress:
    """Parse a listen address: an IP address (or `localhost`) with a port, or the path of a socket.

    Raises:
        BadValue: if it is neither.
    """
    path = text.removeprefix("unix:")
    if path != text or text.startswith("/"):
        if not PurePosixPath(path).is_absolute() or path.endswith("/"):
            raise BadValue(f"{path!r} is not the absolute path of a socket", _EXAMPLE)
        if len(path.encode()) > _PATH_LIMIT_BYTES:
            problem = f"the path is longer than {_PATH_LIMIT_BYTES} bytes, the limit for a socket"
            raise BadValue(problem, "Use a shorter path")
        return UnixAddress(path)
    host, port = parse_server(text)
    if not text.endswith(f":{port}"):
        raise BadValue(f"{text!r} has no port", _EXAMPLE)
    if host == "localhost":
        host = "127.0.0.1"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise BadValue(f"{host!r} is not an IP address", _EXAMPLE) from None
    return TcpAddress(host, port)


def parse_public_url(text: str) -> str:
    """Return the URL at which endpoints reach the listener, without a slash at the end.

    Raises:
        BadValue: if it is not such a URL: without credentials, query and fragment.
    """
    try:
        url = parse_post_url(text)
    except BadValue as error:
        raise BadValue(error.problem, _PUBLIC) from None
    if url.authorization is not None:
        raise BadValue("the URL contains credentials", "Remove them: the URL goes to endpoints")
    if "?" in text or "#" in text:
        raise BadValue("the URL has a query or a fragment", _PUBLIC)
    if len(text) > _PUBLIC_LIMIT:
        raise BadValue(f"the URL is longer than {_PUBLIC_LIMIT} characters", _PUBLIC)
    return url.url.rstrip("/")


class ListenerValidation:
    """Validates `[listen]` against the configured components."""

    def __init__(
        self,
        domains: Sequence[str],
        environment: Mapping[str, str],
        secret_file: Callable[[str, str], Secret | None],
        fault: Callable[[str, str, str], None],
        warn: Callable[[str], None],
    ) -> None:
        """`secret_file` reads the file that a key names; `fault` takes key, problem and remedy."""
        self._domains = domains
        self._environment = environment
        self._secret_file = secret_file
        self._fault = fault
        self._warn = warn
        self._faulty: set[str] = set()

    def listen(self, table: ListenTable, faulty: set[str]) -> ListenSettings | None:
        """Return the settings, or None without a valid address.

        `faulty` holds the keys in which a fault was already found.
        """
        self._faulty = faulty
        place = self._place(table)
        if table.default_host is not None:
            try:
                check_domain(table.default_host)
            except BadValue as error:
                self._fault("listen.default_host", error.problem, error.remedy)
        tokens = self._tokens(table.token)
        if not (table.token or table.public_url or self._is_faulty("listen.token")):
            self._warn(
                "[listen] has no token, so no client has access: add a [[listen.token]] table"
            )
        public_url = self._public_url(table)
        if place is None:
            return None
        return ListenSettings(
            *(place, tokens, table.default_host, table.max_body_bytes, table.max_connections),
            public_url,
            table.reply_ttl_s,
        )

    def _public_url(self, table: ListenTable) -> str | None:
        if table.reply_ttl_s < SHORTEST_TTL_S:
            problem = f"{table.reply_ttl_s:g} s leave no time to answer"
            self._fault("listen.reply_ttl_s", problem, f"Use at least {SHORTEST_TTL_S:g} s")
        if table.public_url is None:
            return None
        try:
            url = parse_public_url(table.public_url)
        except BadValue as error:
            self._fault("listen.public_url", error.problem, error.remedy)
            return None
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            self._warn(
                f"listen.public_url: {url} has no TLS: whoever reads the traffic can answer in"
                " place of your endpoint; use https, by a reverse proxy"
            )
        return url

    def _is_faulty(self, key: str) -> bool:
        """Whether a key that seems missing is present, with a fault that was already found."""
        return any(one.startswith(key) for one in self._faulty)

    def _missing(self, key: str, problem: str, remedy: str) -> None:
        if not self._is_faulty(key):
            self._fault(key, problem, remedy)

    def _place(self, table: ListenTable) -> TcpAddress | UnixAddress | None:
        if table.address is None:
            self._missing("listen.address", "the address is missing", _EXAMPLE)
            return None
        try:
            place = parse_listen_address(table.address)
        except BadValue as error:
            self._fault("listen.address", error.problem, error.remedy)
            return None
        if isinstance(place, TcpAddress) and not ipaddress.ip_address(place.host).is_loopback:
            self._warn(
                f"listen.address: {place} is not a loopback address, and the listener has no TLS:"
                " tokens and messages cross the network in plain text; listen on 127.0.0.1 behind a"
                " reverse proxy with TLS"
            )
        return place

    def _tokens(self, tables: Sequence[TokenTable]) -> tuple[Token, ...]:
        tokens: list[Token] = []
        for number, table in enumerate(tables):
            key = f"listen.token[{number}]"
            token = self._token(table, key)
            if token is None:
                continue
            for other in tokens:
                if other.name == token.name:
                    problem = f"another token is also named {token.name!r}"
                    self._fault(f"{key}.name", problem, "Use a different name for each token")
                if other.digest == token.digest:
                    problem = f"the token {other.name!r} has the same secret"
                    self._fault(key, problem, _MAKE)
            tokens.append(token)
        return tuple(tokens)

    def _token(self, table: TokenTable, key: str) -> Token | None:
        name = table.name
        if name is None:
            self._missing(
                f"{key}.name", "the name is missing", "Name the client that uses the token"
            )
        elif _NAME.fullmatch(name) is None:
            problem = f"{name!r} is not a valid token name"
            self._fault(f"{key}.name", problem, "Use 1 to 64 letters, digits or any of ._@+-")
            name = None
        digest = self._digest(table, key)
        components = self._components(table, key)
        local_parts = self._local_parts(table, key)
        scopes = self._scopes(table, key)
        if name is None or digest is None or not components or not scopes:
            return None
        return Token(name, digest, components, scopes, local_parts)

    def _digest(self, table: TokenTable, key: str) -> bytes | None:
        given = [source for source in _SOURCES if getattr(table, source) is not None]
        if len(given) != 1:
            problem = (
                "the secret is missing"
                if not given
                else f"only one may be set, not {' and '.join(given)}"
            )
            remedy = f"Set exactly one of {', '.join(_SOURCES)}"
            self._missing(f"{key}.secret", problem, remedy)
            return None
        key = f"{key}.{given[0]}"
        if table.secret_hash is not None:
            match = _HASH.fullmatch(table.secret_hash)
            if match is None:
                example = "Use sha256:HEX, with HEX from: printf %s SECRET | sha256sum"
                self._fault(key, "the value is not a SHA-256 hash", example)
                return None
            return bytes.fromhex(match[1])
        secret = self._secret(table, key)
        if secret is None:
            return None
        if _VISIBLE.fullmatch(secret) is None:
            problem = (
                "the secret is empty"
                if not secret
                else "it contains characters other than visible ASCII"
            )
            self._fault(key, problem, _MAKE)
            return None
        if len(secret) < _SHORTEST:
            problem = f"the secret is shorter than {_SHORTEST} characters and could be guessed"
            self._fault(key, problem, _MAKE)
            return None
        return digest_of(secret)

    def _secret(self, table: TokenTable, key: str) -> str | None:
        if table.secret_file is not None:
            secret = self._secret_file(key, table.secret_file)
            return None if secret is None else secret.value
        if table.secret_env is not None:
            if table.secret_env not in self._environment:
                problem = f"the environment variable {table.secret_env} is not set"
                self._fault(key, problem, "Set it, or name another variable")
            return self._environment.get(table.secret_env)
        return table.secret

    def _components(self, table: TokenTable, key: str) -> frozenset[str]:
        if table.components is None:
            return frozenset(self._domains)
        key = f"{key}.components"
        if not table.components:
            self._fault(
                key, "the list is empty", "List a component, or remove the key to allow all"
            )
        found = set()
        for name in table.components:
            domain = self._component(name)
            if domain is None:
                self._no_component(key, name)
            else:
                found.add(domain)
        return frozenset(found)

    def _component(self, name: str) -> str | None:
        """Return a component's domain as configured; `name` may be spelt otherwise."""
        return next((one for one in self._domains if same_domain(one, name)), None)

    def _no_component(self, key: str, name: str) -> None:
        close = get_close_matches(name, self._domains, 1)
        known = ", ".join(self._domains) or "none"
        remedy = f'Perhaps you meant "{close[0]}"' if close else f"Configured components: {known}"
        self._fault(key, f"{name!r} is not a configured component", remedy)

    def _local_parts(self, table: TokenTable, key: str) -> frozenset[str] | None:
        if table.local_parts is None:
            return None
        key = f"{key}.local_parts"
        if not table.local_parts:
            self._fault(
                key, "the list is empty", "List a local part, or remove the key to allow any"
            )
        for local in table.local_parts:
            if local and not is_local_part(local):
                remedy = 'Use the part before the @, or "" for the domain itself'
                self._fault(key, f"{local!r} is not a valid local part", remedy)
        return frozenset(table.local_parts)

    def _scopes(self, table: TokenTable, key: str) -> frozenset[Scope]:
        key = f"{key}.scopes"
        every = ", ".join(f'"{scope}"' for scope in SCOPES)
        if not table.scopes:
            self._missing(key, "the scopes are missing", f"Use any of {every}")
            return frozenset()
        for name in table.scopes:
            if name not in SCOPES:
                close = get_close_matches(name, SCOPES, 1)
                remedy = f'Perhaps you meant "{close[0]}"' if close else f"Use any of {every}"
                self._fault(key, f"{name!r} is not a scope", remedy)
        return frozenset(scope for scope in SCOPES if scope in table.scopes)
