"""The keeper of a replay: everything in memory, and each stanza given what was captured of it."""

from collections.abc import Callable
from itertools import count

from bridge.capture.replay.expectation import Expectation
from bridge.capture.replay.recorded import Recorded
from bridge.capture.replay.tally import Tally, kind_of
from bridge.journal.delivery import Admitted
from bridge.journal.queue import MemoryKeeper, Volume
from bridge.payload.request import request_body
from bridge.xmpp.outbox import Outgoing
from xmppstream.jid import bare


class ReplayKeeper(MemoryKeeper):
    """Keeps what is accepted until it is settled, and tells of both."""

    def __init__(
        self,
        volume: Volume,
        recorded: Recorded,
        expectation: Expectation | None,
        tally: Tally,
        now: Callable[[], float],
    ) -> None:
        """`now` gives the story's time, in s."""
        super().__init__(volume)
        self._recorded = recorded
        self._expectation = expectation
        self._tally = tally
        self._now = now
        self._number = count(1)

    def accept(self, admitted: Admitted) -> None:
        self._tally.posted[admitted.stanza.kind] += 1
        told = self._recorded.claim(admitted, self._now())
        # Without a story the id is the same in each replay all the same.
        admitted.uid = f"msg_replay{next(self._number)}" if told is None else told.uid
        if self._expectation is not None:
            then = None if told is None else told.attempts[min(told.attempts)].request
            body = request_body(admitted.stanza, admitted.xml, admitted.received)
            self._expectation.posted(body, then, admitted.stanza, self._now())
        super().accept(admitted)

    async def settle(
        self, admitted: Admitted, replies: list[bytes], made: float, reason: str | None
    ) -> list[Outgoing]:
        self._recorded.forget(admitted.uid)
        if reason is None:
            self._tally.replies += len(replies)
        elif reason == STOPPED:
            self._tally.unfinished += 1
        else:
            self._tally.errors[kind_of(reason)] += 1
        if self._expectation is not None and reason is None:
            stanza = admitted.stanza
            conversation = (bare(stanza.from_ or ""), bare(stanza.to or ""))
            for data in replies:
                self._expectation.replied(data, conversation)
        return await super().settle(admitted, replies, made, reason)


STOPPED = "the daemon stopped"
"""Dispatch's words for what it gives up at its end."""
