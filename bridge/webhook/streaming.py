"""The body of a streamed reply, on its way from the HTTP client to whoever makes messages of it.

A POST whose answer is a stream does not end with its head. `timeout_s` counts until the head; from
then on two other bounds count: `stream_idle_s` without a byte of the body, and `stream_max_s` for
the whole of it. The reply to an iq is bounded by the budget of the iq, too, since its sender gives
up then. Content codings are undone piece by piece, bounded by `max_reply_bytes`.
"""

import math
from collections.abc import Callable
from typing import Protocol

from bridge.config.settings import HttpSettings
from bridge.httpclient.response import BodyInflater, Response
from bridge.payload.error import UnusableReply
from bridge.payload.stream import StreamMedia


class Stream(Protocol):
    """Makes messages of one streamed reply."""

    deadline: float
    """The end of the stanza's own budget, if that counts; by trio's clock."""

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body.

        Raises:
            UnusableReply: if the reply cannot be used.
        """
        ...


class Streams(Protocol):
    """Knows the stanzas that are being POSTed."""

    def open(self, uid: str, media: StreamMedia, limit_bytes: int) -> Stream | None:
        """Return what takes the reply to a stanza; None if it is to be read whole."""
        ...


class StreamedBody:
    """Takes the body of one response: undoes its coding, and knows its deadline."""

    def __init__(
        self,
        stream: Stream,
        head: Response,
        http: HttpSettings,
        now: Callable[[], float],
        *,
        keeps: bool,
    ) -> None:
        """`keeps`: whether the whole body is kept, for an observer. `now` is trio's clock.

        Raises:
            httpx.DecodingError: if the coding is not known.
        """
        self.head = head
        self._stream = stream
        self._idle_s = http.stream_idle_s
        self._limit_bytes = http.max_reply_bytes
        self._inflater = BodyInflater(head, http.max_reply_bytes)
        self._now = now
        self._kept = bytearray() if keeps else None
        self._until = min(now() + http.stream_max_s, stream.deadline)
        self._max_s = http.stream_max_s
        self.deadline = min(now() + self._idle_s, self._until)

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body, as received.

        Raises:
            UnusableReply, httpx.DecodingError: if the reply cannot be used.
        """
        self.deadline = min(self._now() + self._idle_s, self._until)
        plain = self._inflater.feed(piece)
        if plain is None:
            raise UnusableReply(f"over max_reply_bytes ({self._limit_bytes})")
        if self._kept is not None and len(self._kept) < self._limit_bytes:
            self._kept += plain[: self._limit_bytes - len(self._kept)]
        if plain:
            self._stream.feed(plain)

    @property
    def body(self) -> bytes:
        """What has come, without its coding, if it is kept."""
        return bytes(self._kept or b"")

    @property
    def was_cut(self) -> bool:
        """Whether the stanza's own budget is what ends it."""
        return self.deadline == self._stream.deadline != math.inf

    @property
    def why_late(self) -> str:
        """Why it was given up at its deadline."""
        if self.deadline < self._until:
            return f"nothing more of the reply within {self._idle_s:g} s"
        return f"the reply was not complete within {self._max_s:g} s"
