"""`--expect`: what we send and POST now, beside what was sent and POSTed then.

Stanzas are matched by what they mean, wherever they are among the others; what finds no partner is
kept, oldest first, up to a window, and then told. Replies of one conversation must also come in the
order of then; between conversations, and for what the bridge says by itself, there is none.

Not compared: what an HTTP client had us send, barriers, copies that were sent again on another
connection (S35), and what the capture cannot know of: replies to stanzas from before it began, and
what its end cut off.
"""

import heapq
import math
from collections import Counter, OrderedDict
from typing import Final

from attrs import frozen

from bridge.capture.replay.difference import Difference, Item, post_item, stanza_item
from bridge.capture.replay.meaning import meaning_of, same_request
from bridge.capture.replay.recorded import Recorded, Told
from bridge.capture.replay.selection import Selection
from bridge.capture.replay.unmatched import Sent, Unmatched
from xmppstream import Element, Stanza, StanzaCondition
from xmppstream.jid import bare
from xmppstream.names import STANZA_ERRORS, expanded

WINDOW: Final = 5_000
_END_S: Final = 1.0
_WRITTEN_S: Final = 0.25  # a reply is written within that time after its exchange
_GRACE_S: Final = 6.0
_TOO_LATE: Final = expanded(STANZA_ERRORS, StanzaCondition.REMOTE_SERVER_TIMEOUT)
_SENT_AGAIN: Final = "sent again"
_CUT_OFF: Final = "cut off by the end"
Conversation = tuple[str, str]


@frozen
class _Unknown:
    """A POST of which the capture knows nothing, the `number`-th of all."""

    item: Item
    stanza: Stanza
    at: float
    number: int

    @property
    def sender_key(self) -> tuple[str | None, ...]:
        return (self.stanza.kind, self.stanza.from_, self.stanza.to, self.stanza.id)


class Expectation:
    """Compares one story. Give it what happens, in the story's time in s; `end` it; then read
    `differences`. What is `recorded` tells what a capture cannot know of.
    """

    def __init__(
        self,
        domain: str,
        selection: Selection,
        max_differences: int,
        recorded: Recorded | None = None,
    ) -> None:
        self.count = 0
        self.stanzas = 0
        self.posts = 0
        self.left_out: Counter[str] = Counter()
        self._domain = domain
        self._selection = selection
        self._limit = max_differences
        self._recorded = recorded
        self._kept: list[Difference] = []
        self._then, self._now = Unmatched(), Unmatched()
        self._api: Counter[Element] = Counter()
        self._conversations: OrderedDict[bytes, Conversation] = OrderedDict()
        self._reached: OrderedDict[Conversation, tuple[int, int]] = OrderedDict()
        self._unknown: list[_Unknown] = []
        self._post_count = 0
        self._last_posts: OrderedDict[Conversation, int] = OrderedDict()
        self._given_up: set[tuple[str | None, ...]] = set()
        self._stopped_at = math.inf

    @property
    def differences(self) -> list[Difference]:
        """The first ones, in the order of the story."""
        return heapq.nsmallest(self._limit, self._kept, key=_rank)

    # --- what happens

    def submitted(self, stanza: Stanza) -> None:
        """Take a stanza that an HTTP client had us send."""
        self._api[meaning_of(stanza, self._domain)] += 1

    def expected(self, stanza: Stanza, at: float, connection: int) -> None:
        """Take a stanza that was sent then."""
        if not self._selection.takes(stanza):
            return
        meaning = meaning_of(stanza, self._domain)
        if self._api.get(meaning):
            self._api[meaning] -= 1
            self.left_out["sent for HTTP clients"] += 1
            return
        then = self._then.enter(stanza, meaning, at, connection)
        now = self._now.take(meaning)
        if now is not None:
            self._matched(then, now)
            return
        self._then.add(then)
        if len(self._then) > WINDOW:
            self._tell_missing(self._then.take_oldest())

    def sent(self, stanza: Stanza, at: float, connection: int) -> None:
        """Take a stanza that is sent now."""
        if not self._selection.takes(stanza):
            return
        meaning = meaning_of(stanza, self._domain)
        now = self._now.enter(stanza, meaning, at, connection)
        now.is_late = self._stopped_at < math.inf
        then = self._then.take(meaning)
        if then is not None:
            self._matched(then, now)
            return
        self._now.add(now)
        if len(self._now) > WINDOW:
            self._tell_extra(self._now.take_oldest())

    def replied(self, data: bytes, conversation: Conversation) -> None:
        """Take note of whose conversation a reply, as it is written, belongs to."""
        self._conversations[data] = conversation
        if len(self._conversations) > WINDOW:
            self._conversations.popitem(last=False)

    def posted(self, request: bytes, then: bytes | None, stanza: Stanza, at: float) -> None:
        """Take a POST of now, and what it was then; None where there was none."""
        self._post_count += 1
        if then is not None:
            self.posts += 1
            self._note_posted(stanza)
            if not same_request(then, request):
                items = post_item(then), post_item(request)
                self._tell(Difference("POSTed differently", at, *items))
        elif len(self._unknown) < WINDOW:  # it is known at the end only whether that is right
            self._unknown.append(_Unknown(post_item(request), stanza, at, self._post_count))
        else:
            self._tell(Difference("POSTed now, not then", at, None, post_item(request)))

    def _note_posted(self, stanza: Stanza) -> None:
        if stanza.kind == "iq":  # they overtake
            return
        self._last_posts[_conversation(stanza)] = self._post_count
        self._last_posts.move_to_end(_conversation(stanza))
        if len(self._last_posts) > WINDOW:
            self._last_posts.popitem(last=False)

    def unclaimed(self, told: Told) -> None:
        """Take a POST of then that is not made now."""
        request = told.attempts[min(told.attempts)].request
        self._tell(Difference("POSTed then, not now", told.at, post_item(request), None))

    def stopped(self, at: float) -> None:
        """The bridge stopped then: what is said from now on is said because it stops."""
        self._stopped_at = min(self._stopped_at, at)

    # --- what becomes of it

    def _matched(self, then: Sent, now: Sent) -> None:
        self.stanzas += 1
        stanza = now.stanza
        if stanza.type == "error" and self._unknown:
            self._note_given_up(stanza)
        conversation = self._conversations.pop(stanza.encode(), None)
        if conversation is None or stanza.id is None or stanza.kind == "iq":
            return
        before, before_now = self._reached.pop(conversation, (0, 0))
        is_further = then.number > before
        self._reached[conversation] = (
            (then.number, now.number) if is_further else (before, before_now)
        )
        if len(self._reached) > WINDOW:
            self._reached.popitem(last=False)
        if is_further != (now.number > before_now):
            items = _item(then), _item(now)
            self._tell(Difference("sent in another order", now.at, *items))

    def _note_given_up(self, error: Stanza) -> None:
        inside = error.child("error")
        if inside is not None and inside.find(_TOO_LATE) is not None:
            self._given_up.add((error.kind, error.to, error.from_, error.id))

    def end(self, at: float, *, in_order: bool) -> None:
        """Tell of all that has no partner. `in_order`: the capture ends where the bridge or the
        server ended it, and not in the middle.
        """
        cut_at = math.inf if in_order else at - _END_S
        for now in self._now:
            if now.is_late:
                self._now.remove(now)
                self._leave_out(_CUT_OFF)
                # Its sender was told something by itself then.
                then = self._then.take_error_of(now) if now.stanza.type == "error" else None
                if then is not None:
                    self._note_given_up(then.stanza)
        while len(self._then):
            self._tell_missing(self._then.take_oldest())
        while len(self._now):
            now = self._now.take_oldest()
            if now.at >= cut_at:
                self._leave_out(_CUT_OFF)
            else:
                self._tell_extra(now)
        for one in self._unknown:
            if one.sender_key in self._given_up:
                self.left_out["never tried then, and given up"] += 1
            elif self._may_be_cut_off(one, at, in_order):
                self.left_out[_CUT_OFF] += 1
            else:
                self._tell(Difference("POSTed now, not then", one.at, None, one.item))
        self._unknown.clear()

    def _may_be_cut_off(self, one: "_Unknown", at: float, in_order: bool) -> bool:
        """Whether a POST may be missing in the capture since that ends at `at`: of its conversation
        nothing later was POSTed, and it was not long before.
        """
        if (
            self._recorded is None
            or self._last_posts.get(_conversation(one.stanza), 0) > one.number
        ):
            return False
        # A daemon that stops POSTs nothing more for a while; else it was under way.
        window_s = _GRACE_S if in_order else _END_S
        return one.at > min(self._stopped_at, at) - window_s - 2 * self._recorded.longest_s

    def _tell_missing(self, then: Sent) -> None:
        if self._then.is_copy(then):
            self._leave_out(_SENT_AGAIN)
        elif self._recorded and then.at <= self._recorded.from_before_until + _WRITTEN_S:
            self._leave_out("replies to stanzas from before")
        elif (now := self._now.take_like(then)) is not None:
            items = _item(then), _item(now)
            self._tell(Difference("sent differently", then.at, *items))
        else:
            self._tell(Difference("sent then, not now", then.at, _item(then), None))

    def _tell_extra(self, now: Sent) -> None:
        if self._now.is_copy(now):
            self._leave_out(_SENT_AGAIN)
        else:
            self._tell(Difference("sent now, not then", now.at, None, _item(now)))

    def _leave_out(self, why: str) -> None:
        self.left_out[why] += 1

    def _tell(self, difference: Difference) -> None:
        self.count += 1
        self._kept.append(difference)
        if len(self._kept) > 2 * self._limit + 100:
            self._kept = heapq.nsmallest(self._limit, self._kept, key=_rank)


def _conversation(stanza: Stanza) -> Conversation:
    return bare(stanza.from_ or ""), bare(stanza.to or "")


def _rank(difference: Difference) -> tuple[float, str]:
    return difference.at, difference.text


def _item(sent: Sent) -> Item:
    return stanza_item(sent.stanza, sent.meaning)
