"""An upload service (XEP-0363): its answers by XMPP, and its HTTP server, as a test says."""

from typing import Final, Literal

import trio
from attrs import define, field

from tests.bridge.dispatch.life import Life
from tests.bridge.http_server import HOST, listen
from tests.bridge.sample import stanza
from xmppstream import Stanza, StanzaReceived
from xmppstream.names import DISCO_INFO, DISCO_ITEMS

SERVER: Final = "example"
SERVICE: Final = "upload.example"
UPLOAD: Final = "urn:xmpp:http:upload:0"
Behaviour = Literal["takes", "refuses", "breaks", "redirects", "stalls", "is deaf"]


@define(eq=False)
class FakeUploads:
    """`items` are what `SERVER` lists; `files` is what was PUT, and `heads` the heads of the PUTs.

    `refusal` is an error's content in the place of a slot; `silent` are addresses that never
    answer; `put_url` and `headers` are of the slots.
    """

    items: list[str] = field(factory=lambda: ["rooms.example", SERVICE])
    max_bytes: str | None = "1000000"
    refusal: str = ""
    silent: set[str] = field(factory=set)
    put_url: str = ""
    get_url: str = "https://files.example/1/a.png"
    headers: str = "<header name='Authorization'>Bearer s3cret</header>"
    behaviour: Behaviour = "takes"
    hold: trio.Event | None = None
    asked: list[Stanza] = field(factory=list)
    heads: list[list[str]] = field(factory=list)
    files: list[bytes] = field(factory=list)
    received: int = 0
    port: int = 0

    async def serve(self, life: Life, nursery: trio.Nursery) -> None:
        """Start the HTTP server, and answer the questions of a life, until cancelled."""
        self.port = await listen(nursery, self._receive)
        self.put_url = self.put_url or f"http://{HOST}:{self.port}/1/a.png?token=x"
        nursery.start_soon(self._answer_all, life)

    def asked_for(self, space: str) -> list[str]:
        """Who was asked something of a namespace."""
        return [
            one.to or ""
            for one in self.asked
            if one.payload is not None and one.payload.namespace == space
        ]

    # --- XMPP

    def hear(self, one: Stanza) -> None:
        """Look at a stanza that the component sends."""

    async def _answer_all(self, life: Life) -> None:
        while True:
            await life.outbox.wait_pending()
            for one in life.sent():
                self.hear(one)
                if one.kind != "iq" or one.type != "get":
                    continue
                self.asked.append(one)
                if one.to not in self.silent:
                    answer = stanza(self.answer(one))
                    await life.dispatcher.handle(StanzaReceived(answer, 100))

    def answer(self, one: Stanza) -> str:
        """The answer to a question, as XML."""
        assert one.payload is not None
        namespace, content = one.payload.namespace, ""
        if namespace == DISCO_ITEMS and one.to == SERVER:
            items = "".join(f"<item jid='{jid}'/>" for jid in self.items)
            content = f"<query xmlns='{DISCO_ITEMS}'>{items}</query>"
        elif namespace == DISCO_INFO and one.to == SERVICE:
            content = f"<query xmlns='{DISCO_INFO}'><feature var='{UPLOAD}'/>{self._form}</query>"
        elif namespace == DISCO_INFO and one.to == SERVER:
            content = f"<query xmlns='{DISCO_INFO}'><feature var='urn:xmpp:ping'/></query>"
        elif namespace == UPLOAD and one.to == SERVICE and not self.refusal:
            put = f"<put url='{self.put_url}'>{self.headers}</put>"
            content = f"<slot xmlns='{UPLOAD}'>{put}<get url='{self.get_url}'/></slot>"
        kind = "result"
        if not content:
            kind, error = (
                "error",
                "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>",
            )
            if namespace == UPLOAD and self.refusal:
                error = self.refusal
            content = f"<error type='cancel'>{error}</error>"
        return f"<iq from='{one.to}' to='{one.from_}' id='{one.id}' type='{kind}'>{content}</iq>"

    @property
    def _form(self) -> str:
        if self.max_bytes is None:
            return ""
        fields = (("FORM_TYPE", UPLOAD), ("max-file-size", self.max_bytes))
        rows = "".join(f"<field var='{k}'><value>{v}</value></field>" for k, v in fields)
        return f"<x xmlns='jabber:x:data' type='result'>{rows}</x>"

    # --- HTTP

    async def _receive(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = await stream.receive_some(65536)
            if not chunk:
                return
            data += chunk
        head, _, content = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.heads.append(lines)
        length = next(int(one.split(": ")[1]) for one in lines if one.startswith("Content-Length"))
        if self.behaviour == "refuses":
            await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            return
        if self.behaviour == "redirects":
            await stream.send_all(b"HTTP/1.1 307 Go\r\nLocation: http://other.example/\r\n\r\n")
            return
        body = bytearray(content)
        self.received += len(content)
        while len(body) < length:
            if self.behaviour == "breaks" and len(body) >= length // 2:
                return
            if self.behaviour == "stalls":
                await trio.sleep_forever()
            chunk = await stream.receive_some(65536)
            if not chunk:
                return
            body += chunk
            self.received += len(chunk)
        if self.hold is not None:
            await self.hold.wait()
        if self.behaviour == "is deaf":
            await trio.sleep_forever()
        self.files.append(bytes(body))
        await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nstored")
