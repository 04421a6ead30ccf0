"""Sends the iqs that other nodes have left for the gateway; see `remote_iq`."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from bridge.dispatch.remote_iq import UNREADABLE, Answer, Cancelled, Question, kind_of
from bridge.dispatch.submission import NotTaken, OutboxFull, Submitter
from bridge.journal.mailbox import Job, Mailbox
from bridge.xmpp.iq import WAIT_LIMIT_S, DuplicateId, Refusal, TooManyPending
from xmppstream import RemoteError, Stanza, write
from xmppstream.parser_thread import ParseElement

_REFUSALS: Final[dict[type[Exception], Refusal]] = {
    NotTaken: "not_running",
    DuplicateId: "id_in_use",
    TooManyPending: "too_many",
    OutboxFull: "outbox_full",
}


class IqRelay:
    """Sends iqs for other nodes, while this node is the gateway of the component."""

    def __init__(
        self,
        component: str,
        mailbox: Mailbox,
        submitter: Submitter,
        parse: ParseElement,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._component = component
        self._mailbox = mailbox
        self._submitter = submitter
        self._parse = parse
        self._log = log
        self._now = now
        self._is_closed = False
        self._scopes: dict[str, trio.CancelScope] = {}
        self._unsubscribe = [
            mailbox.receive(kind_of("iq", component), self._asked),
            mailbox.receive(kind_of("cancel", component), self._cancelled),
        ]

    def close(self) -> None:
        """Take no iqs any more. Those that wait end with the component."""
        self._is_closed = True
        for one in self._unsubscribe:
            one()

    def _asked(self, body: bytes, asker: int | None) -> Job | None:
        if asker is None:
            return None  # nobody waits any more
        try:
            question = msgspec.json.decode(body, type=Question)
        except msgspec.DecodeError as error:  # of another version
            self._log.warning("post dropped", kind="iq", why=str(error))
            return None
        scope = self._scopes[question.id] = trio.CancelScope()
        return partial(self._relay, question, asker, scope)

    def _cancelled(self, body: bytes, _: int | None) -> None:
        try:
            found = self._scopes.get(msgspec.json.decode(body, type=Cancelled).id)
        except msgspec.DecodeError as error:
            self._log.warning("post dropped", kind="iq", why=str(error))
            return
        if found is not None:
            found.cancel()

    async def _relay(self, question: Question, asker: int, scope: trio.CancelScope) -> None:
        try:
            with scope:
                answer = await self._answer(question)
                body = msgspec.json.encode(answer)
                self._mailbox.send(asker, kind_of("answer", self._component), body)
        finally:
            del self._scopes[question.id]

    async def _answer(self, question: Question) -> Answer:
        if self._is_closed or not self._submitter.takes("query"):
            return Answer(question.id, is_unsent=True, refusal="not_running")
        deadline = trio.current_time() + min(question.wait_s, WAIT_LIMIT_S)
        try:
            element = await self._parse(question.xml.encode())
        except RemoteError:
            return Answer(question.id, why=UNREADABLE, is_unsent=True)
        request = Stanza(element, question.lang)
        try:
            pending = self._submitter.open_here(request, deadline, lambda _: None)
            await self._submitter.wait_answer(pending, request, deadline, self._now())
        except (NotTaken, DuplicateId, TooManyPending, OutboxFull) as error:
            return Answer(question.id, is_unsent=True, refusal=_REFUSALS[type(error)])
        if pending.answer is None:
            return Answer(question.id, why=pending.why, is_unsent=pending.is_unsent)
        found = pending.answer
        return Answer(question.id, write(found.element, ""), found.lang)
