"""Streamed replies in a whole life: what is sent when, and what a crash does to it."""

import json
from typing import Any, Final, NamedTuple

import trio
from attrs import evolve
from trio.testing import MockClock

from bridge.payload.namespace import CORRECT, HINTS
from bridge.webhook.streaming import Stream
from tests.bridge.dispatch.life import BOT, COMPONENT, Life, pass_time
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza
from xmppstream import Stanza
from xmppstream.names import expanded

JULIET: Final = "juliet@capulet.example/balcony"
REPLACE: Final = expanded(CORRECT, "replace")


class Shown(NamedTuple):
    """A message as the person's client takes it."""

    id: str
    text: str
    replaces: str | None = None
    is_stored: bool = True


def message(id: str = "m1", inner: str = "") -> Stanza:
    inner = f"<body>hi</body>{inner}"
    return stanza(f"<message from='{JULIET}' to='{BOT}' id='{id}' type='chat'>{inner}</message>")


def shown(sent: list[Stanza]) -> list[Shown]:
    """Sum up messages; the uid is left out of the ids."""
    found = []
    for one in sent:
        replace = one.element.find(REPLACE)
        hints = {child.local for child in one.element.elements if child.namespace == HINTS}
        assert hints in (set(), {"no-store", "no-permanent-store"})
        found.append(
            Shown(
                short(one.id),
                "".join(child.text for child in one.element.elements if child.local == "body"),
                None if replace is None else short(replace.get("id")),
                not hints,
            )
        )
    return found


def short(id: str | None) -> str:
    return (id or "").partition("-")[2] if (id or "").startswith("msg_") else id or ""


def feed(stream: Stream, *objects: dict[str, Any]) -> None:
    for one in objects:
        stream.feed(json.dumps(one).encode() + b"\n")


async def begin(
    nursery: trio.Nursery, journal: MemoryJournal | None = None, **keys: Any
) -> tuple[Life, Stream]:
    """Give a message to a new life, and have its reply begin."""
    life = Life(journal, component=evolve(COMPONENT, **keys))
    await nursery.start(life.run)
    await life.give(message())
    return life, life.endpoint.stream("m1")


async def test_the_first_text_comes_after_a_second_and_corrections_ever_more_rarely(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery, MemoryJournal())
    begun = trio.current_time()
    feed(stream, {"append": "0"})
    times: dict[str, float] = {}
    for second in range(1, 60):
        await pass_time(1)
        for one in life.sent():
            times[short(one.id)] = trio.current_time() - begun
        feed(stream, {"append": f" {second}"})
    assert times == {
        "1": 1,
        **{f"1.1.{n}": at for n, at in enumerate((3, 5, 9, 17, 33, 49), 1)},
    }
    await life.kill()


async def test_the_person_sees_one_message_and_its_corrections(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"append": "Good"})
    await pass_time(1.1)
    assert shown(life.sent()) == [Shown("1", "Good")]
    feed(stream, {"append": " night"})
    await pass_time(2.1)
    assert shown(life.sent()) == [Shown("1.1.1", "Good night", "1", is_stored=False)]
    await pass_time(30)
    assert life.sent() == []  # nothing has changed
    feed(stream, {"append": ", good"})
    feed(stream, {"append": " night"})
    await pass_time(0.1)
    assert shown(life.sent()) == [Shown("1.1.2", "Good night, good", "1", is_stored=False)]
    await life.answer("m1")
    assert shown(life.sent()) == [Shown("1.1.3", "Good night, good night", "1")]
    assert life.meter.posts["replied"] == 1
    await life.kill()


async def test_two_hundred_characters_leave_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"append": "x" * 199})
    await pass_time(0)
    assert life.sent() == []
    feed(stream, {"append": "x"})
    await pass_time(0)
    assert shown(life.sent()) == [Shown("1", "x" * 200)]
    await life.answer("m1")
    assert life.sent() == []  # it is whole
    await life.kill()


async def test_a_short_stream_is_one_message(nursery: trio.Nursery) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"append": "Good"}, {"append": " night"})
    await life.answer("m1")
    assert shown(life.sent()) == [Shown("1", "Good night")]
    await life.kill()


async def test_new_ends_a_message_at_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    life, stream = await begin(nursery, MemoryJournal())
    feed(stream, {"append": "one"})
    await pass_time(1.1)
    feed(stream, {"append": " more"}, {"new": True, "append": "two"})
    await pass_time(0.1)
    assert shown(life.sent()) == [Shown("1", "one"), Shown("1.1.1", "one more", "1")]
    await pass_time(1)
    assert shown(life.sent()) == [Shown("2", "two")]
    feed(stream, {"body": "three"})
    await life.answer("m1")
    assert shown(life.sent()) == [Shown("2.1.1", "three", "2")]
    await life.kill()


async def test_final_sends_one_message_at_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery, stream="final")
    feed(stream, {"append": "x" * 300})
    await pass_time(20)
    assert life.sent() == []
    feed(stream, {"append": "y"}, {"new": True, "body": "z"})
    await life.answer("m1")
    assert shown(life.sent()) == [Shown("1", "x" * 300 + "y"), Shown("2", "z")]
    await life.kill()


# --- a crash


async def test_after_a_crash_only_corrections_follow(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life, stream = await begin(nursery, journal)
    feed(stream, {"append": "one"})
    await pass_time(1.1)
    feed(stream, {"append": " and"}, {"new": True, "append": "tw"})
    await pass_time(1.1)
    first = shown(life.sent())
    assert first == [Shown("1", "one"), Shown("1.1.1", "one and", "1"), Shown("2", "tw")]
    await life.kill()
    again = Life(journal)
    await nursery.start(again.run)
    await pass_time(0.1)
    again.sent()
    assert again.running == ["m1"]
    stream = again.endpoint.stream("m1")
    feed(stream, {"append": "une"}, {"new": True, "append": "deux"})
    await pass_time(1.1)
    assert shown(again.sent()) == [
        Shown("1.2.1", "une", "1"),
        Shown("2.2.1", "deux", "2", is_stored=False),
    ]
    feed(stream, {"append": "!"})
    await again.answer("m1")
    assert shown(again.sent()) == [Shown("2.2.2", "deux!", "2")]
    assert again.state.entries("stream") == {}
    await again.kill()
