"""The body of a request: read within bounds of size and time, its media type told."""

from typing import Final

import trio
from starlette.requests import ClientDisconnect, Request

from bridge.listener.problem import Problem

BODY_S: Final = 30.0
"""How long a client may take for a body."""


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
