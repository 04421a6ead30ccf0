"""The judge of `kills` finds each promise broken that it is to find. Nothing is run."""

from collections.abc import Callable

import pytest

from tests.bench.evidence import Evidence, Post, Snapshot, Story
from tests.bench.verdict import Verdict, Who


class Record:
    """Evidence with few words; time goes on by 1 s with each of them."""

    def __init__(self) -> None:
        self.seen = Evidence()
        self._now = 0.0
        self._numbers: dict[int, int] = {}

    def tick(self) -> float:
        self._now += 1
        return self._now

    def send(self, conversation: int = 0) -> Story:
        number = self._numbers[conversation] = self._numbers.get(conversation, 0) + 1
        return self.seen.sent(conversation, number, self.tick())

    def post(self, story: Story, webhook_id: str = "", *, answered: bool = True) -> Post:
        post = self.seen.post(story.id, webhook_id or f"w-{story.id}", "1", self.tick())
        assert post is not None
        if answered:
            post.answered_at = self.tick()
        return post

    def reply(self, story: Story, id: str = "", serial: int = 0) -> None:
        self.seen.arrival(f"{story.id} POST {serial}", id or f"w-{story.id}-1", self.tick())

    def kill(self, *pending: Story, replies: set[str] | None = None) -> Snapshot:
        ids = {one.id for one in pending}
        snapshot = Snapshot(self.seen.epoch, self.tick(), self.tick(), ids, replies or set(), [])
        self.seen.snapshots.append(snapshot)
        self.seen.epoch += 1
        return snapshot

    def whole(self, conversation: int = 0) -> Story:
        """A stanza of which all is well."""
        story = self.send(conversation)
        self.post(story)
        self.reply(story)
        return story

    def violations(self, who: Who = "daemon", *, left: set[str] | None = None) -> list[str]:
        final = Snapshot(self.seen.epoch, 0, 0, left or set(), set(), [])
        return Verdict(who, self.seen, final).violations


def test_a_repeat_copies_a_bounce_and_a_loss_are_as_promised() -> None:
    record = Record()
    record.whole()
    kept, lost = record.send(), record.send(1)
    record.post(kept, answered=False)
    record.kill(kept)
    record.send(2).bounced = True
    record.post(kept)
    record.reply(kept, serial=1)
    record.kill(replies={f"w-{kept.id}-1"})
    record.reply(kept, serial=1)
    record.whole(1)
    assert record.violations() == []

    verdict = Verdict("daemon", record.seen, Snapshot(2, 0, 0, set(), set(), []))
    figures = {label.strip(): figure for label, figure, _ in verdict.rows()}
    assert lost.posts == []
    assert figures["stanzas sent"] == "5"
    assert figures["bounced by Prosody"] == figures["lost before acceptance"] == "1"
    assert figures["accepted"] == "3"
    assert figures["repeats"] == figures["copies of replies"] == "1"


def test_a_message_may_be_forgotten_that_is_posted_during_its_commit() -> None:
    record = Record()
    story = record.send()
    post = record.post(story, answered=False)
    record.kill()
    record.seen.snapshots[0].began_at = post.at + 0.1
    record.whole(1)
    assert record.violations() == []
    assert record.violations("server"), "only the death of the daemon explains it"
    record.seen.snapshots[0].began_at = post.at + 0.6
    assert len(record.violations()) == 2, "it was committed by then, and has no answer"


def test_what_the_journal_knows_is_not_forgotten() -> None:
    record = Record()
    story = record.send()
    post = record.post(story)
    record.kill(replies={f"w-{story.id}-1"})
    record.seen.snapshots[0].began_at = post.at + 0.1
    assert any("never came" in one for one in record.violations())


def pending_is_forgotten(record: Record) -> None:
    record.kill(record.send())


def posted_before_it_was_kept(record: Record) -> None:
    story = record.send()
    record.post(story, answered=False)
    record.kill()
    record.post(story)
    record.reply(story)


def dropped_in_the_middle(record: Record) -> None:
    record.whole(1)
    record.send()
    record.whole(1)


def unconfirmed_is_forgotten(record: Record) -> None:
    story = record.whole()
    record.kill(replies={f"w-{story.id}-1"})


def never_answered(record: Record) -> None:
    record.post(record.send())


def another_webhook_id(record: Record) -> None:
    story = record.send()
    record.post(story, answered=False)
    record.kill(story)
    record.post(story, "other")
    record.reply(story)


def shared_webhook_id(record: Record) -> None:
    for story in (record.send(0), record.send(1)):
        record.post(story, "same")
        record.reply(story, "same-1")


def posted_twice_without_a_kill(record: Record) -> None:
    story = record.whole()
    record.post(story)


def posted_out_of_order(record: Record) -> None:
    first, second = record.send(), record.send()
    for story in (second, first):
        record.post(story)
    for story in (first, second):
        record.reply(story)


def posted_at_once(record: Record) -> None:
    first, second = record.send(), record.send()
    post = record.post(first, answered=False)
    record.post(second)
    post.answered_at = record.tick()
    for story in (first, second):
        record.reply(story)


def replies_out_of_order(record: Record) -> None:
    first, second = record.send(), record.send()
    for story in (first, second):
        record.post(story)
    for story in (second, first):
        record.reply(story)


def copy_with_another_id(record: Record) -> None:
    record.reply(record.whole(), "w-2")


def answered_twice(record: Record) -> None:
    record.reply(record.whole(), serial=1)


def told_an_error(record: Record) -> None:
    record.whole().errors.append("<message type='error'/>")


def came_out_of_nowhere(record: Record) -> None:
    record.seen.post("k9-9", "w", "1", record.tick())


@pytest.mark.parametrize(
    ("break_promise", "told"),
    [
        (pending_is_forgotten, "pending in the journal at kill 0, not POSTed after it"),
        (posted_before_it_was_kept, "POSTed but not in the journal at kill 0"),
        (dropped_in_the_middle, "dropped, others before and behind it were accepted"),
        (unconfirmed_is_forgotten, "unconfirmed at kill 0, not written after it"),
        (never_answered, "its reply never came"),
        (another_webhook_id, "POSTed as ['other', 'w-k0-1']"),
        (shared_webhook_id, "same: of k0-1 and of k1-1"),
        (posted_twice_without_a_kill, "POSTed twice without a kill between"),
        (posted_out_of_order, "k0-1: POSTed behind k0-2"),
        (posted_at_once, "k0-2: POSTed while k0-1 was being answered"),
        (replies_out_of_order, "k0-1: its reply came behind that to k0-2"),
        (copy_with_another_id, "answered as ['w-2', 'w-k0-1-1']"),
        (answered_twice, "answered twice"),
        (told_an_error, "an error that is not Prosody's bounce"),
        (came_out_of_nowhere, "which nobody has sent"),
    ],
)
def test_broken_promise_is_told(break_promise: Callable[[Record], None], told: str) -> None:
    record = Record()
    break_promise(record)
    found = record.violations()
    assert len(found) == 1, found
    assert told in found[0]


def test_what_is_left_in_the_journal_is_told() -> None:
    record = Record()
    record.whole()
    assert record.violations(left={"k0-1"})


def test_one_daemon_posts_once_whatever_happens_to_the_server() -> None:
    record = Record()
    story = record.send()
    record.post(story)
    record.kill()
    record.post(story)
    record.reply(story)
    assert record.violations("server") == [f"{story.id}: POSTed 2 times by one daemon"]


def test_a_reply_may_die_with_the_server_but_not_if_it_was_unconfirmed() -> None:
    record = Record()
    story = record.send()
    record.post(story)
    record.kill()
    assert record.violations("server") == []
    snapshot = record.seen.snapshots[0]
    snapshot.began_at = snapshot.began_at - 2  # before it was answered
    [violation] = record.violations("server")
    assert "no server can have confirmed its reply, which never came" in violation
    snapshot.began_at = snapshot.began_at + 2
    record.kill(replies={f"w-{story.id}-1"})
    [violation] = record.violations("server")
    assert "unconfirmed at kill 1, not written after it" in violation
    record.seen.returned[f"w-{story.id}-1"] += 1
    assert record.violations("server") == []


def test_what_the_daemon_has_read_is_accounted_for() -> None:
    record = Record()
    record.whole()
    record.seen.returned["w-1"] += 2
    record.seen.read = 3
    assert record.violations("server") == []
    record.seen.read = 4
    [violation] = record.violations("server")
    assert violation == "the daemon has read 4 stanzas, of which 3 are known"
