"""What the evidence proves: figures, and every promise that was not kept.

Of the stanzas sent, those are *accepted* that came to the endpoint or were seen in the journal.
Prosody has bounced some, since no daemon was attached; the others were lost before they were
accepted: on their way at a kill, in a socket, or not yet committed. Since every hop keeps the
order, these can only be the last ones before a kill: one with an accepted one of the same epoch
behind it was dropped by the bridge.

A message may be POSTed while it is being committed. A daemon that was killed within `COMMIT_S` of
such a POST may have *forgotten* it: then the journal has no trace of it, and nothing comes of it.
"""

import math
from collections.abc import Iterator
from typing import Final, Literal

from tests.bench.evidence import Evidence, Post, Snapshot, Story

COMMIT_S: Final = 0.5
"""The longest time from the beginning of a POST to the commit of its stanza."""
Who = Literal["daemon", "server", "poller"]
Row = tuple[str, str, str]  # label, figure, remark


class Verdict:
    """The judgement of one run; `final` is the journal when all was quiet."""

    def __init__(self, who: Who, evidence: Evidence, final: Snapshot) -> None:
        self._who = who
        self._evidence = evidence
        self._final = final
        self._stories = list(evidence.stories.values())
        self._accepted_in = _acceptance(evidence)
        self._forgotten = set(self._find_forgotten())
        self._accepted = [one for one in self._stories if one.id in self._accepted_in]
        self._lost = [
            one for one in self._stories if one.id not in self._accepted_in and not one.bounced
        ]
        self.violations = list(self._find())

    # --- figures

    def rows(self) -> list[Row]:
        """The table."""
        return [*self._ways_in(), *self._kept(), *self._posts(), *self._replies()]

    def _ways_in(self) -> Iterator[Row]:
        bounced = sum(1 for one in self._stories if one.bounced)
        yield "stanzas sent", f"{len(self._stories):,}", ""
        yield "  bounced by Prosody", f"{bounced:,}", "no daemon was attached"
        away_s = max(map(self._from_kill_s, self._lost), default=0.0)
        remark = f"in sockets, or not yet committed; sent at most {away_s:.3f} s from a kill"
        yield "  lost before acceptance", f"{len(self._lost):,}", remark
        yield "  accepted", f"{len(self._accepted):,}", "POSTed, or seen in the journal"
        if self._evidence.read is not None:
            remark = "by its own count, with the replies that came back"
            yield "    read by the daemon", f"{self._evidence.read:,}", remark
        remark = "POSTed, and the daemon killed during the commit"
        yield "    forgotten", f"{len(self._forgotten):,}", remark
        missing = sum(1 for one in self._accepted if not one.posts)
        yield "    missing at the endpoint", f"{missing:,}", ""

    def _from_kill_s(self, story: Story) -> float:
        """How long before or after the nearest kill it was sent."""
        times = (one.ended_at for one in self._evidence.snapshots)
        return min((abs(at - story.sent_at) for at in times), default=math.inf)

    def _kept(self) -> Iterator[Row]:
        pending = [len(one.pending) for one in self._evidence.snapshots]
        replies = [len(one.replies) for one in self._evidence.snapshots]
        for label, counts in (
            ("pending in the journal", pending),
            ("unconfirmed replies in it", replies),
        ):
            remark = f"over all kills; at one kill at most {max(counts, default=0):,}"
            yield label, f"{sum(counts):,}", remark
        final = self._final
        left = f"{len(final.pending)} / {len(final.replies)} / {len(final.dead)}"
        yield "left in it at the end", left, "pending / replies / dead letters"

    def _posts(self) -> Iterator[Row]:
        counts = [len(one.posts) for one in self._stories]
        repeated = sum(1 for count in counts if count > 1)
        yield "POSTs", f"{sum(counts):,}", ""
        remark = f"of {repeated:,} stanzas; the most of one: {max(counts, default=0)} POSTs"
        yield "  repeats", f"{sum(counts) - sum(map(bool, counts)):,}", remark

    def _replies(self) -> Iterator[Row]:
        answered = sum(1 for one in self._stories if one.arrivals)
        copies = [len(one.arrivals) - 1 for one in self._stories if len(one.arrivals) > 1]
        yield "stanzas answered", f"{answered:,}", "their reply is at the sender"
        remark = f"of {len(copies):,} replies; the most of one: {max(copies, default=0)}"
        yield "  copies of replies", f"{sum(copies):,}", remark
        if self._who == "server":
            returned = sum(1 for one in self._unanswered() if self._is_returned(one))
            remark = "the sender was not attached again yet"
            yield "  returned to the bridge", f"{returned:,}", remark
            gone = sum(1 for one in self._unanswered()) - returned
            remark = "confirmed by Prosody (barrier), which died before it had passed them on"
            yield "  died with Prosody", f"{gone:,}", remark

    def _unanswered(self) -> list[Story]:
        return [
            one
            for one in self._accepted
            if one.posts and not one.arrivals and one.id not in self._forgotten
        ]

    def _find_forgotten(self) -> Iterator[str]:
        """Return the stanzas with one POST, just before a kill, of which the journal knew nothing
        then.
        """
        snapshots = {one.epoch: one for one in self._evidence.snapshots}
        for story in self._stories:
            snapshot = snapshots.get(story.posts[0].epoch) if len(story.posts) == 1 else None
            if self._who != "daemon" or snapshot is None or story.arrivals:
                continue
            [post] = story.posts
            is_kept = story.id in snapshot.pending or f"{post.webhook_id}-1" in snapshot.replies
            if not is_kept and post.at > snapshot.began_at - COMMIT_S:
                yield story.id

    def _is_returned(self, story: Story) -> bool:
        return f"{story.posts[0].webhook_id}-1" in self._evidence.returned

    # --- promises

    def _find(self) -> Iterator[str]:
        yield from self._evidence.strange
        yield from self._missing()
        yield from self._unkept()
        yield from self._holes()
        yield from self._identity()
        yield from self._order()
        yield from self._answers()
        yield from self._errors()
        known = len(self._accepted) + self._evidence.returned.total()
        if self._evidence.read not in (None, known):
            yield f"the daemon has read {self._evidence.read} stanzas, of which {known} are known"
        if not self._final.is_empty:
            yield f"the journal is not empty when all is quiet: {self._final}"

    def _missing(self) -> Iterator[str]:
        """Whatever the journal held at a kill came to the endpoint, and to the sender, after it."""
        for snapshot in self._evidence.snapshots:
            where = f"at kill {snapshot.epoch}"
            for id in sorted(snapshot.pending):
                story = self._evidence.stories.get(id)
                posts = story.posts if story else []
                if self._who == "daemon":
                    posts = [one for one in posts if one.epoch > snapshot.epoch]
                if not posts:
                    yield f"{id}: pending in the journal {where}, not POSTed after it"
            for why in snapshot.dead:
                yield f"a dead letter {where}: {why}"
        latest: dict[str, float] = {}
        for story in self._stories:
            for arrival in story.arrivals:
                latest[arrival.id] = max(arrival.at, latest.get(arrival.id, 0))
        for snapshot in self._evidence.snapshots:
            after = snapshot.began_at if self._who == "daemon" else 0
            for id in sorted(snapshot.replies - self._evidence.returned.keys()):
                if latest.get(id, -1) < after:
                    yield f"reply {id}: unconfirmed at kill {snapshot.epoch}, not written after it"

    def _unkept(self) -> Iterator[str]:
        """Accepted means committed: what was being answered is in the journal, or forgotten."""
        posted: dict[int, list[tuple[Story, Post]]] = {}
        for story, post in self._evidence.posted:
            posted.setdefault(post.epoch, []).append((story, post))
        for snapshot in self._evidence.snapshots:
            for story, post in posted.get(snapshot.epoch, []):
                was_posting = self._who == "daemon" or post.at < snapshot.ended_at
                is_kept = story.id in snapshot.pending or story.id in self._forgotten
                if was_posting and not is_kept and not _is_answered(post, snapshot.ended_at):
                    yield f"{story.id}: POSTed but not in the journal at kill {snapshot.epoch}"

    def _holes(self) -> Iterator[str]:
        """What was lost is the end of what was sent before a kill."""
        before, lost = -1, list[Story]()
        for story in self._stories:
            epoch = self._accepted_in.get(story.id)
            if epoch is None:
                lost += [] if story.bounced else [story]
                continue
            if epoch < before:
                yield f"{story.id}: accepted before kill {epoch}, behind one accepted later"
            if epoch == before:
                for one in lost:
                    yield f"{one.id}: dropped, others before and behind it were accepted"
            before, lost = epoch, []

    def _identity(self) -> Iterator[str]:
        """One webhook-id for each stanza, and one stanza for each."""
        owners: dict[str, str] = {}
        for story, post in self._evidence.posted:
            if owners.setdefault(post.webhook_id, story.id) != story.id:
                yield f"{post.webhook_id}: of {owners[post.webhook_id]} and of {story.id}"
        for story in self._stories:
            ids = {post.webhook_id for post in story.posts}
            if len(ids) > 1:
                yield f"{story.id}: POSTed as {sorted(ids)}"
            if self._who == "server" and len(story.posts) > 1:
                yield f"{story.id}: POSTed {len(story.posts)} times by one daemon"
            if len({post.epoch for post in story.posts}) < len(story.posts):
                yield f"{story.id}: POSTed twice without a kill between: {story.posts}"

    def _order(self) -> Iterator[str]:
        """The POSTs of a conversation never go back, nor do the first copies of its replies."""
        posted: dict[int, tuple[Story, Post]] = {}
        for story, post in self._evidence.posted:
            last, last_post = posted.get(story.conversation, (story, post))
            if story.number < last.number:
                yield f"{story.id}: POSTed behind {last.id}"
            is_neighbour = post.epoch == last_post.epoch and last is not story
            if is_neighbour and not _is_answered(last_post, post.at):
                yield f"{story.id}: POSTed while {last.id} was being answered"
            posted[story.conversation] = story, post
        arrived: dict[int, Story] = {}
        for story in sorted(self._stories, key=lambda one: min(_times(one), default=0)):
            if story.arrivals:
                last = arrived.get(story.conversation, story)
                if story.number < last.number:
                    yield f"{story.id}: its reply came behind that to {last.id}"
                arrived[story.conversation] = story

    def _answers(self) -> Iterator[str]:
        """Each is answered once: copies of its reply are the same to the letter."""
        for story in self._stories:
            ids = {one.id for one in story.arrivals}
            if ids - {f"{post.webhook_id}-1" for post in story.posts[:1]}:
                yield f"{story.id}: answered as {sorted(ids)}, POSTed as {story.posts[:1]}"
            if len({one.body for one in story.arrivals}) > 1:
                yield f"{story.id}: answered twice: {sorted({one.body for one in story.arrivals})}"
        for story in self._unanswered():
            if self._who != "server":
                yield f"{story.id}: accepted and POSTed, its reply never came"
            elif not self._is_returned(story) and not self._may_have_died(story):
                yield f"{story.id}: no server can have confirmed its reply, which never came"

    def _may_have_died(self, story: Story) -> bool:
        """Whether Prosody did anything between the answer to its POST and a kill."""
        answered_at = story.posts[0].answered_at
        ends = {one.epoch: one.began_at for one in self._evidence.snapshots}
        end = ends.get(story.posts[0].epoch)
        return answered_at is not None and end is not None and answered_at < end

    def _errors(self) -> Iterator[str]:
        for story in self._stories:
            for error in story.errors:
                yield f"{story.id}: an error that is not Prosody's bounce: {error}"
            if story.bounced and story.id in self._accepted_in:
                yield f"{story.id}: bounced by Prosody, and accepted all the same"


def _acceptance(evidence: Evidence) -> dict[str, int]:
    """The epoch in which each stanza was accepted: the first that has a trace of it."""
    found: dict[str, int] = {}
    for story, post in evidence.posted:
        found[story.id] = min(post.epoch, found.get(story.id, post.epoch))
    for snapshot in evidence.snapshots:
        for id in snapshot.pending & evidence.stories.keys():
            found[id] = min(snapshot.epoch, found.get(id, snapshot.epoch))
    return found


def _is_answered(post: Post, by: float) -> bool:
    return post.answered_at is not None and post.answered_at <= by


def _times(story: Story) -> Iterator[float]:
    return (one.at for one in story.arrivals)
