"""Iqs that are sent through another node: the gateway of their component.

A node that is not attached as a component (the *asker*) leaves the iq for the gateway's node, which
sends it like one of its own, and leaves the answer, or the reason why there is none, for the asker.
So an iq is written at most once per request, and its idempotency key belongs to the asker.

An answer may be lost with its gateway. So when another node has become the gateway, a question ends
once all has been received that the gateway before it left. A question whose asker has died is not
sent. The asker says when it no longer waits; the iq is withdrawn then if it was not written. Its
`wait_s` counts from its arrival at the gateway, and is not extended if the request is repeated.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import trio
from attrs import frozen
from structlog.typing import FilteringBoundLogger

from bridge.cluster.ownership import Ownership
from bridge.journal.delivery import fresh_uid
from bridge.journal.mailbox import Job, Mailbox
from bridge.xmpp.iq import PendingIq, PendingIqs, Refusal
from bridge.xmpp.outbox import Outgoing
from xmppstream import RemoteError, Stanza, encode, write
from xmppstream.parser_thread import ParseElement

GRACE_S: Final = 5.0
MOVED: Final = "the component has moved to another node; the iq may have been sent"
UNREADABLE: Final = "another node does not understand the iq, or its answer"


class Question(msgspec.Struct, frozen=True):
    """An iq for the gateway."""

    id: str
    xml: str
    wait_s: float
    lang: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """The end of a question: an answer, or why there is none."""

    id: str
    xml: str | None = None
    lang: str | None = None
    why: str = ""
    is_unsent: bool = False
    refusal: Refusal | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """The asker no longer waits."""

    id: str


@frozen
class _Asked:
    """A question at its asker. `gateway` is the node that it was left for."""

    pending: PendingIq
    gateway: int


class RemoteIqs:
    """The iqs of one component that this node has the gateway send."""

    def __init__(
        self,
        component: str,
        mailbox: Mailbox,
        ownership: Ownership,
        parse: ParseElement,
        log: FilteringBoundLogger,
    ) -> None:
        self._component = component
        self._mailbox = mailbox
        self._ownership = ownership
        self._parse = parse
        self._log = log
        self._pending = PendingIqs()
        self._asked: dict[str, _Asked] = {}
        self._unsubscribe = [
            mailbox.receive(kind_of("answer", component), self._answered),
            mailbox.watch(self._watch),
        ]

    @property
    def is_open(self) -> bool:
        """Whether another node is the gateway."""
        return self._ownership.other_gateway(self._component) is not None

    def close(self) -> None:
        """End all questions: the component stops here."""
        for one in self._unsubscribe:
            one()
        self._pending.end("the component has stopped")
        self._asked.clear()

    def open(
        self, request: Stanza, deadline: float, ended: Callable[[Stanza | None], None]
    ) -> PendingIq:
        """Register an iq before it is sent; see `PendingIqs.open`. Its own deadline is `GRACE_S`
        later, so that the gateway can say whether it was written.
        """
        return self._pending.open(request, deadline + GRACE_S, ended)

    def find(self, request: Stanza) -> PendingIq | None:
        """Return the pending iq that was opened here for a request."""
        return self._pending.find(request)

    def forget(self, pending: PendingIq) -> None:
        """Stop waiting for an answer, and tell the gateway if it has not ended."""
        self._pending.close(pending)
        for id, one in tuple(self._asked.items()):
            if one.pending is pending:
                del self._asked[id]
                body = msgspec.json.encode(Cancelled(id))
                self._mailbox.send(one.gateway, kind_of("cancel", self._component), body)

    def ask(self, request: Stanza, pending: PendingIq, made: float) -> Outgoing:
        """Leave an iq for the gateway. It cannot be withdrawn from an outbox here."""
        id = fresh_uid()
        gateway = self._ownership.other_gateway(self._component)
        if gateway is None:
            self._end(pending, Answer(id, is_unsent=True, refusal="not_running"))
            return Outgoing(b"", made, uid=id)
        self._asked[id] = _Asked(pending, gateway)
        wait_s = pending.deadline - GRACE_S - trio.current_time()
        xml = write(request.element, "")
        question = Question(id, xml, wait_s, request.lang)
        body = msgspec.json.encode(question)
        self._mailbox.send(gateway, kind_of("iq", self._component), body, partial(self._left, id))
        return Outgoing(encode(request), made, uid=id)

    def _left(self, id: str, is_left: bool) -> None:
        asked = None if is_left else self._asked.pop(id, None)
        if asked is not None:
            self._end(asked.pending, Answer(id, is_unsent=True, refusal="not_kept"))

    def _answered(self, body: bytes, _: int | None) -> Job | None:
        try:
            answer = msgspec.json.decode(body, type=Answer)
        except msgspec.DecodeError as error:  # of another version
            self._log.warning("post dropped", kind="answer", why=str(error))
            return None
        asked = self._asked.pop(answer.id, None)
        if asked is None:
            return None  # nobody waits any more
        return partial(self._take, asked.pending, answer)

    async def _take(self, pending: PendingIq, answer: Answer) -> None:
        if answer.xml is None or pending.over.is_set():
            self._end(pending, answer)
            return
        try:
            element = await self._parse(answer.xml.encode())
        except RemoteError:
            self._end(pending, Answer(answer.id, why=UNREADABLE))
        else:
            self._end(pending, answer, Stanza(element, answer.lang))

    def _end(self, pending: PendingIq, answer: Answer, stanza: Stanza | None = None) -> None:
        self._pending.close(pending)
        if pending.over.is_set():
            return
        pending.is_unsent, pending.refusal = answer.is_unsent, answer.refusal
        if stanza is None:
            pending.fail(answer.why or pending.why)
        else:
            pending.end(stanza)

    def _watch(self) -> Callable[[], None]:
        """Find the questions whose gateway is another one by now."""
        gateway = self._ownership.other_gateway(self._component)
        lost = [id for id, one in self._asked.items() if one.gateway != gateway]
        return partial(self._fail, lost)

    def _fail(self, lost: list[str]) -> None:
        for id in lost:
            asked = self._asked.pop(id, None)
            if asked is not None:
                self._end(asked.pending, Answer(id, why=MOVED))


def kind_of(kind: str, component: str) -> str:
    """Return the kind of the posts of one component."""
    return f"{kind} {component}"
