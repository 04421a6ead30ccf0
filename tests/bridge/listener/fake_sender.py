"""A sender that composes as the real one does, keeps what it is given, and answers as told."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import trio

from bridge.listener.submission.sender import Batch, Key, Sender, SendRefused
from bridge.payload.reply import ReplyComposer
from bridge.xmpp.archive import ArchiveQueries
from xmppstream import Element, Stanza, parse_element

BOT: Final = "bot.example"
OTHER: Final = "other.example"
MAX_SEND_BYTES: Final = 20_000


async def parse(data: bytes) -> Element:
    return parse_element(data)


class FakeSender(Sender):
    """`sent` and `asked` are what came; `answer` is an iq's answer, None for one that never comes;
    `refusal` is raised instead of all that. `meanwhile` is called with an iq before it is answered.
    """

    def __init__(self, *domains: str) -> None:
        self.archives = ArchiveQueries()
        self.meanwhile: Callable[[Stanza], None] = lambda _: None
        submitters: dict[str, Any] = {
            domain: SimpleNamespace(
                composer=ReplyComposer(domain, MAX_SEND_BYTES, parse),
                takes=lambda _: True,
                archives=self.archives,
            )
            for domain in domains or (BOT, OTHER)
        }
        nothing: Any = SimpleNamespace()
        super().__init__(lambda: submitters, nothing, parse)
        self.sent: list[tuple[Stanza, Key | None]] = []
        self.asked: list[tuple[Stanza, float, Key | None]] = []
        self.taken_back = 0
        self.answer: Stanza | None = None
        self.refusal: SendRefused | None = None
        self.fault: Exception | None = None
        self.hold: trio.Event | None = None

    async def send_all(self, batch: Batch, key: Key | None = None) -> list[str]:
        self._raise()
        if self.hold is not None:
            await self.hold.wait()
        self.sent += [(stanza, key) for stanza in batch.stanzas]
        return batch.uids(f"msg_{len(self.sent)}")

    async def ask(self, request: Stanza, wait_s: float, key: Key | None = None) -> Stanza:
        self._raise()
        self.asked.append((request, wait_s, key))
        self.meanwhile(request)
        if self.answer is None:
            try:
                await trio.sleep(math.inf)
            except trio.Cancelled:
                self.taken_back += 1
                raise
        assert self.answer is not None
        return self.answer

    def _raise(self) -> None:
        if self.fault is not None:
            raise self.fault
        if self.refusal is not None:
            raise self.refusal
