"""The body of a request: read within bounds of size and time, its media type told."""

import hashlib
import re
from typing import Final, Literal

import trio
from starlette.requests import ClientDisconnect, Request

from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.listener.submission.sender import Key
from bridge.xmpp.iq import WAIT_LIMIT_S

BODY_S: Final = 30.0
"""How long a client may take for a body."""
WAIT_S: Final = 30
_WAIT: Final = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


def media_type(request: Request, *accepted: str) -> str:
    """Give the media type of the body, one of `accepted`, without parameters.

    Raises:
        Problem: 415 for another one, for a charset that is not UTF-8, for a coded content.
    """
    name, *parameters = request.headers.get("content-type", "").split(";")
    media = name.strip().lower()
    headers = {"Accept": ", ".join(accepted)}
    if media not in accepted:
        given = "This one is not known here." if media else "None was given."
        detail = f"{given} Set Content-Type to {' or '.join(accepted)}."
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


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Read the whole body; no more than `limit_bytes` are ever kept.

    Raises:
        Problem: 413 where it is longer, 408 where it is not there after `BODY_S`.
        starlette.requests.ClientDisconnect: the client has left.
    """
    too_long = Problem(413, detail=f"The body is longer than {limit_bytes} bytes (max_body_bytes).")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > limit_bytes:
        raise too_long
    content = bytearray()
    with trio.move_on_after(BODY_S) as scope:
        while True:  # not request.stream(): a generator is left behind where this ends early
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            content += message.get("body", b"")
            if len(content) > limit_bytes:
                raise too_long
            if not message.get("more_body", False):
                break
    if scope.cancelled_caught:
        raise Problem(408, detail=f"The body was not there after {BODY_S:g} s.")
    return bytes(content)


def text_of(body: bytes) -> str:
    """Read a body as text.

    Raises:
        Problem: 400 where it is not UTF-8.
    """
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Problem(400, detail="The body is not UTF-8.") from None


def wait_of(request: Request) -> tuple[int, bool]:
    """Give how many seconds an answer is waited for, and whether the client has said so.

    `Prefer: wait=N` (RFC 7240 §4.3), of 1 to 300; what cannot be read is ignored, as it asks.
    """
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        match = _WAIT.fullmatch(preference)
        if match is not None:
            return min(max(int(match[1]), 1), int(WAIT_LIMIT_S)), True
    return WAIT_S, False


def form_of(request: Request) -> Literal["json", "xml"]:
    """Give the form that Accept prefers: JSON, or the XML alone (RFC 9110 §12.5.1)."""
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
    """Give the idempotency key of a request, with the digest of all that makes it what it is.

    Raises:
        Problem: 400 where it is empty, too long, or not ASCII.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or _KEY.fullmatch(given[0]) is None:
        raise Problem(400, detail="Idempotency-Key must be 1 to 255 visible ASCII characters.")
    parts = (
        request.method.encode(),
        request.scope["raw_path"],
        request.scope["query_string"],
        request.headers.get("content-type", "").encode(),
        (grant.user or "").encode(),
        body,
    )
    digest = hashlib.sha256()
    for part in parts:  # each with its length: else two requests could have one digest
        digest.update(len(part).to_bytes(8, "big") + part)
    return Key(grant.token.name, given[0], digest.digest())
