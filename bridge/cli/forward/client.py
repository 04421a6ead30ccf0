"""The events of a bridge over HTTP: taken, answered, extended, given back."""

import math
from typing import Any, Final

import httpx
import msgspec

from bridge.config.value import PostUrl, Secret
from bridge.webhook.client import USER_AGENT

WAIT_S: Final = 25
CONNECT_S: Final = 10.0
ANSWER_S: Final = 20.0
_LATER: Final = frozenset({429, 502, 503, 504})
_RETRY_AFTER_S: Final = 5.0
_RETRY_AFTER_LIMIT_S: Final = 60.0
_PROBLEM: Final = "application/problem+json"


class Event(msgspec.Struct, frozen=True):
    """An event that is leased to us; `request` is the body of the POST, byte by byte."""

    uid: str
    attempt: int
    lease_s: float
    request: msgspec.Raw


class _Events(msgspec.Struct):
    events: list[Event]


class _Lease(msgspec.Struct):
    lease_s: float


class _Problem(msgspec.Struct):
    detail: str = ""


class BridgeRefuses(Exception):
    """The bridge refuses for good; the message says why, and what to do."""


class BridgeBusy(Exception):
    """The bridge cannot be reached, or refuses for now; `wait_s` is how long it asks to wait."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class AnswerRefused(Exception):
    """An answer is not accepted; the event may still be leased if the status is none of 404, 409
    and 410.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class BridgeClient:
    """Takes and answers the events of one bridge."""

    def __init__(self, bridge: PostUrl, token: Secret, component: str | None, at_once: int) -> None:
        self._place = str(bridge)
        self._base = bridge.url.rstrip("/") + "/v1/events"
        self._component = {} if component is None else {"component": component}
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token.value}", "User-Agent": USER_AGENT},
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S, pool=None),
            limits=httpx.Limits(max_connections=2 * at_once + 2),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def poll(self, limit: int) -> list[Event]:
        """Wait for events, and return them; after `WAIT_S` there may be none.

        Raises:
            BridgeBusy: if it makes sense to try again.
            BridgeRefuses: if it does not.
        """
        asked = {"wait": WAIT_S, "max": limit, **self._component}
        response = await self._send("GET", self._base, params=asked, read_s=WAIT_S + ANSWER_S)
        if response.status_code != 200:
            raise BridgeRefuses(self._why_not(response))
        try:
            return msgspec.json.decode(response.content, type=_Events).events
        except msgspec.MsgspecError:
            raise BridgeRefuses(self._no_bridge("it answers, but not with events")) from None

    async def answer(self, event: Event, content: bytes, media: str | None) -> None:
        """Answer an event.

        Raises:
            AnswerRefused: if the bridge does not accept it.
            BridgeBusy: if it makes sense to try again.
        """
        headers = {} if media is None else {"Content-Type": media}
        response = await self._send("POST", self._url(event), content=content, headers=headers)
        if response.status_code != 204:
            raise AnswerRefused(response.status_code, _detail_of(response))

    async def extend(self, event: Event) -> float:
        """Extend the lease of an event; return how long it lasts from now.

        Raises:
            AnswerRefused: if it has ended.
            BridgeBusy: if it makes sense to try again.
        """
        response = await self._send("POST", self._url(event, "/extend"))
        try:
            return msgspec.json.decode(response.content, type=_Lease).lease_s
        except msgspec.MsgspecError:
            raise AnswerRefused(response.status_code, _detail_of(response)) from None

    def _url(self, event: Event, more: str = "") -> str:
        return f"{self._base}/{event.uid}{more}?attempt={event.attempt}"

    async def _send(
        self, method: str, url: str, *, read_s: float = ANSWER_S, **options: Any
    ) -> httpx.Response:
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S, read=read_s, pool=None)
        try:
            response = await self._http.request(method, url, timeout=timeout, **options)
        except httpx.TransportError as error:
            raise BridgeBusy(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        if response.status_code in _LATER:
            why = _detail_of(response) or f"status {response.status_code}"
            raise BridgeBusy(why, _retry_after_s(response))
        return response

    def _why_not(self, response: httpx.Response) -> str:
        status, detail = response.status_code, _detail_of(response)
        if 300 <= status < 400:
            place = response.headers.get("location", "elsewhere")
            return f"{self._place} redirects to {place}; set --bridge to that address"
        if not _is_problem(response):
            return self._no_bridge(f"/v1/events answers with status {status}")
        match status:
            case 401:
                return f"the bridge does not know the token in --token-file: {detail}"
            case 403:
                return f"the token in --token-file may not poll: {detail}"
            case 404 | 409:
                return f"there is nothing to poll: {detail}"
        return f"the bridge refuses with status {status}: {detail}"

    def _no_bridge(self, why: str) -> str:
        return (
            f"{self._place} does not seem to be the listener of an xmpp-bridge ({why}); set"
            " --bridge to the address in [listen], or to what your proxy makes of it"
        )


def _is_problem(response: httpx.Response) -> bool:
    media: str = response.headers.get("content-type", "")
    return media.partition(";")[0].strip() == _PROBLEM


def _detail_of(response: httpx.Response) -> str:
    """Return the sentence that explains a refusal."""
    try:
        detail = msgspec.json.decode(response.content, type=_Problem).detail
    except msgspec.MsgspecError:
        detail = ""
    return detail.rstrip(".") or f"status {response.status_code}"


def _retry_after_s(response: httpx.Response) -> float:
    given = response.headers.get("retry-after", "")
    wait_s = float(given) if given.isascii() and given.isdigit() else math.inf
    return min(wait_s, _RETRY_AFTER_LIMIT_S) if wait_s < math.inf else _RETRY_AFTER_S
