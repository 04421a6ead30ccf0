"""`--expect`: compares the stanzas and POSTs of now with those of then, in the capture.

Replies are matched by the uid of the stanza that they answer, and among those of one uid by
meaning; so a reply that is missing is one difference, and shifts none after it. Other stanzas, and
replies to stanzas that do not have the same uid then and now, are matched by meaning, wherever they
are among the others. Those without a partner are kept, oldest first, up to a window, and then
reported. Replies in one conversation must also come in
the order of then. There is no order between conversations, nor for stanzas that the bridge sends on
its own.

Not compared: stanzas sent for HTTP clients, typing notices of the bridge, corrections of a streamed
reply on the way, barriers, copies sent again on another connection (S35), and stanzas that the
capture cannot know: replies to stanzas from before it began, and those that its end cut off.
"""

import heapq
import math
from collections import Counter, OrderedDict
from typing import Final

from attrs import frozen

from bridge.capture.replay.difference import Difference, Item, post_item, stanza_item
from bridge.capture.replay.meaning import is_typing_notice, meaning_of, same_request
from bridge.capture.replay.recorded import Recorded, Told
from bridge.capture.replay.selection import Selection
from bridge.capture.replay.streamed import as_compared
from bridge.capture.replay.unmatched import HISTORY, Sent, Unmatched
from xmppstream import Element, Stanza, StanzaCondition
from xmppstream.jid import bare
from xmppstream.names import STANZA_ERRORS, expanded

WINDOW: Final = 5_000
_END_S: Final = 1.0
_WRITTEN_S: Final = 0.25  # a reply is written within this time after its exchange
_GRACE_S: Final = 6.0
_TOO_LATE: Final = expanded(STANZA_ERRORS, StanzaCondition.REMOTE_SERVER_TIMEOUT)
_SENT_AGAIN: Final = "sent again"
_CUT_OFF: Final = "cut off by the end"
Conversation = tuple[str, str]


@frozen
class _Unknown:
    """A POST that is not in the capture, the `number`-th of all."""

    item: Item
    stanza: Stanza
    at: float
    number: int

    @property
    def sender_key(self) -> tuple[str | None, ...]:
        return (self.stanza.kind, self.stanza.from_, self.stanza.to, self.stanza.id)


class Expectation:
    """Compares one story. Report its events, with times in s of the story; call `end`; then read
    `differences`. `recorded` shows which stanzas the capture cannot know.
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
        self._uids: OrderedDict[str, None] = OrderedDict()
        """The uids that stanzas had then and have now."""
        self._answered: OrderedDict[tuple[str | None, ...], str] = OrderedDict()
        """The same uids, by the kind, the addresses and the id of the stanza."""
        self._last_posts: OrderedDict[Conversation, int] = OrderedDict()
        self._given_up: set[tuple[str | None, ...]] = set()
        self._stopped_at = math.inf

    @property
    def differences(self) -> list[Difference]:
        """The first differences, in the order of the story."""
        return heapq.nsmallest(self._limit, self._kept, key=_rank)

    # --- events

    def submitted(self, stanza: Stanza) -> None:
        """Leave out a stanza that was sent for an HTTP client."""
        self._api[meaning_of(stanza, self._domain)] += 1

    def expected(self, stanza: Stanza, at: float, connection: int) -> None:
        """Match a stanza that was sent then."""
        if is_typing_notice(stanza) or not self._selection.takes(stanza):
            return
        compared = as_compared(stanza, self._then)
        if compared is None:
            return
        stanza = compared
        meaning = meaning_of(stanza, self._domain)
        if self._api.get(meaning):
            self._api[meaning] -= 1
            self.left_out["sent for HTTP clients"] += 1
            return
        then = self._then.enter(stanza, meaning, at, connection)
        now = _partner(self._now, then)
        if now is not None:
            self._matched(then, now)
            return
        self._then.add(then)
        if len(self._then) > WINDOW:
            self._settle_then(self._then.take_oldest())

    def sent(self, stanza: Stanza, at: float, connection: int) -> None:
        """Match a stanza that is sent now."""
        if is_typing_notice(stanza) or not self._selection.takes(stanza):
            return
        compared = as_compared(stanza, self._now)
        if compared is None:
            return
        stanza = compared
        meaning = meaning_of(stanza, self._domain)
        now = self._now.enter(stanza, meaning, at, connection)
        now.is_late = self._stopped_at < math.inf
        then = _partner(self._then, now)
        if then is not None:
            self._matched(then, now)
            return
        self._now.add(now)
        if len(self._now) > WINDOW:
            self._settle_now(self._now.take_oldest())

    def replied(self, data: bytes, conversation: Conversation) -> None:
        """Note the conversation of a reply; `data` is the reply as it is written."""
        self._conversations[data] = conversation
        if len(self._conversations) > WINDOW:
            self._conversations.popitem(last=False)

    def posted(
        self, request: bytes, then: bytes | None, stanza: Stanza, at: float, uid: str = ""
    ) -> None:
        """Compare a POST of now with the one of then; None if there was none. `uid` is that of the
        stanza, then and now.
        """
        self._post_count += 1
        if then is not None and uid:
            self._note_uid(stanza, uid)
        if then is not None:
            self.posts += 1
            self._note_posted(stanza)
            if not same_request(then, request):
                items = post_item(then), post_item(request)
                self._tell(Difference("POSTed differently", at, *items))
        elif len(self._unknown) < WINDOW:  # whether that is right is known only at the end
            self._unknown.append(_Unknown(post_item(request), stanza, at, self._post_count))
        else:
            self._tell(Difference("POSTed now, not then", at, None, post_item(request)))

    def _note_uid(self, stanza: Stanza, uid: str) -> None:
        self._uids[uid] = None
        self._answered[stanza.kind, stanza.from_, stanza.to, stanza.id] = uid
        for known in (self._uids, self._answered):
            if len(known) > HISTORY:
                known.popitem(last=False)

    def _note_posted(self, stanza: Stanza) -> None:
        if stanza.kind == "iq":  # iqs have no order
            return
        self._last_posts[_conversation(stanza)] = self._post_count
        self._last_posts.move_to_end(_conversation(stanza))
        if len(self._last_posts) > WINDOW:
            self._last_posts.popitem(last=False)

    def unclaimed(self, told: Told) -> None:
        """Report a POST of then that is not made now."""
        request = told.attempts[min(told.attempts)].request
        self._tell(Difference("POSTed then, not now", told.at, post_item(request), None))

    def stopped(self, at: float) -> None:
        """Note that the bridge stopped then: stanzas from now on are sent because it stops."""
        self._stopped_at = min(self._stopped_at, at)

    # --- results

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
        """Report everything without a partner. `in_order` is whether the capture ends where the
        bridge or the server ended the connection, and not in the middle.
        """
        cut_at = math.inf if in_order else at - _END_S
        for now in self._now:
            if now.is_late:
                self._now.remove(now)
                self._leave_out(_CUT_OFF)
                # Then, the same stanza was answered by another error.
                then = self._then.take_error_of(now) if now.stanza.type == "error" else None
                if then is not None:
                    self._note_given_up(then.stanza)
        for side in (self._then, self._now):
            for sent in side:
                uid = self._uid_of(sent)
                if sent.uid is None and uid is not None:
                    side.name(sent, uid)
        for same in (True, False):  # first those of one uid that are alike
            for then in self._then:
                if then.uid is None or (not same and self._then.is_copy(then)):
                    continue
                reply = self._now.take_reply(then.uid, then.meaning if same else None)
                if reply is not None:
                    self._settle_pair(self._then.remove(then), reply)
        while len(self._then):
            self._settle_then(self._then.take_oldest())
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
        """Return whether a POST may be missing because the capture ends at `at`: nothing later was
        POSTed in its conversation, and it came shortly before the end.
        """
        if (
            self._recorded is None
            or self._last_posts.get(_conversation(one.stanza), 0) > one.number
        ):
            return False
        # A daemon that stops makes no new POSTs for a while; otherwise the POST was under way.
        window_s = _GRACE_S if in_order else _END_S
        return one.at > min(self._stopped_at, at) - window_s - 2 * self._recorded.longest_s

    def _uid_of(self, sent: Sent) -> str | None:
        """Return the uid of the stanza that a stanza answers, also if it is an error or the result
        of an iq, which have the id of that stanza.
        """
        stanza = sent.stanza
        return sent.uid or self._answered.get((stanza.kind, stanza.to, stanza.from_, stanza.id))

    def _settle_pair(self, then: Sent, now: Sent) -> None:
        if then.meaning == now.meaning:
            self._matched(then, now)
        else:
            items = _item(then), _item(now)
            self._tell(Difference("sent differently", then.at, *items))

    def _settle_then(self, then: Sent) -> None:
        """Report a stanza of then, unless it has a partner, although not one of the same uid."""
        uid = self._uid_of(then)
        now = self._now.take_reply(uid) if uid is not None else None
        if now is None and (uid is None or uid not in self._uids):
            now = self._now.take(then.meaning)
        if now is None:
            self._tell_missing(then)
        else:
            self._settle_pair(then, now)

    def _settle_now(self, now: Sent) -> None:
        uid = self._uid_of(now)
        then = self._then.take_reply(uid) if uid is not None else None
        if then is None:
            self._tell_extra(now)
        else:
            self._settle_pair(then, now)

    def _tell_missing(self, then: Sent) -> None:
        if self._then.is_copy(then):
            self._leave_out(_SENT_AGAIN)
        elif self._recorded and then.at <= self._recorded.from_before_until + _WRITTEN_S:
            self._leave_out("replies to stanzas from before")
        elif (now := self._now.take_like(then)) is not None:
            items = _item(then), _item(now)
            self._tell(Difference("sent differently", then.at, *items))
        elif _is_announcement(then.stanza):
            self._leave_out("presence for contacts")
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


def _partner(side: Unmatched, sent: Sent) -> Sent | None:
    """Take the stanza of the other side that is certainly the same: of the same uid, if it has one,
    and of the same meaning.
    """
    if sent.uid is not None:
        return side.take_reply(sent.uid, sent.meaning)
    return side.take(sent.meaning)


def _is_announcement(stanza: Stanza) -> bool:
    """Return whether the bridge may have sent a stanza to its contacts, whom a replay has not."""
    return stanza.kind == "presence" and stanza.type in (None, "unavailable", "probe")


def _conversation(stanza: Stanza) -> Conversation:
    return bare(stanza.from_ or ""), bare(stanza.to or "")


def _rank(difference: Difference) -> tuple[float, str]:
    return difference.at, difference.text


def _item(sent: Sent) -> Item:
    return stanza_item(sent.stanza, sent.meaning)
