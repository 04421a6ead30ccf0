"""What is counted: each stanza when it comes and once when it is done with, whatever happens."""

from collections.abc import Iterator
from typing import Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.event import DEFAULT_EVENTS
from bridge.config.settings import Component, Settings
from bridge.config.value import Secret, parse_post_url
from bridge.daemon.daemon import Daemon
from bridge.journal.queue import Quota
from bridge.journal.store import JournalError
from bridge.telemetry.meter import BOUNDS_S, Histogram, Meter, StreamFault, limit_of
from bridge.webhook.outcome import BadReply, NoReply, Outcome, Rejected, TimedOut, Unreachable
from bridge.webhook.retry import RetryPolicy
from bridge.xmpp.iq import WRITTEN_LIMIT
from tests.bridge.dispatch.life import COMPONENT, Life, Postbox, Wall, pass_time, said
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.leak import until
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import SECRET, XmppServer
from xmppstream import Stanza, StanzaRefused, StreamCondition

FAILING: Final[list[Outcome]] = [Unreachable("no"), Rejected(503)]
URL: Final = parse_post_url("http://127.0.0.1:1/")
NO_RETRIES: Final = RetryPolicy(message_budget_s=0, iq_budget_s=0)
BOT: Final = "bot.example"


def message(id: str = "q", **words: str) -> Stanza:
    given = {"from": "bob@example.org/phone", "to": "echo@bot.example", "id": id, **words}
    text = " ".join(f"{key}='{value}'" for key, value in given.items() if value)
    return stanza(f"<message {text}><body>hello</body></message>")


def iq(id: str = "q", to: str = "bot.example", payload: str = "<a xmlns='urn:x'/>") -> Stanza:
    return stanza(f"<iq from='bob@example.org/p' to='{to}' type='get' id='{id}'>{payload}</iq>")


def ended(meter: Meter) -> int:
    return sum(meter.ends.values())


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


# --- by itself


@pytest.mark.parametrize(
    ("seconds", "place"), [(0.0, 0), (0.005, 0), (0.0051, 1), (60.0, 12), (60.1, 13), (1e9, 13)]
)
def test_a_time_is_counted_in_the_class_up_to_whose_bound_it_is(seconds: float, place: int) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    assert [n for n, count in enumerate(histogram.counts) if count] == [place]
    assert histogram.total_s == seconds
    assert len(histogram.counts) == len(BOUNDS_S) + 1


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("128 levels", "depth"),
        ("524288 bytes", "size"),
        ("10000 elements", "size"),
        ("20000 attributes in all", "size"),
        (WRITTEN_LIMIT, "size"),
    ],
)
def test_a_limit_has_one_of_few_names(text: str, limit: str) -> None:
    assert limit_of(text) == limit


# --- a POST, and the end of its stanza

OUTCOMES: Final[list[tuple[Outcome, str]]] = [
    (said({"body": "hi"}), "replied"),
    (NoReply(), "no_reply"),
    (Rejected(400), "rejected"),
    (Unreachable("connection refused"), "unreachable"),
    (TimedOut(), "timed_out"),
    (BadReply("no"), "bad_reply"),
    (said([5]), "bad_reply"),
]


@pytest.mark.parametrize(("outcome", "name"), OUTCOMES)
async def test_what_came_of_a_post_and_of_its_stanza(
    outcome: Outcome, name: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life(policy=NO_RETRIES)
    await nursery.start(life.run)
    await life.give(message())
    await trio.sleep(0.3)
    await life.answer("q", outcome)
    meter = life.meter
    assert meter.received == {"message": 1, "presence": 0, "iq": 0}
    assert {key for key, count in meter.posts.items() if count} == {name}
    assert meter.ends == {("message", name): 1}
    assert meter.latency.total_s == pytest.approx(0.3)
    assert meter.latency.counts[BOUNDS_S.index(0.5)] == 1
    assert meter.failed_posts == (name not in ("replied", "no_reply"))
    assert meter.posted_bytes > len("hello")
    assert meter.replied_bytes == (
        len(b'{"body": "hi"}') if name == "replied" else meter.replied_bytes
    )
    assert meter.retries == 0
    await life.kill()


async def test_what_is_replaced_in_texts_is_counted(nursery: trio.Nursery) -> None:
    life = Life(policy=NO_RETRIES)
    await nursery.start(life.run)
    await life.give(message())
    await life.answer("q", said([{"body": "\x1b[31mFAILED\x00"}, {"body": "fine"}]))
    assert life.meter.replaced == 2
    [line] = life.log.of("characters replaced")
    assert (line["level"], line["count"]) == ("debug", 2)
    await life.kill()


async def test_retries_are_posts_that_are_not_the_first(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    answers = iter([*FAILING, NoReply()])
    wall = Wall()
    life = Life(wall=wall, endpoint=Postbox(wall, lambda _: next(answers)))
    await nursery.start(life.run)
    await life.give(message())
    await pass_time(60)
    meter = life.meter
    assert meter.retries == 2
    assert (meter.posts["unreachable"], meter.posts["rejected"], meter.posts["no_reply"]) == (
        1,
        1,
        1,
    )
    assert meter.ends == {("message", "no_reply"): 1}
    await life.kill()


async def test_a_bug_is_counted_as_one(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    life = Life(policy=NO_RETRIES)
    await nursery.start(life.run)
    await life.give(message())
    await life.answer("q", ValueError("a bug"))
    assert life.meter.ends == {("message", "failed"): 1}
    await life.kill()


async def test_a_request_that_is_too_late_for_a_post_has_expired(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life(max_in_flight=1, policy=RetryPolicy(iq_budget_s=5))
    await nursery.start(life.run)
    await life.give(message("first"), iq("late"))
    await pass_time(6)
    assert life.meter.ends == {("iq", "expired"): 1}
    await life.kill()


async def test_what_is_not_done_at_the_end_has_stopped(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life()
    await nursery.start(life.run)
    await life.give(message())
    nursery.start_soon(life.stop, 2.0)
    await wait_all_tasks_blocked()
    await life.give(message("late"))
    await pass_time(3)
    assert life.meter.ends == {("message", "stopped"): 2}
    await life.end()


# --- at the door

DOOR: Final = [
    (message(to="echo@elsewhere.example"), "misdirected"),
    (message(to=""), "invalid"),
    (stanza("<iq from='bob@x' to='bot.example' type='get'/>"), "invalid"),
    (stanza("<iq from='bob@x' to='bot.example' type='odd' id='q'/>"), "invalid"),
    (message(**{"from": "eve@evil.example"}), "forbidden"),
    (stanza("<presence from='bob@example.org/p' to='bot.example'/>"), "answered"),
    (stanza("<message from='bob@example.org' to='bot.example'/>"), "ignored"),
]


@pytest.mark.parametrize(("given", "end"), DOOR)
async def test_what_ends_at_the_door(given: Stanza, end: str, nursery: trio.Nursery) -> None:
    component = evolve(
        COMPONENT,
        post_stanzas=frozenset({"message", "iq"}),
        post_events=DEFAULT_EVENTS,
        allow_from=frozenset({"example.org", "x"}),
    )
    life = Life(component=component)
    await nursery.start(life.run)
    await life.give(given)
    assert life.meter.ends == {(given.kind, end): 1}
    assert sum(life.meter.received.values()) == life.counts.received == 1
    assert not life.endpoint.posts
    await life.kill()


async def test_what_is_over_a_limit(nursery: trio.Nursery) -> None:
    life = Life()
    await nursery.start(life.run)
    await life.dispatcher.handle(StanzaRefused(message(), "128 levels"))
    await life.dispatcher.handle(StanzaRefused(message(to="a@elsewhere.example"), "9 bytes"))
    assert life.meter.refused == {"depth": 1, "size": 1}
    assert life.meter.ends == {("message", "refused"): 1, ("message", "misdirected"): 1}
    await life.kill()


async def test_a_full_queue_and_a_journal_that_fails(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life(volume=Quota(1, 1000))
    full = Life(MemoryJournal(), volume=Quota(1, 10_000))
    await nursery.start(full.run)
    await full.give(message("kept"))
    await full.give(message("shed"))
    assert full.meter.ends == {("message", "overloaded"): 1}
    await full.kill()
    journal = MemoryJournal()
    journal.failure = JournalError("the disk is full")
    life = Life(journal)
    await nursery.start(life.run)
    await life.give(message())
    await pass_time(2)
    assert life.meter.ends == {("message", "unkept"): 1}
    await life.kill()


async def test_each_stanza_ends_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Whatever comes of them: nothing is counted twice, and nothing is left out."""
    wall = Wall()
    outcomes = [outcome for outcome, _ in OUTCOMES]
    endpoint = Postbox(wall, lambda post: outcomes[int(post.id) % len(outcomes)])
    life = Life(MemoryJournal(), wall=wall, endpoint=endpoint)
    await nursery.start(life.run)
    for number in range(70):
        await life.give(message(str(number)) if number % 3 else iq(str(number)))
    await pass_time(20_000)
    meter = life.meter
    assert ended(meter) == sum(meter.received.values()) == 70
    assert sum(meter.posts.values()) == life.counts.posted == sum(meter.latency.counts)
    await life.kill()


# --- the stream


async def test_streams_and_what_they_ended_with(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder
) -> None:
    server = await XmppServer.start(nursery)
    server.refusals[BOT] = StreamCondition.RESOURCE_CONSTRAINT
    component = Component(BOT, Secret(SECRET), URL, server.address)
    daemon = Daemon(Settings((component,)))
    meter = daemon.services[BOT].snapshot.meter
    nursery.start_soon(daemon.run)
    await log.wait("cannot attach")
    assert (meter.streams, meter.attempts_failed, sum(meter.stops.values())) == (0, 1, 0)
    assert meter.faults == {StreamFault(True, "resource-constraint"): 1}
    del server.refusals[BOT]
    mock_clock.jump(60)
    session = await server.attached(BOT)
    await until(lambda: b"<ping" in session.received)
    await session.hang_up()
    await log.wait("detached", 1)
    assert meter.stops == {"lost": 1, "fault": 0, "closed": 0}
    mock_clock.jump(60)
    session = await server.attached(BOT, 2)
    await session.fail(StreamCondition.SYSTEM_SHUTDOWN)
    await log.wait("detached", 2)
    mock_clock.jump(60)
    session = await server.attached(BOT, 3)
    await session.send_bytes(b"<message><</message>")
    await log.wait("detached", 3)
    assert meter.stops == {"lost": 1, "fault": 2, "closed": 0}
    assert meter.faults[StreamFault(True, "system-shutdown")] == 1
    assert meter.faults[StreamFault(False, "not-well-formed")] == 1
    assert (meter.streams, meter.attempts_failed) == (3, 1)
    snapshot = daemon.services[BOT].snapshot
    assert snapshot.written_bytes == sum(
        len(one.received) - one.received.index(b"</handshake>") - len("</handshake>")
        for one in server.sessions[1:]
    )
    assert snapshot.read_bytes > 3 * len("<handshake/>")
    daemon.stop()


async def test_what_is_written_is_counted_by_kind(nursery: trio.Nursery) -> None:
    server = await XmppServer.start(nursery)
    component = Component(
        BOT,
        Secret(SECRET),
        URL,
        server.address,
        post_stanzas=frozenset(),
    )
    daemon = Daemon(Settings((component,)))
    nursery.start_soon(daemon.run)
    session = await server.attached(BOT)
    ping = "<ping xmlns='urn:xmpp:ping'/>"
    await session.send(iq("1", payload=ping), message("2", type="chat"))
    await session.receive(2)
    meter = daemon.services[BOT].snapshot.meter
    assert meter.sent == {"message": 1, "presence": 0, "iq": 1}
    assert meter.counts.answered_by_bridge == 2
    daemon.stop()
