"""The body and the headers of a request, read within limits of size and time."""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import Final, Literal

import trio
from starlette.requests import ClientDisconnect, Request

from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.listener.submission.sender import Key
from bridge.payload.body import without_bom
from bridge.xmpp.iq import WAIT_LIMIT_S

BODY_S: Final = 30.0
"""Time limit for receiving a body."""
GATHER_S: Final = 0.01
"""The first pause after more than `FREE_PIECES` small pieces of a body. Each further one is twice
as long, up to `GATHER_MAX_S`: a client that sends byte by byte must not take a turn of the loop
for each.
"""
FREE_PIECES: Final = 32
GATHER_MAX_S: Final = 1.0
SMALL_BYTES: Final = 8 * 1024
WAIT_S: Final = 30
_WAIT: Final = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


def media_type(request: Request, *accepted: str) -> str:
    """Return the media type of the body, one of `accepted`, without parameters.

    Raises:
        Problem: 415 if it is another one, the charset is not UTF-8, or the content is encoded.
    """
    name, *parameters = request.headers.get("content-type", "").split(";")
    media = name.strip().lower()
    headers = {"Accept": ", ".join(accepted)}
    if media not in accepted:
        given = "This Content-Type is not accepted." if media else "There is no Content-Type."
        detail = f"{given} Set it to {' or '.join(accepted)}."
        raise Problem(415, detail=detail, headers=headers)
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if key.strip().lower() == "charset" and charset not in ("utf-8", "utf8", "us-ascii"):
            raise Problem(415, detail="The charset must be UTF-8.", headers=headers)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        detail = "The body must have no Content-Encoding."
        raise Problem(415, detail=detail, headers={"Accept-Encoding": "identity"})
    return media


async def read_body(
    request: Request,
    limit_bytes: int,
    place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> bytes:
    """Return the whole body, which is at most `limit_bytes` long.

    A body that does not come in one piece is read on within `place()`. The time until that is
    entered does not count, and meanwhile the body waits in the socket.

    Raises:
        Problem: 413 if it is longer; 408 if it does not arrive within `BODY_S`; or by `place`.
        starlette.requests.ClientDisconnect: if the client has disconnected.
    """
    too_long = Problem(413, detail=f"The body is longer than {limit_bytes} bytes (max_body_bytes).")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > limit_bytes:
        raise too_long
    content = bytearray()
    pace, has_place = Pace(), False
    with trio.move_on_after(BODY_S) as scope:
        async with AsyncExitStack() as held:
            while True:  # not request.stream(): if this ends early, a generator is left behind
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                piece = message.get("body", b"")
                content += piece
                if len(content) > limit_bytes:
                    raise too_long
                if not message.get("more_body", False):
                    break
                if not has_place:
                    left_s, scope.deadline = scope.deadline - trio.current_time(), math.inf
                    await held.enter_async_context(place())
                    scope.deadline = trio.current_time() + left_s
                    has_place = True
                await pace.wait_after(piece)
    if scope.cancelled_caught:
        raise Problem(408, detail=f"The body did not arrive within {BODY_S:g} s.")
    return bytes(content)


class Pace:
    """Slows down the reading of a body that comes in many small pieces; see `GATHER_S`."""

    def __init__(self) -> None:
        self._small = 0
        self._pause_s = GATHER_S

    async def wait_after(self, piece: bytes) -> None:
        """Wait, if need be, until there may be more to read at once."""
        if len(piece) >= SMALL_BYTES:
            self._pause_s = GATHER_S
            return
        self._small += 1
        if self._small > FREE_PIECES:
            await trio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, GATHER_MAX_S)


def text_of(body: bytes) -> str:
    """Return a body as text.

    Raises:
        Problem: 400 if it is not valid UTF-8.
    """
    try:
        return without_bom(body).decode()
    except UnicodeDecodeError:
        raise Problem(400, detail="The body is not valid UTF-8.") from None


def wait_of(request: Request) -> tuple[int, bool]:
    """Return how many seconds to wait for an answer, and whether the client has said so.

    `Prefer: wait=N` (RFC 7240 §4.3), 1 to 300. An unreadable value is ignored, as the RFC asks.
    """
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        match = _WAIT.fullmatch(preference)
        if match is not None:
            return min(max(int(match[1]), 1), int(WAIT_LIMIT_S)), True
    return WAIT_S, False


def form_of(request: Request) -> Literal["json", "xml"]:
    """Return the form that Accept prefers: JSON, or the bare XML (RFC 9110 §12.5.1)."""
    quality = {"application/json": 0.0, "application/xmpp+xml": 0.0}
    given = [one for line in request.headers.getlist("accept") for one in line.split(",")]
    for entry in given:
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        if name in quality:
            quality[name] = max(quality[name], _quality(parameters))
        elif name in ("*/*", "application/*"):
            quality["application/json"] = max(quality["application/json"], _quality(parameters))
    xml = quality["application/xmpp+xml"] > quality["application/json"]
    return "xml" if xml else "json"


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if re.fullmatch(r"q=[01](?:\.\d{0,3})?", parameter):
            return float(parameter[2:])
    return 1.0


def key_of(request: Request, grant: Grant, body: bytes) -> Key | None:
    """Return the idempotency key of a request, with a digest of everything that defines it.

    Raises:
        Problem: 400 if the key is empty, too long, or not ASCII.
    """
    media = request.headers.get("content-type", "")
    if media.lower().startswith("multipart/"):
        media = media.partition(";")[0]  # the boundary is another one each time
    parts = (
        request.method.encode(),
        request.scope["raw_path"],
        request.scope["query_string"],
        media.encode(),
        (grant.user or "").encode(),
        body,
    )
    return key_in(request, grant.token.name, parts)


def key_in(request: Request, realm: str, parts: Sequence[bytes]) -> Key | None:
    """Return the idempotency key of a request that `parts` define, in a realm: the name of a token,
    or another text, which must not be a name.

    Raises:
        Problem: 400 if the key is empty, too long, or not ASCII.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or _KEY.fullmatch(given[0]) is None:
        raise Problem(400, detail="Idempotency-Key must be 1 to 255 visible ASCII characters.")
    digest = hashlib.sha256()
    for part in parts:  # with its length, or two requests could share a digest
        digest.update(len(part).to_bytes(8, "big") + part)
    return Key(realm, given[0], digest.digest())
