"""What the evidence of several nodes proves: figures, and every promise that was not kept.

There are no epochs here: the other nodes go on while one is killed. Instead each deviation needs a
cause, an outage that overlaps the time in which it came about:

  a POST again       the node of the POST before it was killed, frozen or cut from the database, or
                     the database was down
  a second POST of   the same, of the node of the first
  a conversation
  a POST behind      the node that made it was frozen, and was released just before
  newer ones
  a copy of a reply  any, between the first POST and the copy
  a loss, a bounce,  any, from its sending on; a loss also before a later one of its conversation
  a refusal          came to the endpoint, because every hop keeps the order

A POST of a frozen node that comes late is harmless: its answer is never settled, which shows in the
replies: all copies of one name the same POST.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.bench.evidence import Evidence, Kind, Outage, Post, Snapshot, Story

Row = tuple[str, str, str]  # label, figure, remark

COMMIT_S: Final = 1.0
"""The longest time between a POST and the moment that the journal holds its stanza."""
NEAR_S: Final = 1.0
"""The longest way of a stanza to the bridge, and that of a bounce back."""
IQ_S: Final = 12.0
"""After which an iq is answered by an error: its budget, and the way back."""
RELEASED_S: Final = 2.0
"""In which a node that was frozen sends what it was about to send."""
MOST_COPIES: Final = 5
OF_DATABASE: Final[frozenset[Kind]] = frozenset({"crash", "promotion"})
OF_NODE: Final[frozenset[Kind]] = frozenset({"kill", "freeze", "cut_database", "cut_both"})
"""After which another node takes its work: it is dead, or has lost the database."""
OF_SERVER: Final[frozenset[Kind]] = frozenset({"server", "cut_server"})
KIND_NAMES: Final[dict[Kind, str]] = {
    "kill": "a node killed",
    "freeze": "a node frozen",
    "server": "Prosody killed",
    "crash": "the database crashed",
    "promotion": "a stand-by promoted",
    "cut_database": "a node cut from the database",
    "cut_server": "a node cut from Prosody",
    "cut_both": "a node cut from both",
}
REFUSALS: Final = ("<resource-constraint ", "<remote-server-timeout ")


class ClusterVerdict:
    """The judgement of one run; `final` is the journal when all was quiet.

    `take_over_s` is how long it may take at most from the loss of a gateway to the next reply. A
    gateway that is only cut from the server has 10 s more to come back, after it has noticed that.
    """

    def __init__(self, evidence: Evidence, final: Snapshot, take_over_s: float = math.inf) -> None:
        self._evidence = evidence
        self._final = final
        self._limit_s = take_over_s
        self._stories = list(evidence.stories.values())
        seen = {id for snapshot in evidence.snapshots for id in snapshot.pending}
        # What was refused since a commit was in doubt may be there until the journal takes it back.
        self._accepted = [
            one for one in self._stories if one.posts or (one.id in seen and not one.errors)
        ]
        self._lost = [
            one
            for one in self._stories
            if not (one.posts or one.id in seen or one.bounced or one.errors)
        ]
        self.violations = list(self._find())

    # --- figures

    def rows(self) -> list[Row]:
        """The table."""
        return [*self._outages(), *self._ways_in(), *self._posts(), *self._replies()]

    def _outages(self) -> Iterator[Row]:
        for kind, name in KIND_NAMES.items():
            waits = [
                (self._next_reply_s(one), one.is_gateway)
                for one in self._evidence.outages
                if one.kind == kind
            ]
            if waits:
                remark = f"longest until the next reply: {max(wait for wait, _ in waits):.1f} s"
                if gateways := [wait for wait, is_gateway in waits if is_gateway]:
                    remark += f"; of {len(gateways)} gateways {max(gateways):.1f} s"
                yield f"  {name}", f"{len(waits):,}", remark

    def _next_reply_s(self, outage: Outage) -> float:
        """How long after its begin the first reply came that was made after it."""
        times = (
            arrival.at
            for story in self._stories
            for arrival in story.arrivals[:1]
            if story.posts and (story.posts[-1].answered_at or -math.inf) > outage.began_at
        )
        return min((at for at in times if at > outage.began_at), default=math.inf) - outage.began_at

    def _ways_in(self) -> Iterator[Row]:
        iqs = sum(1 for one in self._stories if one.is_iq)
        yield "stanzas sent", f"{len(self._stories):,}", f"of which iqs: {iqs:,}"
        bounced = sum(1 for one in self._stories if one.bounced)
        yield "  bounced by Prosody", f"{bounced:,}", "no node was attached"
        refused = sum(1 for one in self._stories if one.errors)
        yield "  refused by the bridge", f"{refused:,}", "or iqs that had no answer in time"
        yield "  lost before acceptance", f"{len(self._lost):,}", "in sockets, or not committed"
        yield "  accepted", f"{len(self._accepted):,}", "POSTed, or seen in the journal"
        missing = sum(1 for one in self._accepted if not one.posts)
        yield "    missing at the endpoint", f"{missing:,}", ""
        kept = [len(one.pending) for one in self._evidence.snapshots]
        yield (
            "pending in the journal",
            f"{sum(kept):,}",
            f"at one outage at most {max(kept, default=0):,}",
        )
        final = self._final
        left = f"{len(final.pending)} / {len(final.replies)} / {len(final.dead)}"
        yield "left in it at the end", left, "pending / replies / dead letters"

    def _posts(self) -> Iterator[Row]:
        counts = [len(one.posts) for one in self._stories]
        by_node: dict[str, int] = {}
        for _, post in self._evidence.posted:
            by_node[post.node or "?"] = by_node.get(post.node or "?", 0) + 1
        parts = ", ".join(f"{node}: {count:,}" for node, count in sorted(by_node.items()))
        yield "POSTs", f"{sum(counts):,}", parts
        yield "  repeats", f"{sum(counts) - sum(map(bool, counts)):,}", ""

    def _replies(self) -> Iterator[Row]:
        answered = [one for one in self._stories if one.arrivals]
        waits = (one.arrivals[0].at - one.sent_at for one in answered)
        remark = f"the longest wait: {max(waits, default=0):.1f} s"
        yield "stanzas answered", f"{len(answered):,}", remark
        copies = [len(one.arrivals) - 1 for one in answered]
        remark = f"the most of one: {max(copies, default=0)}"
        yield "  copies of replies", f"{sum(copies):,}", remark
        died = sum(1 for one in self._accepted if one.posts and not (one.arrivals or one.errors))
        yield "  died with Prosody", f"{died:,}", "confirmed (barrier), and not passed on"

    # --- promises

    def _find(self) -> Iterator[str]:
        yield from self._evidence.strange
        yield from self._missing()
        yield from self._unkept()
        yield from self._ways_round()
        yield from self._holes()
        yield from self._identity()
        yield from self._repeats()
        yield from self._order()
        yield from self._replies_in_order()
        yield from self._answers()
        yield from self._take_overs()

    def _is_excused(
        self, begin: float, end: float, kinds: frozenset[Kind], node: str | None = None
    ) -> bool:
        """Whether there was an outage of these kinds, and of that node if it is known."""
        return any(
            one.kind in kinds
            and one.overlaps(begin, end)
            and (one.kind not in OF_NODE or node is None or one.node == node)
            for one in self._evidence.outages
        )

    def _is_cut(self, begin: float, end: float, node: str | None) -> bool:
        """Whether what that node was doing may have been done again by another one."""
        return self._is_excused(begin, end, OF_NODE | OF_DATABASE, node)

    def _is_disturbed(self, begin: float, end: float) -> bool:
        return self._is_excused(begin, end, OF_NODE | OF_DATABASE | OF_SERVER)

    def _missing(self) -> Iterator[str]:
        """Whatever was accepted comes to the endpoint, and the journal ends empty."""
        for story in self._accepted:
            if not story.posts:
                yield f"{story.id}: seen in the journal, and never POSTed"
        for id in sorted(self._final.pending):
            yield f"{id}: still pending in the end"
        for id in sorted(self._final.replies):
            yield f"reply {id}: still unconfirmed in the end"
        for why in self._final.dead:
            of = self._evidence.stories.get(why.partition(":")[0])
            if of is None or not (of.is_iq and of.errors):  # its sender was told
                yield f"dead letter {why}"

    def _unkept(self) -> Iterator[str]:
        """Accepted means committed: what is being answered for the last time is in the journal."""
        for snapshot in self._evidence.snapshots:
            for story, post in self._evidence.posted:
                was_posting = post.at + COMMIT_S < snapshot.began_at and not _is_answered(
                    post, snapshot.ended_at
                )
                if not was_posting or story.id in snapshot.pending or story.posts[-1] is not post:
                    continue
                is_excused = (
                    self._is_late(post)
                    or self._is_excused(post.at - COMMIT_S, snapshot.ended_at, OF_DATABASE)
                    or (story.is_iq and story.errors)
                )
                if not is_excused:
                    yield f"{story.id}: POSTed but not in the journal at {snapshot.began_at:.1f} s"

    def _ways_round(self) -> Iterator[str]:
        """A bounce and an error have a cause, and end the stanza."""
        accepted = {story.id for story in self._accepted}
        for story in self._stories:
            at = story.sent_at
            if story.bounced and not self._is_disturbed(at, at + NEAR_S):
                yield f"{story.id}: bounced, and nothing was down"
            if story.bounced and story.id in accepted:
                yield f"{story.id}: bounced by Prosody, and accepted all the same"
            for error in story.errors:
                if not any(refusal in error for refusal in REFUSALS):
                    yield f"{story.id}: an error that is not a refusal: {error}"
                elif not self._is_disturbed(at, at + (IQ_S if story.is_iq else NEAR_S)):
                    yield f"{story.id}: refused, and nothing was down: {error}"
            if story.errors and story.posts and not story.is_iq:
                yield f"{story.id}: refused, and POSTed all the same"
            if len(set(story.errors)) > 1 or (story.errors and story.arrivals):
                yield f"{story.id}: answered by {story.errors} and {story.arrivals}"

    def _holes(self) -> Iterator[str]:
        """What was lost was lost in an outage, before a later one of its conversation came."""
        later: dict[int, float] = {}
        lost = {story.id for story in self._lost}
        for story in reversed(self._stories):
            end = later.get(story.conversation, math.inf)
            if story.id in lost:
                if not self._is_disturbed(story.sent_at, end):
                    yield f"{story.id}: lost, and nothing was down"
            elif story.posts:
                later[story.conversation] = min(end, story.posts[0].at)

    def _identity(self) -> Iterator[str]:
        """One webhook-id for each stanza, and one stanza for each."""
        owners: dict[str, str] = {}
        for story, post in self._evidence.posted:
            if owners.setdefault(post.webhook_id, story.id) != story.id:
                yield f"{post.webhook_id}: of {owners[post.webhook_id]} and of {story.id}"
        for story in self._stories:
            if len(ids := {post.webhook_id for post in story.posts}) > 1:
                yield f"{story.id}: POSTed as {sorted(ids)}"

    def _repeats(self) -> Iterator[str]:
        for story in self._stories:
            for first, second in pairwise(story.posts):
                if not self._is_cut(first.at, second.at, first.node) and not self._is_late(second):
                    yield f"{story.id}: POSTed again, and its node lived: {first}, {second}"

    def _is_late(self, post: Post) -> bool:
        """Whether a node may have sent it that had just been released."""
        return any(
            one.kind == "freeze"
            and post.node in (None, one.node)
            and one.began_at <= post.at <= one.ended_at + RELEASED_S
            for one in self._evidence.outages
        )

    def _order(self) -> Iterator[str]:
        """A conversation's POSTs never go back, and there is one at a time."""
        posted: dict[int, tuple[Story, Post]] = {}
        for story, post in self._evidence.posted:
            if story.is_iq:
                continue
            if story.posts[0] is not post and self._is_late(post):
                continue
            last, last_post = posted.get(story.conversation, (story, post))
            if story.number < last.number:
                yield f"{story.id}: POSTed behind {last.id}"
                continue
            is_free = last is story or _is_answered(last_post, post.at)
            if not is_free and not self._is_cut(last_post.at, post.at, last_post.node):
                yield f"{story.id}: POSTed while {last.id} was being answered"
            posted[story.conversation] = story, post

    def _replies_in_order(self) -> Iterator[str]:
        arrived: dict[int, Story] = {}
        answered = [one for one in self._stories if one.arrivals and not one.is_iq]
        for story in sorted(answered, key=lambda one: one.arrivals[0].at):
            last = arrived.get(story.conversation, story)
            if story.number < last.number:
                yield f"{story.id}: its reply came behind that to {last.id}"
            arrived[story.conversation] = story

    def _answers(self) -> Iterator[str]:
        """Each is settled once: copies of its reply are the same to the letter."""
        for story in self._stories:
            ids = {one.id for one in story.arrivals}
            right = {story.id} if story.is_iq else {f"{one.webhook_id}-1" for one in story.posts}
            if ids - right or len(ids) > 1:
                yield f"{story.id}: answered as {sorted(ids)}, POSTed as {story.posts[:1]}"
            if len(bodies := {one.body for one in story.arrivals}) > 1:
                yield f"{story.id}: settled twice: {sorted(bodies)}"
            if len(story.arrivals) > MOST_COPIES:
                yield f"{story.id}: its reply came {len(story.arrivals)} times"
            for copy in story.arrivals[1:]:
                if story.posts and not self._is_disturbed(story.posts[0].at, copy.at):
                    yield f"{story.id}: its reply came again, and nothing was down"
        for story in self._accepted:
            if story.posts and not story.is_ended and not self._may_have_died(story):
                yield f"{story.id}: accepted and POSTed, its reply never came"

    def _may_have_died(self, story: Story) -> bool:
        """Whether Prosody may have confirmed its reply and died with it, or returned it."""
        id = f"{story.posts[0].webhook_id}-1"
        if id in self._evidence.returned:
            return True
        deaths = [one for one in self._evidence.outages if one.kind == "server"]
        if story.is_iq:  # Prosody returns no answer to an iq whose sender is not attached again yet
            return any(one.ended_at >= story.posts[0].at for one in deaths)
        answered = (one.answered_at for one in story.posts if one.answered_at is not None)
        unconfirmed = (one.ended_at for one in self._evidence.snapshots if id in one.replies)
        since = max(min(answered, default=math.inf), *unconfirmed, 0.0)
        return any(one.began_at >= since for one in deaths)

    def _take_overs(self) -> Iterator[str]:
        for outage in self._evidence.outages:
            is_lost = outage.is_gateway and outage.kind in OF_NODE
            if is_lost and (after_s := self._next_reply_s(outage)) > self._limit_s:
                yield f"{outage.kind} of {outage.node}: the next reply came after {after_s:.1f} s"


def _is_answered(post: Post, by: float) -> bool:
    return post.answered_at is not None and post.answered_at <= by
