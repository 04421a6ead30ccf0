"""Retries and drops dead letters: some by their uids, or all that match a selection.

An action on all goes through the journal in batches, and other queries come between them. It takes
what was given up until its question was asked, so a stanza that fails again meanwhile is not taken
twice, and the action ends.
"""

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Literal

import trio
from attrs import define, field, frozen
from msgspec.structs import replace

from bridge.config.token import Token
from bridge.journal.request import (
    UIDS_LIMIT,
    Changed,
    CommandError,
    Forget,
    Found,
    Item,
    Match,
    Page,
    Retry,
    Show,
)
from bridge.journal.store import JournalError
from bridge.listener.monitor.view import Answer, DaemonView, ask
from bridge.listener.page.content import texts_of
from bridge.listener.page.dead_letter import can_be_retried, told_reason
from bridge.listener.page.selection import Selection
from bridge.listener.page.snapshot import may_see

ALL_LIMIT: Final = 10_000
"""The number of dead letters that one action takes, and that one question counts."""
NO_JOURNAL: Final = "There is no journal (durability is off), so nothing is kept."
_FIRST: Final = 3
_TOLD: Final = 5
_DONE: Final = {"retry": "pending again", "drop": "dropped"}

Verb = Literal["retry", "drop"]


@define
class Many:
    """All dead letters that match a selection and died between `since` and `until` (Unix time).
    `left_out` cannot be retried; the others are the `count`, and `first` the oldest of them.
    """

    until: float
    since: float | None = None
    count: int = 0
    left_out: int = 0
    has_more: bool = False
    reasons: Counter[str] = field(factory=Counter)
    first: Sequence[Item] = ()
    texts: Mapping[int, str] = {}


@frozen
class Actions:
    """What forms do to the dead letters that a token may see. Create it within trio."""

    _view: DaemonView
    _now: Callable[[], float] = time.time
    _deciding: trio.Lock = field(factory=trio.Lock, init=False)

    async def act(self, verb: Verb, uids: Sequence[str], token: Token) -> str:
        """Retry or drop stanzas, and return a notice with the result."""
        answer = self._view.answer
        if answer is None:
            return NO_JOURNAL
        try:
            async with self._deciding:
                found, failed = await self._find(answer, uids, token)
                own = tuple(dict.fromkeys(one.uid for one in found))
                changed = await _change(answer, verb, own) if own else Changed()
        except (CommandError, JournalError) as error:
            return f"This failed: {error}."
        failed += [f"{uid}: {why}." for uid, why in changed.failed.items()]
        return told(len(changed.done), failed, verb)

    async def find(self, uids: Sequence[str], token: Token) -> tuple[list[Item], Mapping[int, str]]:
        """Return the stanzas with these uids that a token may see, and their texts by place.

        Raises:
            JournalError: if the journal fails.
        """
        if self._view.answer is None:
            return [], {}
        found, _ = await self._find(self._view.answer, uids, token)
        return found, await texts_of(found)

    async def _find(
        self, answer: Answer, uids: Sequence[str], token: Token
    ) -> tuple[list[Item], list[str]]:
        """Return one stanza of each uid that the token may see, and a sentence for each other."""
        own: list[Item] = []
        failed: list[str] = []
        for uid in uids:
            try:
                items = (await ask(answer, Show(uid=uid), Found)).items
            except CommandError:
                items = ()
            seen = [one for one in items if may_see(self._view, token, one.component)]
            if seen and len(seen) == len(items):
                own.append(next((one for one in seen if one.state == "dead"), seen[0]))
            else:
                failed.append(f"{uid} no longer exists.")
        return own, failed

    async def count(self, verb: Verb, selection: Selection, token: Token) -> Many:
        """Return what an action on all that match would take.

        Raises:
            JournalError: if the journal fails.
        """
        now = self._now()
        many = Many(until=now, since=selection.since(now))
        async with aclosing(self._batches(selection, many, token)) as batches:
            async for items in batches:
                taken = [one for one in items if verb == "drop" or can_be_retried(one)]
                many.left_out += len(items) - len(taken)
                many.count += len(taken)
                many.reasons.update(told_reason(one) for one in taken)
                many.first = (*many.first, *taken)[:_FIRST]
        if many.first:
            uids = list(dict.fromkeys(one.uid for one in many.first))
            many.first, many.texts = await self.find(uids, token)
        return many

    async def act_on_all(self, verb: Verb, selection: Selection, limits: Many, token: Token) -> str:
        """Retry or drop all that match and died between `limits`; return a notice."""
        answer = self._view.answer
        if answer is None:
            return NO_JOURNAL
        done = left_out = failed = 0
        problem = ""
        try:
            async with self._deciding, aclosing(self._batches(selection, limits, token)) as batches:
                async for items in batches:
                    able = [one for one in items if verb == "drop" or can_be_retried(one)]
                    left_out += len(items) - len(able)
                    uids = tuple(dict.fromkeys(one.uid for one in able))
                    if uids:
                        changed = await _change(answer, verb, uids)
                        done += len(changed.done)
                        failed += len(changed.failed)
        except (CommandError, JournalError) as error:
            problem = f"Then this failed: {error}." if done else f"This failed: {error}."
        notes = [
            f"{left_out:,} left out, because they cannot be retried." if left_out else "",
            f"{failed:,} had changed meanwhile." if failed else "",
            "There are more: repeat it for the rest." if limits.has_more else "",
            problem,
        ]
        return told(done, [note for note in notes if note], verb, "No dead letter matches.")

    async def _batches(
        self, selection: Selection, limits: Many, token: Token
    ) -> AsyncGenerator[list[Item], None]:
        """Yield the dead letters that match, at most `ALL_LIMIT`; then set `limits.has_more`."""
        after: int | None = 0
        count = 0
        while after is not None and self._view.answer is not None:
            some = min(UIDS_LIMIT, ALL_LIMIT - count) or 1
            request = selection.request(limits.until, after, some)
            match = Match(reason=selection.reason, since=limits.since, until=limits.until)
            request = replace(request, match=match)
            page = await ask(self._view.answer, request, Page)
            own = [one for one in page.items if may_see(self._view, token, one.component)]
            if own and count >= ALL_LIMIT:
                limits.has_more = True
                return
            count += len(own)
            after = page.next
            yield own


async def _change(answer: Answer, verb: Verb, uids: tuple[str, ...]) -> Changed:
    request = Retry(uids=uids) if verb == "retry" else Forget(uids=uids)
    return await ask(answer, request, Changed)


def told(
    done: int, notes: Collection[str], verb: Verb, nothing: str = "Nothing was selected."
) -> str:
    """Return the result of an action, for the notice on the next page."""
    parts = []
    if done:
        parts.append(f"{done:,} {'stanza is' if done == 1 else 'stanzas are'} {_DONE[verb]}.")
    some = list(dict.fromkeys(notes))
    parts += some[:_TOLD]
    if len(some) > _TOLD:
        parts.append(f"… and {len(some) - _TOLD:,} more.")
    return " ".join(parts) or nothing
