"""Who may answer an iq that was asked from outside: nobody but whom it was sent to."""

from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.listener.submission.sender import NoAnswer
from bridge.xmpp.iq import DuplicateId, PendingIq, PendingIqs, TooManyPending
from tests.bridge.dispatch.life import Life
from tests.bridge.sample import stanza
from xmppstream import Stanza, StanzaRefused

BOT: Final = "bot@bot.example/r"
PEER: Final = "alice@example.com/Phone"


def request(id: str = "1", to: str = PEER, from_: str = BOT) -> Stanza:
    return stanza(f"<iq type='get' id='{id}' to='{to}' from='{from_}'><q xmlns='urn:q'/></iq>")


def answer(
    id: str = "1", from_: str = PEER, to: str = BOT, type: str = "result", kind: str = "iq"
) -> Stanza:
    return stanza(f"<{kind} type='{type}' id='{id}' from='{from_}' to='{to}'/>")


class Ended:
    """What a question ended with."""

    def __init__(self) -> None:
        self.with_: list[Stanza | None] = []

    def __call__(self, answer: Stanza | None) -> None:
        self.with_.append(answer)


def asked(pending_iqs: PendingIqs, one: Stanza, ended: Ended | None = None) -> PendingIq:
    return pending_iqs.open(one, 10, ended or Ended())


@pytest.fixture
def pending_iqs() -> PendingIqs:
    return PendingIqs(now=lambda: 0)


@pytest.mark.parametrize("type", ["result", "error"])
def test_the_answer_is_taken_once(pending_iqs: PendingIqs, type: str) -> None:
    ended = Ended()
    question = asked(pending_iqs, request(), ended)
    one = answer(type=type)
    assert pending_iqs.take(one)
    assert (question.answer, ended.with_, len(pending_iqs)) == (one, [one], 0)
    assert question.over.is_set()
    assert not pending_iqs.take(one)
    assert ended.with_ == [one]


@pytest.mark.parametrize(
    "other",
    [
        answer(id="2"),
        answer(from_="mallory@example.com/Phone"),
        answer(from_="alice@example.org/Phone"),
        answer(from_="alice@example.com"),
        answer(from_="alice@example.com/phone"),
        answer(from_="example.com"),
        answer(to="other@bot.example/r"),
        answer(to="bot@bot.example"),
        answer(type="get"),
        answer(type="set"),
        answer(kind="message", type="error"),
        answer(kind="presence", type="error"),
        stanza(f"<iq type='result' id='1' to='{BOT}'/>"),
    ],
    ids=str,
)
def test_nobody_else_can_answer(pending_iqs: PendingIqs, other: Stanza) -> None:
    question = asked(pending_iqs, request())
    assert not pending_iqs.take(other)
    assert not question.over.is_set()
    assert pending_iqs.take(answer())


@pytest.mark.parametrize(
    ("to", "from_"),
    [
        ("Alice@Example.COM/Phone", "alice@example.com/Phone"),
        ("Example.COM", "example.com"),
        ("example.com", "example.com"),
        ("JÜRGEN@example.com", "jürgen@example.com"),
        ("ju\u0308rgen@example.com/a\u0308", "j\u00fcrgen@example.com/\u00e4"),
    ],
)
def test_a_server_may_spell_an_address_otherwise(
    pending_iqs: PendingIqs, to: str, from_: str
) -> None:
    asked(pending_iqs, request(to=to, from_="Bot@BOT.example/r"))
    assert pending_iqs.take(answer(from_=from_))


@pytest.mark.parametrize(
    ("to", "from_"),
    [("strasse@a.example", "straße@a.example"), ("alice@a.example", "al\u0131ce@a.example")],
)
def test_another_account_is_never_taken_for_the_same(
    pending_iqs: PendingIqs, to: str, from_: str
) -> None:
    asked(pending_iqs, request(to=to))
    assert not pending_iqs.take(answer(from_=from_))


def test_one_peer_is_asked_under_an_id_once_at_a_time(pending_iqs: PendingIqs) -> None:
    first = asked(pending_iqs, request())
    with pytest.raises(DuplicateId):
        asked(pending_iqs, request(to=PEER.replace("alice", "Alice")))
    asked(pending_iqs, request(id="2"))
    asked(pending_iqs, request(to="bob@example.com"))
    asked(pending_iqs, request(from_="other@bot.example"))
    pending_iqs.close(first)
    asked(pending_iqs, request())


def test_waiters_are_bounded() -> None:
    pending_iqs = PendingIqs(2, now=lambda: 0)
    first, _ = asked(pending_iqs, request("1")), asked(pending_iqs, request("2"))
    with pytest.raises(TooManyPending):
        asked(pending_iqs, request("3"))
    pending_iqs.close(first)
    asked(pending_iqs, request("3"))
    assert len(pending_iqs) == 2


def test_who_has_left_takes_nothing(pending_iqs: PendingIqs) -> None:
    ended = Ended()
    first = asked(pending_iqs, request(), ended)
    pending_iqs.close(first)
    assert not pending_iqs.take(answer())
    second = asked(pending_iqs, request())
    pending_iqs.close(first)  # once more: it is not the second
    assert pending_iqs.take(answer())
    assert (second.over.is_set(), first.over.is_set(), ended.with_) == (True, False, [])


async def test_an_answer_that_is_late_is_not_taken(mock_clock: MockClock) -> None:
    pending_iqs = PendingIqs()
    question = asked(pending_iqs, request())
    mock_clock.jump(10.5)
    assert not pending_iqs.take(answer())
    question.deadline = trio.current_time()
    assert pending_iqs.take(answer())


def test_an_answer_that_cannot_be_given_ends_the_question(pending_iqs: PendingIqs) -> None:
    ended = Ended()
    question = asked(pending_iqs, request(), ended)
    assert not pending_iqs.refuse(answer(id="2"), "too long")
    assert pending_iqs.refuse(answer(), "too long")
    assert (question.answer, question.why, ended.with_) == (None, "too long", [None])
    assert not pending_iqs.take(answer())


def test_an_answer_that_grows_too_much_is_not_given() -> None:
    """It would be written for whoever has asked, and kept for its key."""
    ended, pending_iqs = Ended(), PendingIqs(now=lambda: 0, max_xml_length=10_000)
    question = asked(pending_iqs, request(), ended)
    inner = f"<q xmlns:p='{'u' * 500}'>{'<p:a/>' * 20}</q>"
    xml = f"<iq type='result' id='1' from='{PEER}' to='{BOT}'>{inner}</iq>"
    assert pending_iqs.take(stanza(xml))
    why = "the answer is over the limit of max_stanza_bytes, written out"
    assert (question.answer, question.why, ended.with_) == (None, why, [None])


def test_all_end_with_their_component(pending_iqs: PendingIqs) -> None:
    ended = Ended()
    questions = [asked(pending_iqs, request(id), ended) for id in "12"]
    pending_iqs.end("it has stopped")
    assert [one.why for one in questions] == ["it has stopped"] * 2
    assert (ended.with_, len(pending_iqs)) == ([None, None], 0)


async def test_a_vcard_of_megabytes_ends_the_question(nursery: trio.Nursery) -> None:
    """The stream refuses it unread; whoever asked is told at once, and it is POSTed to nobody."""
    one = Life()
    await nursery.start(one.run)
    ended: list[str] = []

    async def ask() -> None:
        card = "<vCard xmlns='vcard-temp'/>"
        with pytest.raises(NoAnswer) as caught:
            await one.sender.ask(
                stanza(f"<iq type='get' id='v' to='{PEER}' from='bot@bot.example'>{card}</iq>"), 30
            )
        ended.append(str(caught.value))

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    head = stanza(f"<iq type='result' id='v' from='{PEER}' to='bot@bot.example'/>")
    await one.dispatcher.handle(StanzaRefused(head, "max_stanza_bytes", 5_000_000))
    await wait_all_tasks_blocked()
    assert ended == ["the answer is over the limit of max_stanza_bytes"]
    assert one.endpoint.posts == []
    await one.kill()
