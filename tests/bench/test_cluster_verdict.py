"""The judge of several nodes finds each promise broken, and excuses what an outage explains."""

from collections.abc import Callable

import pytest

from tests.bench.cluster_verdict import COMMIT_S, MOST_COPIES, ClusterVerdict
from tests.bench.evidence import Evidence, Kind, Outage, Post, Snapshot, Story

REFUSED = "<message type='error'><error type='wait'><resource-constraint xmlns='x'/></error>"
TIMED_OUT = "<iq type='error'><error type='wait'><remote-server-timeout xmlns='x'/></error>"


class Record:
    """Evidence with few words; time goes on by 10 s with each of them."""

    def __init__(self) -> None:
        self.seen = Evidence()
        self._now = 0.0
        self._numbers: dict[int, int] = {}

    def tick(self) -> float:
        self._now += 10
        return self._now

    def send(self, conversation: int = 0, *, is_iq: bool = False) -> Story:
        number = self._numbers[conversation] = self._numbers.get(conversation, 0) + 1
        return self.seen.sent(conversation, number, self.tick(), is_iq=is_iq)

    def post(
        self, story: Story, node: str = "a", *, webhook_id: str = "", answered: bool = True
    ) -> Post:
        uid = webhook_id or f"w-{story.id}"
        post = self.seen.post(story.id, uid, "1", self.tick(), node)
        assert post is not None
        if answered:
            self.answer(post)
        return post

    def answer(self, post: Post) -> None:
        post.answered_at = self.tick()

    def reply(self, story: Story, id: str = "", serial: int = 0) -> None:
        id = id or (story.id if story.is_iq else f"w-{story.id}-1")
        self.seen.arrival(f"{story.id} POST {serial}", id, self.tick())

    def whole(self, conversation: int = 0, *, is_iq: bool = False) -> Story:
        """A stanza of which all is well."""
        story = self.send(conversation, is_iq=is_iq)
        self.post(story)
        self.reply(story)
        return story

    def begin(self, kind: Kind, node: str | None = None, *, is_gateway: bool = False) -> Outage:
        outage = Outage(kind, self.tick(), node, is_gateway)
        self.seen.outages.append(outage)
        return outage

    def end(self, outage: Outage) -> None:
        outage.ended_at = self.tick()

    def pass_by(self, kind: Kind, node: str | None = None) -> None:
        """An outage from begin to end."""
        self.end(self.begin(kind, node))

    def snapshot(self, *pending: Story, replies: set[str] | None = None) -> None:
        ids = {one.id for one in pending}
        taken = Snapshot(0, self.tick(), self.tick(), ids, replies or set(), [])
        self.seen.snapshots.append(taken)

    def verdict(self, take_over_s: float = 1000) -> ClusterVerdict:
        return ClusterVerdict(self.seen, Snapshot(0, 0, 0, set(), set(), []), take_over_s)


# --- what an outage explains


def posted_again_by_another_node(record: Record) -> None:
    story = record.send()
    post = record.post(story, "a", answered=False)
    record.pass_by("kill", "a")
    record.snapshot(story)
    record.post(story, "b")
    record.answer(post)  # into a socket that nobody reads
    record.reply(story, serial=1)


def posted_again_because_the_database_was_down(record: Record) -> None:
    story = record.send()
    record.post(story, "a")
    record.pass_by("promotion")
    record.post(story, "b")
    record.reply(story, serial=1)


def next_one_posted_after_a_kill(record: Record) -> None:
    first, second = record.send(), record.send()
    cut = record.post(first, "a", answered=False)
    record.pass_by("kill", "a")
    record.post(first, "b", answered=False)
    record.pass_by("kill", "b")
    record.post(second, "c")
    record.answer(cut)
    for story in (first, second):
        record.reply(story)


def copy_of_a_released_node_comes_late(record: Record) -> None:
    first, second = record.send(), record.send()
    freeze = record.begin("freeze", "a")
    for story in (first, second):
        record.post(story, "b")
    freeze.ended_at = record.tick()
    late = record.post(first, "a", answered=False)
    late.at = freeze.ended_at + 1
    record.whole()
    record.answer(late)
    for story in (first, second):
        record.reply(story)
    record.seen.stories["k0-1"].arrivals[0].at = 0  # in order, before that of k0-3
    record.seen.stories["k0-2"].arrivals[0].at = 1


def lost_with_its_gateway(record: Record) -> None:
    record.whole()
    record.send()
    record.pass_by("kill", "a")
    record.whole()


def bounced_and_refused(record: Record) -> None:
    down = record.begin("crash")
    record.send().bounced = True
    record.send().errors.append(REFUSED)
    record.end(down)


def refused_while_its_commit_was_in_doubt(record: Record) -> None:
    down = record.begin("crash")
    story = record.send()
    record.snapshot(story)
    story.errors.append(REFUSED)
    record.end(down)


def iq_is_answered_by_an_error(record: Record) -> None:
    story = record.send(is_iq=True)
    record.begin("kill", "a").began_at = story.sent_at + 5
    record.post(story, answered=False)
    story.errors += [TIMED_OUT, TIMED_OUT]  # written again by another gateway


def iqs_have_no_order(record: Record) -> None:
    first, second = record.send(is_iq=True), record.send(is_iq=True)
    for story in (second, first):
        record.post(story, answered=False)
    for story, post in record.seen.posted:
        record.answer(post)
        record.reply(story)


def reply_dies_with_the_server(record: Record) -> None:
    record.post(record.send())
    record.pass_by("server")


def iq_answer_finds_no_sender(record: Record) -> None:
    down = record.begin("server")
    record.post(record.send(is_iq=True))
    record.end(down)


def copy_after_a_kill(record: Record) -> None:
    story = record.send()
    record.post(story)
    record.pass_by("kill", "b")
    record.reply(story)
    record.reply(story)


def copy_and_loss_after_a_kill_of_the_server(record: Record) -> None:
    story = record.whole()
    down = record.begin("server")
    record.send()
    record.end(down)
    record.reply(story)


def posted_just_before_the_journal_was_read(record: Record) -> None:
    story = record.send()
    post = record.post(story, answered=False)
    record.snapshot()
    post.at = record.seen.snapshots[0].began_at - COMMIT_S / 2
    record.answer(post)
    record.reply(story)


def late_copy_is_not_in_the_journal(record: Record) -> None:
    story = record.send()
    freeze = record.begin("freeze", "a")
    record.post(story, "b")
    late = record.post(story, "a", answered=False)
    record.reply(story)
    record.snapshot()
    record.end(freeze)
    record.answer(late)


@pytest.mark.parametrize(
    "happen",
    [
        copy_and_loss_after_a_kill_of_the_server,
        posted_just_before_the_journal_was_read,
        late_copy_is_not_in_the_journal,
        posted_again_by_another_node,
        posted_again_because_the_database_was_down,
        next_one_posted_after_a_kill,
        copy_of_a_released_node_comes_late,
        lost_with_its_gateway,
        bounced_and_refused,
        refused_while_its_commit_was_in_doubt,
        iq_is_answered_by_an_error,
        iqs_have_no_order,
        reply_dies_with_the_server,
        iq_answer_finds_no_sender,
        copy_after_a_kill,
    ],
)
def test_what_an_outage_explains_is_excused(happen: Callable[[Record], None]) -> None:
    record = Record()
    happen(record)
    assert record.verdict().violations == []


# --- what it does not


def posted_again_and_nothing_was_down(record: Record) -> None:
    record.post(record.whole())


def posted_again_after_a_kill_of_another_node(record: Record) -> None:
    story = record.send()
    record.post(story, "a")
    record.pass_by("kill", "b")
    record.post(story, "a")
    record.reply(story)


def posted_again_because_the_server_was_down(record: Record) -> None:
    story = record.send()
    record.post(story)
    record.pass_by("server")
    record.post(story)
    record.reply(story)


def pending_is_never_posted(record: Record) -> None:
    record.snapshot(record.send())
    record.pass_by("kill", "a")


def posted_before_it_was_kept(record: Record) -> None:
    story = record.send()
    post = record.post(story, answered=False)
    record.snapshot()
    record.answer(post)
    record.reply(story)


def bounced_though_attached(record: Record) -> None:
    record.pass_by("kill", "a")
    record.send().bounced = True


def bounced_and_accepted(record: Record) -> None:
    down = record.begin("kill", "a")
    record.whole().bounced = True
    record.end(down)


def refused_without_reason(record: Record) -> None:
    record.pass_by("crash")
    record.send().errors.append(REFUSED)


def refused_and_posted(record: Record) -> None:
    down = record.begin("crash")
    story = record.send()
    story.errors.append(REFUSED)
    record.post(story)
    record.end(down)


def told_another_error(record: Record) -> None:
    down = record.begin("crash")
    record.send().errors.append("<message type='error'><bad-request xmlns='x'/></message>")
    record.end(down)


def iq_has_two_answers(record: Record) -> None:
    down = record.begin("kill", "a")
    record.whole(is_iq=True).errors.append(TIMED_OUT)
    record.end(down)


def lost_while_nothing_was_down(record: Record) -> None:
    record.pass_by("kill", "a")
    record.send()


def lost_before_one_that_came_before_the_outage(record: Record) -> None:
    record.send()
    record.whole()
    record.pass_by("kill", "a")


def another_webhook_id(record: Record) -> None:
    story = record.send()
    record.post(story, answered=False)
    record.pass_by("kill", "a")
    record.post(story, webhook_id="w")
    record.reply(story)


def shared_webhook_id(record: Record) -> None:
    for story in (record.send(0), record.send(1)):
        record.post(story, webhook_id="same")
        record.reply(story, "same-1")


def posted_out_of_order(record: Record) -> None:
    freeze = record.begin("freeze", "a")
    first, second = record.send(), record.send()
    for story in (second, first):  # the first POST of a stanza has no excuse
        record.post(story)
    record.end(freeze)
    for story in (first, second):
        record.reply(story)


def posted_again_behind_newer_ones(record: Record) -> None:
    first, second = record.send(), record.send()
    record.post(first, "a")
    record.pass_by("kill", "a")
    record.post(second, "b")
    record.post(first, "b")
    for story in (first, second):
        record.reply(story)


def posted_at_once(record: Record) -> None:
    first, second = record.send(), record.send()
    post = record.post(first, "a", answered=False)
    record.pass_by("kill", "b")
    record.post(second, "b")
    record.answer(post)
    for story in (first, second):
        record.reply(story)


def replies_out_of_order(record: Record) -> None:
    first, second = record.send(), record.send()
    for story in (first, second):
        record.post(story)
    for story in (second, first):
        record.reply(story)


def settled_twice(record: Record) -> None:
    posted_again_by_another_node(record)
    record.reply(record.seen.stories["k0-1"], serial=0)


def answered_under_another_id(record: Record) -> None:
    story = record.send()
    record.post(story)
    record.reply(story, "w-other-1")


def copied_without_reason(record: Record) -> None:
    record.reply(record.whole())


def copied_too_often(record: Record) -> None:
    down = record.begin("kill", "a")
    story = record.whole()
    for _ in range(MOST_COPIES):
        record.reply(story)
    record.end(down)


def never_answered(record: Record) -> None:
    record.pass_by("server")
    record.post(record.send())
    record.pass_by("kill", "a")


def unconfirmed_is_forgotten(record: Record) -> None:
    story = record.send()
    record.post(story)
    record.pass_by("server")
    record.snapshot(replies={f"w-{story.id}-1"})


def came_out_of_nowhere(record: Record) -> None:
    record.seen.post("k9-9", "w", "1", record.tick())


@pytest.mark.parametrize(
    ("break_promise", "told"),
    [
        (posted_again_and_nothing_was_down, "k0-1: POSTed again, and its node lived"),
        (posted_again_after_a_kill_of_another_node, "k0-1: POSTed again, and its node lived"),
        (posted_again_because_the_server_was_down, "k0-1: POSTed again, and its node lived"),
        (pending_is_never_posted, "k0-1: seen in the journal, and never POSTed"),
        (posted_before_it_was_kept, "k0-1: POSTed but not in the journal at 30.0 s"),
        (bounced_though_attached, "k0-1: bounced, and nothing was down"),
        (bounced_and_accepted, "k0-1: bounced by Prosody, and accepted all the same"),
        (refused_without_reason, "k0-1: refused, and nothing was down"),
        (refused_and_posted, "k0-1: refused, and POSTed all the same"),
        (told_another_error, "k0-1: an error that is not a refusal"),
        (iq_has_two_answers, "k0-1: answered by"),
        (lost_while_nothing_was_down, "k0-1: lost, and nothing was down"),
        (lost_before_one_that_came_before_the_outage, "k0-1: lost, and nothing was down"),
        (another_webhook_id, "k0-1: POSTed as ['w', 'w-k0-1']"),
        (shared_webhook_id, "same: of k0-1 and of k1-1"),
        (posted_out_of_order, "k0-1: POSTed behind k0-2"),
        (posted_again_behind_newer_ones, "k0-1: POSTed behind k0-2"),
        (posted_at_once, "k0-2: POSTed while k0-1 was being answered"),
        (replies_out_of_order, "k0-1: its reply came behind that to k0-2"),
        (settled_twice, "k0-1: settled twice: ['k0-1 POST 0', 'k0-1 POST 1']"),
        (answered_under_another_id, "k0-1: answered as ['w-other-1']"),
        (copied_without_reason, "k0-1: its reply came again, and nothing was down"),
        (copied_too_often, "k0-1: its reply came 6 times"),
        (never_answered, "k0-1: accepted and POSTed, its reply never came"),
        (unconfirmed_is_forgotten, "k0-1: accepted and POSTed, its reply never came"),
        (came_out_of_nowhere, "which nobody has sent"),
    ],
)
def test_broken_promise_is_told(break_promise: Callable[[Record], None], told: str) -> None:
    record = Record()
    break_promise(record)
    found = record.verdict().violations
    assert len(found) == 1, found
    assert told in found[0]


def test_what_is_left_in_the_journal_is_told() -> None:
    final = Snapshot(0, 0, 0, {"k0-1"}, {"w-1"}, ["k0-2: refused"])
    assert ClusterVerdict(Evidence(), final).violations == [
        "k0-1: still pending in the end",
        "reply w-1: still unconfirmed in the end",
        "dead letter k0-2: refused",
    ]


def test_dead_letter_of_an_iq_that_was_answered_by_an_error_is_right() -> None:
    record = Record()
    down = record.begin("kill", "a")
    record.send(is_iq=True).errors.append(TIMED_OUT)
    record.send().errors.append(REFUSED)
    record.end(down)
    final = Snapshot(0, 0, 0, set(), set(), ["k0-1: it expired", "k0-2: it expired"])
    assert ClusterVerdict(record.seen, final).violations == ["dead letter k0-2: it expired"]


def test_take_over_that_lasts_too_long_is_told_and_measured() -> None:
    record = Record()
    story = record.send()
    outage = record.begin("kill", "a", is_gateway=True)  # at 20 s
    record.post(story, "b")
    record.end(outage)
    record.reply(story)  # at 60 s
    record.pass_by("freeze", "b")
    record.whole()
    assert record.verdict(40).violations == []
    verdict = record.verdict(39)
    assert verdict.violations == ["kill of a: the next reply came after 40.0 s"]
    remarks = {label.strip(): remark for label, _, remark in verdict.rows()}
    assert remarks["a node killed"] == "longest until the next reply: 40.0 s; of 1 gateways 40.0 s"
    assert remarks["a node frozen"] == "longest until the next reply: 50.0 s"


def test_a_gateway_that_is_cut_from_the_server_may_take_longer() -> None:
    record = Record()
    record.begin("cut_server", "a", is_gateway=True)
    record.whole()
    assert record.verdict(1).violations == []


def test_a_reply_that_was_made_before_the_outage_ends_no_take_over() -> None:
    record = Record()
    story = record.send()
    record.post(story)
    record.begin("kill", "a", is_gateway=True)
    record.reply(story)
    assert record.verdict(1000).violations == ["kill of a: the next reply came after inf s"]


def test_figures_tell_where_each_stanza_went() -> None:
    record = Record()
    record.whole(is_iq=True)
    lost_with_its_gateway(record)
    bounced_and_refused(record)
    figures = {label.strip(): figure for label, figure, _ in record.verdict().rows()}
    assert figures["stanzas sent"] == "6"
    assert figures["bounced by Prosody"] == figures["refused by the bridge"] == "1"
    assert figures["lost before acceptance"] == "1"
    assert figures["accepted"] == figures["POSTs"] == figures["stanzas answered"] == "3"
