"""What becomes of the stanzas that come in: admission, order, slots, answers, and the log.

The endpoint is a fake that answers when it is told; the outbox and the composer are the real ones.
The clock stands still, or jumps when nothing else is left to do.
"""

import json
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.event import ALL_EVENTS, DEFAULT_EVENTS, MADE_EVENTS
from bridge.config.profile import AVATAR_LIMIT_BYTES, Profile, parse_avatar
from bridge.config.settings import Component, Count, Rate, SenderLimits
from bridge.config.value import Secret, parse_post_url
from bridge.dispatch.admission import Admission
from bridge.dispatch.conversation import Conversations
from bridge.dispatch.dispatcher import Dispatcher
from bridge.dispatch.ratelimit import SenderLimiter
from bridge.dispatch.worker import DeliveryWorker
from bridge.journal.queue import MemoryQueue, Quota
from bridge.payload.namespace import CHAT_STATES, CORRECT, DATA, OMEMO, REACTIONS, RECEIPTS
from bridge.payload.reply import ReplyComposer
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.retry import RetryPolicy
from bridge.xmpp.autoresponder import Autoresponder
from bridge.xmpp.bounce import Bouncer
from bridge.xmpp.identity.book import IdentityBook
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.outbox import LIMIT_COUNT, Outbox
from bridge.xmpp.room.rooms import Rooms
from tests.bridge.recorder import Recorder
from tests.bridge.sample import meanings, outgoing, stanza
from xmppstream import (
    Element,
    ElementIgnored,
    Server,
    Stanza,
    StanzaReceived,
    StanzaRefused,
    make,
    parse_element,
)
from xmppstream.jid import fold
from xmppstream.names import STANZA_ERRORS

DOMAIN: Final = "bot.example"
BOT: Final = f"echo@{DOMAIN}"
JULIET: Final = "juliet@capulet.example/balcony"
ROMEO: Final = "romeo@montague.example/orchard"
ROOM: Final = "verona@rooms.example"
PING: Final = "<ping xmlns='urn:xmpp:ping'/>"
NOW: Final = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC).timestamp()
TIMEOUT_S: Final = 30.0
ONE_ATTEMPT: Final = RetryPolicy(0, 0)
COMPONENT: Final = Component(
    domain=DOMAIN,
    secret=Secret("s3cret"),
    post_url=parse_post_url("http://user:s3cret@endpoint.example/api?token=t0ken"),
    server=Server("127.0.0.1", 5347),
    post_stanzas=frozenset({"message", "presence", "iq"}),
    post_events=ALL_EVENTS - MADE_EVENTS,
    name="Echo",
)
EMPTY: Final = NoReply()


def said(value: Any) -> Replied:
    """A reply of the endpoint in JSON."""
    return Replied("json", json.dumps(value).encode())


@define(eq=False)
class Post:
    """One POST that runs: what was asked, and how it is to end."""

    json: dict[str, Any]
    _outcome: Outcome | Exception | None = None
    _answered: trio.Event = field(factory=trio.Event)

    @property
    def id(self) -> str:
        return str(self.json.get("id"))

    def answer(self, outcome: Outcome | Exception = EMPTY) -> None:
        """Let it end."""
        self._outcome = outcome
        self._answered.set()

    async def wait(self) -> Outcome:
        await self._answered.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


class FakeEndpoint:
    """Records what is POSTed; answers at once by `rule`, or, without one, when told."""

    shown = "http://endpoint.example/api?…"

    def __init__(self) -> None:
        self.rule: Callable[[dict[str, Any]], Awaitable[Outcome]] | None = None
        self.bodies: list[dict[str, Any]] = []
        self.running: dict[str, Post] = {}
        self.most = 0

    @property
    def ids(self) -> list[Any]:
        """The ids of all that was POSTed, in order."""
        return [body.get("id") for body in self.bodies]

    async def post(
        self, body: bytes, uid: str, attempt: int, began: float, deadline: float
    ) -> Outcome:
        with trio.move_on_at(min(began + TIMEOUT_S, deadline)):
            return await self._post(body)
        return TimedOut(was_cut=deadline <= began + TIMEOUT_S)

    async def _post(self, body: bytes) -> Outcome:
        post = Post(json.loads(body))
        self.bodies.append(post.json)
        if self.rule is not None:
            return await self.rule(post.json)
        assert post.id not in self.running
        self.running[post.id] = post
        self.most = max(self.most, len(self.running))
        try:
            return await post.wait()
        finally:
            del self.running[post.id]


async def answer_at_once(_: dict[str, Any]) -> Outcome:
    await trio.lowlevel.checkpoint()
    return EMPTY


async def echo(posted: dict[str, Any]) -> Outcome:
    await trio.lowlevel.checkpoint()
    return said({"body": posted.get("body"), "id": f"re-{posted['id']}"})


async def unreachable(_: dict[str, Any]) -> Outcome:
    await trio.lowlevel.checkpoint()
    return Unreachable("ConnectError: no")


async def parse(data: bytes) -> Element:
    """Parse in this thread, so that the clock need not wait for another."""
    await trio.lowlevel.checkpoint()
    return parse_element(data)


def fresh_outbox(limit_count: int = LIMIT_COUNT) -> Outbox:
    """Give an outbox whose clock stands still."""
    return Outbox(DOMAIN, limit_count, now=lambda: NOW)


class Bench:
    """A dispatcher between a fake endpoint and a real outbox."""

    def __init__(
        self,
        component: Component = COMPONENT,
        *,
        outbox: Outbox | None = None,
        max_in_flight: int = 256,
        limit_count: int = 10_000,
        limit_bytes: int = 64 * 1024 * 1024,
        policy: RetryPolicy = ONE_ATTEMPT,
        limiter: SenderLimiter | None = None,
    ) -> None:
        self.endpoint = FakeEndpoint()
        self.outbox = fresh_outbox() if outbox is None else outbox
        self.queue = MemoryQueue(Quota(limit_count, limit_bytes))
        self.log = Recorder()
        log = self.log.logger()
        occupancy, autoresponder = MucOccupancy(), Autoresponder(IdentityBook(component))
        rooms = self.rooms = Rooms(component.domain, occupancy, log)
        composer = ReplyComposer(component.domain, 500 * 1024, parse)
        bouncer = Bouncer(self.outbox, occupancy, log, lambda: NOW)
        self.dispatcher = Dispatcher(
            Admission(component, autoresponder, rooms, bouncer, log, limiter=limiter),
            DeliveryWorker(self.endpoint, composer, autoresponder, rooms, log),
            self.queue,
            self.outbox,
            bouncer,
            rooms,
            log,
            conversations=Conversations(component.order),
            policy=policy,
            max_in_flight=max_in_flight,
            now=lambda: NOW,
        )
        self.counts = bouncer.counts

    async def give(self, *stanzas: Stanza, weight_bytes: int = 100) -> None:
        """Have stanzas come in, one after the other."""
        for one in stanzas:
            await self.dispatcher.handle(StanzaReceived(one, weight_bytes))

    async def settle(self) -> list[str]:
        """Wait until nothing moves; give the ids of the POSTs that run then, sorted."""
        await wait_all_tasks_blocked()
        return sorted(self.endpoint.running)

    def answer(self, id: str, outcome: Outcome | Exception = EMPTY) -> None:
        """Let a POST end."""
        self.endpoint.running[id].answer(outcome)

    def sent(self) -> list[Stanza]:
        """Take what the dispatcher has put into the outbox since the last time."""
        taken = [stanza(data.decode()) for data in self.outbox.take()]
        self.outbox.confirm(self.outbox.position)
        return taken


def running(nursery: trio.Nursery, component: Component = COMPONENT, **options: Any) -> Bench:
    """Give a bench whose dispatcher runs."""
    bench = Bench(component, **options)
    nursery.start_soon(bench.dispatcher.run)
    return bench


def message(
    id: str = "m1",
    body: str | None = "hi",
    from_: str = JULIET,
    to: str = BOT,
    type: str | None = "chat",
    inner: str = "",
) -> Stanza:
    kind = "" if type is None else f" type='{type}'"
    text = "" if body is None else f"<body>{body}</body>"
    return stanza(f"<message id='{id}' from='{from_}' to='{to}'{kind}>{text}{inner}</message>")


def iq(
    id: str = "q1", type: str = "get", inner: str = PING, from_: str = JULIET, to: str = DOMAIN
) -> Stanza:
    return stanza(f"<iq id='{id}' type='{type}' from='{from_}' to='{to}'>{inner}</iq>")


def presence(id: str = "p1", type: str = "", from_: str = JULIET, to: str = BOT) -> Stanza:
    kind = f" type='{type}'" if type else ""
    return stanza(f"<presence id='{id}' from='{from_}' to='{to}'{kind}/>")


def self_presence(to: str = BOT, type: str = "") -> Stanza:
    """A room tells an address of ours that it is the occupant `bot`."""
    kind = f" type='{type}'" if type else ""
    x = "<x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x>"
    return stanza(f"<presence from='{ROOM}/bot' to='{to}'{kind}>{x}</presence>")


def error_of(one: Stanza) -> tuple[str, str | None, str | None, str | None, str, str | None]:
    """Sum an error up: kind, id, from, to, condition, error type."""
    assert one.type == "error", one
    error = one.child("error")
    assert error is not None
    [condition] = [
        child.local
        for child in error.elements
        if child.namespace == STANZA_ERRORS and child.local != "text"
    ]
    return one.kind, one.id, one.from_, one.to, condition, error.get("type")


def errors(stanzas: Iterable[Stanza]) -> list[str]:
    """Sum errors up shortly: id, condition, error type."""
    summed = [error_of(one) for one in stanzas]
    return [f"{id} {condition} {type}" for _, id, _, _, condition, type in summed]


# --- H1: what is POSTed


async def test_h1_what_is_posted(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("m1", "hi"))
    await bench.settle()
    assert bench.endpoint.bodies == [
        {
            "to": BOT,
            "from": JULIET,
            "kind": "message",
            "id": "m1",
            "type": "chat",
            "body": "hi",
            "stanza": f"<message id='m1' from='{JULIET}' to='{BOT}' type='chat'>"
            "<body>hi</body></message>",
            "received": "2024-05-06T07:08:09.123Z",
            "event": "message",
            "uid": bench.endpoint.bodies[0]["uid"],
            "attempt": 1,
            "timestamp": "2024-05-06T07:08:09.123Z",
            "text": "hi",
            "ref": "m1",
            "to_local": "echo",
            "to_domain": "bot.example",
            "from_local": "juliet",
            "from_domain": "capulet.example",
            "from_resource": "balcony",
        }
    ]


async def test_h2_a_reply_is_sent(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("m1"))
    await bench.settle()
    bench.answer("m1", said({"body": "hello", "id": "r1"}))
    await bench.settle()
    assert meanings(bench.sent()) == meanings([message("r1", "hello", BOT, JULIET)])
    assert (bench.counts.received, bench.counts.posted, bench.counts.replied) == (1, 1, 1)


async def test_h2_the_domain_of_a_reply_is_written_as_configured(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("m1", to="echo@BOT.Example/x"), iq("q1", to="Bot.example"))
    await bench.settle()
    bench.answer("m1", said({"body": "hello"}))
    bench.answer("q1", Rejected(404))
    await bench.settle()
    assert {one.from_ for one in bench.sent()} == {f"{BOT}/x", DOMAIN}


async def test_h2_replies_of_one_answer_stay_together_and_in_order(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("a", from_=JULIET), message("b", from_=ROMEO))
    await bench.settle()
    for id in ("a", "b"):
        bench.answer(id, said([{"body": "x", "id": f"{id}{n}"} for n in range(5)]))
    await bench.settle()
    ids = [str(one.id) for one in bench.sent()]
    assert {"".join(ids[:5]), "".join(ids[5:])} == {"a0a1a2a3a4", "b0b1b2b3b4"}


# --- S32: order, and what overlaps

SAME_FULL: Final = [message("1"), message("2"), message("3")]
SAME_BARE: Final = [
    message("1", from_="j@a/x", to=f"{BOT}/p"),
    message("2", from_="j@a/y", to=f"{BOT}/q"),
    message("3", from_="j@a", to=BOT),
]
APART: Final = [
    message("1", from_="j@a"),
    message("2", from_="k@a"),
    message("3", from_="j@a", to=DOMAIN),
]
MIXED: Final = [presence("1"), message("2"), presence("3", "unavailable")]
IQS: Final = [message("1"), iq("2", to=BOT), iq("3", to=BOT, inner=PING, type="set")]


@pytest.mark.parametrize(
    ("order", "stanzas", "at_once"),
    [
        ("bare", SAME_FULL, ["1"]),
        ("full", SAME_FULL, ["1"]),
        ("none", SAME_FULL, ["1", "2", "3"]),
        ("bare", SAME_BARE, ["1"]),
        ("full", SAME_BARE, ["1", "2", "3"]),
        ("none", SAME_BARE, ["1", "2", "3"]),
        ("bare", APART, ["1", "2", "3"]),
        ("full", APART, ["1", "2", "3"]),
        ("none", APART, ["1", "2", "3"]),
        ("bare", MIXED, ["1"]),
        ("full", MIXED, ["1"]),
        ("none", MIXED, ["1", "2", "3"]),
        ("bare", IQS, ["1", "2", "3"]),
        ("full", IQS, ["1", "2", "3"]),
        ("none", IQS, ["1", "2", "3"]),
    ],
)
async def test_s32_what_may_run_at_once(
    nursery: trio.Nursery, order: Any, stanzas: list[Stanza], at_once: list[str]
) -> None:
    bench = running(nursery, evolve(COMPONENT, order=order))
    await bench.give(*stanzas)
    assert await bench.settle() == at_once
    seen = []
    while bench.endpoint.running:
        seen += list(bench.endpoint.running)
        for id in list(bench.endpoint.running):
            bench.answer(id)
        await bench.settle()
    assert sorted(seen) == ["1", "2", "3"]
    if at_once == ["1"]:
        assert seen == ["1", "2", "3"]


async def test_s32_the_next_starts_when_the_reply_is_in_the_outbox(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("1"), message("2"))
    assert await bench.settle() == ["1"]
    bench.answer("1", said({"body": "x", "id": "r1"}))
    assert await bench.settle() == ["2"]
    bench.answer("2", said({"body": "x", "id": "r2"}))
    assert await bench.settle() == []
    assert [one.id for one in bench.sent()] == ["r1", "r2"]


async def test_a_room_is_one_conversation(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(
        *(message(nick, from_=f"{ROOM}/{nick}", type="groupchat") for nick in ("a", "b"))
    )
    assert await bench.settle() == ["a"]


async def test_s32_1000_messages_of_20_conversations(autojump_clock: MockClock) -> None:
    dice = random.Random(7)
    open_now: set[str] = set()
    most = 0

    async def answer_some_time(posted: dict[str, Any]) -> Outcome:
        nonlocal most
        assert posted["from"] not in open_now
        open_now.add(posted["from"])
        most = max(most, len(open_now))
        await trio.sleep(dice.random())
        open_now.remove(posted["from"])
        return said({"body": posted["body"], "id": posted["id"]})

    senders = [f"user{n}@a.example" for n in range(20)]
    pairs = [(dice.choice(senders), number) for number in range(1000)]
    async with trio.open_nursery() as nursery:
        bench = running(nursery)
        bench.endpoint.rule = answer_some_time
        await bench.give(*(message(str(n), f"{n}", sender) for sender, n in pairs))
        await bench.dispatcher.drain()
        nursery.cancel_scope.cancel()
    replies = bench.sent()
    assert len(replies) == 1000
    assert most == 20
    for sender in senders:
        given = [str(number) for one, number in pairs if one == sender]
        assert [body["id"] for body in bench.endpoint.bodies if body["from"] == sender] == given
        assert [one.id for one in replies if one.to == sender] == given


# --- slots


async def test_no_more_run_than_there_are_slots(nursery: trio.Nursery) -> None:
    bench = running(nursery, max_in_flight=3)
    await bench.give(*(message(str(n), from_=f"u{n}@a") for n in range(5)), *(iq("q"),))
    assert await bench.settle() == ["0", "1", "2"]
    bench.answer("1")
    assert await bench.settle() == ["0", "2", "3"]
    for id in ("0", "2", "3"):
        bench.answer(id)
    assert await bench.settle() == ["4", "q"]
    assert bench.endpoint.most == 3


async def test_conversations_take_slots_in_turn(nursery: trio.Nursery) -> None:
    bench = running(nursery, max_in_flight=1)
    await bench.give(*(message(f"j{n}", from_="j@a") for n in range(3)))
    await bench.give(message("k0", from_="k@a"), message("l0", from_="l@a"), iq("q0"))
    await bench.give(message("k1", from_="k@a"))
    seen = []
    while now := await bench.settle():
        seen += now
        bench.answer(now[0])
    assert seen == ["j0", "k0", "l0", "q0", "j1", "k1", "j2"]


async def test_a_poisoned_conversation_delays_only_itself(nursery: trio.Nursery) -> None:
    bench = running(nursery, max_in_flight=2)
    await bench.give(message("slow"), *(message(f"after{n}") for n in range(50)))
    assert await bench.settle() == ["slow"]
    for n in range(20):
        await bench.give(message(str(n), from_=ROMEO))
        assert await bench.settle() == [str(n), "slow"]
        bench.answer(str(n))
    assert await bench.settle() == ["slow"]


async def test_a_slot_is_held_until_the_outbox_has_room(nursery: trio.Nursery) -> None:
    outbox = fresh_outbox(limit_count=1)
    bench = running(nursery, outbox=outbox, max_in_flight=1)
    await bench.give(message("1"), message("2", from_=ROMEO))
    outbox.put(outgoing(b"<message/>", made=NOW))
    await bench.settle()
    bench.answer("1", said({"body": "x", "id": "r1"}))
    assert await bench.settle() == []
    assert len(bench.sent()) == 1
    assert await bench.settle() == ["2"]
    assert [one.id for one in bench.sent()] == ["r1"]


async def test_what_has_no_reply_needs_no_room_in_the_outbox(nursery: trio.Nursery) -> None:
    outbox = fresh_outbox(limit_count=1)
    bench = running(nursery, outbox=outbox, max_in_flight=1)
    outbox.put(outgoing(b"<message/>", made=NOW))
    await bench.give(message("1"), message("2", from_=ROMEO))
    await bench.settle()
    bench.answer("1")
    assert await bench.settle() == ["2"]


# --- the queue, when it is full


@pytest.mark.parametrize(
    ("limits", "weight_bytes"),
    [({"limit_count": 3}, 1), ({"limit_bytes": 300}, 100), ({"limit_bytes": 201}, 100)],
    ids=["count", "bytes", "bytes passed"],
)
async def test_a_full_queue_makes_the_reader_wait_10_s_and_then_sheds(
    autojump_clock: MockClock, nursery: trio.Nursery, limits: dict[str, Any], weight_bytes: int
) -> None:
    bench = running(nursery, **limits)

    async def give(*stanzas: Stanza) -> float:
        start = trio.current_time()
        await bench.give(*stanzas, weight_bytes=weight_bytes)
        return trio.current_time() - start

    assert await give(message("1"), message("2"), message("3")) == 0
    assert await give(message("4")) == 10
    assert await give(*(message(str(n), from_=ROMEO) for n in range(5, 100))) == 0
    assert errors(bench.sent()) == [f"{n} resource-constraint wait" for n in range(4, 100)]
    [full] = bench.log.told
    assert (full["event"], full["level"]) == ("queue full, refusing stanzas", "error")
    assert full["waiting"] == 3

    bench.answer("1")
    await bench.settle()
    bench.answer("2")
    await bench.settle()
    assert await give(message("100")) == 0
    [_, back] = bench.log.told
    assert (back["event"], back["refused"]) == ("queue has room again", 96)
    for id in ("3", "100"):
        await bench.settle()
        bench.answer(id)
    await bench.settle()
    assert bench.endpoint.ids == ["1", "2", "3", "100"]
    assert (bench.counts.errors_sent, bench.counts.untold) == (96, 0)

    # The next time is like the first.
    assert await give(message("101"), message("102"), message("103")) == 0
    assert await give(message("104")) == 10
    assert errors(bench.sent()) == ["104 resource-constraint wait"]
    assert len(bench.log.told) == 3


async def test_room_that_comes_in_time_ends_the_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, limit_count=1)
    await bench.give(message("1"))

    async def answer_later() -> None:
        await trio.sleep(9.5)
        bench.answer("1")

    nursery.start_soon(answer_later)
    await bench.give(message("2"))
    assert trio.current_time() == pytest.approx(9.5)
    assert await bench.settle() == ["2"]
    assert bench.sent() == []
    assert bench.log.told == []


async def test_a_slow_endpoint_does_not_stop_the_reader_again_and_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """One POST a second, ten stanzas a second: the reader waits 10 s in all, and is told once."""
    bench = running(nursery, limit_count=20, max_in_flight=1)

    async def answer_in_a_second(_: dict[str, Any]) -> Outcome:
        await trio.sleep(1)
        return EMPTY

    bench.endpoint.rule = answer_in_a_second
    waited = 0.0
    for number in range(1000):
        start = trio.current_time()
        await bench.give(message(str(number), from_=f"u{number}@a"))
        waited += trio.current_time() - start
        await trio.sleep(0.1)
    assert 8 < waited <= 10
    assert [line["event"] for line in bench.log.told] == ["queue full, refusing stanzas"]
    assert len(bench.endpoint.bodies) == pytest.approx(110, abs=2)  # it had something to do always

    await bench.dispatcher.drain()
    told = len(errors(bench.sent()))
    assert told + len(bench.endpoint.bodies) == 1000


async def test_the_queue_has_room_again_at_three_quarters(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, limit_count=8)
    await bench.give(*(message(str(n), from_=f"u{n}@a") for n in range(9)))
    assert trio.current_time() == 10
    await bench.settle()
    for id, held, events in [("0", 8, 1), ("1", 8, 1), ("2", 8, 1)]:
        bench.answer(id)
        await bench.settle()
        await bench.give(message(f"after {id}", from_=f"{id}@b"))
        assert (len(bench.dispatcher._conversations), len(bench.log.told)) == (held, events)
    await bench.settle()
    bench.answer("3")
    bench.answer("4")
    await bench.settle()
    await bench.give(message("calm", from_="calm@b"))
    assert [line["event"] for line in bench.log.told] == [
        "queue full, refusing stanzas",
        "queue has room again",
    ]
    assert bench.log.told[1]["refused"] == 1
    assert trio.current_time() == 10


async def test_s30_what_may_not_be_told_is_shed_silently_but_counted(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, limit_count=1)
    await bench.give(message("1"))
    await bench.give(
        presence("p"),
        message("g", from_=f"{ROOM}/x", type="groupchat"),
        message("h", type="headline"),
        iq("q"),
    )
    assert errors(bench.sent()) == ["q resource-constraint wait"]
    assert (bench.counts.errors_sent, bench.counts.untold) == (1, 3)
    assert [line["id"] for line in bench.log.of("sender not told")] == ["p", "g", "h"]


async def test_what_the_bridge_answers_itself_needs_no_room(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset({"message"})), limit_count=1)
    await bench.give(message("1"), iq("q"), presence("p", "probe"))
    assert trio.current_time() == 0
    assert [one.kind for one in bench.sent()] == ["iq", "presence"]


async def test_20000_stanzas_to_a_silent_endpoint(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, max_in_flight=1)
    for n in range(20_000):
        await bench.give(make("message", BOT, f"u{n}@a", id=str(n)))
        assert trio.current_time() <= 10
    told = bench.outbox.take()
    assert len(told) == 10_000
    for n, data in enumerate(told, 10_000):
        assert f"to='u{n}@a'".encode() in data
        assert b"<resource-constraint xmlns=" in data
    assert len(bench.dispatcher._conversations) == 10_000
    assert len(bench.log.told) == 1
    bench.endpoint.rule = answer_at_once
    bench.answer("0")
    await bench.dispatcher.drain()
    assert bench.endpoint.ids == [str(n) for n in range(10_000)]
    assert len(bench.dispatcher._in_flight) == 0
    assert bench.queue.fullness == 0


async def test_the_queue_counts_what_is_running_and_forgets_what_is_done(
    nursery: trio.Nursery,
) -> None:
    bench = running(nursery)
    await bench.give(message("1"), message("2"), iq("q"), weight_bytes=7)
    await bench.settle()
    queue = bench.dispatcher._conversations
    assert (len(queue), bench.queue._volume.bytes) == (3, 21)
    bench.answer("1")
    bench.answer("q")
    await bench.settle()
    assert (len(queue), bench.queue._volume.bytes) == (1, 7)
    bench.answer("2")
    await bench.settle()
    assert (len(queue), bench.queue._volume.bytes) == (0, 0)
    assert (len(bench.dispatcher._in_flight), queue.take(), bench.dispatcher.in_flight) == (
        0,
        None,
        0,
    )


@pytest.mark.parametrize(
    ("many", "other"),
    [
        (ROMEO, JULIET),
        (ROMEO, "benvolio@montague.example/street"),  # another sender of the same domain
        (f"{ROOM}/a", f"{ROOM}/b"),  # occupants
    ],
)
async def test_a_sender_whose_posts_hang_does_not_delay_others(
    nursery: trio.Nursery, many: str, other: str
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset({"iq"})), max_in_flight=16)
    await bench.give(self_presence())
    await bench.give(*(iq(f"{number}", from_=many) for number in range(30)))
    await bench.give(iq("x", from_=other))
    await bench.settle()
    assert sorted(bench.endpoint.running) == ["0", "1", "2", "3", "x"]


# --- no answer in time


async def test_h4_a_silent_endpoint(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    bench = running(nursery, max_in_flight=1)
    await bench.give(message("1"), message("2", from_=ROMEO), iq("q"), presence("p"))
    for number in (1, 2, 3):
        await bench.outbox.wait_pending()
        assert trio.current_time() == 30 * number
        [one] = bench.sent()
        assert error_of(one)[-2:] == ("remote-server-timeout", "wait")
    await bench.dispatcher.drain()
    assert trio.current_time() == 120
    assert bench.endpoint.running == {}
    assert bench.endpoint.ids == ["1", "2", "q", "p"]
    assert (bench.counts.errors_sent, bench.counts.untold) == (3, 1)


@pytest.mark.parametrize("policy", [RetryPolicy(0, 0), RetryPolicy(0, 10), RetryPolicy(60, 0)])
async def test_what_has_no_budget_waits_for_no_probe(
    autojump_clock: MockClock, nursery: trio.Nursery, policy: RetryPolicy
) -> None:
    """Its one attempt is made at once, however plainly the endpoint is down."""
    bench = running(nursery, policy=policy)
    bench.endpoint.rule = unreachable
    without = message if not policy.message_budget_s else iq
    for round in range(3):
        await bench.give(*(without(f"{round}-{n}", from_=f"u{n}@a") for n in range(20)))
        await bench.settle()
        assert len(bench.endpoint.bodies) == 20 * (round + 1)
        assert [one.type for one in bench.sent()] == ["error"] * 20
    assert trio.current_time() == 0


async def test_h4_an_answer_in_time_is_no_failure(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def answer_late(_: dict[str, Any]) -> Outcome:
        await trio.sleep(29.9)
        return said({"body": "x", "id": "r"})

    bench = running(nursery)
    bench.endpoint.rule = answer_late
    await bench.give(message("1"))
    await bench.dispatcher.drain()
    assert [one.id for one in bench.sent()] == ["r"]
    assert bench.log.told == []


# --- H3: nothing to say


@pytest.mark.parametrize(
    "outcome",
    [EMPTY, NoReply(ignored="text/html"), said([]), said({}), said({"to": JULIET})],
    ids=repr,
)
@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (message("m"), None),
        (presence("p"), None),
        (iq("q", "set"), f"<iq id='q' type='result' from='{DOMAIN}' to='{JULIET}'/>"),
        (iq("q", "get"), f"<iq id='q' type='result' from='{DOMAIN}' to='{JULIET}'/>"),
        (
            iq("q", "get", "<x xmlns='urn:x'/>"),
            f"<iq id='q' type='error' from='{DOMAIN}' to='{JULIET}'><error type='cancel'>"
            f"<service-unavailable xmlns='{STANZA_ERRORS}'/></error></iq>",
        ),
        (iq("q", "result"), None),
        (iq("q", "error"), None),
    ],
    ids=["message", "presence", "set", "ping", "get", "result", "error"],
)
async def test_h3_default_answers(
    nursery: trio.Nursery, outcome: Outcome, given: Stanza, answer: str | None
) -> None:
    bench = running(nursery)
    await bench.give(given)
    await bench.settle()
    bench.answer(str(given.id), outcome)
    await bench.settle()
    expected = [] if answer is None else [stanza(answer)]
    assert meanings(bench.sent()) == meanings(expected)


async def test_h3_other_stanzas_do_not_answer_an_iq(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(iq("q", "set"))
    await bench.settle()
    bench.answer("q", said({"kind": "message", "body": "done"}))
    await bench.settle()
    assert [(one.kind, one.type) for one in bench.sent()] == [("message", "chat"), ("iq", "result")]


async def test_h3_an_ignored_media_type_is_warned_about_once_each(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    for n, media in enumerate(["text/html", "none", "text/html", "none", "text/plain"]):
        await bench.give(message(str(n)))
        await bench.settle()
        bench.answer(str(n), NoReply(ignored=media))
    await bench.settle()
    assert [line["media_type"] for line in bench.log.told] == ["text/html", "none", "text/plain"]
    assert {line["event"] for line in bench.log.told} == {"reply ignored"}
    assert "Content-Type: application/json" in bench.log.told[0]["hint"]


SAID_ONCE: Final[list[tuple[str, Outcome, list[dict[str, Any]]]]] = [
    ("null", said(None), []),
    ("nothing", said({}), []),
    ("what it got", said({"received": "2024-05-06T07:08:09.123Z"}), []),
    ("a string", said("ok"), [{"event": "reply says nothing", "why": "the body is a string"}]),
    ("a number", said(0), [{"event": "reply says nothing", "why": "the body is a number"}]),
    ("a type", said({"type": "success"}), [
        {"event": "reply says nothing", "why": "type 'success' is not valid for message stanzas"}]),
    ("unknown keys", said({"text": "hi", "zzz": 1, "body": "x"}), [
        {"event": "unknown key in a reply", "key": "text", "hint": "perhaps you meant body"},
        {"event": "unknown key in a reply", "key": "zzz"}]),
    ("no printable key", said({"\x1b[31m\ud83d": 1}), [
        {"event": "unknown key in a reply", "key": "\\x1b[31m\\ud83d"}]),
    ("an unknown key in an object", said({"files": [{"url": "https://a", "nam": "x"}] * 2}), [
        {"event": "unknown key in a reply", "key": "files.nam",
         "hint": "perhaps you meant files.name"}]),
    ("201", NoReply("application/json", 201), [
        {"event": "reply ignored", "status": 201, "hint": "use status 200 for replies"}]),
    ("text", NoReply("text/plain"), [
        {"event": "reply ignored", "media_type": "text/plain",
            "hint": "set Content-Type: application/json on replies, or component_text_replies ="
            " true"}]),
    ("a redirect", Rejected(301, None, "https://example.com/api/"), [
        {"event": "endpoint redirects", "status": 301, "location": "https://example.com/api/"}]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "told"), [pytest.param(*row[1:], id=row[0]) for row in SAID_ONCE]
)
async def test_what_the_developer_of_a_service_should_know_is_said_once(
    nursery: trio.Nursery, outcome: Outcome, told: list[dict[str, Any]]
) -> None:
    bench = running(nursery)
    for id in ("a", "b"):
        await bench.give(message(id))
        await bench.settle()
        bench.answer(id, outcome)
    await bench.settle()
    lines = [line for line in bench.log.told if line["level"] == "warning"]
    found = [{key: line[key] for key in one} for line, one in zip(lines, told, strict=True)]
    assert found == told


# --- H4: failures

FAILURES: Final[list[tuple[Outcome | Exception, str]]] = [
    (Rejected(404), "item-not-found cancel"),
    (Rejected(500), "internal-server-error cancel"),
    (Rejected(503), "remote-server-timeout wait"),
    (Rejected(302), "service-unavailable cancel"),
    (Unreachable("no"), "remote-server-timeout wait"),
    (TimedOut(), "remote-server-timeout wait"),
    (BadReply("no"), "internal-server-error cancel"),
    (Replied("json", b"nonsense"), "internal-server-error cancel"),
    (said({"body": []}), "internal-server-error cancel"),
    (said({"body": "x", "id": "\u0001"}), "internal-server-error cancel"),
    (said({"body": "x", "from": f"{BOT}."}), "internal-server-error cancel"),
    (said({"body": "x", "from": f"@{DOMAIN}"}), "internal-server-error cancel"),
    (said({"body": "x", "from": JULIET}), "internal-server-error cancel"),
    (said({"body": "x", "to": "@@bad"}), "internal-server-error cancel"),
    (said(["text"]), "internal-server-error cancel"),
    (said({"stanza": "<message>"}), "internal-server-error cancel"),
    (said({"stanza": "</stream:stream>"}), "internal-server-error cancel"),
    (said({"stanza": "<handshake/>"}), "internal-server-error cancel"),
    (said({"stanza": "<message>&x;</message>"}), "internal-server-error cancel"),
    (said({"stanza": "<!DOCTYPE a><message/>"}), "internal-server-error cancel"),
    (said({"body": "x" * 600_000}), "internal-server-error cancel"),
    (said([{"body": "good"}, {"body": {}}]), "internal-server-error cancel"),
    (Replied("xml", b"<presence/><presence/>"), "internal-server-error cancel"),
    (ZeroDivisionError("a bug"), "internal-server-error cancel"),
]


@pytest.mark.parametrize(("outcome", "error"), FAILURES, ids=lambda value: repr(value)[:50])
async def test_h4_one_failure_among_100(
    nursery: trio.Nursery, outcome: Outcome | Exception, error: str
) -> None:
    bench = running(nursery)
    await bench.give(*(message(str(n), from_=f"u{n}@a") for n in range(101)))
    assert len(await bench.settle()) == 101
    for n in range(101):
        bench.answer(str(n), outcome if n == 50 else said({"body": "x", "id": f"re-{n}"}))
    await bench.settle()
    sent = bench.sent()
    failed = [one for one in sent if one.type == "error"]
    assert errors(failed) == [f"50 {error}"]
    replied = {one.id for one in sent if one.type != "error"}
    assert replied == {f"re-{n}" for n in range(101) if n != 50}
    await bench.give(message("next"))
    assert await bench.settle() == ["next"]


async def test_h4_a_bug_of_ours_costs_one_stanza_and_is_logged(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("1"), message("2"))
    await bench.settle()
    bench.answer("1", ZeroDivisionError("a bug"))
    assert await bench.settle() == ["2"]
    assert errors(bench.sent()) == ["1 internal-server-error cancel"]
    [line] = bench.log.told
    assert (line["event"], line["id"]) == ("stanza failed in the bridge", "1")
    assert line["exc_info"]


async def test_h4_the_text_of_an_error_is_ours(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    outcomes: list[Outcome] = [Rejected(500), Unreachable("1.2.3.4 secret"), BadReply("secret")]
    for n, outcome in enumerate(outcomes):
        await bench.give(message(str(n)))
        await bench.settle()
        bench.answer(str(n), outcome)
    await bench.settle()
    sent = bench.sent()
    assert len(sent) == 3
    assert "secret" not in repr(sent)


# --- S29: iqs


@pytest.mark.parametrize("kinds", [{"iq"}, {"message"}], ids=["posted", "not posted"])
@pytest.mark.parametrize(
    ("attributes", "inner", "answer"),
    [
        ("id='q' type='get'", "", "q bad-request modify"),
        ("id='q' type='set'", "", "q bad-request modify"),
        ("id='q' type='get'", "text", "q bad-request modify"),
        ("id='q' type='get'", PING + PING, "q bad-request modify"),
        ("id='q' type='set'", "<a xmlns='urn:a'/><b xmlns='urn:b'/>", "q bad-request modify"),
        ("id='q' type='chat'", PING, "q bad-request modify"),
        ("id='q' type=''", PING, "q bad-request modify"),
        ("id='q'", PING, "q bad-request modify"),
        ("type='get'", PING, None),
        ("id='' type='set'", PING, None),
        ("type='get'", "", None),
        ("type='result'", "", None),
        ("", "", None),
    ],
)
async def test_s29_iqs_that_are_none(
    nursery: trio.Nursery, kinds: set[str], attributes: str, inner: str, answer: str | None
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset(kinds)))
    await bench.give(stanza(f"<iq {attributes} from='{JULIET}' to='{BOT}'>{inner}</iq>"))
    await bench.settle()
    assert errors(bench.sent()) == ([] if answer is None else [answer])
    assert bench.endpoint.bodies == []
    dropped = [] if answer is not None else ["iq without id dropped"]
    assert [line["event"] for line in bench.log.told] == dropped


# --- S34: addresses


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (message("m", to="echo@other.example"), []),
        (presence("p", to="other.example"), []),
        (presence("p", "subscribe", to="other.example"), []),
        (iq("q", to="other.example"), ["q item-not-found cancel"]),
        (iq("q", "set", to="echo@other.example/x"), ["q item-not-found cancel"]),
        (iq("q", "result", to="other.example"), []),
        (iq("q", to=f"sub.{DOMAIN}"), ["q item-not-found cancel"]),
        (iq("q", to=f"{DOMAIN}@other.example/{DOMAIN}"), ["q item-not-found cancel"]),
    ],
)
async def test_s34_a_stanza_for_another_domain(
    nursery: trio.Nursery, given: Stanza, answer: list[str]
) -> None:
    bench = running(nursery)
    await bench.give(given, given)
    await bench.settle()
    sent = bench.sent()
    assert errors(sent) == answer * 2
    assert {one.from_ for one in sent} <= {DOMAIN}  # S28: the other one is not ours to use
    assert bench.endpoint.bodies == []
    [line] = bench.log.told
    assert line["event"] == "stanza for another domain"
    assert "global_routes: false" in line["hint"]


@pytest.mark.parametrize(
    "to", [DOMAIN, BOT, f"{BOT}/x", "Bot.EXAMPLE", "echo@BOT.example", f"{DOMAIN}/a@b/c"]
)
async def test_s34_a_stanza_for_ours(nursery: trio.Nursery, to: str) -> None:
    bench = running(nursery)
    await bench.give(message("m", to=to))
    assert await bench.settle() == ["m"]
    assert bench.log.told == []


@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
@pytest.mark.parametrize(
    "addresses", ["", f"from='{JULIET}'", f"to='{BOT}'", f"from='' to='{BOT}'", "from='a@b' to=''"]
)
async def test_s34_a_stanza_without_address_is_dropped(
    nursery: trio.Nursery, kind: str, addresses: str
) -> None:
    bench = running(nursery)
    await bench.give(stanza(f"<{kind} id='x' type='get' {addresses}>{PING}</{kind}>"))
    await bench.settle()
    assert (bench.sent(), bench.endpoint.bodies) == ([], [])
    assert [line["event"] for line in bench.log.told] == ["stanza without address dropped"]


# --- allow_from


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (set(), True),
        ({"capulet.example"}, True),
        ({"juliet@capulet.example"}, True),
        ({"juliet@capulet.example/balcony"}, True),
        ({"juliet@capulet.example/chamber"}, False),
        ({"romeo@capulet.example"}, False),
        ({"example"}, False),
        ({"sub.capulet.example"}, False),
        ({"montague.example", "capulet.example"}, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("sender", [JULIET, "Juliet@CAPULET.example/Balcony"])
async def test_allow_from(
    nursery: trio.Nursery, allowed: set[str], expected: bool, sender: str
) -> None:
    bench = running(nursery, evolve(COMPONENT, allow_from=frozenset(allowed)))
    await bench.give(message("m", from_=sender), iq("q", from_=sender), presence("p", from_=sender))
    await bench.settle()
    refused = ["m forbidden auth", "q forbidden auth"]
    assert errors(bench.sent()) == ([] if expected else refused)
    assert set(bench.endpoint.ids) == ({"m", "q"} if expected else set())
    assert bench.counts.untold == (0 if expected else 1)


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("straße@faß.de/R", True),
        ("STRAẞE@FAẞ.DE/r", True),
        ("straße@xn--fa-hia.de/r", True),
        ("strasse@faß.de/r", False),
        ("straße@fass.de/r", False),
    ],
)
async def test_allow_from_takes_no_other_account_for_the_same(
    nursery: trio.Nursery, sender: str, expected: bool
) -> None:
    allowed = frozenset({fold("Straße@faß.de")})
    bench = running(nursery, evolve(COMPONENT, allow_from=allowed))
    await bench.give(message("m", from_=sender))
    await bench.settle()
    assert errors(bench.sent()) == ([] if expected else ["m forbidden auth"])


async def test_allow_from_is_asked_of_what_the_bridge_answers_too(nursery: trio.Nursery) -> None:
    component = evolve(COMPONENT, allow_from=frozenset({"a.example"}), post_stanzas=frozenset())
    bench = running(nursery, component)
    await bench.give(iq("q"), presence("p", "subscribe"), message("m", type="error"))
    assert errors(bench.sent()) == ["q forbidden auth"]
    assert bench.counts.untold == 1


# --- addresses that do not exist


async def test_what_is_for_an_address_that_does_not_exist_is_not_posted(
    nursery: trio.Nursery,
) -> None:
    component = evolve(COMPONENT, local_parts=frozenset({"echo"}))
    nobody = f"nobody@{DOMAIN}"
    bench = running(nursery, component)
    await bench.give(
        message("m", to=nobody),
        message("g", to=nobody, type="groupchat"),
        message("e", to=nobody, type="error"),
        iq("q", to=f"{nobody}/x"),
        iq("r", "result", to=nobody),
        presence("p", "subscribe", to=nobody),
        presence("o", "probe", to=nobody),
        message("known", to=f"Echo@{DOMAIN}/x"),
        iq("host"),
    )
    assert await bench.settle() == ["host", "known"]
    [*sent, probed] = bench.sent()
    unavailable = "service-unavailable cancel"
    assert errors(sent) == [f"m {unavailable}", f"q {unavailable}"]
    assert (probed.type, probed.from_, probed.to) == ("unsubscribed", nobody, JULIET)


async def test_a_large_answer_counts_like_a_stanza_of_its_size(nursery: trio.Nursery) -> None:
    avatar = parse_avatar(b"\xff\xd8\xff".ljust(AVATAR_LIMIT_BYTES, b"."))
    component = evolve(
        COMPONENT, post_stanzas=frozenset({"message"}), profiles={"*": Profile(avatar=avatar)}
    )
    bounds = SenderLimits(Rate(0.001), Count(15), Count(1000), Count(1000))
    bench = running(nursery, component, limiter=SenderLimiter(bounds, lambda: 0.0))
    card = "<vCard xmlns='vcard-temp'/>"
    await bench.give(*(iq(f"q{n}", inner=card, to=BOT) for n in range(3)))
    first, second, third = bench.sent()  # each costs 1 to ask, and 5 for 87 kB
    assert (first.type, second.type) == ("result", "result")
    assert errors([third]) == ["q2 resource-constraint wait"]
    await bench.give(iq("q3", to=BOT), iq("q4", inner=card, to=BOT, from_="romeo@capulet.example"))
    assert [one.type for one in bench.sent()] == ["result", "result"]


# --- H5: errors and results


@pytest.mark.parametrize(
    "given",
    [
        message("x", type="error"),
        presence("x", "error"),
        iq("x", "result", ""),
        iq("x", "result"),
        iq("x", "error", f"<error type='wait'><gone xmlns='{STANZA_ERRORS}'/></error>"),
    ],
)
@pytest.mark.parametrize(
    "outcome",
    [
        said({"body": "x"}),
        said({"kind": "iq"}),
        said({"stanza": "<message><body>x</body></message>"}),
        Replied("json", b"nonsense"),
        EMPTY,
        Rejected(500),
        TimedOut(),
        ZeroDivisionError(),
    ],
    ids=repr,
)
async def test_h5_bounces_and_results_are_posted_and_their_replies_ignored(
    nursery: trio.Nursery, given: Stanza, outcome: Outcome | Exception
) -> None:
    bench = running(nursery)
    await bench.give(given)
    assert await bench.settle() == ["x"]
    bench.answer("x", outcome)
    await bench.settle()
    assert bench.sent() == []
    assert (bench.counts.untold, bench.counts.errors_sent) == (0, 0)
    assert len(bench.dispatcher._conversations) == 0


# --- H6: kinds that are not POSTed


@pytest.mark.parametrize(
    ("given", "answers"),
    [
        (message("m"), ["message error"]),
        (message("m", type="normal"), ["message error"]),
        (message("m", type=None), ["message error"]),
        (message("m", type="groupchat"), []),
        (message("m", type="headline"), []),
        (message("m", type="error"), []),
        (iq("q"), ["iq result"]),
        (iq("q", "set"), ["iq error"]),
        (iq("q", "result"), []),
        (iq("q", "error"), []),
        (presence("p", "subscribe"), ["presence subscribed", "presence None"]),
        (presence("p", "probe"), ["presence None"]),
        (presence("p", "unsubscribe"), ["presence unavailable"]),
        (presence("p"), []),
        (presence("p", "unavailable"), []),
        (presence("p", "error"), []),
    ],
)
async def test_h6_what_the_bridge_answers_itself(
    nursery: trio.Nursery, given: Stanza, answers: list[str]
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset()))
    await bench.give(given)
    sent = bench.sent()
    assert [f"{one.kind} {one.type}" for one in sent] == answers
    assert {(one.from_ or "").partition("/")[0] for one in sent} <= {BOT, DOMAIN}
    await bench.settle()
    assert bench.endpoint.bodies == []
    assert bench.counts.answered_by_bridge == len(answers)


@pytest.mark.parametrize("kinds", [{"message"}, {"presence"}, {"iq"}, {"message", "iq"}], ids=str)
async def test_h5_the_kinds_that_are_named_are_posted(
    nursery: trio.Nursery, kinds: set[str]
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset(kinds)))
    await bench.give(message("m"), presence("p"), iq("q"))
    await bench.settle()
    assert {body["kind"] for body in bench.endpoint.bodies} == kinds


async def test_h6_a_message_with_a_muc_mark_gets_no_error(nursery: trio.Nursery) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset()))
    mark = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
    await bench.give(message("m", from_=f"{ROOM}/x", inner=mark))
    assert bench.sent() == []
    assert bench.counts.untold == 1


# --- post_events


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (message("m"), True),
        (message("m", ""), True),
        (message("m", None), False),
        (message("m", None, inner="<composing xmlns='urn:x'/>"), False),
        (message("m", None, inner="<body xmlns='urn:x'>no</body>"), False),
        (message("m", None, inner="<body xml:lang='de'>ja</body>"), True),
        (message("m", type="error"), False),
        (message("m", None, inner=f"<composing xmlns='{CHAT_STATES}'/>"), False),
        (message("m", None, inner=f"<received xmlns='{RECEIPTS}' id='1'/>"), False),
        (message("m", inner=f"<replace xmlns='{CORRECT}' id='1'/>"), True),
        (message("m", None, inner=f"<reactions xmlns='{REACTIONS}' id='1'/>"), False),
        (message("m", None, inner=f"<x xmlns='{DATA}' type='submit'/>"), True),
        (presence("m"), True),
        (presence("m", "subscribe"), True),
        (iq("m"), True),
    ],
)
async def test_which_events_are_posted_by_default(
    nursery: trio.Nursery, given: Stanza, expected: bool
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_events=DEFAULT_EVENTS))
    await bench.give(given)
    assert bool(await bench.settle()) is expected
    assert (bench.sent(), bench.log.told) == ([], [])


@pytest.mark.parametrize(
    ("given", "answers"),
    [
        (message("m"), ["m service-unavailable cancel"]),
        (message("m", type="headline"), []),
        (
            message("m", inner=f"<replace xmlns='{CORRECT}' id='1'/>"),
            ["m service-unavailable cancel"],
        ),
        (message("m", None, inner=f"<reactions xmlns='{REACTIONS}' id='1'/>"), []),
        (message("m", None, inner=f"<received xmlns='{RECEIPTS}' id='1'/>"), []),
        (iq("m", inner="<x xmlns='urn:x'/>"), ["m service-unavailable cancel"]),
        (presence("m"), []),
    ],
)
async def test_how_events_that_are_not_posted_are_answered(
    nursery: trio.Nursery, given: Stanza, answers: list[str]
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_events=frozenset()))
    await bench.give(given)
    assert not await bench.settle()
    assert errors(bench.sent()) == answers


async def test_an_always_on_contact_for_events_that_are_not_posted(nursery: trio.Nursery) -> None:
    bench = running(nursery, evolve(COMPONENT, post_events=frozenset({"presence"})))
    await bench.give(presence("m", "subscribe"))
    assert not await bench.settle()
    assert [(one.kind, one.type) for one in bench.sent()] == [
        ("presence", "subscribed"),
        ("presence", None),
    ]


ENCRYPTED: Final = f"<encrypted xmlns='{OMEMO}'><header sid='1'/><payload>x</payload></encrypted>"


async def test_an_encrypted_message_is_answered_once_an_hour(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_events=DEFAULT_EVENTS))
    for _ in range(3):
        await bench.give(message("m", "I sent you an OMEMO encrypted message", inner=ENCRYPTED))
    assert not await bench.settle()
    [notice] = bench.sent()
    assert (notice.to, notice.type) == (JULIET, "chat")
    assert "cannot read encrypted" in (notice.child("body") or Element("")).text
    await bench.give(message("n", inner=ENCRYPTED, from_=ROMEO))
    assert [one.to for one in bench.sent()] == [ROMEO]
    await trio.sleep(3601)
    await bench.give(message("o", None, inner=ENCRYPTED))
    assert [one.to for one in bench.sent()] == [JULIET]


@pytest.mark.parametrize(
    "given",
    [
        message("m", inner=ENCRYPTED, type="groupchat", from_=f"{ROOM}/n"),
        message("m", inner=ENCRYPTED, from_=f"{ROOM}/n"),
        message("m", None, inner=f"<encrypted xmlns='{OMEMO}'><header sid='1'/></encrypted>"),
    ],
    ids=["room", "occupant", "key transport"],
)
async def test_who_gets_no_encrypted_notice(nursery: trio.Nursery, given: Stanza) -> None:
    bench = running(nursery, evolve(COMPONENT, post_events=DEFAULT_EVENTS - {"presence"}))
    await bench.give(self_presence(), given)
    assert (await bench.settle(), bench.sent()) == ([], [])


async def test_the_encrypted_notice_may_be_turned_off(nursery: trio.Nursery) -> None:
    component = evolve(COMPONENT, post_events=DEFAULT_EVENTS, encrypted_notice="")
    bench = running(nursery, component)
    await bench.give(message("m", inner=ENCRYPTED))
    assert (await bench.settle(), bench.sent()) == ([], [])


# --- S30 and S36: rooms


@pytest.mark.parametrize(
    ("given", "is_told"),
    [
        (message("x"), True),
        (message("x", type="normal"), True),
        (message("x", type=None), True),
        (message("x", type="groupchat", from_=f"{ROOM}/n"), False),
        (message("x", type="headline"), False),
        (message("x", inner="<x xmlns='http://jabber.org/protocol/muc#user'/>"), False),
        (message("x", from_=f"{ROOM}/n"), False),  # a private message, from where we are
        (message("x", from_=ROOM, type="normal"), False),
        (message("x", from_="other@rooms.example/n"), True),
        (iq("x", from_=f"{ROOM}/n"), True),
        (iq("x", "set", from_=f"{ROOM}/n"), True),
        (presence("x"), False),
        (presence("x", "subscribe"), False),
    ],
)
async def test_s30_who_is_told(nursery: trio.Nursery, given: Stanza, is_told: bool) -> None:
    bench = running(nursery)
    bench.endpoint.rule = answer_at_once
    await bench.give(self_presence())
    await bench.settle()
    bench.endpoint.rule = None
    await bench.give(given)
    await bench.settle()
    bench.answer("x", Rejected(503))
    await bench.settle()
    told = ["x remote-server-timeout wait"] if is_told else []
    assert errors(bench.sent()) == told
    assert (bench.counts.errors_sent, bench.counts.untold) == ((1, 0) if is_told else (0, 1))
    assert len(bench.log.of("sender not told")) == (0 if is_told else 1)


DELAY: Final = "<delay xmlns='urn:xmpp:delay' stamp='2024-01-01T00:00:00Z'/>"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (message("x", from_=f"{ROOM}/bot", type="groupchat"), False),  # reflected
        (message("x", from_=f"{ROOM}/n", type="groupchat", inner=DELAY), False),  # history
        (message("x", from_=f"{ROOM}/n", type="groupchat"), True),
        (message("x", from_=f"{ROOM}/bot", to=f"other@{DOMAIN}", type="groupchat"), True),
        (message("x", from_=f"{ROOM}/bot", type="chat"), True),
        (message("x", from_="other@rooms.example/bot", type="groupchat"), True),
        (message("x", inner=DELAY), True),
    ],
)
@pytest.mark.parametrize("post_own", [False, True])
async def test_s36_our_own_groupchat_messages(
    nursery: trio.Nursery, given: Stanza, expected: bool, post_own: bool
) -> None:
    component = evolve(COMPONENT, post_own=post_own, post_stanzas=frozenset({"message"}))
    bench = running(nursery, component)
    await bench.give(self_presence(), given)
    assert bool(await bench.settle()) is (expected or post_own)
    told = [one for one in bench.log.told if "room" not in one]
    assert (bench.sent(), bench.counts.untold, told) == ([], 0, [])


async def test_s36_a_room_that_we_left_is_as_any_other(nursery: trio.Nursery) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset({"message"})))
    await bench.give(self_presence(), self_presence(type="unavailable"))
    await bench.give(message("x", from_=f"{ROOM}/bot", type="groupchat"))
    assert await bench.settle() == ["x"]


async def test_s36_what_was_sent_to_a_room_is_known_when_it_comes_back(
    nursery: trio.Nursery,
) -> None:
    """Also where we did not see the occupant's presence, as after a restart of ours."""
    bench = running(nursery)
    await bench.give(message("1", from_=f"{ROOM}/n", type="groupchat"))
    await bench.settle()
    bench.answer("1", said({"body": "echo", "id": "r1"}))
    await bench.settle()
    [reply] = bench.sent()
    assert (reply.to, reply.type, reply.id) == (ROOM, "groupchat", "r1")
    await bench.give(message("r1", "echo", from_=f"{ROOM}/bot", type="groupchat"))
    assert await bench.settle() == []


# --- S17 and S33: what the stream reports besides


def refused(xml: str) -> StanzaRefused:
    return StanzaRefused(stanza(xml), "524288 bytes")


@pytest.mark.parametrize(
    ("event", "answer", "untold"),
    [
        (refused(f"<message id='x' from='{JULIET}' to='{BOT}'/>"), True, 0),
        (refused(f"<iq id='x' type='get' from='{JULIET}' to='{BOT}'/>"), True, 0),
        (refused(f"<iq id='x' type='result' from='{JULIET}' to='{BOT}'/>"), False, 0),
        (refused(f"<message id='x' type='error' from='{JULIET}' to='{BOT}'/>"), False, 0),
        (refused(f"<message id='x' type='groupchat' from='{ROOM}/n' to='{BOT}'/>"), False, 1),
        (refused(f"<presence id='x' from='{JULIET}' to='{BOT}'/>"), False, 1),
        (
            refused(
                f"<message id='x' from='{ROOM}/n' to='{BOT}'>"
                "<x xmlns='http://jabber.org/protocol/muc#user'/></message>"
            ),
            False,
            1,
        ),
        (refused(f"<message id='x' from='{JULIET}'/>"), False, 0),
        (refused(f"<message id='x' to='{BOT}'/>"), False, 0),
        (refused(f"<message id='x' from='{JULIET}' to='other.example'/>"), False, 0),
    ],
)
async def test_s17_a_refused_stanza(
    nursery: trio.Nursery, event: StanzaRefused, answer: bool, untold: int
) -> None:
    bench = running(nursery)
    await bench.dispatcher.handle(event)
    await bench.settle()
    assert errors(bench.sent()) == (["x policy-violation modify"] if answer else [])
    assert (bench.counts.received, bench.counts.untold) == (1, untold)
    assert bench.endpoint.bodies == []
    assert bench.log.told[0]["event"] == "stanza refused"
    assert bench.log.told[0]["limit"] == "524288 bytes"


async def test_s33_an_unknown_element_is_logged(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.dispatcher.handle(ElementIgnored("{urn:x}y"))
    assert bench.sent() == []
    assert [line["name"] for line in bench.log.told] == ["{urn:x}y"]


# --- stopping


async def test_drain_waits_for_all_that_was_admitted(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("1"), message("2"), iq("q"))
    await bench.settle()
    drained = trio.Event()

    async def drain() -> None:
        await bench.dispatcher.drain()
        drained.set()

    nursery.start_soon(drain)
    await bench.settle()
    await bench.give(message("late"), iq("late-q"), presence("late-p"))
    assert errors(bench.sent()) == [
        "late remote-server-timeout wait",
        "late-q remote-server-timeout wait",
    ]
    assert bench.counts.untold == 1
    for id in ("1", "q", "2"):
        assert not drained.is_set()
        bench.answer(id, said({"body": "x"}) if id != "q" else EMPTY)
        await bench.settle()
    assert drained.is_set()
    assert [one.kind for one in bench.sent()] == ["message", "iq", "message"]


async def test_drain_of_nothing_is_done_at_once() -> None:
    with trio.fail_after(0):
        await Bench().dispatcher.drain()


async def test_what_the_bridge_answers_itself_goes_on_while_it_stops(
    nursery: trio.Nursery,
) -> None:
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset({"message"})))
    await bench.dispatcher.drain()
    await bench.give(iq("q"), presence("p", "probe"))
    assert [one.kind for one in bench.sent()] == ["iq", "presence"]


async def test_a_reader_that_waits_for_room_learns_of_the_stop(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, limit_count=1)
    await bench.give(message("1"))
    nursery.start_soon(bench.give, message("2"))
    await bench.settle()
    nursery.start_soon(bench.dispatcher.drain)
    await bench.settle()
    assert trio.current_time() == 0
    assert errors(bench.sent()) == ["2 remote-server-timeout wait"]
    assert bench.log.told == []


async def test_give_up_answers_what_is_not_done() -> None:
    bench = Bench(max_in_flight=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.dispatcher.run)
        await bench.give(message("1"), message("2"), message("3", from_=ROMEO), iq("q"))
        await bench.give(message("g", from_=f"{ROOM}/n", type="groupchat"), presence("p"))
        await bench.give(message("e", from_="x@y", type="error"))
        await bench.settle()
        bench.answer("3", said({"body": "x", "id": "done"}))
        await bench.settle()
        nursery.cancel_scope.cancel()
    [done] = [one for one in bench.sent() if one.id == "done"]
    assert done.to == ROMEO
    assert await bench.dispatcher.give_up() == 6
    assert sorted(errors(bench.sent())) == [
        f"{id} remote-server-timeout wait" for id in ("1", "2", "q")
    ]
    assert (bench.counts.errors_sent, bench.counts.untold) == (3, 2)


async def test_cancellation_never_answers_twice() -> None:
    """Each stanza is answered by its reply or by `give_up`, whenever the stop comes."""
    for stop_at in range(0, 60, 3):
        bench = Bench(max_in_flight=5)
        bench.endpoint.rule = echo
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.dispatcher.run)
            await bench.give(*(message(str(n), from_=f"u{n % 7}@a") for n in range(40)))
            for _ in range(stop_at):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await bench.dispatcher.give_up()
        answered = [str(one.id).removeprefix("re-") for one in bench.sent()]
        assert sorted(answered, key=int) == [str(n) for n in range(40)]


# --- a server that does not read


async def test_s29_answers_need_no_room_in_the_outbox(nursery: trio.Nursery) -> None:
    outbox = fresh_outbox(limit_count=1)
    bench = running(nursery, evolve(COMPONENT, post_stanzas=frozenset()), outbox=outbox)
    outbox.put(outgoing(b"<message/>", made=NOW))
    await bench.give(iq("1"), iq("2"), presence("nothing to say"))
    assert [one.id for one in bench.sent()] == [None, "1", "2"]
    assert bench.counts.untold == 0
    assert bench.log.told == []


# --- the log


@pytest.mark.parametrize(
    "answers", [[Rejected(404), EMPTY], [Replied("json", b"{}")]], ids=["nothing said", "a reply"]
)
async def test_an_endpoint_that_goes_and_comes_back_is_two_lines(
    nursery: trio.Nursery, answers: list[Outcome]
) -> None:
    bench = running(nursery)
    failures: list[Outcome] = [Unreachable("ConnectError: no"), TimedOut(), Unreachable("other")]
    for n, outcome in enumerate([*failures, *answers]):
        await bench.give(message(str(n)))
        await bench.settle()
        bench.answer(str(n), outcome)
    await bench.settle()
    lines = [line for line in bench.log.told if line["event"] != "endpoint rejected a stanza"]
    assert [line["event"] for line in lines] == [
        "endpoint fails",
        "endpoint answers again",
        "stanzas given up",
    ]
    assert (lines[0]["why"], lines[1]["failed"]) == ("ConnectError: no", 3)


@pytest.mark.parametrize(
    ("outcome", "event", "level"),
    [
        (Rejected(401), "your endpoint refuses the bridge", "warning"),
        (Rejected(403), "your endpoint refuses the bridge", "warning"),
        (Rejected(407), "your endpoint refuses the bridge", "warning"),
        (Rejected(404), "endpoint rejected a stanza", "info"),
        (Rejected(501), "endpoint rejected a stanza", "warning"),
        (BadReply("over the limit"), "bad reply", "warning"),
        (Replied("json", b"["), "bad reply", "warning"),
    ],
)
async def test_h4_what_is_logged(
    nursery: trio.Nursery, outcome: Outcome, event: str, level: str
) -> None:
    bench = running(nursery)
    await bench.give(message("m7"))
    await bench.settle()
    bench.answer("m7", outcome)
    await bench.settle()
    [line] = bench.log.told
    assert (line["event"], line["level"], line["id"]) == (event, level, "m7")
    assert line["endpoint"] == FakeEndpoint.shown


WORD: Final = "confidential"


async def test_no_line_above_debug_holds_a_body_or_a_secret(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Every kind of stanza, into every outcome, with a full queue and a stop at the end."""
    bench = running(nursery, limit_count=3)
    outcomes: list[Outcome | Exception] = [
        *(outcome for outcome, _ in FAILURES),
        said({"body": WORD}),
        Replied("json", WORD.encode()),
        Replied("json", json.dumps({"body": [WORD]}).encode()),
        Replied("xml", f"<message><body>{WORD}".encode()),
        Replied("xml", f"<message><body>{WORD}</body></message>&{WORD};".encode()),
        EMPTY,
        NoReply(ignored="text/html"),
    ]
    inner = f"<x xmlns='urn:x'>{WORD}</x>"
    number = 0
    for outcome in outcomes:
        for given in (message(body=WORD), message(body=WORD, type="groupchat"), iq(inner=inner)):
            number += 1
            await bench.give(Stanza(given.element.with_attributes(id=str(number))))
            await bench.settle()
            bench.answer(str(number), outcome)
    await bench.give(iq("", inner=inner), message(body=WORD, to="other.example"))
    await bench.give(*(message(f"f{n}", WORD) for n in range(9)))
    await bench.dispatcher.handle(StanzaRefused(message(body=WORD), "9 bytes"))
    nursery.start_soon(bench.dispatcher.drain)
    await bench.settle()
    await bench.dispatcher.give_up()
    assert WORD in repr([line for line in bench.log.lines if line["level"] == "debug"])
    shown = repr(bench.log.told)
    assert len(bench.log.told) > 30
    for word in (WORD, "s3cret", "t0ken"):
        assert word not in shown


async def test_a_child_of_the_stream_is_debugged_whole(nursery: trio.Nursery) -> None:
    bench = running(nursery)
    await bench.give(message("m", "hi"))
    [line] = bench.log.of("stanza in")
    assert line["level"] == "debug"
    xml = f"<message id='m' from='{JULIET}' to='{BOT}' type='chat'><body>hi</body></message>"
    assert str(line["stanza"]) == xml


async def test_what_its_own_budget_cuts_says_nothing_of_the_endpoint(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    bench = running(nursery, policy=RetryPolicy(60, 10))
    for number in range(5):
        sender = f"s{number}@capulet.example/r"
        await bench.give(
            stanza(f"<iq type='get' id='q{number}' from='{sender}' to='{BOT}'>{PING}</iq>")
        )
    await trio.sleep(11)
    assert [one.type for one in bench.sent()] == ["error"] * 5
    assert not bench.dispatcher.breaker.is_down
