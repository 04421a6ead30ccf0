"""Rooms on their way through the dispatcher: events, history, our own words, and senders."""

from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.event import DEFAULT_EVENTS
from bridge.config.settings import Component, RoomSettings
from bridge.xmpp.outbox import Outbox
from bridge.xmpp.room.history import LONGEST_S
from bridge.xmpp.room.runner import RoomRunner
from tests.bridge.dispatch.test_dispatcher import COMPONENT, DOMAIN, Bench, fresh_outbox
from tests.bridge.sample import stanza
from tests.bridge.xmpp.room.stage import DELAY, HALL, ME, ROOM, SUBJECT, message, presence, refusal
from xmppstream import Stanza

ROOM_EVENTS: Final = frozenset({"room_joined", "room_left"})
QUIET: Final = evolve(
    COMPONENT, post_stanzas=frozenset({"message"}), post_events=DEFAULT_EVENTS | ROOM_EVENTS
)


class RoomBench(Bench):
    """A dispatcher with the task of its rooms, and one room."""

    def __init__(self, component: Component = QUIET, **options: Any) -> None:
        super().__init__(component, outbox=fresh_outbox(), **options)
        self.rooms.configure([HALL], 10)
        self.runner = RoomRunner(self.rooms, self.outbox, self.dispatcher.handle_inbound)

    async def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.dispatcher.run)
        nursery.start_soon(self.runner.run)
        self.rooms.attached()
        await wait_all_tasks_blocked()
        [join] = self.sent()
        assert join.to == f"{ROOM}/robot"

    async def enter(self, *, subject: bool = True) -> Stanza:
        """Let the bridge into the room, and return the question that it then asks."""
        await self.give(stanza(presence("juliet")), stanza(presence("robot", 110)))
        if subject:
            await self.give(stanza(message("juliet", SUBJECT)))
        await wait_all_tasks_blocked()
        [asking] = self.sent()
        return asking

    async def posts(self) -> list[tuple[str | None, str | None]]:
        """Wait until nothing moves; give the event and the body of each POST so far."""
        await wait_all_tasks_blocked()
        return [(body.get("event"), body.get("body")) for body in self.endpoint.bodies]


@pytest.fixture
async def bench(nursery: trio.Nursery, mock_clock: MockClock) -> RoomBench:
    made = RoomBench()
    await made.start(nursery)
    return made


JOINED: Final = ("room_joined", None)


async def test_a_join_is_one_event(bench: RoomBench) -> None:
    await bench.enter()
    assert await bench.posts() == [JOINED]
    [body] = bench.endpoint.bodies
    assert (body["kind"], body["room"], body["sender_nick"]) == ("presence", ROOM, "robot")
    assert body["occupant"]["statuses"] == [110]
    assert "reason" not in body


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (presence("robot", 110, 307, type="unavailable"), "kicked"),
        (presence("robot", 110, type="unavailable", inner="<destroy/>"), "destroyed"),
        (presence("robot", 110, type="unavailable"), "left"),
    ],
)
async def test_its_end_is_one_too(bench: RoomBench, gone: str, reason: str) -> None:
    await bench.enter()
    await bench.posts()
    bench.answer("None")
    await bench.give(stanza(gone))
    assert await bench.posts() == [JOINED, ("room_left", None)]
    body = bench.endpoint.bodies[-1]
    assert (body["reason"], body["room"]) == (reason, ROOM)


async def test_a_room_that_does_not_take_us_back(bench: RoomBench) -> None:
    await bench.enter()
    await bench.posts()
    bench.answer("None")
    bench.rooms.detached()
    bench.rooms.attached()
    await wait_all_tasks_blocked()
    await bench.give(stanza(refusal("forbidden")))
    assert (await bench.posts())[-1] == ("room_left", None)
    body = bench.endpoint.bodies[-1]
    assert (body["reason"], body["error"]["condition"]) == ("error", "forbidden")


@pytest.mark.parametrize("kinds", [{"message"}, {"message", "presence"}])
async def test_without_being_listed_they_are_not_posted(
    nursery: trio.Nursery, mock_clock: MockClock, kinds: set[str]
) -> None:
    component = evolve(QUIET, post_events=DEFAULT_EVENTS, post_stanzas=frozenset(kinds))
    bench = RoomBench(component)
    await bench.start(nursery)
    await bench.enter()
    await bench.give(stanza(presence("robot", 110, 307, type="unavailable")))
    assert await bench.posts() == []


async def test_the_presence_of_others_is_an_event_after_the_join_only(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = RoomBench(evolve(QUIET, post_stanzas=frozenset({"message", "presence"})))
    await bench.start(nursery)
    await bench.enter()
    assert await bench.posts() == [JOINED]
    await bench.give(stanza(presence("romeo")))
    assert await bench.posts() == [JOINED, ("presence", None)]


async def test_history_and_our_own_words_are_not_posted(bench: RoomBench) -> None:
    await bench.enter(subject=False)
    await bench.give(
        stanza(message("juliet", f"<body>old</body>{DELAY}", id="h1")),
        stanza(message("juliet", "<body>old, unmarked</body>", id="h2")),
        stanza(message("juliet", SUBJECT)),
        stanza(message("robot", "<body>me</body>", id="changed")),
        stanza(message("juliet", f"<body>from a tunnel</body>{DELAY}", id="m1")),
    )
    assert await bench.posts() == [JOINED, ("message", "from a tunnel")]
    ended = bench.dispatcher._meter.ends
    assert bench.counts.received == 7
    assert sum(ended.values()) == 5, "all but the two that are being POSTed"


async def test_what_was_held_is_posted_once_the_room_has_answered(bench: RoomBench) -> None:
    asking = await bench.enter(subject=False)
    await bench.give(stanza(message("juliet", "<body>hi</body>", id="m1")))
    assert await bench.posts() == [JOINED]
    answer = f"<iq from='{asking.to}' to='{ME}' id='{asking.id}' type='result'/>"
    await bench.give(stanza(answer), stanza(message("juliet", "<body>ho</body>", id="m2")))
    assert await bench.posts() == [JOINED, ("message", "hi")]
    bench.answer("m1")
    assert await bench.posts() == [JOINED, ("message", "hi"), ("message", "ho")]


async def test_or_after_ten_seconds(bench: RoomBench, mock_clock: MockClock) -> None:
    await bench.enter(subject=False)
    await bench.give(stanza(message("juliet", "<body>hi</body>", id="m1")))
    assert await bench.posts() == [JOINED]
    mock_clock.jump(LONGEST_S + 1)
    assert await bench.posts() == [JOINED, ("message", "hi")]


async def test_a_ping_that_the_room_passes_on_is_answered(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = RoomBench(evolve(QUIET, post_stanzas=frozenset({"message", "iq"})))
    await bench.start(nursery)
    await bench.enter()
    ping = "<ping xmlns='urn:xmpp:ping'/>"
    await bench.give(
        stanza(f"<iq from='{ROOM}/robot' to='{ME}' id='p' type='get'>{ping}</iq>"),
        stanza(f"<iq from='{ROOM}/juliet' to='{ME}' id='q' type='get'>{ping}</iq>"),
    )
    assert await bench.posts() == [JOINED, ("iq", None)]
    [answer] = bench.sent()
    assert (answer.type, answer.id, answer.to) == ("result", "p", f"{ROOM}/robot")


async def test_an_answer_to_the_bridge_is_not_posted(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = RoomBench(evolve(QUIET, post_stanzas=frozenset({"message", "iq"})))
    await bench.start(nursery)
    asking = await bench.enter()
    head = f"<iq from='{asking.to}' to='{ME}' type='result'"
    await bench.give(stanza(f"{head} id='{asking.id}'/>"), stanza(f"{head} id='other'/>"))
    assert await bench.posts() == [JOINED, ("iq", None)]


async def test_a_slow_answer_to_one_occupant_holds_up_nobody_else(bench: RoomBench) -> None:
    await bench.enter()
    await bench.give(
        *(stanza(message("juliet", id=f"j{number}")) for number in range(3)),
        *(stanza(message(f"n{number}", id=f"n{number}")) for number in range(20)),
    )
    running = await bench.settle()
    assert running == sorted(["None", "j0", *(f"n{number}" for number in range(20))])
    bench.answer("j0")
    assert "j1" in await bench.settle()


FORGEABLE: Final = (
    "<body>hi</body><occupant-id xmlns='urn:xmpp:occupant-id:0' id='o'/>"
    f"<stanza-id xmlns='urn:xmpp:sid:0' id='s' by='{ROOM}'/>"
    "<stanza-id xmlns='urn:xmpp:sid:0' id='a' by='juliet@capulet.example'/>"
)


@pytest.mark.parametrize("features", [["urn:xmpp:occupant-id:0", "urn:xmpp:sid:0"], [], None])
async def test_ids_that_the_room_does_not_vouch_for_are_left_out(
    bench: RoomBench, features: list[str] | None
) -> None:
    asking = await bench.enter()
    head = f"<iq from='{asking.to}' to='{ME}' id='{asking.id}'"
    known = "".join(f"<feature var='{one}'/>" for one in features or ())
    query = f"<query xmlns='http://jabber.org/protocol/disco#info'>{known}</query>"
    answer = f"{head} type='error'/>" if features is None else f"{head} type='result'>{query}</iq>"
    await bench.give(stanza(answer), stanza(message("juliet", FORGEABLE, id="m")))
    await bench.posts()
    body = bench.endpoint.bodies[-1]
    is_vouched = features != []  # without an answer nothing is known, and they are read
    assert (body.get("occupant_id") == "o", body.get("ref") == "s") == (is_vouched, is_vouched)
    ids = [one["id"] for one in body["stanza_ids"]]
    assert ids == (["s", "a"] if is_vouched else ["a"])


async def test_the_service_joins_by_itself_and_gets_its_presence(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """As before there were kept rooms: it waits for that."""
    component = evolve(
        QUIET, post_events=DEFAULT_EVENTS, post_stanzas=frozenset({"message", "presence"})
    )
    bench = RoomBench(component)
    await bench.start(nursery)
    service = f"service@{DOMAIN}"
    await bench.give(stanza(presence("svc", 110, to=service, room="x@muc.example")))
    assert await bench.posts() == [("presence", None)]


async def test_a_joined_room_by_the_service_is_that_event_if_listed(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = RoomBench(evolve(QUIET, post_stanzas=frozenset({"message", "presence"})))
    await bench.start(nursery)
    given = presence("svc", 110, to=f"service@{DOMAIN}", room="x@muc.example")
    await bench.give(stanza(given), stanza(given))
    assert await bench.posts() == [JOINED]
    bench.answer("None")
    assert await bench.posts() == [JOINED, ("presence", None)]


INVITE: Final = (
    "<message from='juliet@capulet.example/x' to='bot@bot.example' id='i'>"
    "<x xmlns='jabber:x:conference' jid='attic@muc.example'/></message>"
)


@pytest.mark.parametrize(
    ("policy", "listed", "posted", "joined"),
    [
        (None, False, False, False),
        (None, True, True, False),
        ("post", False, True, False),
        ("ignore", True, False, False),
        ("accept", True, True, True),
        ("accept", False, False, True),
    ],
)
async def test_invitations(
    nursery: trio.Nursery,
    mock_clock: MockClock,
    policy: Any,
    listed: bool,
    posted: bool,
    joined: bool,
) -> None:
    events = DEFAULT_EVENTS | ({"invite"} if listed else set())
    bench = RoomBench(evolve(QUIET, invitations=policy, post_events=events))
    await bench.start(nursery)
    await bench.give(stanza(INVITE))
    assert await bench.posts() == ([("invite", None)] if posted else [])
    assert (bench.rooms.get("attic@muc.example", "bot") is not None) is joined


async def test_who_is_not_allowed_cannot_invite(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    allowed = frozenset({"montague.example"})
    bench = RoomBench(evolve(QUIET, invitations="accept", allow_from=allowed))
    await bench.start(nursery)
    await bench.give(stanza(INVITE))
    assert bench.rooms.get("attic@muc.example", "bot") is None
    await bench.give(stanza(INVITE.replace("capulet", "montague")))
    assert bench.rooms.get("attic@muc.example", "bot") is not None


async def test_an_address_that_does_not_exist_is_in_no_room(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    component = evolve(QUIET, invitations="accept", local_parts=frozenset({"bot"}))
    bench = RoomBench(component)
    await bench.start(nursery)
    await bench.enter()
    await bench.give(stanza(INVITE.replace("bot@", "ghost@")))
    assert bench.rooms.get("attic@muc.example", "ghost") is None
    assert [one.type for one in bench.sent()] == ["error"]
    await bench.give(stanza(INVITE), stanza(message("juliet", "<body>hi</body>")))
    assert bench.rooms.get("attic@muc.example", "bot") is not None
    assert await bench.posts() == [JOINED, ("message", "hi")]


async def test_what_the_rooms_send_is_written_once() -> None:
    """The next stream joins again, so a join that was lost with a stream is not repeated."""
    outbox = Outbox(DOMAIN)
    bench = RoomBench()
    runner = RoomRunner(bench.rooms, outbox, bench.dispatcher.handle_inbound)
    bench.rooms.attached()
    bench.rooms.advance(trio.current_time())
    runner.flush()
    assert len(outbox.take()) == 1
    outbox.stream_lost(blamed=False)
    assert outbox.take() == []


async def test_rooms_of_another_local_part_are_others(bench: RoomBench) -> None:
    await bench.enter()
    bench.rooms.configure([HALL, RoomSettings(ROOM, "other", "other")], 10)
    await wait_all_tasks_blocked()
    assert [room.address for room, _ in bench.rooms.all()] == [ME, f"other@{DOMAIN}/default"]
