"""One answer to each iq get or set, direct or deferred, and no stanza lost, whatever the endpoint,
the clocks, a retry, a reconnect, a restart or the disk do.

Hypothesis makes up a history; it is lived in one trio run, with the real dispatcher, keeper,
committer and outbox. Only the stream, the endpoint, the clocks and the disk's thread are fakes.
"""

import itertools
import json
import tempfile
from pathlib import Path
from typing import Final, assert_never

import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import ListenSettings, TcpAddress
from bridge.journal.queue import Quota
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import JournalError, JournalStore
from bridge.listener.submission.sender import Key, SendRefused
from bridge.payload.body import ReplyBody
from bridge.webhook.outcome import NoReply, Outcome, Rejected, Replied, TimedOut, Unreachable
from bridge.webhook.retry import RetryPolicy
from tests.bridge.dispatch.life import (
    BOT,
    DOMAIN,
    DONE,
    Life,
    Post,
    Postbox,
    Wall,
    pass_time,
    said,
    whole,
)
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from xmppstream import Stanza
from xmppstream.jid import bare

LISTEN: Final = ListenSettings(TcpAddress("127.0.0.1", 0), (), public_url="https://b.example")
SENDERS: Final = ("a@x.example/1", "a@x.example/2", "b@x.example/1", "c@x.example")
SLOTS: Final = 2
SETTLED_S: Final = 400.0
FULL_DISK: Final = JournalError("the disk is full")

# --- what can happen


@frozen
class Arrive:
    """A stanza comes in."""

    kind: str
    sender: int


@frozen
class Answer:
    """The endpoint ends one of its POSTs."""

    which: int
    how: str


@frozen
class Later:
    """The endpoint replies at the `reply_url` of a POST, of those that it had last."""

    which: int
    what: str
    has_key: bool


@frozen
class Pass:
    """Time passes."""

    seconds: float


@frozen
class SetClock:
    """Somebody sets the wall clock."""

    by_s: float


@frozen
class LoseStream:
    """The stream breaks, and the server says whose fault it was."""

    blamed: bool


@frozen
class Act:
    """Anything else."""

    what: str


Step = Arrive | Answer | Later | Pass | SetClock | LoseStream | Act

OUTCOMES: Final = (
    *("nothing", "answer", "answer and more", "two answers", "garbage", "crash"),
    *("404", "500", "503", "429", "unreachable", "timeout", "deferred", "deferred"),
)
ACTS: Final = (
    *("attach", "confirm", "abandon the suspect", "kill", "stop", "stop at once"),
    *("hold the disk", "hold what it tells", "release the disk", "fill the disk", "mend the disk"),
)
ARRIVALS: Final = st.builds(
    Arrive,
    st.sampled_from(["iq", "iq", "iq", "message", "message", "message", "presence", "result"]),
    st.integers(0, len(SENDERS) - 1),
)
ANSWERS: Final = st.builds(Answer, st.integers(0, SLOTS), st.sampled_from(OUTCOMES))
FAILURES: Final = st.builds(
    Answer, st.integers(0, SLOTS), st.sampled_from(["unreachable", "503", "timeout"])
)
DEFERRALS: Final = st.builds(Answer, st.integers(0, SLOTS), st.just("deferred"))
LATER: Final = st.builds(
    Later, st.integers(0, 5), st.sampled_from(["answer", "answer", "more", "done"]), st.booleans()
)
PAUSES: Final = st.builds(Pass, st.sampled_from([0.1, 0.5, 1.0, 3.0, 9.0, 11.0, 31.0, 61.0]))
ACTIONS: Final = st.builds(Act, st.sampled_from(ACTS))
STEPS: Final = st.one_of(
    ARRIVALS,
    ANSWERS,
    LATER,
    PAUSES,
    st.builds(SetClock, st.sampled_from([-3600.0, -7.0, 7.0, 3600.0])),
    st.builds(LoseStream, st.booleans()),
    ACTIONS,
)


def scene(*parts: st.SearchStrategy[Step] | Act) -> st.SearchStrategy[list[Step]]:
    """Steps that are telling one after the other."""
    return st.tuples(*(st.just(one) if isinstance(one, Act) else one for one in parts)).map(list)


OUTAGE: Final = scene(
    *(st.builds(Arrive, st.sampled_from(["iq", "message"]), st.just(n)) for n in (0, 2, 3, 1)),
    *([FAILURES] * 4),
    PAUSES,
    FAILURES,
    PAUSES,
    ANSWERS,
)
SCENES: Final = st.one_of(
    st.lists(STEPS, min_size=1, max_size=3),
    st.lists(ARRIVALS, min_size=1, max_size=8),
    st.lists(ANSWERS, min_size=1, max_size=6),
    st.lists(FAILURES, min_size=3, max_size=6),
    scene(ARRIVALS, ANSWERS, Act("attach"), ACTIONS),
    scene(Act("hold the disk"), ANSWERS, ARRIVALS, Act("kill")),
    scene(Act("hold what it tells"), ANSWERS, ARRIVALS, Act("kill")),
    scene(Act("fill the disk"), ANSWERS, ARRIVALS, Act("mend the disk"), PAUSES),
    scene(st.just(LoseStream(False)), ANSWERS, PAUSES, Act("attach")),
    scene(st.just(LoseStream(True)), ANSWERS, ACTIONS, Act("attach")),
    scene(ARRIVALS, FAILURES, PAUSES, ACTIONS),
    scene(ARRIVALS, DEFERRALS, LATER, LATER),
    scene(ARRIVALS, DEFERRALS, PAUSES, LATER),
    scene(ARRIVALS, LATER, ANSWERS, LATER),
    scene(ARRIVALS, DEFERRALS, ACTIONS, LATER, ACTIONS),
    scene(ARRIVALS, DEFERRALS, Act("hold the disk"), LATER, ACTIONS),
    scene(ARRIVALS, FAILURES, LATER, PAUSES),
    OUTAGE,
)
HISTORIES: Final = st.lists(SCENES, max_size=12).map(lambda scenes: [*itertools.chain(*scenes)])


class History:
    """A component's lives, and what was seen of them from outside."""

    def __init__(
        self,
        nursery: trio.Nursery,
        journal: JournalStore | None,
        window: int,
        *,
        overlaps: bool,
    ) -> None:
        self._overlaps = overlaps
        self.wall = Wall()
        self.endpoint = Postbox(self.wall, self._on_post)
        self.iqs: dict[str, float] = {}
        """Requests, and when they came in."""
        self._came_to: dict[str, Life] = {}
        self.others: dict[str, Stanza] = {}
        self.written: list[list[bytes]] = [[]]
        """What was written on each stream."""
        self.excused: set[str] = set()
        """What the end of a process may undo: it was done while there was no journal to write."""
        self.accepted: dict[str, str] = {}
        """Ids of deferred messages that were accepted, and their keys, if any."""
        self.faults: list[str] = []
        self._crashes = 0
        self._clock_was_set = False
        self._nursery = nursery
        self._journal = journal
        self._window = window
        self._number = itertools.count(1)
        self._attached = True
        self._disk_failed = False  # in this life
        self._calm = False
        self._logs: list[Recorder] = []
        self.life = self._life()

    def _life(self) -> Life:
        life = Life(
            self._journal,
            wall=self.wall,
            endpoint=self.endpoint,
            policy=RetryPolicy(jitter=whole),
            max_in_flight=SLOTS,
            memory=Quota(self._window),
            listen=LISTEN,
            overlaps=self._overlaps,
        )
        self._logs.append(life.log)
        return life

    async def begin(self) -> None:
        await self._nursery.start(self.life.run)
        await wait_all_tasks_blocked()

    async def do(self, step: Step) -> None:
        """Have a step happen, and all that follows of it at this moment."""
        match step:
            case Arrive(kind, sender):
                await self._arrive(kind, SENDERS[sender])
            case Answer(which, how):
                if self.endpoint.running:
                    posts = self.endpoint.running
                    posts[which % len(posts)].answer(self._outcome(how, posts[which % len(posts)]))
            case Later():
                self._reply_later(step)
            case Pass(seconds):
                await trio.sleep(seconds)
            case SetClock(by_s):
                self.wall.shift_s += by_s
                self._clock_was_set = True
            case LoseStream(blamed):
                self._lose(blamed=blamed)
            case Act(what):
                await self._act(what)
            case _:
                assert_never(step)
        await wait_all_tasks_blocked()
        self._write()

    async def _arrive(self, kind: str, sender: str) -> None:
        id = f"{kind}-{next(self._number)}"
        addresses = f"id='{id}' from='{sender}' to='{BOT}'"
        self._came_to[id] = self.life
        if kind == "iq":
            self.iqs[id] = self.wall()
            one = stanza(f"<iq {addresses} type='get'><q xmlns='urn:q'/></iq>")
        elif kind == "result":
            one = stanza(f"<iq {addresses} type='result'/>")
        else:
            body = "<body>hi</body>" if kind == "message" else ""
            one = stanza(f"<{kind} {addresses}>{body}</{kind}>")
        if kind in ("message", "presence"):
            self.others[id] = one
        await self.life.give(one)

    def _outcome(self, how: str, post: Post) -> Outcome | Exception:
        fresh = str(next(self._number))
        is_iq = post.json["kind"] == "iq" and post.json["type"] == "get"
        answer = {"stanza": f"<iq type='result'><a xmlns='urn:q' n='{fresh}'/></iq>"}
        more = {"kind": "message", "body": fresh, "id": f"more-{fresh}"}
        match how:
            case "answer":
                return said(answer if is_iq else more)
            case "answer and more":
                return said([answer, more] if is_iq else [more, {**more, "id": f"and-{fresh}"}])
            case "two answers":
                return said([answer, answer])
            case "garbage":
                return Replied("json", b"{")
            case "unreachable":
                return Unreachable("ConnectError")
            case "timeout":
                return TimedOut()
            case "crash":
                self._crashes += 1
                return RuntimeError("a bug")
            case "nothing":
                return DONE
            case "deferred":
                return NoReply(None, 202, True)
        return Rejected(int(how), 2.0 if how == "429" else None)

    def _reply_later(self, step: Later) -> None:
        posts = self.endpoint.posts[-6:]
        if not posts or "reply_url" not in posts[step.which % len(posts)].json:
            return
        post = posts[step.which % len(posts)]
        value: dict[str, object] = {"kind": "message", "body": "later"}
        if step.what == "done":
            value = {"done": True}
        elif step.what == "answer" and post.json["kind"] == "iq":
            value = {"stanza": "<iq type='result'><later xmlns='urn:q'/></iq>"}
        key = f"{step.what}-{post.uid}" if step.has_key else ""
        self._nursery.start_soon(self._post_later, self.life, post, value, key)

    async def _post_later(self, life: Life, post: Post, value: object, name: str) -> None:
        body = ReplyBody("json", json.dumps(value).encode())
        key = Key(f"reply url {post.uid}", name, body.content) if name else None
        try:
            promise = life.sender.replies.promise_of(post.json["reply_url"].rpartition("/")[2])
            if promise is None:  # the key was not kept, since the disk was full
                return
            batch, _ = await life.sender.replies.reply(promise, body, key)
        except SendRefused:
            return
        for one in batch.stanzas:
            if one.kind == "message":
                self.accepted[str(one.id)] = name

    def _on_post(self, post: Post) -> Outcome | None:
        late = post.id in self.iqs and self.wall() > self.iqs[post.id] + 10
        if late and not self._clock_was_set:
            self.faults.append(f"{post.id} is POSTed beyond its budget")
        if isinstance(self._journal, MemoryJournal) and not self._was_accepted(post.id):
            self._check_unaccepted(post)
        return DONE if self._calm else None

    def _check_unaccepted(self, post: Post) -> None:
        """See what may be POSTed before it is accepted: a message or presence, by a journal that
        works, and no more of them than there are slots.
        """
        if post.id not in self.others or not self._overlaps:
            self.faults.append(f"{post.id} is POSTed before it is accepted")
        if self.life.journal_fails() and post.json["attempt"] == 1:
            self.faults.append(f"{post.id} is POSTed though the journal fails")
        known = {id for id in self.endpoint.ids if self._came_to.get(id) is self.life}
        if sum(not self._was_accepted(id) for id in known | {post.id}) > SLOTS:
            self.faults.append(f"{post.id} is POSTed, and no slot waits for its commit")

    # --- the stream

    def _write(self) -> None:
        """What the link does whenever it can."""
        outbox = self.life.outbox
        while self._attached and outbox.suspect is not None:
            self.written[-1].append(outbox.suspect)
            outbox.confirm_suspect()
        if self._attached:
            self.written[-1] += outbox.take()

    def _lose(self, *, blamed: bool) -> None:
        self._attached = False
        self.written.append([])
        self.life.outbox.stream_lost(blamed=blamed)

    # --- the process and its disk

    async def _act(self, what: str) -> None:
        match what:
            case "attach":
                self._attached = True
            case "confirm":
                self.life.outbox.confirm(self.life.outbox.position)
            case "abandon the suspect":
                if self.life.outbox.suspect is not None:
                    self.life.outbox.abandon_suspect("it broke the stream")
            case "kill":
                self._excuse()
                await self.life.kill()
                await self._again()
            case "stop" | "stop at once":
                self.life.disk.release()
                await self.life.stop(0.0 if what == "stop at once" else 5.0)
                self._write()
                if self._journal is not None or not self._attached:
                    self._excuse()
                await self.life.end()
                await self._again()
            case "hold the disk":
                self.life.disk.hold()
            case "hold what it tells":
                self.life.disk.hold(acts_first=True)
            case "release the disk":
                self.life.disk.release()
            case "fill the disk":
                self._set_failure(FULL_DISK)
            case "mend the disk":
                self._set_failure(None)

    def _set_failure(self, failure: JournalError | None) -> None:
        if isinstance(self._journal, MemoryJournal):
            self._journal.failure = failure
            self._disk_failed = True

    def _excuse(self) -> None:
        """Note what is owed no more. While the journal fails, what is answered stays pending, so
        that the next life begins it again.
        """
        if self._journal is None or self._disk_failed:
            self.excused |= self.iqs.keys() | self.others.keys()
        if self._journal is None:
            self.excused |= self.accepted.keys()

    async def _again(self) -> None:
        self._disk_failed = isinstance(self._journal, MemoryJournal) and bool(self._journal.failure)
        self.written.append([])
        self.life = self._life()
        await self.begin()

    # --- the end

    async def finish(self) -> None:
        """Let all go well from now on, until there is nothing left to do."""
        self._calm = self._attached = True
        self._set_failure(None)
        self.life.disk.release()
        for post in list(self.endpoint.running):
            post.answer(DONE)
        await pass_time(SETTLED_S)
        self._write()
        self.life.outbox.confirm(self.life.outbox.position)
        await wait_all_tasks_blocked()

    async def check(self) -> None:
        """See whether the promise was kept."""
        assert self.faults == []
        lines = [line["event"] for log in self._logs for line in log.lines]
        assert "a stanza was to be ended twice" not in lines
        assert lines.count("stanza failed in the bridge") <= self._crashes
        assert len(self.life.outbox) == 0
        assert self.life.queue.fullness == 0
        for id in self.iqs.keys() - self.excused:
            self._check_answers(id)
        for id in self.others.keys() - self.excused:
            self._check_end(id)
        self._check_deferred()
        self._check_order()
        await self._check_slots()

    def _check_answers(self, id: str) -> None:
        mark = f" id='{id}'".encode()
        by_stream = [[one for one in stream if mark in one] for stream in self.written]
        assert all(len(answers) <= 1 for answers in by_stream), f"{id} twice on one stream"
        different = set(itertools.chain.from_iterable(by_stream))
        assert len(different) == 1 or (not different and self._is_not_owed(id)), id

    def _check_deferred(self) -> None:
        """What was accepted is written, and nothing twice by one key."""
        told = list(itertools.chain.from_iterable(self.written))
        for id in self.accepted.keys() - self.excused:
            assert any(f" id='{id}'".encode() in one for one in told), f"{id} is lost"
        names = [name for name in self.accepted.values() if name]
        assert len(names) == len(set(names)), "one key, two stanzas"

    def _check_end(self, id: str) -> None:
        """It was POSTed, or its sender was told, or the operator finds it."""
        told = itertools.chain.from_iterable(self.written)
        if id in self.endpoint.ids or any(f" id='{id}'".encode() in one for one in told):
            return
        if self._journal is None:
            is_dead = False
        else:
            is_dead = id in {one.entry.stanza.id for one in self._journal.dead(DOMAIN, limit=1000)}
        is_untold = id.startswith("presence") and not self._was_accepted(id)  # S30
        assert is_dead or is_untold or self._is_not_owed(id), f"{id} is lost"

    def _is_not_owed(self, id: str) -> bool:
        """Whether a process ended before it accepted a stanza, or told that it cannot."""
        if isinstance(self._journal, MemoryJournal):
            return not self._was_accepted(id) and self._came_to[id] is not self.life
        return self._journal is not None

    def _was_accepted(self, id: str) -> bool:
        if isinstance(self._journal, MemoryJournal):
            return any(entry.stanza.id == id for entry in self._journal.accepted)
        return False

    def _check_order(self) -> None:
        """What follows in a conversation is never POSTed before what precedes it, nor it again."""
        latest: dict[str, int] = {}
        for post in self.endpoint.posts:
            if post.id in self.others.keys() - self.excused:
                sender, number = bare(post.json["from"]), int(post.id.partition("-")[2])
                assert latest.get(sender, 0) <= number, f"{post.id} comes too late"
                latest[sender] = number

    async def _check_slots(self) -> None:
        await self.life.give(message("up-again", SLOTS + 1))
        self._calm = False
        await self.life.give(*(message(f"last-{n}", n) for n in range(SLOTS + 1)))
        assert len(self.life.running) == SLOTS


def message(id: str, sender: int) -> Stanza:
    return stanza(f"<message id='{id}' from='s{sender}@last.example' to='{BOT}'/>")


def live(
    steps: list[Step],
    journal: JournalStore | None,
    window: int = 10_000,
    *,
    overlaps: bool = False,
) -> None:
    """Live through a history, and check it."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            history = History(nursery, journal, window, overlaps=overlaps)
            await history.begin()
            for step in steps:
                await history.do(step)
            await history.finish()
            await history.check()
            await history.life.kill()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=200, deadline=None)
@given(HISTORIES, st.sampled_from([2, 5, 10_000]), st.booleans())
def test_with_a_journal(steps: list[Step], window: int, overlaps: bool) -> None:
    live(steps, MemoryJournal(), window, overlaps=overlaps)


@settings(max_examples=80, deadline=None)
@given(HISTORIES)
def test_without_a_journal(steps: list[Step]) -> None:
    live(steps, None)


@settings(max_examples=40, deadline=None)
@given(HISTORIES, st.sampled_from([2, 10_000]), st.booleans())
def test_with_the_embedded_journal(steps: list[Step], window: int, overlaps: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        journal = SqliteStore(Path(directory) / "journal.db")
        try:
            live(steps, journal, window, overlaps=overlaps)
        finally:
            journal.close()
