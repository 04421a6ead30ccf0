"""Deferred replies in a whole life: promised, given later, ordered, and an iq answered once."""

import json
from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import ListenSettings, Seconds, TcpAddress
from bridge.dispatch.promise import PATH
from bridge.journal.idempotency import MemoryIdempotencyStore, claim_name
from bridge.journal.store import JournalError
from bridge.listener.submission.deferral import TURN_S, NoLongerTaken
from bridge.listener.submission.sender import Key, KeyReused, NotRunning, QueueFull
from bridge.payload.body import ReplyBody
from bridge.payload.error import UnusableReply
from bridge.webhook.outcome import NoReply, Outcome, Rejected
from bridge.webhook.reply_url import Promise
from bridge.xmpp.outbox import Outbox
from tests.bridge.dispatch.life import BOT, COMPONENT, DOMAIN, DONE, Life, pass_time, said
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza
from xmppstream import Stanza

BASE: Final = "https://example.com/bridge"
LISTEN: Final = ListenSettings(TcpAddress("127.0.0.1", 0), (), public_url=BASE)
JULIET: Final = "juliet@capulet.example/balcony"
DEFERRED: Final = NoReply(None, 202, True)
ACTIVE: Final = "<active xmlns='http://jabber.org/protocol/chatstates'/>"


def life(
    journal: MemoryJournal | None = None, listen: ListenSettings = LISTEN, **keys: Any
) -> Life:
    return Life(journal, listen=listen, component=evolve(COMPONENT, **keys))


def message(id: str, inner: str = "", sender: str = JULIET, type: str = "chat") -> Stanza:
    inner = f"<body>hi</body>{inner}"
    return stanza(f"<message from='{sender}' to='{BOT}' id='{id}' type='{type}'>{inner}</message>")


def iq(id: str, type: str = "get") -> Stanza:
    payload = "<command xmlns='http://jabber.org/protocol/commands' node='report'/>"
    return stanza(f"<iq from='{JULIET}' to='{BOT}' id='{id}' type='{type}'>{payload}</iq>")


def url_of(one: Life, id: str) -> str:
    return str(one.endpoint.of(id)[-1].json["reply_url"])


def promise_of(one: Life, url: str) -> Promise:
    promise = one.sender.replies.promise_of(url.removeprefix(BASE + PATH))
    assert promise is not None
    return promise


def key(name: str, content: str = "") -> Key:
    return Key("reply url", name, content.encode())


async def reply(one: Life, url: str, value: Any, key: Key | None = None) -> list[str]:
    """Reply at a URL; give the UIDs."""
    body = ReplyBody("json", json.dumps(value).encode())
    _, uids = await one.sender.replies.reply(promise_of(one, url), body, key)
    return uids


def shown(sent: list[Stanza]) -> list[str]:
    """Sum up what was sent: bodies, errors, states; or the type."""
    found = []
    for one in sent:
        first = next((c for c in one.element.elements if c.local != "thread"), None)
        found.append(str(one.type) if first is None else first.text or first.local)
    return found


async def defer(one: Life, *stanzas: Stanza) -> list[str]:
    """Have stanzas come in whose replies are promised; give their URLs."""
    await one.give(*stanzas)
    for given in stanzas:
        await one.answer(str(given.id), DEFERRED)
    return [url_of(one, str(given.id)) for given in stanzas]


# --- messages


@pytest.mark.parametrize("journal", [MemoryJournal(), None], ids=["journal", "memory"])
async def test_a_message_is_replied_to_later(
    nursery: trio.Nursery, journal: MemoryJournal | None
) -> None:
    one = life(journal)
    await nursery.start(one.run)
    [url] = await defer(one, message("m1", "<thread>t1</thread>"))
    assert url.startswith(BASE + PATH)
    assert one.sent() == []
    uid = one.endpoint.posts[0].uid
    first = await reply(one, url, {"body": "a", "reply": True})
    second = await reply(one, url, [{"body": "b"}, {"body": "c"}])
    sent = one.sent()
    assert shown(sent) == ["a", "b", "c"]
    assert {(one.to, one.from_, one.type) for one in sent} == {(JULIET, BOT, "chat")}
    assert [one.child("thread").text for one in sent] == ["t1"] * 3  # type: ignore[union-attr]
    assert sent[0].element.elements[-1].get("id") == "m1"  # XEP-0461
    assert len({one.id for one in sent}) == 3
    assert all(str(one.id).startswith(f"{uid}-d") for one in sent)
    assert [one.id for one in sent] == [f"{first[0]}-1", *second]
    assert one.meter.deferred == 1
    assert one.meter.deferred_replies == 2
    await one.kill()


async def test_without_public_url_nothing_is_promised(nursery: trio.Nursery) -> None:
    one = life(listen=evolve(LISTEN, public_url=None))
    await nursery.start(one.run)
    await one.give(message("m1"), iq("q1", "set"))
    assert "reply_url" not in one.endpoint.posts[0].json
    await one.answer("m1", DEFERRED)
    await one.answer("q1", DEFERRED)
    assert shown(one.sent()) == ["result"]  # H3, as after a 202 without a promise
    [entry] = one.log.of("endpoint defers its reply, but has no reply_url")
    assert entry["hint"] == "set public_url in [listen]"
    assert one.meter.deferred == 0
    await one.kill()


async def test_a_url_that_would_be_too_long_is_left_out(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    thread = f"<thread>{'t' * 5000}</thread>"
    await one.give(message("m1", thread), message("x" * 5000, sender="a@a.example"))
    second = one.endpoint.of("x" * 5000)[0]
    await one.answer("m1", DEFERRED)
    await reply(one, url_of(one, "m1"), {"body": "without the thread"})
    [sent] = one.sent()
    assert sent.child("thread") is None
    assert "reply_url" not in second.json
    assert len(one.log.of("no reply_url")) == 1
    await one.answer(second.id, DEFERRED)
    assert len(one.log.of("endpoint defers its reply, but has no reply_url")) == 1
    await one.kill()


async def test_final_stanzas_have_no_reply_url(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(message("m1", "<error type='cancel'/>", type="error"))
    assert "reply_url" not in one.endpoint.posts[0].json
    await one.kill()


async def test_a_room_and_an_occupant_are_replied_to(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    sender = "garden@rooms.example/romeo"
    given = (
        "<stanza-id xmlns='urn:xmpp:sid:0' id='s1' by='garden@rooms.example'/>"
        "<stanza-id xmlns='urn:xmpp:sid:0' id='s2' by='capulet.example'/>"
    )
    [url] = await defer(one, message("m1", given, sender, "groupchat"))
    await reply(one, url, {"body": "a", "reply": True})
    [sent] = one.sent()
    assert (sent.to, sent.type) == ("garden@rooms.example", "groupchat")
    assert sent.element.elements[-1].get("id") == "s1"
    await one.kill()


async def test_the_reply_to_a_correction_corrects(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    await reply(one, url, {"body": "a"})
    [url] = await defer(one, message("m2", "<replace xmlns='urn:xmpp:message-correct:0' id='m1'/>"))
    await reply(one, url, {"body": "b"})
    first, second = one.sent()
    assert second.element.elements[-1].get("id") == first.id
    await one.kill()


# --- the end of a promise


async def test_nothing_is_taken_after_done(nursery: trio.Nursery) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    first, second = await defer(one, message("m1"), message("m2"))
    await reply(one, first, {"body": "a", "done": False})
    await reply(one, first, {"body": "b", "done": True})
    assert await reply(one, second, {"done": True}) == []
    for url in (first, second):
        for value in ({"body": "c"}, {"done": True}):
            with pytest.raises(NoLongerTaken, match='an earlier reply has said "done": true'):
                await reply(one, url, value)
    assert shown(one.sent()) == ["a", "b"]
    await one.kill()


async def test_nothing_is_taken_after_its_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life(listen=evolve(LISTEN, reply_ttl_s=Seconds(20)))
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    await pass_time(19)
    await reply(one, url, {"body": "a"})
    await pass_time(1)
    with pytest.raises(NoLongerTaken, match="the time of this reply_url is up"):
        await reply(one, url, {"body": "b"})
    assert shown(one.sent()) == ["a"]
    await one.kill()


async def test_what_is_done_is_forgotten_when_its_time_is_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life(MemoryJournal(), evolve(LISTEN, reply_ttl_s=Seconds(20)))
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    await reply(one, url, {"done": True})
    assert len(one.state.entries("reply_done")) == 1
    await pass_time(30)
    [url] = await defer(one, message("m2"))
    await reply(one, url, {"done": True})
    assert list(one.state.entries("reply_done")) == [one.endpoint.of("m2")[0].uid]
    await one.kill()


async def test_the_number_of_promises_that_are_done_is_bounded(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.dispatch.promise.DONE_LIMIT", 3)
    one = life()
    await nursery.start(one.run)
    urls = await defer(one, *(message(f"m{n}") for n in range(5)))
    for url in urls:
        await reply(one, url, {"done": True})
    assert len(one.state.entries("reply_done")) == 3
    with pytest.raises(NoLongerTaken):
        await reply(one, urls[4], {"body": "a"})
    await one.kill()


async def test_done_is_not_kept_if_the_reply_is_not(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    one = life(journal)
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    journal.failure = JournalError("the disk is full", "make room")
    with pytest.raises(Exception, match="the disk is full"):
        await reply(one, url, {"body": "a", "done": True})
    journal.failure = None
    await pass_time(2)
    await reply(one, url, {"body": "a", "done": True})
    assert shown(one.sent()) == ["a"]
    await one.kill()


# --- once per key, and across restarts


async def test_a_reply_is_taken_once_per_key(nursery: trio.Nursery) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    first = await reply(one, url, {"body": "a", "done": True}, key("k"))
    assert await reply(one, url, {"body": "a", "done": True}, key("k")) == first
    with pytest.raises(KeyReused):
        await reply(one, url, {"body": "b"}, key("k", "other"))
    with pytest.raises(NoLongerTaken):
        await reply(one, url, {"body": "b"}, key("k2"))
    assert shown(one.sent()) == ["a"]
    await one.kill()


async def test_urls_survive_a_crash(nursery: trio.Nursery) -> None:
    journal = MemoryJournal()
    one = life(journal)
    await nursery.start(one.run)
    first, second = await defer(one, message("m1"), message("m2"))
    before = await reply(one, first, {"body": "a"}, key("k"))
    await reply(one, second, {"body": "b", "done": True})
    await one.kill()

    two = life(journal)
    await nursery.start(two.run)
    recovered = two.sent()
    assert shown(recovered) == ["a", "b"]
    assert await reply(two, first, {"body": "a"}, key("k")) == before
    await reply(two, first, {"body": "c"})
    with pytest.raises(NoLongerTaken):
        await reply(two, second, {"body": "d"})
    assert shown(two.sent()) == ["c"]
    await two.kill()


async def test_a_repeated_reply_has_the_same_id_even_if_the_key_is_forgotten(
    nursery: trio.Nursery,
) -> None:
    one = life()
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    before = await reply(one, url, {"body": "a"}, key("k"))
    assert isinstance(one.claims, MemoryIdempotencyStore)
    one.claims.release(claim_name("reply url", "k"))
    assert await reply(one, url, {"body": "a"}, key("k")) == before
    first, second = one.sent()
    assert first.id == second.id
    await one.kill()


async def test_a_url_is_known_to_its_own_bridge_only(nursery: trio.Nursery) -> None:
    one, two = life(), life()
    await nursery.start(one.run)
    await nursery.start(two.run)
    [url] = await defer(one, message("m1"))
    token = url.removeprefix(BASE + PATH)
    assert one.sender.replies.promise_of(token) is not None
    assert two.sender.replies.promise_of(token) is None
    await one.kill()
    await two.kill()


async def test_while_a_component_starts_a_url_is_not_known_to_be_false() -> None:
    one = life()
    with pytest.raises(NotRunning):
        one.sender.replies.promise_of("1abc.def")


# --- order


async def test_a_deferred_reply_comes_behind_what_was_said_before(nursery: trio.Nursery) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    await one.give(message("m1"))
    url = url_of(one, "m1")
    one.disk.hold()
    await one.answer("m1", said({"body": "direct"}))  # is being kept
    nursery.start_soon(reply, one, url, {"body": "deferred"})
    await wait_all_tasks_blocked()
    one.disk.release()
    await wait_all_tasks_blocked()
    assert shown(one.sent()) == ["direct", "deferred"]
    await one.kill()


async def test_it_comes_behind_the_reply_to_a_later_message_that_was_given_before(
    nursery: trio.Nursery,
) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    await one.give(message("m2"))
    one.disk.hold()
    await one.answer("m2", said({"body": "direct"}))
    nursery.start_soon(reply, one, url, {"body": "deferred"})
    await wait_all_tasks_blocked()
    one.disk.release()
    await wait_all_tasks_blocked()
    assert shown(one.sent()) == ["direct", "deferred"]
    await one.kill()


async def test_it_waits_for_its_turn_so_long_only(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    await one.give(message("m1"))
    one.disk.hold()
    await one.answer("m1", said({"body": "direct"}))
    start = trio.current_time()
    with pytest.raises(QueueFull):
        await reply(one, url_of(one, "m1"), {"body": "deferred"})
    assert trio.current_time() - start == TURN_S
    one.disk.release()
    await wait_all_tasks_blocked()
    await reply(one, url_of(one, "m1"), {"body": "deferred"})
    assert shown(one.sent()) == ["direct", "deferred"]
    await one.kill()


async def test_a_reply_during_the_post_does_not_wait_for_it(nursery: trio.Nursery) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    await one.give(message("m1"))
    await reply(one, url_of(one, "m1"), {"body": "working on it"})
    await one.answer("m1", said({"body": "done"}))
    assert shown(one.sent()) == ["working on it", "done"]
    await one.kill()


@pytest.mark.parametrize("outcome", [Rejected(503), RuntimeError("a bug")], ids=repr)
async def test_a_failed_post_holds_nothing_up(
    nursery: trio.Nursery, outcome: Outcome | Exception
) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    await one.give(message("m1"))
    url = url_of(one, "m1")
    await one.answer("m1", outcome)
    one.sent()
    await reply(one, url, {"body": "a"})
    assert shown(one.sent()) == ["a"]
    await one.kill()


# --- typing


async def test_typing_goes_on_until_the_reply(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life(MemoryJournal(), typing_after_s=2.0)
    await nursery.start(one.run)
    first, second = await defer(one, message("m1", ACTIVE), message("m2", ACTIVE))
    await pass_time(3)
    assert shown(one.sent()) == ["composing", "composing"]
    await pass_time(100)
    await reply(one, first, {"body": "a"})
    [sent] = one.sent()
    assert [child.local for child in sent.element.elements] == ["body", "active"]
    await reply(one, second, {"done": True})
    assert shown(one.sent()) == ["paused"]
    await one.kill()


async def test_typing_ends_with_the_promise(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life(MemoryJournal(), typing_after_s=2.0)
    await nursery.start(one.run)
    await defer(one, message("m1", ACTIVE))
    await pass_time(899)
    assert shown(one.sent()) == ["composing"]
    await pass_time(2)
    assert shown(one.sent()) == ["paused"]
    await one.kill()


# --- iqs


@pytest.mark.parametrize("journal", [MemoryJournal(), None], ids=["journal", "memory"])
async def test_an_iq_is_answered_later(
    nursery: trio.Nursery, journal: MemoryJournal | None
) -> None:
    one = life(journal)
    await nursery.start(one.run)
    [url] = await defer(one, iq("q1"))
    assert one.sent() == []
    assert one.dispatcher.in_flight == 0  # it holds no slot
    first = await reply(one, url, {"command": {"status": "completed"}}, key("k"))
    [sent] = one.sent()
    assert (sent.kind, sent.type, sent.id, sent.to, sent.from_) == (
        *("iq", "result", "q1", JULIET, BOT),
    )
    assert sent.element.elements[0].get("node") == "report"
    assert await reply(one, url, {"command": {"status": "completed"}}, key("k")) == first
    with pytest.raises(NoLongerTaken, match="the iq has its answer already"):
        await reply(one, url, {"command": {"status": "completed"}})
    await pass_time(0)
    assert one.sent() == []
    assert (one.dispatcher.waiting, len(one.dispatcher.conversations)) == (0, 0)
    assert one.log.of("a stanza was to be ended twice") == []
    await one.kill()


async def test_a_deferred_iq_expires_with_its_budget(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    one = life(journal)
    await nursery.start(one.run)
    [url] = await defer(one, iq("q1"))
    await pass_time(9.5)
    assert one.sent() == []
    await pass_time(1)
    [sent] = one.sent()
    assert (sent.type, sent.id) == ("error", "q1")
    assert sent.element.find("{jabber:component:accept}error") is not None
    with pytest.raises(NoLongerTaken):
        await reply(one, url, {"type": "result"})
    assert len(one.endpoint.posts) == 1
    await one.kill()


async def test_messages_may_come_before_the_answer_to_an_iq(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    [url] = await defer(one, iq("q1"))
    await reply(one, url, {"kind": "message", "body": "soon"})
    await reply(one, url, {"type": "result"})
    assert shown(one.sent()) == ["soon", "result"]
    await one.kill()


@pytest.mark.parametrize(("type", "shown_"), [("set", "result"), ("get", "error")])
async def test_done_without_an_answer_is_the_default_answer(
    nursery: trio.Nursery, type: str, shown_: str
) -> None:
    one = life()
    await nursery.start(one.run)
    [url] = await defer(one, iq("q1", type))
    await reply(one, url, {"done": True})
    [sent] = one.sent()
    assert (sent.type, sent.id) == (shown_, "q1")
    await one.kill()


@pytest.mark.parametrize(
    "outcome",
    [said({"type": "result"}), DONE, DEFERRED, Rejected(503), RuntimeError("a bug")],
    ids=repr,
)
async def test_an_answer_during_the_post_is_the_only_one(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome | Exception
) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    await one.give(iq("q1"))
    await reply(one, url_of(one, "q1"), {"type": "result"})
    await one.answer("q1", outcome)
    await pass_time(60)
    assert [(sent.type, sent.id) for sent in one.sent()] == [("result", "q1")]
    assert len(one.endpoint.posts) == 1
    assert (one.dispatcher.waiting, len(one.dispatcher.conversations)) == (0, 0)
    assert one.log.of("a stanza was to be ended twice") == []
    await one.kill()


async def test_an_answer_while_a_retry_is_due_is_the_only_one(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    await one.give(iq("q1"))
    await one.answer("q1", Rejected(503))
    assert one.dispatcher.waiting == 1
    await reply(one, url_of(one, "q1"), {"type": "result"})
    await pass_time(60)
    assert [(sent.type, sent.id) for sent in one.sent()] == [("result", "q1")]
    assert len(one.endpoint.posts) == 1
    assert (one.dispatcher.waiting, len(one.dispatcher.conversations)) == (0, 0)
    await one.kill()


async def test_a_direct_answer_is_the_only_one(nursery: trio.Nursery) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    await one.give(iq("q1"))
    one.disk.hold()
    await one.answer("q1", said({"type": "result"}))
    with pytest.raises(NoLongerTaken):
        await reply(one, url_of(one, "q1"), {"type": "result"})
    one.disk.release()
    await wait_all_tasks_blocked()
    assert [(sent.type, sent.id) for sent in one.sent()] == [("result", "q1")]
    await one.kill()


async def test_two_answers_at_once(nursery: trio.Nursery) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    [url] = await defer(one, iq("q1"))
    outcomes: list[bool] = []

    async def answer() -> None:
        try:
            await reply(one, url, {"type": "result"})
            outcomes.append(True)
        except NoLongerTaken:
            outcomes.append(False)

    for _ in range(3):
        nursery.start_soon(answer)
    await wait_all_tasks_blocked()
    assert sorted(outcomes) == [False, False, True]
    assert [(sent.type, sent.id) for sent in one.sent()] == [("result", "q1")]
    await one.kill()


async def test_a_stop_answers_deferred_iqs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life(MemoryJournal())
    await nursery.start(one.run)
    [url] = await defer(one, iq("q1"))
    await one.stop()
    [sent] = one.sent()
    assert (sent.type, sent.id) == ("error", "q1")
    with pytest.raises(NoLongerTaken):
        await reply(one, url, {"type": "result"})
    await one.end()


async def test_after_a_restart_the_iq_is_gone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    one = life(journal)
    await nursery.start(one.run)
    [url] = await defer(one, iq("q1"))
    await one.stop()
    await one.end()
    two = life(journal)
    await nursery.start(two.run)
    with pytest.raises(NoLongerTaken, match="does not wait any more"):
        await reply(two, url, {"type": "result"})
    await two.kill()


# --- refusals that pass


@pytest.mark.parametrize("given", [message("m1"), iq("q1")], ids=["message", "iq"])
async def test_a_full_outbox_takes_no_reply(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, given: Stanza
) -> None:
    one = life()
    await nursery.start(one.run)
    [url] = await defer(one, given)
    value = {"type": "result", "done": True} if given.kind == "iq" else {"body": "a", "done": True}
    with monkeypatch.context() as full:
        full.setattr(Outbox, "reserve", lambda *_: False)
        with pytest.raises(QueueFull):
            await reply(one, url, value)
    await reply(one, url, value)  # nothing has ended
    assert len(one.sent()) == 1
    await one.kill()


@pytest.mark.parametrize("given", [message("m1"), iq("q1")], ids=["message", "iq"])
@pytest.mark.parametrize("taken", ["draft", ""])
async def test_a_component_that_does_not_run_takes_no_reply(
    nursery: trio.Nursery, given: Stanza, taken: str
) -> None:
    one = life()
    await nursery.start(one.run)
    [url] = await defer(one, given)
    deferred = one.deferrals[DOMAIN]
    stopped = evolve(deferred.submitter, takes=lambda submission: submission == taken)
    one.deferrals[DOMAIN] = evolve(deferred, submitter=stopped)
    value = {"type": "result"} if given.kind == "iq" else {"body": "a", "done": True}
    with pytest.raises(NotRunning):
        await reply(one, url, value)
    assert one.sent() == []
    one.deferrals[DOMAIN] = deferred
    await reply(one, url, value)
    assert len(one.sent()) == 1
    await one.kill()


# --- bodies


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({}, "there is nothing to send: no body, stanza, type or kind"),
        ({"done": False}, "there is nothing to send: no body, stanza, type or kind"),
        ({"done": 1}, "done is not true or false"),
        ({"done": "true", "body": "a"}, "done is not true or false"),
        ({"done": None, "body": "a"}, "done is not true or false"),
        ([{"body": "a", "done": True}, {"body": "b"}], "object 2: it comes after an object with"),
        ([{"body": "a"}, {"done": "x"}], "object 2: done is not true or false"),
        ([{"body": "a"}, {"text": "b", "done": True}], "object 2: key 'text' is unknown; perhaps"),
        ({"bdy": "a", "done": True}, "key 'bdy' is unknown; perhaps you meant body"),
        ({"type": "success", "done": True}, "there is nothing to send: type 'success' is not"),
        ({"body": "a", "from": "a@b.example"}, "from: 'b.example' is not bot.example"),
        ({"kind": "iq", "type": "result"}, "an iq of type result, but there is no iq to answer"),
        ([], "the array is empty; send at least one object"),
        (None, "the body is not a JSON object"),
        (["a"], "the body is not a JSON object or an array of objects"),
        ([{"body": "a"}] * 101, "more than 100 stanzas"),
    ],
    ids=repr,
)
async def test_bodies_that_are_refused(nursery: trio.Nursery, value: Any, why: str) -> None:
    one = life()
    await nursery.start(one.run)
    [url] = await defer(one, message("m1"))
    with pytest.raises(UnusableReply) as caught:
        await reply(one, url, value)
    assert str(caught.value).startswith(why)
    await reply(one, url, {"body": "a"})  # it has ended nothing
    assert shown(one.sent()) == ["a"]
    await one.kill()


async def test_done_may_come_with_an_array_or_a_stanza(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    first, second = await defer(one, message("m1"), message("m2"))
    assert len(await reply(one, first, [{"body": "a"}, {"body": "b"}, {"done": True}])) == 2
    xml = "<message><body>c</body></message>"
    await reply(one, second, {"stanza": xml, "done": True})
    for url in (first, second):
        with pytest.raises(NoLongerTaken):
            await reply(one, url, {"body": "d"})
    sent = one.sent()
    assert shown(sent) == ["a", "b", "c"]
    assert (sent[2].to, sent[2].from_) == (JULIET, BOT)
    await one.kill()
