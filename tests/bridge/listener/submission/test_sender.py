"""The way in: what is composed, kept, asked, and done once per idempotency key. All of a component
but its stream and HTTP is real; see `life`.
"""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.journal.idempotency import MemoryIdempotencyStore
from bridge.journal.queue import Quota
from bridge.journal.store import CLAIM_S, Claim, JournalError
from bridge.listener.submission.sender import (
    Batch,
    IdInUse,
    JournalUnavailable,
    Key,
    KeyReused,
    NoAnswer,
    NotConfigured,
    NotRunning,
    QueueFull,
    Sender,
    SendRefused,
)
from bridge.payload.body import ReplyBody
from bridge.payload.error import UnusableReply
from bridge.xmpp.iq import WAIT_LIMIT_S, PendingIqs
from bridge.xmpp.outbox import Outbox
from tests.bridge.dispatch.life import BOT, COMPONENT, DOMAIN, Life, Wall, parse, said
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import meaning, stanza
from xmppstream import Stanza, StanzaRefused

PEER: Final = "juliet@a.example/balcony"
PING: Final = "<ping xmlns='urn:xmpp:ping'/>"
FAILURE: Final = JournalError("the disk is full", "make room")


def message(id: str = "m1", to: str = PEER, type: str = "chat") -> Stanza:
    body = f"<body>{id}</body>"
    return stanza(f"<message to='{to}' from='{BOT}' type='{type}' id='{id}'>{body}</message>")


def request(id: str = "q1", to: str = PEER, from_: str = BOT) -> Stanza:
    return stanza(f"<iq to='{to}' from='{from_}' type='get' id='{id}'>{PING}</iq>")


def answer(id: str = "q1", from_: str = PEER, to: str = BOT, inner: str = "") -> Stanza:
    return stanza(f"<iq to='{to}' from='{from_}' type='result' id='{id}'>{inner}</iq>", "cs")


def key(name: str = "k", content: str = "a", token: str = "shop") -> Key:
    return Key(token, name, sha256(content.encode()).digest())


class Call:
    """One call of the sender, in a task of its own."""

    def __init__(self, call: Callable[[], Awaitable[Any]]) -> None:
        self.result: Any = None
        self.refusal: SendRefused | None = None
        self.over = False
        self.scope = trio.CancelScope()
        self._call = call

    async def run(self) -> None:
        with self.scope:
            try:
                self.result = await self._call()
            except SendRefused as refusal:
                self.refusal = refusal
        self.over = True

    @property
    def refused_by(self) -> type[SendRefused] | None:
        return type(self.refusal) if self.refusal is not None else None


class Stage:
    """Lives, one after the other, and calls."""

    def __init__(self, nursery: trio.Nursery, journal: MemoryJournal | None) -> None:
        self.nursery = nursery
        self.journal = journal
        self.wall = Wall()
        if journal is not None:
            journal.elapsed_s = self.wall
        self.life = Life(journal, wall=self.wall)

    async def begin(self, **options: Any) -> Life:
        self.life = Life(self.journal, wall=self.wall, **options)
        await self.nursery.start(self.life.run)
        await wait_all_tasks_blocked()
        return self.life

    async def call(self, call: Callable[[], Awaitable[Any]]) -> Call:
        made = Call(call)
        self.nursery.start_soon(made.run)
        await wait_all_tasks_blocked()
        return made

    async def send(self, one: Stanza, key: Key | None = None) -> Call:
        return await self.call(partial(self.life.sender.send, one, key))

    async def send_all(self, batch: Batch, key: Key | None = None) -> Call:
        return await self.call(partial(self.life.sender.send_all, batch, key))

    async def ask(self, one: Stanza, wait_s: float = 10, key: Key | None = None) -> Call:
        return await self.call(partial(self.life.sender.ask, one, wait_s, key))

    def sent(self) -> list[str | None]:
        """The ids of what was written since the last time."""
        return [one.id for one in self.life.sent()]

    @property
    def posted(self) -> list[str]:
        return self.life.endpoint.ids


@pytest.fixture(params=["memory", "journal"])
async def stage(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Stage:
    stage = Stage(nursery, MemoryJournal() if request.param == "journal" else None)
    await stage.begin()
    return stage


@pytest.fixture
async def durable(nursery: trio.Nursery) -> Stage:
    stage = Stage(nursery, MemoryJournal())
    await stage.begin()
    return stage


def journal_of(stage: Stage) -> MemoryJournal:
    assert stage.journal is not None
    return stage.journal


def shorten(life: Life, count: int) -> None:
    """Give the component an outbox that takes so many that nobody asked for."""
    outbox = Outbox(DOMAIN, limit_count=count * 4 // 3 + 1, now=life.wall)
    life.outbox = outbox
    life.submitters[DOMAIN] = evolve(life.submitters[DOMAIN], outbox=outbox)


# --- what may be sent


async def composed(content: Any, default_from: str | None = BOT, media: str = "json") -> Stanza:
    sender = Life().sender
    data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    return await sender.compose(ReplyBody("xml" if media == "xml" else "json", data), default_from)


async def test_a_body_and_an_address_suffice() -> None:
    one = await composed({"to": PEER, "body": "hi"})
    expected = stanza(f"<message to='{PEER}' from='{BOT}' type='chat'><body>hi</body></message>")
    assert meaning(one.element) == meaning(expected.element)


async def test_an_iq_is_given_an_id() -> None:
    asked = {"stanza": f"<iq type='get' to='a.example'>{PING}</iq>"}
    one, other = await composed(asked), await composed(asked)
    assert one.id is not None
    assert one.id.startswith("msg_")
    assert one.id != other.id


async def test_all_keys_are_heeded() -> None:
    room = "room@muc.example"
    one = await composed(
        {
            "kind": "message",
            "to": room,
            "from": f"other@{DOMAIN}/r",
            "type": "groupchat",
            "id": "7",
            "body": 5,
        }
    )
    expected = (
        f"<message to='{room}' from='other@{DOMAIN}/r' type='groupchat' id='7'>"
        "<body>5</body></message>"
    )
    assert meaning(one.element) == meaning(stanza(expected).element)


@pytest.mark.parametrize("namespace", ["", "xmlns='jabber:client'"])
async def test_xml_is_sent_as_it_is_and_filled_in(namespace: str) -> None:
    xml = f"<message {namespace} to='{PEER}'><body>hi</body><x xmlns='urn:x'/></message>"
    for content, media in ((xml, "xml"), ({"stanza": xml, "body": "not this"}, "json")):
        one = await composed(content, media=media)
        expected = f"<message to='{PEER}' from='{BOT}'><body>hi</body><x xmlns='urn:x'/></message>"
        assert meaning(one.element) == meaning(stanza(expected).element)


async def test_a_request_is_composed() -> None:
    one = await composed({"stanza": f"<iq type='get' to='a.example'>{PING}</iq>"})
    assert one.is_request
    assert one.id


async def test_the_domain_of_the_sender_is_written_as_configured() -> None:
    one = await composed({"to": PEER, "body": "hi", "from": "me@BOT.Example"}, None)
    assert one.from_ == f"me@{DOMAIN}"


BAD: Final[dict[str, tuple[Any, str]]] = {
    "nothing": ("", "not JSON"),
    "no JSON": ("{", "not JSON"),
    "a string": ('"hi"', "not a JSON object"),
    "no to": ({"body": "hi"}, "to is missing"),
    "no to, in XML": ({"stanza": "<message><body>hi</body></message>"}, "to is missing"),
    "no JID": ({"to": "@@bad", "body": "hi"}, "to: '@@bad' is not a valid JID"),
    "to is no string": ({"to": 5, "body": "hi"}, "to"),
    "nothing to say": ({"to": PEER}, "nothing to send"),
    "a bad sender": ({"to": PEER, "body": "hi", "from": f"@{DOMAIN}"}, "from"),
    "an unknown kind": ({"to": PEER, "kind": "note", "body": "hi"}, "kind 'note'"),
    "an unknown type": ({"to": PEER, "type": "shout", "body": "hi"}, "type 'shout'"),
    "an iq without type": ({"to": PEER, "kind": "iq"}, "an iq needs a type"),
    "an iq without type in XML": ({"stanza": f"<iq to='{PEER}'>{PING}</iq>"}, "an iq needs a type"),
    "a get of nothing": ({"to": PEER, "kind": "iq", "type": "get"}, "exactly one child"),
    "an answer": ({"to": PEER, "kind": "iq", "type": "result"}, "no iq to answer"),
    "an answer in XML": ({"stanza": f"<iq to='{PEER}' type='result' id='1'/>"}, "no iq to answer"),
    "an error without one": ({"to": PEER, "type": "error", "body": "x"}, "needs the key error"),
    "an empty body": ({"to": PEER, "body": ""}, "there is nothing to send"),
    "an unknown key": ({"to": PEER, "body": "x", "boddy": 1}, "perhaps you meant body"),
    "a body that is none": ({"to": PEER, "body": {}}, "body"),
    "a character": ({"to": PEER, "body": "x", "id": "\x01"}, "U+0001"),
    "too long": ({"to": PEER, "body": "x" * 600_000}, "max_send_bytes"),
    "no stanza": ({"stanza": "<note/>"}, "'note' is not a stanza"),
    "no XML": ({"stanza": "<message"}, "stanza:"),
    "two stanzas": ({"stanza": "<message/><message/>"}, "stanza:"),
}


@pytest.mark.parametrize(("content", "why"), BAD.values(), ids=BAD)
async def test_what_may_not_be_sent_is_refused_and_says_why(content: Any, why: str) -> None:
    with pytest.raises(UnusableReply) as caught:
        await composed(content)
    assert why in str(caught.value)


async def test_a_sender_is_needed() -> None:
    with pytest.raises(UnusableReply, match="from is missing"):
        await composed({"to": PEER, "body": "hi"}, None)


@pytest.mark.parametrize(
    "content",
    [
        {"to": PEER, "body": "hi", "from": "me@evil.example"},
        {"stanza": f"<message to='{PEER}' from='me@evil.example'/>"},
    ],
)
async def test_a_foreign_sender_is_no_component(content: Any) -> None:
    with pytest.raises(NotConfigured, match=r"'evil\.example' is not a component here"):
        await composed(content)


async def test_without_components_nothing_can_be_composed() -> None:
    life = Life()
    life.submitters.clear()
    assert life.sender.domains == frozenset()
    with pytest.raises(NotConfigured, match="no component"):
        await life.sender.compose(ReplyBody("json", b'{"to":"a@b","body":"x"}'), BOT)


async def test_a_component_that_does_not_run_composes_what_needs_no_parser() -> None:
    """What is parsed takes the parser of one that runs: that of one that has ended is closed."""
    life = Life()
    running = life.submitters[DOMAIN]
    life.submitters[DOMAIN] = evolve(running, takes=lambda _: False)
    assert life.sender.domains == frozenset()
    text = ReplyBody("json", b'{"to":"a@b","body":"x"}')
    assert (await life.sender.compose(text, BOT)).from_ == BOT
    assert (await life.sender.compose(message(), None)).from_ == BOT
    xml = ReplyBody("xml", b"<message to='a@b'/>")
    with pytest.raises(NotRunning, match=f"{DOMAIN} does not run now"):
        await life.sender.compose(xml, BOT)
    life.submitters["other.example"] = running
    assert (await life.sender.compose(xml, BOT)).from_ == BOT


# --- sending


async def test_what_is_sent_goes_out_in_order(stage: Stage) -> None:
    calls = [await stage.send(message(id)) for id in "abc"]
    assert stage.sent() == ["a", "b", "c"]
    uids = [call.result for call in calls]
    assert len(set(uids)) == 3
    assert all(uid.startswith("msg_") for uid in uids)
    assert stage.life.sender.domains == {DOMAIN}


async def test_what_has_no_id_is_given_its_uid(stage: Stage) -> None:
    one = message()
    call = await stage.send(Stanza(one.element.with_attributes(id=None)))
    assert stage.sent() == [call.result]


async def test_nothing_goes_out_nor_is_accepted_before_it_is_kept(durable: Stage) -> None:
    durable.life.disk.hold()
    call = await durable.send(message())
    assert call.result is None
    assert durable.sent() == []
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert durable.sent() == ["m1"]
    assert call.over
    await wait_all_tasks_blocked()
    assert journal_of(durable).replies(DOMAIN, limit=9) == []  # confirmed


async def test_who_waits_no_more_takes_nothing_back(durable: Stage) -> None:
    durable.life.disk.hold()
    call = await durable.send(message())
    call.scope.cancel()
    await wait_all_tasks_blocked()
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert durable.sent() == ["m1"]


async def test_what_is_kept_goes_out_in_the_next_life_as_it_was(durable: Stage) -> None:
    await durable.send(message("a"))
    await durable.send(message("b"))
    first = durable.life.outbox.take()
    await durable.life.kill()
    life = await durable.begin()
    assert life.outbox.take() == first


async def test_what_the_server_will_not_have_is_a_dead_letter(durable: Stage) -> None:
    uid = (await durable.send(message("bad"))).result
    outbox = durable.life.outbox
    outbox.take()
    outbox.stream_lost(blamed=True)
    outbox.abandon_suspect("it broke the stream")
    await wait_all_tasks_blocked()
    [letter] = journal_of(durable).dead(DOMAIN, limit=9)
    assert (letter.entry.uid, letter.reason) == (uid, "it broke the stream")
    assert letter.reply is not None
    assert journal_of(durable).replies(DOMAIN, limit=9) == []


async def test_too_much_is_refused_and_nothing_of_it_kept(durable: Stage) -> None:
    shorten(durable.life, 3)
    durable.life.disk.hold()
    calls = [await durable.send(message(id)) for id in "abcd"]
    assert [call.refused_by for call in calls] == [None, None, None, QueueFull]
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert durable.sent() == ["a", "b", "c"]
    assert (await durable.send(message("e"))).over
    assert durable.sent() == ["e"]


async def test_a_journal_that_fails_refuses_and_says_why(
    durable: Stage, autojump_clock: MockClock
) -> None:
    journal_of(durable).failure = FAILURE
    for one in (None, key()):
        call = await durable.send(message("a"), one)
        assert call.refused_by is JournalUnavailable
        assert "the disk is full" in str(call.refusal)
    journal_of(durable).failure = None
    await trio.sleep(2)
    call = await durable.send(message("b"), key())
    assert call.result
    assert durable.sent() == ["b"]


# --- several at once


def several(*ids: str | None) -> Batch:
    stanzas = [Stanza(message().element.with_attributes(id=id)) for id in ids]
    return Batch(tuple(stanzas), ("",) * len(ids), is_list=True)


async def test_several_go_out_in_order_and_are_named_after_one_uid(stage: Stage) -> None:
    call = await stage.send_all(several("a", None, "c"))
    [one, two, three] = call.result
    assert (two, three) == (f"{one[:-1]}2", f"{one[:-1]}3")
    assert one.startswith("msg_")
    assert stage.sent() == ["a", two, "c"]


async def test_several_are_kept_by_one_operation(durable: Stage) -> None:
    durable.life.disk.hold()
    call = await durable.send_all(several("a", "b"), key())
    assert (call.over, durable.sent()) == (False, [])
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert call.over
    kept = [one.uid for _, one in journal_of(durable).replies(DOMAIN, limit=9)]
    assert kept == call.result
    assert durable.sent() == ["a", "b"]


@pytest.mark.parametrize("acts_first", [False, True])
async def test_a_crash_leaves_all_or_none(durable: Stage, acts_first: bool) -> None:
    durable.life.disk.hold(acts_first=acts_first)
    call = await durable.send_all(several("a", "b", "c"))
    assert not call.over
    await durable.life.kill()
    await durable.begin()
    assert durable.sent() == (["a", "b", "c"] if acts_first else [])


async def test_what_is_kept_of_several_goes_out_in_the_next_life_as_it_was(durable: Stage) -> None:
    await durable.send_all(several("a", None))
    first = durable.life.outbox.take()
    await durable.life.kill()
    life = await durable.begin()
    assert life.outbox.take() == first


async def test_several_with_one_key_are_sent_once(stage: Stage) -> None:
    calls = [await stage.send_all(several("a", None), key()) for _ in range(3)]
    assert stage.sent() == ["a", calls[0].result[1]]
    assert [call.result for call in calls] == [calls[0].result] * 3
    other = await stage.send_all(several("a", "b"), key(content="b"))
    assert other.refused_by is KeyReused


async def test_the_same_list_is_given_in_the_next_life(durable: Stage) -> None:
    first = await durable.send_all(several("a", None), key())
    assert durable.sent() == ["a", first.result[1]]
    await wait_all_tasks_blocked()  # until it is confirmed
    await durable.life.kill()
    await durable.begin()
    again = await durable.send_all(several("a", None), key())
    assert (again.result, durable.sent()) == (first.result, [])


async def test_there_is_room_for_all_or_for_none(stage: Stage) -> None:
    shorten(stage.life, 4)
    assert (await stage.send(message("a"))).result
    call = await stage.send_all(several("b", "c", "d", "e"), key())
    assert call.refused_by is QueueFull
    assert stage.sent() == ["a"]
    again = await stage.send_all(several("b", "c", "d", "e"), key())
    assert len(again.result) == 4
    assert stage.sent() == ["b", "c", "d", "e"]


async def test_the_room_of_several_is_free_again(durable: Stage) -> None:
    shorten(durable.life, 4)
    journal_of(durable).failure = FAILURE
    for _ in range(3):
        call = await durable.send_all(several("b", "c", "d", "e"))
        assert call.refused_by is JournalUnavailable
    assert durable.life.outbox.reserve(4, 4)


async def test_several_are_taken_while_their_component_runs(stage: Stage) -> None:
    stage.life.submitters[DOMAIN] = evolve(stage.life.submitters[DOMAIN], takes=lambda _: False)
    call = await stage.send_all(several("a", "b"), key())
    assert call.refused_by is NotRunning
    assert stage.sent() == []


# --- refusals


async def test_what_the_journal_cannot_keep_is_refused(durable: Stage) -> None:
    queue = durable.life.queue
    queue.send = lambda *given: given[-1](None)  # type: ignore[method-assign]
    call = await durable.send(message())
    assert call.refused_by is JournalUnavailable
    assert durable.sent() == []
    assert durable.life.outbox.reserve(40 * 1024 * 1024), "its room is free again"


async def test_a_component_that_is_gone(stage: Stage) -> None:
    del stage.life.submitters[DOMAIN]
    for call in (
        await stage.send(message()),
        await stage.send(message(), key()),
        await stage.ask(request()),
        await stage.ask(request(), 10, key("other")),
    ):
        assert call.refused_by is NotConfigured
        assert DOMAIN in str(call.refusal)


async def test_a_component_that_does_not_run(stage: Stage) -> None:
    """What is done is still known by its key, and what is refused has not used its key up."""
    running = stage.life.submitters[DOMAIN]
    sent = await stage.send(message("a"), key("sent"))
    asked = await stage.ask(request("b"), 10, key("asked"))
    assert stage.sent() == ["a", "b"]
    await stage.life.give(answer("b"))
    stage.life.submitters[DOMAIN] = evolve(running, takes=lambda _: False)
    for call in (
        await stage.send(message("c")),
        await stage.send(message("c"), key("c")),
        await stage.ask(request("d")),
        await stage.ask(request("d"), 10, key("d")),
    ):
        assert call.refused_by is NotRunning
        assert f"{DOMAIN} does not run now" in str(call.refusal)
    assert (await stage.send(message("a"), key("sent"))).result == sent.result
    again = await stage.ask(request("b"), 10, key("asked"))
    assert meaning(again.result.element) == meaning(asked.result.element)
    assert (stage.sent(), len(stage.life.pending_iqs)) == ([], 0)
    stage.life.submitters[DOMAIN] = running
    assert (await stage.send(message("c"), key("c"))).result
    await stage.ask(request("d"), 10, key("d"))
    assert stage.sent() == ["c", "d"]


@pytest.mark.parametrize("taken", ["send", "query"])
async def test_a_component_that_takes_only_one_of_both(stage: Stage, taken: str) -> None:
    running = stage.life.submitters[DOMAIN]
    stage.life.submitters[DOMAIN] = evolve(running, takes=lambda one: one == taken)
    sent, asked = await stage.send(message("a")), await stage.ask(request("b"))
    assert stage.sent() == (["a"] if taken == "send" else ["b"])
    refusals = [None, NotRunning]
    assert [sent.refused_by, asked.refused_by] == refusals[:: 1 if taken == "send" else -1]


async def test_a_component_that_goes_while_its_key_is_looked_for(durable: Stage) -> None:
    durable.life.disk.hold()
    call = await durable.send(message(), key())
    submitter = durable.life.submitters.pop(DOMAIN)
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert call.refused_by is NotConfigured
    durable.life.submitters[DOMAIN] = submitter
    assert (await durable.send(message(), key())).result
    assert durable.sent() == ["m1"]


async def test_our_message_that_a_room_gives_back_is_not_posted(stage: Stage) -> None:
    await stage.send(message("g1", "room@muc.example", "groupchat"))
    room = "from='room@muc.example/bot' type='groupchat'"
    echo = f"<message {room} to='{BOT}' id='g1'><body>g1</body></message>"
    await stage.life.give(stanza(echo))
    assert stage.posted == []


# --- once per key


async def test_a_key_is_done_once_and_gives_the_same(stage: Stage) -> None:
    first = await stage.send(message("a"), key())
    second = await stage.send(message("b"), key())
    assert stage.sent() == ["a"]
    assert first.result == second.result
    third = await stage.send(message("c"), key(token="other"))
    fourth = await stage.send(message("d"), key("l"))
    assert stage.sent() == ["c", "d"]
    assert len({first.result, third.result, fourth.result}) == 3


async def test_a_key_is_for_one_request(stage: Stage) -> None:
    await stage.send(message("a"), key())
    for call in (
        await stage.send(message("b"), key(content="b")),
        await stage.ask(request("c"), 10, key(content="b")),
        await stage.ask(request("d"), 10, key()),
    ):
        assert call.refused_by is KeyReused
        assert "another request" in str(call.refusal)
    assert stage.sent() == ["a"]


async def test_a_key_lasts_a_day(stage: Stage) -> None:
    first = await stage.send(message("a"), key())
    stage.wall.shift_s += CLAIM_S - 60
    assert (await stage.send(message("b"), key())).result == first.result
    stage.wall.shift_s += 61
    later = await stage.send(message("c"), key(content="other"))
    assert later.result not in (None, first.result)
    assert stage.sent() == ["a", "c"]


async def test_a_key_outlives_the_process(durable: Stage) -> None:
    first = await durable.send(message("a"), key())
    await durable.life.kill()
    await durable.begin()
    assert (await durable.send(message("b"), key())).result == first.result
    assert (await durable.send(message("b"), key(content="b"))).refused_by is KeyReused
    assert durable.sent() == ["a"]


async def test_who_comes_meanwhile_waits_for_the_same(durable: Stage) -> None:
    durable.life.disk.hold()
    calls = [await durable.send(message(id), key()) for id in "ab"]
    other = await durable.send(message("c"), key(content="c"))
    assert other.refused_by is KeyReused
    assert [call.over for call in calls] == [False, False]
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert calls[0].result == calls[1].result is not None
    assert durable.sent() == ["a"]


async def test_if_the_first_leaves_before_it_began_the_next_begins(durable: Stage) -> None:
    durable.life.disk.hold()
    calls = [await durable.send(message(id), key()) for id in "ab"]
    calls[0].scope.cancel()
    await wait_all_tasks_blocked()
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert (calls[0].result, calls[1].over) == (None, True)
    assert calls[1].result
    assert durable.sent() == ["b"]


async def test_what_is_refused_does_not_use_its_key_up(stage: Stage) -> None:
    shorten(stage.life, 1)
    await stage.send(message("a"))
    assert (await stage.send(message("b"), key())).refused_by is QueueFull
    assert (await stage.ask(request("c"), 10, key("q"))).refused_by is QueueFull
    assert (await stage.ask(request("d"), 10)).refused_by is QueueFull
    assert stage.sent() == ["a"]
    assert (await stage.send(message("e"), key())).result
    assert stage.sent() == ["e"]
    await stage.ask(request("c"), 10, key("q"))
    assert stage.sent() == ["c"]


# --- asking


KEYS: Final = pytest.mark.parametrize("with_key", [None, key()], ids=["no key", "key"])


@KEYS
@pytest.mark.parametrize("type", ["result", "error"])
async def test_an_answer_is_given_and_not_posted(
    stage: Stage, with_key: Key | None, type: str
) -> None:
    call = await stage.ask(request(), 10, with_key)
    assert stage.sent() == ["q1"]
    assert not call.over
    one = stanza(
        f"<iq from='{PEER}' to='{BOT}' type='{type}' id='q1'><q xmlns='urn:q'/></iq>", "cs"
    )
    await stage.life.give(one)
    assert (call.result, call.over) == (one, True)
    assert stage.posted == []
    await stage.life.give(one)
    assert stage.posted == ["q1"], "a second one is for the endpoint"


async def test_an_answer_is_taken_though_nobody_is_allowed_and_iqs_are_not_posted(
    nursery: trio.Nursery,
) -> None:
    stage = Stage(nursery, None)
    component = evolve(
        COMPONENT,
        allow_from=frozenset({"b.example"}),
        post_stanzas=frozenset({"message"}),
    )
    await stage.begin(component=component)
    call = await stage.ask(request())
    await stage.life.give(answer())
    assert call.result == answer()


@pytest.mark.parametrize(
    "forged",
    [
        answer(from_="mallory@a.example/balcony"),
        answer(from_="juliet@a.example"),
        answer(from_="a.example"),
        answer(id="q2"),
        answer(to=f"other@{DOMAIN}"),
    ],
    ids=["account", "bare", "server", "id", "to"],
)
async def test_nobody_else_can_answer(stage: Stage, forged: Stanza) -> None:
    call = await stage.ask(request())
    await stage.life.give(forged)
    assert not call.over
    assert stage.posted == [forged.id]
    await stage.life.give(answer())
    assert call.result == answer()


@KEYS
async def test_without_an_answer_it_says_so_and_what_comes_later_is_posted(
    stage: Stage, with_key: Key | None, autojump_clock: MockClock
) -> None:
    call = await stage.ask(request(), 10, with_key)
    assert stage.sent() == ["q1"]
    await trio.sleep(9.9)
    assert not call.over
    await trio.sleep(0.2)
    assert call.refused_by is NoAnswer
    assert "in time" in str(call.refusal)
    await stage.life.give(answer())
    assert stage.posted == ["q1"]


@KEYS
async def test_what_was_not_written_in_time_is_not_sent(
    stage: Stage, with_key: Key | None, autojump_clock: MockClock
) -> None:
    call = await stage.ask(request(), 10, with_key)
    await stage.send(message("m"))
    await trio.sleep(10.1)
    assert call.refused_by is NoAnswer
    assert "not sent" in str(call.refusal)
    assert stage.sent() == ["m"]
    again = await stage.ask(request("q2"), 10, with_key)
    assert stage.sent() == ["q2"], "neither is its key used up"
    await stage.life.give(answer("q2"))
    assert again.result == answer("q2")


@KEYS
async def test_what_waits_to_be_written_again_is_not_sent_late(
    stage: Stage, with_key: Key | None, autojump_clock: MockClock
) -> None:
    call = await stage.ask(request(), 10, with_key)
    stage.life.outbox.take()
    stage.life.outbox.stream_lost(blamed=False)
    await trio.sleep(10.1)
    assert call.refused_by is NoAnswer
    assert "not sent" not in str(call.refusal)
    assert stage.sent() == []


async def test_nobody_waits_for_ever(stage: Stage, autojump_clock: MockClock) -> None:
    call = await stage.ask(request(), 1e9)
    stage.sent()
    await trio.sleep(WAIT_LIMIT_S - 0.1)
    assert not call.over
    await trio.sleep(0.2)
    assert call.refused_by is NoAnswer


async def test_who_leaves_without_a_key_takes_his_question_back(stage: Stage) -> None:
    unwritten = await stage.ask(request("q1"))
    unwritten.scope.cancel()
    await wait_all_tasks_blocked()
    assert stage.sent() == []
    written = await stage.ask(request("q2"))
    assert stage.sent() == ["q2"]
    written.scope.cancel()
    await wait_all_tasks_blocked()
    await stage.life.give(answer("q2"))
    assert stage.posted == ["q2"]
    assert len(stage.life.pending_iqs) == 0


@KEYS
async def test_one_peer_is_asked_under_an_id_once_at_a_time(
    stage: Stage, with_key: Key | None
) -> None:
    first = await stage.ask(request())
    second = await stage.ask(request(), 10, with_key)
    assert second.refused_by is IdInUse
    assert "'q1'" in str(second.refusal)
    await stage.ask(request(to="romeo@a.example"))
    assert stage.sent() == ["q1", "q1"]
    await stage.life.give(answer())
    assert first.result == answer()
    await stage.ask(request(), 10, with_key)
    assert stage.sent() == ["q1"]


@KEYS
async def test_only_so_many_wait(
    stage: Stage, with_key: Key | None, autojump_clock: MockClock
) -> None:
    pending_iqs = PendingIqs(2)
    stage.life.submitters[DOMAIN] = evolve(stage.life.submitters[DOMAIN], pending_iqs=pending_iqs)
    for id in ("a", "b"):
        await stage.ask(request(id))
    assert (await stage.ask(request("c"), 10, with_key)).refused_by is QueueFull
    await trio.sleep(11)
    assert not (await stage.ask(request("c"), 10, with_key)).over


@KEYS
async def test_an_answer_that_is_too_long_ends_the_waiting(
    stage: Stage, with_key: Key | None
) -> None:
    call = await stage.ask(request(), 10, with_key)
    stage.sent()
    await stage.life.dispatcher.handle(StanzaRefused(answer(), "524288 bytes"))
    await wait_all_tasks_blocked()
    assert call.refused_by is NoAnswer
    assert "over the limit of 524288 bytes" in str(call.refusal)


@KEYS
async def test_a_component_that_stops_ends_the_waiting(stage: Stage, with_key: Key | None) -> None:
    call = await stage.ask(request(), 10, with_key)
    stage.life.pending_iqs.end("the component has stopped")
    await wait_all_tasks_blocked()
    assert call.refused_by is NoAnswer
    assert "has stopped" in str(call.refusal)


async def test_a_handler_that_answers_a_post_can_ask(nursery: trio.Nursery) -> None:
    """With one slot, which its own POST holds, and a queue that is full."""
    stage = Stage(nursery, None)
    await stage.begin(max_in_flight=1)
    give = [
        stanza(f"<message from='{PEER}' to='{BOT}' id='p{n}'><body>x</body></message>")
        for n in (1, 2)
    ]
    await stage.life.give(*give)
    assert stage.posted == ["p1"]
    call = await stage.ask(request())
    assert stage.sent() == ["q1"]
    await stage.life.give(answer())
    assert call.result == answer()
    assert stage.life.running == ["p1"]
    await stage.life.answer("p1", said({"body": "it is so"}))
    assert stage.posted == ["p1", "p2"]


async def test_the_reader_takes_an_answer_while_the_queue_is_full(nursery: trio.Nursery) -> None:
    stage = Stage(nursery, None)
    await stage.begin(max_in_flight=1)
    stage.life.queue._volume = Quota(1)  # type: ignore[attr-defined]
    await stage.life.give(
        stanza(f"<message from='{PEER}' to='{BOT}' id='p1'><body>x</body></message>")
    )
    assert stage.life.queue.fullness == 1
    call = await stage.ask(request())
    before = trio.current_time()
    await stage.life.give(answer())
    assert call.result == answer()
    assert trio.current_time() - before < 1


# --- asking once per key


async def test_an_answer_is_kept_for_who_comes_again(stage: Stage) -> None:
    first = await stage.ask(request("a"), 10, key())
    assert stage.sent() == ["a"]
    inner = "<query xmlns='jabber:iq:version'><name>Prosody &amp; co</name></query>"
    await stage.life.give(answer("a", inner=inner))
    second = await stage.ask(request("b"), 10, key())
    assert second.over
    assert (second.result.element, second.result.lang) == (first.result.element, "cs")
    assert stage.sent() == []
    other = await stage.ask(request("c"), 10, key(content="other"))
    assert other.refused_by is KeyReused


async def test_an_answer_outlives_the_process(durable: Stage) -> None:
    first = await durable.ask(request("a"), 10, key())
    durable.sent()
    await durable.life.give(answer("a", inner=PING))
    await durable.life.kill()
    await durable.begin()
    second = await durable.ask(request("b"), 10, key())
    assert second.result == first.result
    assert durable.sent() == []


async def test_an_answer_is_kept_before_it_is_given(durable: Stage) -> None:
    call = await durable.ask(request(), 10, key())
    durable.life.disk.hold()
    await durable.life.give(answer())
    assert not call.over
    second = await durable.ask(request("b"), 10, key())
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert (call.result, second.result) == (answer(), answer())


async def test_an_answer_is_given_though_the_journal_fails(
    durable: Stage, autojump_clock: MockClock
) -> None:
    call = await durable.ask(request(), 10, key())
    journal_of(durable).failure = FAILURE
    await durable.life.give(answer())
    assert call.result == answer()
    journal_of(durable).failure = None
    await trio.sleep(2)
    assert (await durable.ask(request(), 10, key())).result == answer()


async def test_who_comes_while_one_waits_waits_for_the_same_answer(stage: Stage) -> None:
    calls = [await stage.ask(request(id), 10, key()) for id in "ab"]
    assert (await stage.ask(request("c"), 10, key(content="c"))).refused_by is KeyReused
    assert stage.sent() == ["a"]
    await stage.life.give(answer("a"))
    assert [call.result for call in calls] == [answer("a")] * 2


async def test_each_waits_as_long_as_he_said(stage: Stage, autojump_clock: MockClock) -> None:
    short, long = await stage.ask(request("a"), 5, key()), await stage.ask(request("b"), 20, key())
    stage.sent()
    await trio.sleep(6)
    assert (short.refused_by, long.over) == (NoAnswer, False)
    await trio.sleep(6)
    await stage.life.give(answer("a"))
    assert long.result == answer("a")


async def test_who_lost_his_connection_comes_again_for_the_answer(stage: Stage) -> None:
    first = await stage.ask(request("a"), 60, key())
    assert stage.sent() == ["a"]
    first.scope.cancel()
    await wait_all_tasks_blocked()
    second = await stage.ask(request("b"), 60, key())
    assert stage.sent() == []
    await stage.life.give(answer("a"))
    assert second.result == answer("a")
    assert stage.posted == []


async def test_who_left_a_question_that_is_to_be_written_again_finds_it_asked(stage: Stage) -> None:
    first = await stage.ask(request("a"), 60, key())
    stage.life.outbox.take()
    stage.life.outbox.stream_lost(blamed=False)
    first.scope.cancel()
    await wait_all_tasks_blocked()
    second = await stage.ask(request("b"), 60, key())
    assert stage.sent() == ["a"]
    await stage.life.give(answer("a"))
    assert second.result == answer("a")


async def test_an_answer_that_comes_while_nobody_waits_is_kept(stage: Stage) -> None:
    first = await stage.ask(request("a"), 60, key())
    stage.sent()
    first.scope.cancel()
    await wait_all_tasks_blocked()
    await stage.life.give(answer("a"))
    assert stage.posted == []
    assert (await stage.ask(request("b"), 60, key())).result == answer("a")


async def test_a_question_that_was_given_up_is_not_asked_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    first = await stage.ask(request("a"), 10, key())
    assert stage.sent() == ["a"]
    first.scope.cancel()
    await trio.sleep(11)
    await stage.life.give(answer("a"))
    assert stage.posted == ["a"]
    for _ in range(2):
        call = await stage.ask(request("b"), 10, key())
        assert call.refused_by is NoAnswer
    assert stage.sent() == []
    assert len(stage.life.pending_iqs) == 0


async def test_questions_that_were_given_up_hold_no_place(
    stage: Stage, autojump_clock: MockClock
) -> None:
    pending_iqs = PendingIqs(1)
    stage.life.submitters[DOMAIN] = evolve(stage.life.submitters[DOMAIN], pending_iqs=pending_iqs)
    first = await stage.ask(request("a"), 10, key())
    stage.sent()
    first.scope.cancel()
    await wait_all_tasks_blocked()
    assert (await stage.ask(request("b"))).refused_by is QueueFull
    await trio.sleep(11)
    assert not (await stage.ask(request("b"))).over


async def test_who_leaves_before_it_was_written_takes_it_back_and_frees_his_key(
    stage: Stage,
) -> None:
    first = await stage.ask(request("a"), 10, key())
    first.scope.cancel()
    await wait_all_tasks_blocked()
    assert len(stage.life.pending_iqs) == 0
    await stage.ask(request("b"), 10, key())
    assert stage.sent() == ["b"]


async def test_nothing_is_asked_if_all_have_left_when_the_key_is_kept(durable: Stage) -> None:
    durable.life.disk.hold()
    call = await durable.ask(request("a"), 10, key())
    durable.life.disk.release()
    durable.life.disk.hold()
    await wait_all_tasks_blocked()
    call.scope.cancel()
    await wait_all_tasks_blocked()
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert (durable.sent(), len(durable.life.pending_iqs)) == ([], 0)
    assert journal_of(durable).kept_claims == {}
    assert (await durable.ask(request("b"), 10, key())).refusal is None
    assert durable.sent() == ["b"]


async def test_what_a_crash_cut_off_is_not_asked_again(durable: Stage) -> None:
    await durable.ask(request("a"), 10, key())
    durable.sent()
    await durable.life.kill()
    await durable.begin()
    assert durable.sent() == []
    call = await durable.ask(request("b"), 10, key())
    assert call.refused_by is KeyReused
    assert "cut off" in str(call.refusal)
    assert durable.sent() == []


async def test_a_journal_that_fails_asks_nothing(durable: Stage) -> None:
    journal_of(durable).failure = FAILURE
    call = await durable.ask(request("a"), 10, key())
    assert call.refused_by is JournalUnavailable
    assert durable.sent() == []
    assert len(durable.life.pending_iqs) == 0
    assert (await durable.ask(request("a"), 10)).refusal is None
    assert durable.sent() == ["a"], "without a key nothing is kept"


async def test_a_journal_that_fails_when_the_key_is_to_be_kept(durable: Stage) -> None:
    durable.life.disk.hold(acts_first=True)
    call = await durable.ask(request("a"), 10, key())
    journal_of(durable).failure = FAILURE
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert call.refused_by is JournalUnavailable
    assert (durable.sent(), len(durable.life.pending_iqs)) == ([], 0)


class SlowClaims(MemoryIdempotencyStore):
    """Claims that are kept when the test says so."""

    then: Callable[[], None]

    def begin(self, claim: Claim, then: Callable[[bool], None]) -> None:
        self.then = partial(super().begin, claim, then)


async def test_a_component_that_ends_as_the_key_is_kept(nursery: trio.Nursery) -> None:
    """Before the one who waits has even noticed."""
    stage = Stage(nursery, None)
    await stage.begin()
    claims = SlowClaims(now=stage.wall)
    sender = Sender(lambda: stage.life.submitters, claims, parse, stage.wall)
    call = await stage.call(partial(sender.ask, request("a"), 10, key()))
    stage.life.pending_iqs.end("it has stopped")
    claims.then()
    await wait_all_tasks_blocked()
    assert call.refused_by is NoAnswer
    assert stage.sent() == []


async def test_a_component_that_ends_while_the_key_is_kept(durable: Stage) -> None:
    durable.life.disk.hold(acts_first=True)
    call = await durable.ask(request("a"), 10, key())
    durable.life.disk.release()
    durable.life.disk.hold()
    await wait_all_tasks_blocked()
    durable.life.pending_iqs.end("it has stopped")
    durable.life.disk.release()
    await wait_all_tasks_blocked()
    assert call.refused_by is NoAnswer
    assert durable.sent() == []
    assert (await durable.ask(request("b"), 10, key())).refusal is None
    assert durable.sent() == ["b"]
