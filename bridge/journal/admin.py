"""An operator's commands on a journal: list, retry, drop. They work with and without a daemon.

Each command is one call of the journal, so nothing comes between its reads and its writes. Lists
are read page by page, so a million stanzas are never in memory at once.
"""

import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar, assert_never
from xml.sax.saxutils import unescape

from msgspec import UNSET
from msgspec.structs import replace

from bridge.journal.delivery import Delivery
from bridge.journal.nodes import nodes_of
from bridge.journal.request import (
    Changed,
    CommandError,
    Forget,
    Found,
    Holding,
    Holdings,
    Item,
    Kept,
    ListQueue,
    ListTotals,
    Match,
    Page,
    Purge,
    Purged,
    QueueRequest,
    Retry,
    Show,
)
from bridge.journal.store import Confirm, DeadLetter, DropDead, JournalStore, Requeue, Totals
from bridge.xmpp.outbox import Outgoing

T = TypeVar("T")
Kind = Delivery | Outgoing | DeadLetter
Revived = Callable[[dict[str, Totals]], None]
Dropped = Callable[[Collection[Outgoing]], None]
PAGE_BYTES: Final = 512 * 1024
"""A page of a list ends once its stanzas exceed this."""
PREFIX_LENGTH: Final = 8
_STEP: Final = 20  # stanzas in one read: each may have the maximum length
_ANSWERED: Final = "an iq is never retried: its sender has had an answer"
_START_TAG: Final = re.compile(r"<(\w+)((?: [\w:]+='[^']*')*)")
_ATTRIBUTE: Final = re.compile(r" ([\w:]+)='([^']*)'")
_REPLY: Final = "it is our own stanza: the server refused it, and would refuse it again"


class Ask(Protocol):
    """Calls a query with the journal, in the thread that may use it, and returns the result."""

    def __call__(self, query: Callable[[JournalStore], T], /) -> Awaitable[T]: ...


class QueueAdmin:
    """Executes the commands on the queue."""

    def __init__(
        self,
        ask: Ask,
        configured: Collection[str] | None,
        revived: Revived = lambda _: None,
        dropped: Dropped = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`configured` are the configured components, if known. `revived` is called with the totals
        that are pending again, and `dropped` with the replies that are forgotten, from within a
        query.
        """
        self._ask = ask
        self._configured = configured
        self._revived = revived
        self._dropped = dropped
        self._now = now

    async def answer(self, request: QueueRequest) -> object:
        """Execute a request and return its answer.

        Raises:
            CommandError: if it cannot be executed.
            JournalError: if the journal fails.
        """
        match request:
            case ListTotals():
                return await self._ask(self._holdings)
            case ListQueue():
                return await self._ask(partial(self._page, request))
            case Show(uid=uid):
                return await self._ask(partial(self._found, uid))
            case Retry(uids=prefixes):
                return await self._ask(partial(self._retry, prefixes))
            case Forget(uids=prefixes):
                return await self._ask(partial(self._forget, prefixes))
            case Purge():
                return await self._ask(_purge)
            case _:
                assert_never(request)

    def _holdings(self, journal: JournalStore) -> Holdings:
        return Holdings(holdings(journal.totals(), self._configured), nodes_of(journal))

    def _page(self, request: ListQueue, journal: JournalStore) -> Page:
        items: list[Item] = []
        after, weight = request.after, 0
        while len(items) < request.limit and weight < PAGE_BYTES:
            step = min(_STEP, request.limit - len(items)) if request.match is UNSET else _STEP
            found = _read(journal, request.state, request.component, after, step)
            for number, one in found:
                after = number
                weight += _weight(one)
                if request.match is UNSET or _matches(request.match, one):
                    item = self._item(one, whole=request.xml)
                    items.append(replace(item, prefix=unique_prefix(journal, item.uid)))
                    if len(items) == request.limit:
                        break
            else:
                if len(found) < step:
                    return Page(tuple(items))
        return Page(tuple(items), after)

    def _found(self, prefix: str, journal: JournalStore) -> Found:
        found = journal.find(resolve(journal, prefix))
        return Found(tuple(self._item(one, whole=True) for one in found))

    def _retry(self, prefixes: tuple[str, ...], journal: JournalStore) -> Changed:
        letters: dict[str, DeadLetter] = {}
        failed: dict[str, str] = {}
        for prefix in prefixes:
            try:
                uid = resolve(journal, prefix)
                letters[uid] = _revivable(journal.find(uid))
            except CommandError as error:
                failed[prefix] = str(error)
        if letters:
            journal.commit([Requeue(tuple(letters), self._now())])
            self._revived(_sums(letters.values()))
        return Changed(tuple(letters), failed)

    def _forget(self, prefixes: tuple[str, ...], journal: JournalStore) -> Changed:
        letters: dict[str, None] = {}
        replies: dict[str, list[Outgoing]] = {}
        failed: dict[str, str] = {}
        for prefix in prefixes:
            try:
                uid = resolve(journal, prefix)
                found = journal.find(uid)
                if any(isinstance(one, DeadLetter) for one in found):
                    letters[uid] = None
                elif not any(isinstance(one, Delivery) for one in found):
                    replies[uid] = [one for one in found if isinstance(one, Outgoing)]
                else:
                    raise CommandError(
                        "it is pending; only dead letters and replies can be dropped"
                    )
            except CommandError as error:
                failed[prefix] = str(error)
        if letters:
            journal.commit([DropDead(tuple(letters))])
        gone = [one for some in replies.values() for one in some]
        if gone:
            journal.commit([Confirm(tuple((one.uid, one.place) for one in gone))])
            self._dropped(gone)
        return Changed((*letters, *replies), failed)

    def _item(self, one: Kind, *, whole: bool) -> Item:
        component = one.entry.component if isinstance(one, DeadLetter) else one.component
        orphaned = None if self._configured is None else component not in self._configured
        if isinstance(one, Outgoing):
            text = one.data.decode(errors="replace")
            kind, attributes = _start_tag(text)
            return Item(
                uid=one.uid,
                state="reply",
                component=component,
                kind=kind,
                from_=attributes.get("from", ""),
                to=attributes.get("to", ""),
                stanza_id=attributes.get("id"),
                received=one.made,
                orphaned=orphaned,
                is_reply=True,
                reply=text if whole else None,
            )
        entry = one.entry if isinstance(one, DeadLetter) else one
        dead = one if isinstance(one, DeadLetter) else None
        last = entry.attempts[-1].result if entry.attempts else None
        reply = dead.reply if dead is not None else None
        return Item(
            uid=entry.uid,
            state="pending" if dead is None else "dead",
            component=component,
            kind=entry.stanza.kind,
            from_=entry.stanza.from_ or "",
            to=entry.stanza.to or "",
            stanza_id=entry.stanza.id,
            received=entry.received,
            attempts=entry.attempts,
            died=None if dead is None else dead.died,
            reason=last if dead is None else dead.reason,
            orphaned=orphaned,
            is_reply=reply is not None,
            xml=entry.xml if whole and reply is None else None,
            reply=reply.decode(errors="replace") if whole and reply is not None else None,
        )


def holdings(totals: dict[str, Totals], configured: Collection[str] | None) -> dict[str, Holding]:
    """Return how much is kept, by component, as commands report it."""
    return {
        component: Holding(
            pending=one.pending,
            pending_bytes=one.pending_bytes,
            replies=one.replies,
            dead=one.dead,
            oldest=one.oldest,
            orphaned=None if configured is None else component not in configured,
        )
        for component, one in totals.items()
    }


def resolve(journal: JournalStore, prefix: str) -> str:
    """Return the uid that equals `prefix`, or else the only one that begins with it.

    Raises:
        CommandError: if no uid begins with it, or more than one.
    """
    uids = journal.uids(prefix, limit=4)
    if prefix in uids or len(uids) == 1:
        return prefix if prefix in uids else uids[0]
    if not uids:
        raise CommandError(f"no stanza with the uid {prefix!r} is kept")
    more = ", …" if len(uids) == 4 else ""
    raise CommandError(f"several uids begin with {prefix!r}: {', '.join(uids[:3])}{more}")


def unique_prefix(journal: JournalStore, uid: str) -> str:
    """Return the shortest beginning of a uid, of `PREFIX_LENGTH` or more, that no other has."""
    short, long = min(PREFIX_LENGTH, len(uid)), len(uid)
    while short < long:  # the answer is in short..long
        middle = (short + long) // 2
        if len(journal.uids(uid[:middle], limit=2)) > 1:
            short = middle + 1
        else:
            long = middle
    return uid[:long]


def _matches(match: Match, one: Kind) -> bool:
    return (
        isinstance(one, DeadLetter)
        and match.reason.lower() in one.reason.lower()
        and (match.since is None or one.died >= match.since)
        and (match.until is None or one.died <= match.until)
    )


def _read(
    journal: JournalStore, state: Kept, component: str | None, after: int, limit: int
) -> Sequence[tuple[int, Kind]]:
    """Return what is kept in a state, each with its number."""
    match state:
        case "dead":
            letters = journal.dead(component, after=after, limit=limit)
            return [(one.entry.number, one) for one in letters]
        case "pending":
            entries = journal.pending(component, after=after, limit=limit)
            return [(one.number, one) for one in entries]
        case "reply":
            return journal.replies(component, after=after, limit=limit)
        case _:
            assert_never(state)


def _weight(one: Kind) -> int:
    """Return about how long a stanza is in a list."""
    match one:
        case DeadLetter(entry=entry, reply=reply):
            return len(entry.xml) + len(reply or b"")
        case Delivery(xml=xml):
            return len(xml)
        case Outgoing(data=data):
            return len(data)
        case _:
            assert_never(one)


def _start_tag(xml: str) -> tuple[str, dict[str, str]]:
    """Return the name and the attributes of a stanza as `encode` writes it, without a parser: its
    names would stay with the journal's thread.
    """
    tag = _START_TAG.match(xml)
    if tag is None:
        return "", {}
    marks = {"&apos;": "'", "&quot;": '"'}
    return tag[1], {name: unescape(value, marks) for name, value in _ATTRIBUTE.findall(tag[2])}


def _revivable(found: list[Kind]) -> DeadLetter:
    """Return the dead letter that `Requeue` would take: the first that may be retried.

    Raises:
        CommandError: if there is none.
    """
    if any(isinstance(one, Delivery) for one in found):
        raise CommandError("it is already pending")
    letters = [one for one in found if isinstance(one, DeadLetter)]
    if not letters:
        raise CommandError("it is not a dead letter: it is settled, with replies on their way")
    for one in letters:
        if one.reply is None and one.entry.stanza.kind != "iq":
            return one
    raise CommandError(_REPLY if letters[0].reply is not None else _ANSWERED)


def _sums(letters: Collection[DeadLetter]) -> dict[str, Totals]:
    sums: dict[str, Totals] = {}
    for one in letters:
        entry = one.entry
        old = sums.get(entry.component, Totals())
        weight = old.pending_bytes + len(entry.xml.encode())
        sums[entry.component] = Totals(old.pending + 1, weight)
    return sums


def _purge(journal: JournalStore) -> Purged:
    count = sum(one.dead for one in journal.totals().values())
    if count:
        journal.commit([DropDead()])
    return Purged(count)
