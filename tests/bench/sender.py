"""Conversations that go on whatever is killed: a component with W users, on trio.

Each user writes a burst of one to three messages, and the next one when all were answered; after a
time-out it goes on without. A bounce or an error makes it wait a moment. What was handed to a
stream that broke is never written again: each message is sent once. Some users may write iqs in
place of messages.
"""

import hashlib
import random
import re
from contextlib import suppress
from typing import Final

import trio

from tests.bench.evidence import Evidence, Story
from tests.bench.raw_component import ACCEPTED, HEADER, STREAM_ID
from tests.servers.process import LOOPBACK

BURST: Final = (1, 3)
TIMEOUT_S: Final = 1.5
PAUSE_S: Final = (0.1, 0.5)
RETRY_S: Final = 0.01
CHUNK_BYTES: Final = 1 << 16
END: Final = re.compile(rb"</(?:message|iq)>")
TAG: Final = re.compile(rb"<(?:message|iq) ([^>]*)>")
ATTRIBUTE: Final = re.compile(r"(\w+)='([^']*)'")
IQ_NAMESPACE: Final = "urn:xmpp-bridge:kills"
BODY: Final = re.compile(rb"<(?:body|answer [^>]*)>([^<]*)</")
BOUNCED: Final = b"<not-connected xmlns='xmpp:prosody.im/protocol/component'/>"
"""What Prosody 0.12 puts into the error for a component that is not attached."""
PADDING: Final = b"x" * 100


class Sender:
    """The users, and their stream to the server, which is opened again when it has ended."""

    def __init__(
        self,
        domain: str,
        secret: str,
        port: int,
        to: str,
        evidence: Evidence,
        dice: random.Random,
        iq_every: int = 0,
    ) -> None:
        """Each `iq_every`-th user writes iqs; with 0, none does."""
        self._domain, self._secret, self._port, self._to = domain, secret, port, to
        self._evidence = evidence
        self._dice = dice
        self._iq_every = iq_every
        self._outgoing: list[bytes] = []
        self._filled = trio.Event()
        self._heard: dict[int, trio.Event] = {}
        self._attached = trio.Event()
        self._stopped = False
        self.attachments = 0

    def stop(self) -> None:
        """Begin nothing more; what is to come is still noted."""
        self._stopped = True

    async def wait_attached(self) -> None:
        while not self._attached.is_set():
            await self._attached.wait()

    # --- the stream

    async def run(self) -> None:
        """Stay attached, until cancelled."""
        while True:
            with suppress(OSError, trio.BrokenResourceError):
                stream = await trio.open_tcp_stream(LOOPBACK, self._port)
                async with stream:
                    await self._attach_and_serve(stream)
            await trio.sleep(RETRY_S)

    async def _attach_and_serve(self, stream: trio.SocketStream) -> None:
        await stream.send_all(HEADER.format(self._domain).encode())
        data, is_known = b"", False
        while (accepted := ACCEPTED.search(data)) is None:
            chunk = await stream.receive_some(CHUNK_BYTES)
            if not chunk:
                return
            data += chunk
            if not is_known and (header := STREAM_ID.search(data)):
                is_known = True
                digest = hashlib.sha1(header[1] + self._secret.encode()).hexdigest()
                await stream.send_all(f"<handshake>{digest}</handshake>".encode())
        self.attachments += 1
        self._outgoing.clear()
        self._attached.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream)
                await self._read(stream, data[accepted.end() :])
                nursery.cancel_scope.cancel()
        finally:
            self._attached = trio.Event()

    async def _write(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # the reader sees the end
            while True:
                if not self._outgoing:
                    self._filled = trio.Event()
                    await self._filled.wait()
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                await stream.send_all(data)

    async def _read(self, stream: trio.SocketStream, data: bytes) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                *whole, data = END.split(data)
                for message in whole:
                    self._received(message)
                chunk = await stream.receive_some(CHUNK_BYTES)
                if not chunk:
                    return
                data += chunk

    def _received(self, message: bytes) -> None:
        tag = TAG.search(message)
        if tag is None:
            self._evidence.strange.append(f"the sender got {message!r}")
            return
        attributes = dict(ATTRIBUTE.findall(tag[1].decode()))
        id, story = attributes.get("id", ""), None
        if attributes.get("type") == "error":
            story = self._evidence.stories.get(id)
            if story is None:
                self._evidence.strange.append(f"an error for {id!r}, which nobody has sent")
            elif BOUNCED in message:
                story.bounced = True
            else:
                story.errors.append(message.decode())
        else:
            body = BODY.search(message)
            text = body[1].decode() if body else ""
            story = self._evidence.arrival(text, id, trio.current_time())
        if story is not None and story.conversation in self._heard:
            self._heard[story.conversation].set()

    # --- the users

    async def talk(self, user: int) -> None:
        """One conversation, until `stop`."""
        number = 0
        while not self._stopped:
            await self.wait_attached()
            count = self._dice.randint(*BURST)
            burst = [self._send(user, number + place) for place in range(1, count + 1)]
            number += count
            with trio.move_on_after(TIMEOUT_S):
                await self._wait_ended(user, burst)
            if any(story.bounced or story.errors for story in burst):
                await trio.sleep(self._dice.uniform(*PAUSE_S))

    async def _wait_ended(self, user: int, burst: list[Story]) -> None:
        while not all(story.is_ended for story in burst):
            event = self._heard[user] = trio.Event()
            await event.wait()

    def _send(self, user: int, number: int) -> Story:
        is_iq = self._iq_every > 0 and user % self._iq_every == 0
        story = self._evidence.sent(user, number, trio.current_time(), is_iq=is_iq)
        addresses = f"to='{self._to}' from='u{user}@{self._domain}/x' id='{story.id}'"
        if is_iq:
            question = f"<question xmlns='{IQ_NAMESPACE}'/>"
            text = f"<iq {addresses} type='get'>{question}</iq>".encode()
        else:
            start = f"<message {addresses} type='chat'><body>{story.id} ".encode()
            text = start + PADDING + b"</body></message>"
        self._outgoing.append(text)
        self._filled.set()
        return story
