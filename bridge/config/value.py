"""Single configuration values with a syntax of their own: checked, and safe to show."""

import base64
import binascii
import ipaddress
import re
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from attrs import field, frozen

from xmppstream.jid import InvalidJid, split, to_ascii
from xmppstream.writer import IllegalCharacter, escape_text

DEFAULT_PORT: Final = 5347
_LABEL: Final = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?|_[\w-]{0,62}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_URL_LIMIT: Final = 8_000  # RFC 9110 §4.1 recommends supporting this much; httpx refuses 65,536
_DATABASE: Final = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?]*)(?::[^@/?]*)?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<name>[^?]*))?(?:\?(?P<query>.*))?"
)
_NOT_ENCODED: Final = re.compile("%(?![0-9a-f]{2})|%00", re.IGNORECASE)
_DATABASE_HOST: Final = re.compile(
    r"(?:\[[0-9a-f:.%]+\]|[\w.%-]*)(?::(?P<port>\d{1,5})?)?", re.ASCII | re.IGNORECASE
)
_LUA: Final = re.compile(r"""[{}="']|\bcomponent_|^Component\b""")
_NOT_IN_HOST: Final = frozenset("/@\"'<>\\%[]")
_SECRET_HEADER: Final = re.compile(
    r"(?:.*[-_])?(?:authorization|cookie|password|secret|(?:access|api|auth)?(?:key|token))",
    re.IGNORECASE,
)
_OURS: Final = frozenset(
    {"connection", "content-length", "content-type", "host", "transfer-encoding", "upgrade"}
    | {"traceparent", "webhook-id", "webhook-timestamp", "webhook-attempt", "webhook-signature"}
)


class BadValue(ValueError):
    """A value is not valid: the problem, and the remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy


@frozen
class Secret:
    """A string that no log, error or repr shows."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "…"


@frozen
class DatabaseUrl:
    """The URL of a PostgreSQL database, as libpq reads it. `str()` is safe to show: it has no
    password and no parameters.
    """

    value: str = field(repr=False)
    shown: str

    def __str__(self) -> str:
        return self.shown


PULL_TEXT: Final = "pull:"


@frozen
class PostUrl:
    """An endpoint's URL, with its credentials apart. `str()` is safe to show: it has no credentials
    and no query, which may hold tokens.
    """

    url: str = field(repr=False)
    shown: str
    authorization: Secret | None = None

    @property
    def is_pulled(self) -> bool:
        """Whether nothing is POSTed: the service fetches its events from the listener."""
        return self.url == PULL_TEXT

    @property
    def origin(self) -> str:
        """The scheme, host and port; a default port is left out. Not of one `is_pulled`."""
        parts = urlsplit(self.url)
        default = {"http": 80, "https": 443}[parts.scheme]
        host = parts.netloc if parts.port != default else parts.netloc.rpartition(":")[0]
        return f"{parts.scheme}://{host}"

    def __str__(self) -> str:
        return self.shown


PULL: Final = PostUrl(PULL_TEXT, PULL_TEXT)


def parse_endpoint(text: str) -> PostUrl:
    """Parse the value of `component_post_url`: `pull:`, or an http or https URL.

    Raises:
        BadValue: if it is neither.
    """
    if text == PULL_TEXT:
        return PULL
    if text.strip().lower().startswith("pull"):
        problem = f"{text[:60]!r} is not a URL"
        raise BadValue(problem, f'Write exactly "{PULL_TEXT}" for a service that polls')
    return parse_post_url(text)


def parse_post_url(text: str) -> PostUrl:
    """Parse an http or https URL.

    Raises:
        BadValue: if the scheme is not http or https, the host is missing or not valid, the port is
            out of range, or the URL is too long or contains white space or control characters.
    """
    example = 'Use a URL such as "https://example.com/your-api"'
    if any(character.isspace() or not character.isprintable() for character in text):
        raise BadValue("the URL contains white space or control characters", example)
    if len(text) > _URL_LIMIT:
        raise BadValue(f"the URL is longer than {_URL_LIMIT} characters", example)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadValue("the URL has no valid host or port (1 to 65535)", example) from None
    if parts.scheme not in ("http", "https"):
        raise BadValue("the URL must begin with http:// or https://", example)
    if not parts.hostname:
        raise BadValue("the URL has no host", example)
    if port == 0:
        raise BadValue("port 0 is out of range (1 to 65535)", example)
    if not _is_host(parts.hostname):
        raise BadValue("the host of the URL is not a domain name or IP address", example)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host = to_ascii(host)
    place = f"{host}:{port}" if port is not None else host
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret("Basic " + base64.b64encode(pair.encode()).decode())
    url = urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
    shown = urlunsplit((parts.scheme, place, parts.path or "/", "…" if parts.query else "", ""))
    return PostUrl(url, shown, authorization)


def parse_database_url(text: str) -> DatabaseUrl:
    """Parse a URL of PostgreSQL: `postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME?KEY=VALUE`,
    in which every part may be missing. libpq checks the parameters.

    Raises:
        BadValue: if it is none; the message does not show it, since it may hold a password.
    """
    example = 'Use a URL such as "postgresql://bridge@db.example.com/bridge"'
    encode = "In user and password, write %40 for @, %2F for /, %3A for :, and %25 for %"
    if any(character.isspace() or not character.isprintable() for character in text):
        raise BadValue("the URL contains white space or control characters", example)
    if len(text) > _URL_LIMIT:
        raise BadValue(f"the URL is longer than {_URL_LIMIT} characters", example)
    match = _DATABASE.fullmatch(text)
    if match is None:
        raise BadValue("the URL must begin with postgresql://", example)
    if _NOT_ENCODED.search(text) is not None:  # libpq would show it, be it in the password
        raise BadValue("the URL has a % without two hexadecimal digits", encode)
    user, hosts, name, query = (match[part] or "" for part in ("user", "hosts", "name", "query"))
    for host in hosts.split(","):
        place = _DATABASE_HOST.fullmatch(host)
        if place is None or not 0 < int(place["port"] or 1) < 65_536:
            raise BadValue("the URL has no valid host or port (1 to 65535)", encode)
    if "@" in name or any("=" not in one for one in query.split("&") if one):
        raise BadValue("the URL has no valid database or parameters", encode)
    shown = f"{user}@{hosts}" if user else hosts
    return DatabaseUrl(text, f"postgresql://{shown}/{name}")


def parse_server(text: str) -> tuple[str, int]:
    """Split `host:port` or `[ipv6]:port`; the port defaults to 5347.

    Raises:
        BadValue: if the host is missing or not valid, or the port is out of range.
    """
    example = 'Use an address such as "127.0.0.1:5347" or "[::1]:5347"'
    if "://" in text:
        remedy = "Leave out everything before the host and after the port: HOST:PORT"
        raise BadValue(f"{text!r} is a URL, not an address", remedy)
    if _LUA.search(text):
        remedy = 'Write only the address, such as "127.0.0.1:5347": the port of component_ports'
        raise BadValue(f"{text!r} is a piece of Prosody's configuration", remedy)
    host, port = text, str(DEFAULT_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise BadValue(f"{text!r} is not an IPv6 address with a port", example)
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text:
        raise BadValue(f"{text!r} has more than one colon", example)
    if not _is_host(host):
        raise BadValue(f"{text!r} has no valid host", example)
    if not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) <= 65535:
        raise BadValue(f"{port!r} is not a valid port (1 to 65535)", example)
    return host, int(port)


def check_host(text: str) -> None:
    """Check the name or IP address that a certificate must be valid for.

    Raises:
        BadValue: if it is neither.
    """
    if not _is_host(text):
        raise BadValue(
            f"{text!r} is not a domain name or IP address", 'Use a name such as "example.com"'
        )


def _is_host(text: str) -> bool:
    """Whether the resolver, TLS and httpx accept this host; they raise for anything else."""
    try:
        if ":" in text:
            return bool(ipaddress.IPv6Address(text))
        if not text.strip("0123456789."):
            return bool(ipaddress.IPv4Address(text))
        to_ascii(text).encode("idna")  # the resolver's codec, which checks lengths
    except ValueError:  # InvalidJid and UnicodeError are
        return False
    return all(c.isprintable() and not c.isspace() and c not in _NOT_IN_HOST for c in text)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, judged by its name or address alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_domain(text: str) -> None:
    """Check a component's domain: labels of 1 to 63 characters, at most 253 bytes in all.

    Raises:
        BadValue: if it is not a valid domain.
    """
    try:
        longest = max(len(text.encode()), len(to_ascii(text)))
    except InvalidJid:
        longest = 0
    if not 0 < longest <= 253 or not all(_LABEL.fullmatch(one) for one in text.split(".")):
        raise BadValue(f"{text!r} is not a valid domain", 'Use a domain such as "bot.example.com"')


def is_local_part(text: str) -> bool:
    """Whether a text can stand before the `@` of an address."""
    try:
        return split(f"{text}@domain").local == text
    except InvalidJid:
        return False


def check_text(text: str) -> None:
    """Check a text that is shown to people on XMPP.

    Raises:
        BadValue: if it contains a character that XML forbids.
    """
    try:
        escape_text(text)
    except IllegalCharacter as error:
        raise BadValue(str(error), "Remove it") from None


def check_header(name: str, value: str) -> None:
    """Check a header that is sent with each POST.

    Raises:
        BadValue: if it is not a valid header, or the bridge sets it itself.
    """
    if _TOKEN.fullmatch(name) is None:
        raise BadValue(f"{name!r} is not a valid header name", "Use letters, digits and hyphens")
    if name.lower() in _OURS:
        raise BadValue(f"{name} is set by the bridge", "Remove it")
    if _FIELD_VALUE.fullmatch(value) is None:
        raise BadValue(
            "the value contains characters that a header cannot hold",
            "Use printable ASCII, without spaces at either end",
        )


def is_secret_header(name: str) -> bool:
    """Whether a header with this name probably holds a secret: `Authorization`, `Cookie`,
    `X-API-Key`, `Private-Token` and the like.
    """
    return _SECRET_HEADER.fullmatch(name) is not None


PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)  # as the specification of Standard Webhooks requires


def parse_key(text: str) -> Secret:
    """Check a signing secret: `whsec_` followed by 24 to 64 bytes in base64.

    Raises:
        BadValue: if it is not valid; the message does not show it.
    """
    remedy = 'Generate one with: echo "whsec_$(openssl rand -base64 32)"'
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or len(key) not in _KEY_BYTES:
        raise BadValue("must be whsec_ followed by 24 to 64 bytes in base64", remedy)
    return Secret(text)
