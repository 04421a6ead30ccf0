"""Uploads files for one component: a slot by XMPP, then a PUT by HTTP.

Files come from the HTTP API, or within a reply. Their content is an async iterator of pieces, so
that memory does not grow with a file. A URL that a client or a service names is never fetched.
"""

import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import Component, Settings, http_of
from bridge.dispatch.submission import NotTaken, OutboxFull, Submitter
from bridge.httpclient.put import PutError, put_file
from bridge.payload.reply import own_address
from bridge.payload.shape import File
from bridge.xmpp.iq import DuplicateId, TooManyPending
from bridge.xmpp.upload import (
    NewFile,
    UploadFailed,
    UploadService,
    UploadSlots,
    UploadUnavailable,
    hosts_of,
)
from xmppstream import Stanza

UPLOAD_S: Final = 900.0
"""How long an upload may take, at most."""
_TAKEN: Final = (200, 201)  # XEP-0363 §5 names 201; some services answer 200
PIECE_BYTES: Final = 64 * 1024


class Pieces:
    """The content of a file that is in memory, as pieces."""

    def __init__(self, content: bytes) -> None:
        self._rest = memoryview(content)

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
        return bytes(piece)


class Uploader:
    """Uploads files for one component."""

    def __init__(
        self,
        component: Component,
        settings: Settings,
        submitter: Submitter,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._submitter = submitter
        self._log = log
        self._now = now
        self.change(component, settings)

    def change(self, component: Component, settings: Settings) -> None:
        """Use another configuration from the next upload on."""
        self._component = component
        self._http = http_of(component, settings)
        self._context: ssl.SSLContext | None = None
        hosts = hosts_of(component.domain, component.server.tls_name or component.server.host)
        self.slots = UploadSlots(self._ask, component.domain, hosts, component.upload)

    async def service(self, from_: str) -> UploadService:
        """Return the upload service of the server, asked for on behalf of `from_`.

        Raises:
            UploadError: if there is none, or it does not answer.
            UnusableReply: if `from_` is not an address of the component (S28).
        """
        return await self.slots.service(own_address(from_, self._component.domain))

    async def upload(self, file: NewFile, pieces: AsyncIterator[bytes], from_: str) -> File:
        """Upload a file on behalf of `from_`, and return it as `files` of a message have it.

        `pieces` are `file.size` bytes, and are not touched before there is a slot. What they raise
        is raised.

        Raises:
            UploadError: if it is not uploaded; the subclass and the message say why.
            UnusableReply: if `from_` is not an address of the component (S28).
        """
        from_ = own_address(from_, self._component.domain)
        service = await self.slots.service(from_)
        slot = await self.slots.slot(service, file, from_)
        # XEP-0363 §4: type and length are those of the request for the slot.
        headers = (("Content-Type", file.media_type), *slot.headers)
        try:
            with trio.fail_after(UPLOAD_S):
                status = await put_file(
                    *(slot.put_url, headers, file.size, pieces),
                    self._ssl_context(),
                    self._http.connect_timeout_s,
                    uses_proxy=self._http.proxy_from_env,
                )
        except PutError as error:
            raise UploadFailed(f"the upload to {service.jid} failed: {error}") from None
        except trio.TooSlowError:
            why = f"the upload to {service.jid} took longer than {UPLOAD_S:g} s"
            raise UploadFailed(why) from None
        if status not in _TAKEN:
            raise UploadFailed(f"the upload to {service.jid} got the status {status}")
        self._log.debug("file uploaded", service=service.jid, size=file.size)
        return File(slot.get_url, file.name, file.media_type, file.size)

    def _ssl_context(self) -> ssl.SSLContext:
        """Return the context: the system's CAs, those of the server's stream, and those of [http].

        Raises:
            UploadFailed: if a file of certificates cannot be read any more.
        """
        if self._context is None:
            context = ssl.create_default_context()
            for path in (self._component.server.ca_file, self._http.ca_file):
                if path is not None:
                    try:
                        context.load_verify_locations(path)
                    except OSError as error:  # ssl.SSLError is one
                        why = f"the CA certificates in {path} cannot be read: {error}"
                        raise UploadFailed(why) from None
            self._context = context
        return self._context

    async def _ask(self, request: Stanza, wait_s: float) -> Stanza | None:
        submitter, deadline = self._submitter, trio.current_time() + wait_s
        domain = self._component.domain
        try:
            pending = submitter.open(request, deadline, lambda _: None)
        except NotTaken:
            raise UploadUnavailable(f"{domain} does not run now; try again later") from None
        except (DuplicateId, TooManyPending):
            raise UploadUnavailable("too many iqs wait for answers; try again later") from None
        try:
            await submitter.wait_answer(pending, request, deadline, self._now())
        except OutboxFull:
            raise UploadUnavailable("the queue of stanzas to the server is full") from None
        return pending.answer
