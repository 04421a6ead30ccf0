"""The value of a capture's `http` record: one POST and its result, written when it is over.

One JSON object, in one line of the capture:

    {"uid": "msg_…", "attempt": 1, "start": 12.003, "duration_s": 0.012, "request": {…},
     "status": 200, "headers": {"content-type": "application/json"}, "body": "{…}"}

`body` is the response's body, with content codings removed. It is named `body_base64` if it is not
UTF-8, and null if it was over the limit. Without a response, `"failure": {"kind": …, "why": …}`
replaces `status`, `headers` and `body`. Of the request only the JSON is kept: no header, no secret.
Captures of version 0.1, which have `id` in place of `uid`, are read as well.
"""

import base64
import binascii
from typing import Final

import msgspec
from attrs import frozen

from bridge.webhook.observer import FailureKind, PostAnswer, PostFailure, PostReport

CHANNEL: Final = "http"
API: Final = "api"
"""The channel of stanzas that were sent for HTTP clients: `{"uid": …, "stanza": XML}`."""


class BadExchange(Exception):
    """A record is not a valid exchange; the message says why."""


@frozen
class HttpExchange:
    """One attempt (from 1) to POST a stanza.

    `start` is in seconds since the capture's date, less than 0 if the attempt began during the
    previous file. `request` is the JSON as it was POSTed.
    """

    uid: str
    attempt: int
    start: float
    duration_s: float
    request: bytes
    result: PostReport


class _Failure(msgspec.Struct, forbid_unknown_fields=True):
    kind: FailureKind
    why: str = ""


class _Written(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    uid: str
    attempt: int
    start: float
    duration_s: float
    request: msgspec.Raw
    status: int | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    body: str | msgspec.UnsetType | None = msgspec.UNSET
    body_base64: str | msgspec.UnsetType = msgspec.UNSET
    failure: _Failure | msgspec.UnsetType = msgspec.UNSET


class _WrittenBefore(_Written, kw_only=True):
    """The form in captures of version 0.1."""

    uid: str = msgspec.field(name="id")


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(_Written)
_DECODER_BEFORE: Final = msgspec.json.Decoder(_WrittenBefore)
_STATUSES: Final = range(100, 1000)


def encode(exchange: HttpExchange) -> bytes:
    """Return the data of a record."""
    return encode_post(
        exchange.uid,
        exchange.attempt,
        exchange.start,
        exchange.duration_s,
        exchange.request,
        exchange.result,
    )


def encode_post(
    uid: str, attempt: int, start: float, duration_s: float, request: bytes, result: PostReport
) -> bytes:
    """Return the data of a record without making an `HttpExchange` first."""
    raw = msgspec.Raw(request)
    # To the microsecond; `round(…, 6)` takes more than twice as long.
    start, duration_s = round(start * 1e6) / 1e6, round(duration_s * 1e6) / 1e6
    written = _Written(uid, attempt, start, duration_s, raw)
    if isinstance(result, PostFailure):
        written.failure = _Failure(result.kind, result.why)
        return _ENCODER.encode(written)
    written.status, written.headers = result.status, result.headers
    if result.body is None:
        written.body = None
    else:
        try:
            written.body = result.body.decode()
        except UnicodeDecodeError:
            written.body_base64 = base64.b64encode(result.body).decode()
    return _ENCODER.encode(written)


def encode_submission(uid: str, stanza: bytes) -> bytes:
    """Return the data of a record of the channel `API`."""
    return _ENCODER.encode({"uid": uid, "stanza": stanza.decode()})


def decode(data: bytes) -> HttpExchange:
    """Return the exchange in the data of a record.

    Raises:
        BadExchange: if the data is not a valid exchange.
    """
    try:
        written = _read(data)
        request = bytes(written.request)
        msgspec.json.decode(request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadExchange(f"not a valid HTTP exchange: {error}") from None
    if written.attempt < 1:
        raise BadExchange("`attempt` must be at least 1")
    if written.duration_s < 0:
        raise BadExchange("`duration_s` is less than 0")
    return HttpExchange(
        written.uid,
        written.attempt,
        written.start,
        written.duration_s,
        request,
        _result_of(written),
    )


def _read(data: bytes) -> _Written:
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError as error:
        if b'"uid"' in data:
            raise
        try:
            return _DECODER_BEFORE.decode(data)
        except msgspec.ValidationError as before:
            raise (error if "`id`" in str(before) else before) from None


def _result_of(written: _Written) -> PostReport:
    if isinstance(written.failure, _Failure):
        for name in ("status", "headers", "body", "body_base64"):
            if getattr(written, name) is not msgspec.UNSET:
                raise BadExchange(f"`failure` and `{name}` exclude each other")
        return PostFailure(written.failure.kind, written.failure.why)
    if not isinstance(written.status, int):
        raise BadExchange("`status` or `failure` is missing")
    if written.status not in _STATUSES:
        raise BadExchange(f"{written.status} is not a valid status (100 to 999)")
    headers = written.headers if isinstance(written.headers, dict) else {}
    if any(name != name.lower() for name in headers):
        raise BadExchange("names in `headers` must be in lower case")
    return PostAnswer(written.status, headers, _body_of(written))


def _body_of(written: _Written) -> bytes | None:
    if not isinstance(written.body_base64, str):
        return written.body.encode() if isinstance(written.body, str) else None
    if written.body is not msgspec.UNSET:
        raise BadExchange("`body` and `body_base64` exclude each other")
    try:
        return base64.b64decode(written.body_base64, validate=True)
    except (binascii.Error, ValueError):
        raise BadExchange("`body_base64` is not valid base64") from None
