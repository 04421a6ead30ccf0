"""Streamed replies in a whole life: what is sent when, and what a crash does to it."""

import json
from typing import Any, Final, NamedTuple

import pytest
import trio
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from bridge.journal.store import JournalError
from bridge.payload.error import UnusableReply
from bridge.payload.namespace import CORRECT, HINTS
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.streaming import Stream
from tests.bridge.dispatch.life import BOT, COMPONENT, Life, pass_time, said
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


async def test_what_a_stream_lets_choose_can_be_chosen_while_it_runs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"body": "Tea?", "answers": [{"value": "yes", "label": "Yes"}]})
    await pass_time(1.1)
    [first] = shown(life.sent())
    assert first.text.startswith("Tea?")
    answer = f"<message from='{JULIET}' to='{BOT}' id='m2' type='chat'><body>1</body></message>"
    await life.give(stanza(answer))
    await life.answer("m1", Replied("ndjson", b""))
    [post] = life.endpoint.of("m2")
    assert post.json["answer"] == "yes"
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


async def test_a_message_that_only_the_earlier_attempt_said_is_taken_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life, stream = await begin(nursery, journal)
    feed(stream, {"body": "one"}, {"new": True, "body": "x" * 200})
    await pass_time(0.1)
    assert [one.id for one in shown(life.sent())] == ["1", "2"]
    await life.kill()
    again = Life(journal)
    await nursery.start(again.run)
    await pass_time(0.1)
    again.sent()
    await again.answer("m1", said({"body": "one and only"}))  # not even a stream
    correction, retraction = again.sent()
    assert shown([correction]) == [Shown("1.2.1", "one and only", "1")]
    [retract] = [one for one in retraction.element.elements if one.local == "retract"]
    assert short(retract.get("id")) == "2"
    await again.kill()


@pytest.mark.parametrize(
    ("outcome", "end"), [(Rejected(404), ["error"]), (NoReply(), []), (Replied("json", b"{"), [])]
)
async def test_what_an_earlier_attempt_said_stays_whatever_comes_then(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome, end: list[str]
) -> None:
    journal = MemoryJournal()
    life, stream = await begin(nursery, journal)
    feed(stream, {"body": "x" * 200})
    await pass_time(0.1)
    await life.kill()
    again = Life(journal)
    await nursery.start(again.run)
    await pass_time(0.1)
    assert [one.text for one in shown(again.sent())] == ["x" * 200]  # recovered, with its id
    await again.answer("m1", outcome)
    assert [one.type for one in again.sent()] == end
    assert again.state.entries("stream") == {}
    await again.kill()


async def test_what_a_crash_left_behind_is_swept(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    life = Life(journal)
    await nursery.start(life.run)
    life.state.put("stream", "msg_gone", b"{}")
    await life.give()
    await life.kill()
    again = Life(journal)
    await nursery.start(again.run)
    assert again.state.entries("stream") == {}
    await again.kill()


async def test_a_stop_leaves_the_stanza_pending_and_what_was_said(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life, stream = await begin(nursery, journal)
    feed(stream, {"body": "half"})
    await pass_time(1.1)
    feed(stream, {"append": " of it"})
    began = trio.current_time()
    await life.stop(grace_s=5)
    assert trio.current_time() - began == 5
    assert [one.text for one in shown(life.sent())] == ["half", "half of it"]
    await life.end()
    again = Life(journal)
    await nursery.start(again.run)
    await pass_time(0.1)
    assert again.running == ["m1"]
    await again.answer("m1", Replied("ndjson", b'{"body": "whole"}'))
    assert shown(again.sent()) == [Shown("1.2.1", "whole", "1")]
    await again.kill()


# --- a stream that breaks

BREAKS: Final[list[Outcome]] = [
    Unreachable("ReadError"),
    TimedOut("nothing more of the reply within 60 s"),
    BadReply("line 3 is not JSON"),
]


@pytest.mark.parametrize("outcome", BREAKS, ids=repr)
@pytest.mark.parametrize("ending", ["", " […]"])
async def test_what_was_said_stays_if_it_breaks(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome, ending: str
) -> None:
    life, stream = await begin(nursery, MemoryJournal(), stream_broken=ending)
    feed(stream, {"body": "one"}, {"new": True, "append": "half"})
    await pass_time(1.1)
    life.sent()
    feed(stream, {"append": " of it"})
    await life.answer("m1", outcome)
    assert shown(life.sent()) == [Shown("2.1.1", f"half of it{ending}", "2")]
    [line] = life.log.of("streamed reply broke")
    assert line["why"]
    assert life.meter.ends == {("message", "replied"): 1}
    await life.kill()


async def test_a_break_after_the_whole_text_says_nothing_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"body": "whole"})
    await pass_time(1.1)
    assert shown(life.sent()) == [Shown("1", "whole")]
    await life.answer("m1", BREAKS[0])
    assert life.sent() == []
    assert life.meter.streamed == {"whole": 0, "broken": 1, "failed": 0}
    await life.kill()


async def test_presence_among_messages_waits_for_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"kind": "presence", "to": "den@rooms.example/bot", "muc": True})
    feed(stream, {"new": True, "append": "x" * 200})
    await pass_time(5)
    assert life.sent() == []
    await life.answer("m1")
    assert [one.kind for one in life.sent()] == ["presence", "message"]
    await life.kill()


@pytest.mark.parametrize("outcome", BREAKS[1:], ids=repr)
async def test_before_its_first_text_a_break_is_a_failure(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"state": "composing"}, {"nick": "Bot"})
    await life.answer("m1", outcome)
    if isinstance(outcome, TimedOut):  # it is made again, like any POST
        await pass_time(20)
        assert life.running == ["m1"]
        await life.answer("m1", Rejected(404))
    assert [one.type for one in life.sent()] == ["error"]
    await life.kill()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"append": []}, "append is not a string, a number or a boolean"),
        ({"body": {}}, "body is not a string, a number or a boolean"),
        ({"new": "yes"}, "new is not true or false"),
        ({"to": "romeo@montague.example"}, "to must not change once the message has begun"),
        ({"replace": "x"}, "replace must not change once the message has begun"),
    ],
)
async def test_a_bad_object_ends_the_post(
    nursery: trio.Nursery, autojump_clock: MockClock, bad: dict[str, Any], why: str
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"body": "good"})
    await pass_time(1.1)
    with pytest.raises(UnusableReply, match=why):
        feed(stream, bad)
    await life.kill()


async def test_what_cannot_be_sent_is_told_at_the_next_piece(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"body": "a", "from": "somebody@elsewhere.example"})
    await pass_time(1.1)
    with pytest.raises(UnusableReply, match=r"is not bot\.example"):
        feed(stream, {"append": "b"})
    await life.answer("m1", BadReply("from: 'elsewhere.example' is not bot.example"))
    assert [one.type for one in life.sent()] == ["error"]
    await life.kill()


async def test_a_text_over_the_size_limit_ends_with_what_was_sent(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"append": "x" * 200})
    await pass_time(2.1)
    feed(stream, {"append": "y"})
    await pass_time(2.1)
    assert [one.is_stored for one in shown(life.sent())] == [True, False]
    with pytest.raises(UnusableReply, match="over max_send_bytes"):
        feed(stream, {"append": "z" * 600_000})
    await life.answer("m1", BadReply("over max_send_bytes"))
    assert shown(life.sent()) == [Shown("1.1.2", "x" * 200 + "y", "1")]
    [line] = life.log.of("streamed reply broke")
    assert "over max_send_bytes" in line["why"]
    await life.kill()


async def test_too_many_messages(nursery: trio.Nursery) -> None:
    life, stream = await begin(nursery)
    with pytest.raises(UnusableReply, match="more than 100 messages"):
        feed(stream, *({"new": True, "body": str(one)} for one in range(101)))
    await life.kill()


# --- slots


async def test_a_stream_frees_its_slot_up_to_a_bound(nursery: trio.Nursery) -> None:
    life = Life(max_in_flight=1)
    life.dispatcher.change(life.dispatcher._retrier.policy, 1, 1, moved=False)
    await nursery.start(life.run)
    others = [
        stanza(f"<message from='p{n}@x.example' to='{BOT}' id='m{n}' type='chat'><body>x</body>"
               "</message>")
        for n in range(1, 4)
    ]  # fmt: skip
    await life.give(*others)
    assert life.running == ["m1"]
    feed(life.endpoint.stream("m1"), {"body": "one"})
    await life.give()
    assert life.running == ["m1", "m2"]
    assert (life.dispatcher.in_flight, life.dispatcher.waiting) == (2, 1)
    feed(life.endpoint.stream("m2"), {"body": "two"})
    await life.give()
    assert life.running == ["m1", "m2"]  # there is no room for another stream: it keeps its slot
    await life.answer("m1")
    await life.answer("m2")
    assert life.running == ["m3"]
    await life.answer("m3")
    assert (life.dispatcher.in_flight, len(life.dispatcher.conversations)) == (0, 0)
    await life.kill()


async def test_the_next_stanza_of_the_conversation_waits_for_the_end(
    nursery: trio.Nursery,
) -> None:
    life, stream = await begin(nursery)
    await life.give(message("m2"))
    feed(stream, {"body": "one"})
    assert life.running == ["m1"]
    await life.answer("m1")
    assert life.running == ["m2"]
    await life.kill()


async def test_the_head_of_a_stream_ends_an_outage(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life()
    await nursery.start(life.run)
    people = [f"p{n}@x.example" for n in range(4)]
    await life.give(
        *(
            stanza(f"<message from='{one}' to='{BOT}' id='{one}'><body>x</body></message>")
            for one in people
        )
    )
    for one in people:
        await life.answer(one, Unreachable("no"))
    breaker = life.dispatcher.breaker
    assert breaker.is_down
    await pass_time(1)
    [probe] = life.running
    life.endpoint.stream(probe)
    await life.give()
    assert life.running == people
    await life.kill()


# --- with what else a reply does


async def test_corrections_carry_all_that_the_message_has(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life()
    await nursery.start(life.run)
    await life.give(message("m1", "<thread>t1</thread>"))
    stream = life.endpoint.stream("m1")
    feed(stream, {"append": "a", "reply": True, "hints": ["store"], "nick": "Bot"})
    await pass_time(1.1)
    feed(stream, {"append": "b"})
    await pass_time(2.1)
    first, between = life.sent()
    await life.answer("m1")
    [last] = life.sent()
    for one in (first, between, last):
        names = {child.local for child in one.element.elements}
        assert names >= {"body", "thread", "reply", "nick"}
        assert (one.to, one.from_, one.type) == (JULIET, BOT, "chat")
        assert ("store" in names) == (one is not between)
    await life.kill()


async def test_a_corrected_question_corrects_the_streamed_answer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"append": "one"})
    await pass_time(1.1)
    await life.answer("m1")
    [answer] = life.sent()
    await life.give(message("m2", "<replace xmlns='urn:xmpp:message-correct:0' id='m1'/>"))
    stream = life.endpoint.stream("m2")
    feed(stream, {"append": "two"})
    await pass_time(1.1)
    feed(stream, {"append": "!"})
    await life.answer("m2")
    for sent in life.sent():
        replace = sent.element.find(REPLACE)
        assert replace is not None
        assert replace.get("id") == answer.id
    await life.kill()


async def test_a_tick_comes_with_the_end(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    life = Life()
    await nursery.start(life.run)
    await life.give(message("m1", "<request xmlns='urn:xmpp:receipts'/>"))
    feed(life.endpoint.stream("m1"), {"append": "x" * 200})
    await pass_time(0.1)
    assert len(life.sent()) == 1
    await life.answer("m1")
    [receipt] = life.sent()
    assert [one.local for one in receipt.element.elements] == ["received", "store"]
    await life.kill()


ACTIVE: Final = "<active xmlns='http://jabber.org/protocol/chatstates'/>"


async def test_a_correction_that_is_not_written_yet_is_replaced(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    for second in range(40):
        feed(stream, {"append": str(second)})
        await pass_time(1)
    first, latest = life.sent()  # the link was down all the time
    assert [one.id for one in shown([first, latest])] == ["1", "1.1.5"]
    await life.answer("m1")
    assert [one.id for one in shown(life.sent())] == ["1.1.6"]
    await life.kill()


async def test_typing_ends_with_the_first_text_and_may_be_said_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life()
    await nursery.start(life.run)
    await life.give(message("m1", ACTIVE))
    stream = life.endpoint.stream("m1")
    feed(stream, {"state": "composing"})
    await pass_time(0.1)
    assert states(life.sent()) == ["composing"]
    feed(stream, {"append": "one"})
    await pass_time(1.1)
    assert states(life.sent()) == ["active"]
    feed(stream, {"state": "composing"})
    feed(stream, {"append": " two"})
    await pass_time(0)
    assert states(life.sent()) == ["composing"]
    await life.answer("m1")
    assert states(life.sent()) == ["active"]
    await life.kill()


def states(sent: list[Stanza]) -> list[str]:
    """The chat states that were sent, in order."""
    space = "http://jabber.org/protocol/chatstates"
    return [
        child.local for one in sent for child in one.element.elements if child.namespace == space
    ]


async def test_in_a_group_it_is_one_message_at_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life()
    await nursery.start(life.run)
    asked = (
        f"<message from='den@rooms.example/ann' to='{BOT}' id='m1' type='groupchat'>"
        "<body>hi</body></message>"
    )
    await life.give(stanza(asked))
    feed(life.endpoint.stream("m1"), {"append": "x" * 300})
    await pass_time(20)
    assert life.sent() == []
    await life.answer("m1")
    [sent] = life.sent()
    assert (sent.type, sent.to) == ("groupchat", "den@rooms.example")
    await life.kill()


async def test_an_iq_is_answered_once_within_its_budget(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = Life()
    await nursery.start(life.run)
    ping = "<ping xmlns='urn:xmpp:ping'/>"
    await life.give(stanza(f"<iq from='{JULIET}' to='{BOT}' id='q' type='get'>{ping}</iq>"))
    stream = life.endpoint.stream("q")
    assert stream.deadline == trio.current_time() + 10
    feed(stream, {"ping": True})
    await life.answer("q")
    assert [(one.kind, one.type, one.id) for one in life.sent()] == [("iq", "result", "q")]
    await life.kill()


async def test_files_and_xml_come_at_the_end_of_their_message(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"append": "Look", "files": [{"url": "https://x.example/a.png"}]})
    await pass_time(1.1)
    feed(stream, {"new": True, "stanza": "<message><body>xml</body></message>"})
    feed(stream, {"new": True, "body": "last"})
    await life.answer("m1")
    assert [(one.id, one.text) for one in shown(life.sent())] == [
        ("1", "Look"),
        ("1-2", "https://x.example/a.png"),
        ("2", "xml"),
        ("3", "last"),
    ]
    await life.kill()


async def test_an_unknown_key_is_named_once(nursery: trio.Nursery) -> None:
    life, stream = await begin(nursery)
    feed(stream, {"append": "a", "delta": "b"}, {"append": "c", "delta": "d"})
    await life.answer("m1")
    [line] = life.log.of("unknown key in a reply")
    assert line["key"] == "delta"
    await life.kill()


async def test_what_cannot_be_kept_is_said_at_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life, stream = await begin(nursery, journal)
    journal.failure = JournalError("the disk is full")
    feed(stream, {"append": "one"})
    await pass_time(1.5)
    journal.failure = None
    feed(stream, {"append": " two"})
    await pass_time(5)
    assert life.sent() == []
    await life.answer("m1")
    assert [one.text for one in shown(life.sent())] == ["one two"]
    await life.kill()


# --- whatever happens


class View:
    """What the person's client shows: texts by id, in the order in which they came."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def hear(self, sent: list[Stanza]) -> None:
        for one in sent:
            names = {child.local: child for child in one.element.elements}
            if "retract" in names:
                del self.texts[names["retract"].get("id") or ""]
                continue
            replace = one.element.find(REPLACE)
            id = (one.id if replace is None else replace.get("id")) or ""
            assert replace is None or id in self.texts, "a correction of what nobody saw"
            self.texts[id] = names["body"].text


STEPS: Final = st.lists(
    st.one_of(
        st.just(("kill", 0.0)),
        st.just(("hear", 0.0)),
        st.just(("new", 0.0)),
        st.tuples(st.just("say"), st.integers(1, 300).map(float)),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0])),
    ),
    max_size=25,
)


@given(STEPS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_person_sees_the_last_attempts_answer_once(
    steps: list[tuple[str, float]], is_whole: bool
) -> None:
    """Through any pieces, pauses and kills; the last attempt may even come in one piece."""

    async def live() -> None:
        journal, view = MemoryJournal(), View()
        async with trio.open_nursery() as nursery:
            life, stream = await begin(nursery, journal)
            attempt, texts = 1, [""]
            for what, number in steps:
                match what:
                    case "kill":
                        await life.kill()
                        life = Life(journal)
                        await nursery.start(life.run)
                        await pass_time(0.1)
                        attempt, texts = attempt + 1, [""]
                        stream = life.endpoint.stream("m1")
                    case "hear":
                        view.hear(life.sent())
                    case "new":
                        feed(stream, {"new": True})
                        texts += [""] if texts[-1] else []
                    case "say":
                        text = str(attempt) * int(number)
                        feed(stream, {"append": text})
                        texts[-1] += text
                    case _:
                        await pass_time(number)
            said = [text for text in texts if text]
            if is_whole:
                await life.kill()
                life = Life(journal)
                await nursery.start(life.run)
                await pass_time(0.1)
                lines = [json.dumps({"new": True, "body": text}) for text in said]
                await life.answer("m1", Replied("ndjson", "\n".join(lines).encode()))
            else:
                await life.answer("m1")
            await pass_time(0.1)
            view.hear(life.sent())
            if said:
                assert list(view.texts.values()) == said
            assert life.state.entries("stream") == {}
            await life.kill()

    trio.run(live, clock=MockClock(autojump_threshold=0))
