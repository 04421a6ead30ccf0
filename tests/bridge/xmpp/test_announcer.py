"""Presence that nobody asked for: at each attach, at the end, and when an address changes."""

from typing import Any, Final

import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.profile import Profile
from bridge.config.settings import Component
from bridge.xmpp.announcer import Announcer
from bridge.xmpp.contact import Contacts
from bridge.xmpp.outbox import Outbox
from tests.bridge.sample import stanza
from tests.bridge.xmpp.test_autoresponder import BARE, COMPONENT, HOST
from tests.bridge.xmpp.test_contact import contacts, presence
from xmppstream import Stanza
from xmppstream.stanza import KINDS

NEWS: Final = f"news@{HOST}"


@define
class Bench:
    """An announcer that runs, with an outbox that nobody empties."""

    nursery: trio.Nursery
    contacts: Contacts
    outbox: Outbox = field(factory=lambda: Outbox(HOST))
    announcer: Announcer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.announcer = Announcer(self.contacts, self.outbox)
        self.nursery.start_soon(self.announcer.run)

    def subscribe(self, count: int = 1, to: str = BARE) -> None:
        for number in range(count):
            self.contacts.receive(presence("subscribe", f"user{number}@x.example", to))

    async def sent(self) -> list[Stanza]:
        await wait_all_tasks_blocked()
        return [stanza(data.decode()) for data in self.outbox.take()]


def bench(nursery: trio.Nursery, component: Component = COMPONENT, **changes: Any) -> Bench:
    return Bench(nursery, contacts(evolve(component, **changes)))


async def test_at_each_attach_every_subscriber_is_told(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe(2)
    one.subscribe(1, HOST)
    assert await one.sent() == []
    for _ in range(2):
        one.announcer.attached()
        told = await one.sent()
        assert [(each.type, each.from_, each.to) for each in told] == [
            (None, f"{BARE}/default", "user0@x.example"),
            (None, f"{BARE}/default", "user1@x.example"),
            (None, HOST, "user0@x.example"),
        ]
        assert [child.local for child in told[0].element.elements] == ["c"]
        mock_clock.jump(1)
        one.announcer.detached()
        assert await one.sent() == []


async def test_50_are_told_in_a_second(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    one = bench(nursery)
    one.subscribe(1000)
    one.announcer.attached()
    count = 0
    for tenth in range(1, 201):
        count += len(await one.sent())
        assert count == 5 * tenth
        mock_clock.jump(0.1)
    assert await one.sent() == []


async def test_what_is_due_when_the_stream_ends_is_for_the_next_one(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe(8)
    one.announcer.attached()
    assert len(await one.sent()) == 5
    one.announcer.detached()
    mock_clock.jump(60)
    assert await one.sent() == []
    one.announcer.attached()
    assert len(await one.sent()) == 5
    mock_clock.jump(0.1)
    assert len(await one.sent()) == 3


async def test_those_that_we_are_subscribed_to_are_asked(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    for jid in ("asked@x.example", "granted@x.example"):
        one.contacts.observe_sent(presence("subscribe", BARE, jid))
    one.contacts.receive(presence("subscribed", "granted@x.example"))
    one.contacts.receive(presence("", "granted@x.example/r"))
    one.announcer.attached()
    assert [(each.type, each.from_, each.to) for each in await one.sent()] == [
        ("probe", BARE, "granted@x.example")
    ]
    assert [view.online for view in one.contacts.views()] == [None, False]  # until it answers


async def test_who_leaves_meanwhile_is_not_told(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe(6)
    one.announcer.attached()
    assert len(await one.sent()) == 5
    one.contacts.receive(presence("unsubscribe", "user5@x.example"))
    mock_clock.jump(0.1)
    assert await one.sent() == []


async def test_all_are_told_at_once_that_the_component_leaves(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe(1000)
    one.announcer.attached()
    one.announcer.leave()
    told = [stanza(data.decode()) for data in one.outbox.take()]  # in one piece
    assert {(each.type, each.from_) for each in told} == {("unavailable", f"{BARE}/default")}
    assert len({each.to for each in told}) == 1000
    one.announcer.leave()
    one.announcer.attached()
    mock_clock.jump(1)
    assert await one.sent() == []


async def test_without_a_stream_nobody_is_told(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe()
    one.announcer.leave()
    assert await one.sent() == []


async def test_where_presence_is_posted_or_off_nothing_is_announced(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe(3)
    for changes in ({"presence": False}, {"post_stanzas": frozenset(KINDS)}):
        one.contacts.book.change(evolve(COMPONENT, **changes))
        one.announcer.attached()
        one.announcer.set_profile("echo", Profile("Echo"))
        assert await one.sent() == []
    one.announcer.leave()
    assert await one.sent() == []


async def test_an_address_that_does_not_exist_any_more_is_not_announced(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery, local_parts=frozenset({"news"}))
    one.subscribe()
    one.subscribe(1, NEWS)
    one.announcer.attached()
    assert [each.from_ for each in await one.sent()] == [f"{NEWS}/default"]


# --- another configuration


async def test_only_addresses_that_say_something_else_are_announced_again(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe()
    one.subscribe(1, NEWS)
    one.announcer.attached()
    await one.sent()
    mock_clock.jump(1)
    one.announcer.change(evolve(COMPONENT, post_own=True))
    assert await one.sent() == []
    one.announcer.change(evolve(COMPONENT, profiles={"news": Profile("News")}))
    [told] = await one.sent()
    assert (told.from_, told.type) == (f"{NEWS}/default", None)
    assert [child.local for child in told.element.elements] == ["c", "nick", "x"]


async def test_presence_can_be_turned_off_and_on(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe()
    one.announcer.attached()
    await one.sent()
    mock_clock.jump(1)
    one.announcer.change(evolve(COMPONENT, presence=False))
    [told] = await one.sent()
    assert told.type == "unavailable"
    mock_clock.jump(1)
    one.announcer.change(COMPONENT)
    [told] = await one.sent()
    assert told.type is None


async def test_what_is_due_is_not_said_of_addresses_that_are_turned_off_meanwhile(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    for changes in ({"presence": False}, {"local_parts": frozenset({"news"})}):
        one = bench(nursery)
        one.subscribe(8)
        one.announcer.attached()
        assert [each.type for each in await one.sent()] == [None] * 5
        one.announcer.change(evolve(COMPONENT, **changes))
        assert [each.type for each in await one.sent()] == ["unavailable"] * 8
        mock_clock.jump(0.1)
        assert await one.sent() == []


async def test_an_address_that_ceases_to_exist_says_so(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe()
    one.subscribe(1, NEWS)
    one.announcer.attached()
    await one.sent()
    mock_clock.jump(1)
    one.announcer.change(evolve(COMPONENT, local_parts=frozenset({"news"})))
    [told] = await one.sent()
    assert (told.from_, told.type) == (f"{BARE}/default", "unavailable")
    one.announcer.change(COMPONENT)
    [told] = await one.sent()
    assert (told.from_, told.type) == (f"{BARE}/default", None)


async def test_an_endpoint_that_takes_over_the_presence_is_not_contradicted(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    one = bench(nursery)
    one.subscribe()
    one.announcer.attached()
    await one.sent()
    mock_clock.jump(1)
    one.announcer.change(evolve(COMPONENT, post_stanzas=frozenset(KINDS)))
    assert await one.sent() == []
