"""Finds the upload service of the server, and asks it for slots (XEP-0363). No HTTP is here.

A slot comes from a server that the bridge trusts with its stanzas. It is checked all the same: the
bridge must not be made to send a file in plain text, or a header that the XEP does not allow.
"""

import ipaddress
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import trio
from attrs import frozen

from bridge.payload.extension.common import child_text, number_of
from bridge.payload.extension.stanza_error import read_error
from bridge.payload.namespace import DATA, UPLOAD
from xmppstream import Element, InvalidJid, Stanza, make, split
from xmppstream.jid import same_domain
from xmppstream.names import COMPONENT, DISCO_INFO, DISCO_ITEMS, expanded
from xmppstream.stanza import Kind

ANSWER_S: Final = 10.0
"""How long the server, or the upload service, may take for one answer."""
DISCOVERY_S: Final = 20.0
OTHERS_S: Final = 1.0
"""How long the others may still take once a service has answered: an answer that comes later is
POSTed, if iqs are.
"""
KNOWN_S: Final = 3600.0
"""How long a service that was found is used without being asked again."""
ITEMS_LIMIT: Final = 50
URL_LIMIT: Final = 4096
HEADERS: Final = ("Authorization", "Cookie", "Expires")  # XEP-0363 §4
_HEADER_LIMIT: Final = 16 * 1024
_IQ: Final[Kind] = "iq"
_ERROR: Final = expanded(COMPONENT, "error")
_NO_LONGER: Final = frozenset(
    {
        *("feature-not-implemented", "gone", "item-not-found", "remote-server-not-found"),
        *("remote-server-timeout", "service-unavailable"),
    }
)
"""The conditions after which the service is looked for again."""

Ask = Callable[[Stanza, float], Awaitable[Stanza | None]]
"""Sends an iq, and returns its answer; None if none comes within as many seconds.

Raises:
    UploadUnavailable: if it cannot be sent now.
"""


class UploadError(Exception):
    """A file was not uploaded; the message is a clause that says why."""

    @property
    def why(self) -> str:
        return str(self)


class UploadUnavailable(UploadError):
    """No file can be uploaded now: try again later."""


class NoUploadService(UploadError):
    """The server offers no uploads."""


class FileTooLarge(UploadError):
    """The file is larger than the upload service allows."""


class SlotRefused(UploadError):
    """The upload service refuses a slot. `answer` is its error."""

    def __init__(self, why: str, answer: Stanza) -> None:
        super().__init__(why)
        self.answer = answer


class SlotUnanswered(UploadError):
    """The upload service does not answer."""


class BadSlot(UploadError):
    """The upload service gives a slot that must not be used."""


class UploadFailed(UploadError):
    """The PUT failed."""


@frozen
class NewFile:
    """A file to upload. `size` is in bytes."""

    name: str
    media_type: str
    size: int


@frozen
class UploadService:
    """An upload service. `max_bytes` is the largest file that it takes, if it says so."""

    jid: str
    max_bytes: int | None = None

    def check(self, size: int) -> None:
        """Raise `FileTooLarge` if a file is too large for it."""
        if self.max_bytes is not None and size > self.max_bytes:
            raise FileTooLarge(
                f"the file has {size} bytes, and {self.jid} takes at most {self.max_bytes}"
            )


@frozen
class Slot:
    """Where a file is PUT with which headers, and where it is found then."""

    put_url: str
    get_url: str
    headers: tuple[tuple[str, str], ...] = ()


class UploadSlots:
    """Finds the upload service of one component's server, and asks it for slots.

    Concurrent callers share one search.
    """

    def __init__(self, ask: Ask, own: str, hosts: list[str], configured: str | None = None) -> None:
        """`own` is the component's domain, which is not asked; `hosts` are those that may offer the
        service, in the order in which they are asked; `configured` is the service itself, which
        makes a search needless.
        """
        self._ask = ask
        self._own = own
        self._hosts = hosts
        self._configured = configured
        self._lock = trio.Lock()
        self._service: UploadService | None = None
        self._known_until = -math.inf  # trio's clock
        self._searches = 0
        self._failure: UploadError | None = None
        self._heard = False  # whether anybody has answered in the running search

    def forget(self) -> None:
        """Look for the service again the next time."""
        self._service = None

    async def service(self, from_: str) -> UploadService:
        """Return the service, which is asked for on behalf of `from_`.

        Raises:
            NoUploadService, SlotUnanswered, UploadUnavailable
        """
        if self._service is not None and trio.current_time() < self._known_until:
            return self._service
        seen = self._searches
        async with self._lock:
            if self._searches != seen:  # somebody has searched while we waited
                if self._service is not None:
                    return self._service
                if self._failure is not None:
                    raise type(self._failure)(self._failure.why)
            self._service = self._failure = None
            try:
                self._service = await self._search(from_)
            except (NoUploadService, SlotUnanswered) as error:
                self._failure = error
                raise
            finally:
                self._searches += 1
            self._known_until = trio.current_time() + KNOWN_S
            return self._service

    async def slot(self, service: UploadService, file: NewFile, from_: str) -> Slot:
        """Ask for a slot for a file.

        Raises:
            FileTooLarge, SlotRefused, SlotUnanswered, BadSlot, UploadUnavailable
        """
        service.check(file.size)
        attributes = (
            ("filename", file.name),
            ("size", str(file.size)),
            ("content-type", file.media_type),
        )
        request = Element(expanded(UPLOAD, "request"), attributes)
        answer = await self._ask(_question(service.jid, from_, request), ANSWER_S)
        if answer is None:
            self.forget()
            raise SlotUnanswered(f"the upload service {service.jid} does not answer")
        if answer.type == "error":
            raise self._refusal(service, file, answer)
        return slot_of(service.jid, answer.payload)

    def _refusal(self, service: UploadService, file: NewFile, answer: Stanza) -> UploadError:
        condition, text = _error_of(answer)
        error = answer.child("error")
        large = None if error is None else error.find(expanded(UPLOAD, "file-too-large"))
        if large is not None:
            self.forget()  # its limit is another one than it said
            limit = number_of(child_text(large, UPLOAD, "max-file-size"))
            known = "" if limit is None else f", and it takes at most {limit}"
            return FileTooLarge(f"the file has {file.size} bytes{known}, says {service.jid}")
        if condition in _NO_LONGER:
            self.forget()
        said = f" ({text})" if text else ""
        hint = (
            "; allow this component to upload" if condition in ("forbidden", "not-allowed") else ""
        )
        return SlotRefused(f"no slot from {service.jid}: {condition}{said}{hint}", answer)

    # --- the search (XEP-0363 §3)

    async def _search(self, from_: str) -> UploadService:
        if self._configured is not None:
            found = await self._asked_for(self._configured, from_)
            return found or UploadService(self._configured)
        self._heard = False
        with trio.move_on_after(DISCOVERY_S):
            for host in self._hosts:
                found = await self._offered_by(host, from_)
                if found is not None:
                    return found
        names = " or ".join(self._hosts)
        if not self._heard:
            raise SlotUnanswered(f"no answer about an upload service from {names}")
        raise NoUploadService(
            f"there is no upload service (XEP-0363) at {names}; if there is another, set upload"
        )

    async def _offered_by(self, host: str, from_: str) -> UploadService | None:
        """Return the service that a server is, or lists; None if there is none."""
        found = await self._asked_for(host, from_)
        if found is not None:
            return found
        query = Element(expanded(DISCO_ITEMS, "query"))
        answer = await self._ask(_question(host, from_, query), ANSWER_S)
        if answer is None:
            return None
        self._heard = True
        items = list(dict.fromkeys(_items_of(answer)))[:ITEMS_LIMIT]
        services: dict[str, UploadService | None] = {}
        failures: list[UploadError] = []

        async def look(jid: str) -> None:
            try:
                services[jid] = await self._asked_for(jid, from_)
            except UploadError as error:  # raised below: here it would end up in a group
                failures.append(error)
            if services.get(jid) is not None:
                scope.deadline = min(scope.deadline, trio.current_time() + OTHERS_S)

        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            for jid in items:
                if not same_domain(jid, self._own):
                    nursery.start_soon(look, jid)
        found = next((services[jid] for jid in items if services.get(jid) is not None), None)
        if found is None and failures:
            raise failures[0]
        return found

    async def _asked_for(self, jid: str, from_: str) -> UploadService | None:
        """Return an entity as an upload service, or None if it is none."""
        query = Element(expanded(DISCO_INFO, "query"))
        answer = await self._ask(_question(jid, from_, query), ANSWER_S)
        if answer is None or answer.type == "error" or answer.payload is None:
            return None
        self._heard = True
        features = answer.payload.find_all(expanded(DISCO_INFO, "feature"))
        if not any(one.get("var") == UPLOAD for one in features):
            return None
        return UploadService(jid, _limit_of(answer.payload))


def hosts_of(domain: str, server: str) -> list[str]:
    """Return the domains that may offer uploads to a component: its parent domains, and the name of
    its server. A top-level domain is asked only if it is all that there is, as in `bot.localhost`.
    """
    labels = domain.rstrip(".").split(".")
    parents = [".".join(labels[place:]) for place in range(1, len(labels))]
    hosts = [one for one in parents if "." in one] or parents
    try:
        ipaddress.ip_address(server)
    except ValueError:
        if server not in hosts:
            hosts.append(server)
    return hosts or [domain]


def slot_of(jid: str, payload: Element | None) -> Slot:
    """Return the slot in an answer, with the headers that the XEP allows, and without line ends.

    Raises:
        BadSlot: if there is none, or it must not be used.
    """
    found = payload if payload is not None and payload.name == expanded(UPLOAD, "slot") else None
    put, get = (
        None if found is None else found.find(expanded(UPLOAD, name)) for name in ("put", "get")
    )
    if put is None or get is None:
        raise BadSlot(f"the answer of {jid} is not a slot")
    put_url, get_url = put.get("url") or "", get.get("url") or ""
    for noun, url in (("upload to", put_url), ("download", get_url)):
        why = unusable(url)
        if why:
            raise BadSlot(f"the URL that {jid} gives to {noun} {why}")
    return Slot(put_url, get_url, tuple(_headers_of(put)))


def unusable(url: str) -> str:
    """Return why a file is not sent to a URL, as a clause; an empty string if it may be."""
    if not url or len(url) > URL_LIMIT or not url.isascii() or not url.isprintable() or " " in url:
        return "is not a valid URL"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is not a valid URL"
    if not host or parts.username is not None:
        return "is not a valid URL"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return ""
    return f"begins with {parts.scheme[:20]}://, not https://; correct it in the server's settings"


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is on this machine: `.localhost` always is (RFC 6761 §6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _headers_of(put: Element) -> Iterator[tuple[str, str]]:
    length = 0
    for one in put.find_all(expanded(UPLOAD, "header")):
        name, value = (
            text.replace("\r", "").replace("\n", "") for text in (one.get("name") or "", one.text)
        )
        known = next((header for header in HEADERS if header == name.strip().title()), None)
        length += len(value)
        if known is not None and value.isascii() and value.isprintable():
            if length > _HEADER_LIMIT:
                raise BadSlot("the headers of the slot are too long")
            yield known, value.strip()


def _question(to: str, from_: str, payload: Element) -> Stanza:
    id = f"upload-{secrets.token_hex(8)}"
    return make(_IQ, to, from_, type="get", id=id, children=(payload,))


def _error_of(answer: Stanza) -> tuple[str, str]:
    """Return the condition and the text of an error."""
    elements = list(answer.element.find_all(_ERROR))
    error = read_error(elements, answer) if elements else None
    if error is None:
        return "undefined-condition", ""
    return error.condition or "undefined-condition", error.text or ""


def _items_of(answer: Stanza) -> Iterator[str]:
    """Yield the addresses that a server lists, except nodes."""
    if answer.type == "error" or answer.payload is None:
        return
    for item in answer.payload.find_all(expanded(DISCO_ITEMS, "item")):
        jid = item.get("jid")
        if jid is None or item.get("node") is not None:
            continue
        try:
            if not split(jid).resource:
                yield jid
        except InvalidJid:
            continue


def _limit_of(query: Element) -> int | None:
    """Return the max-file-size of a service, in its form of that namespace (XEP-0128)."""
    for form in query.find_all(expanded(DATA, "x")):
        values = {
            one.get("var"): child_text(one, DATA, "value")
            for one in form.find_all(expanded(DATA, "field"))
        }
        if values.get("FORM_TYPE") == UPLOAD:
            return number_of(values.get("max-file-size"))
    return None
