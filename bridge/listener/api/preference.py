"""What a request asks for beside its content: how long to wait, in which form to be answered, and
under which key it may be sent again.
"""

import hashlib
import re
from typing import Final, Literal

from starlette.requests import Request

from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.listener.submission.sender import Key
from bridge.xmpp.iq import WAIT_LIMIT_S

WAIT_S: Final = 30
_WAIT: Final = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


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
