"""The parts of a replay by themselves: times, numbers, selections, piles, connections."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import MockClock

from bridge.capture.exchange import HttpExchange
from bridge.capture.replay import expectation as expectation_module
from bridge.capture.replay.captured import CapturedEndpoint
from bridge.capture.replay.expectation import Expectation
from bridge.capture.replay.meaning import is_typing_notice, meaning_of
from bridge.capture.replay.player import Timed, Unpaced, parse_speed
from bridge.capture.replay.recorded import Recorded
from bridge.capture.replay.selection import Selection, parse_only, parse_since
from bridge.capture.replay.side import Cutter
from bridge.capture.replay.story import File, StoryReader, stories
from bridge.capture.replay.tally import Latencies
from bridge.capture.replay.transport import ReplayStream
from bridge.config.value import BadValue
from bridge.webhook.observer import PostAnswer
from tests.bridge.capture.replay.maker import CLOSE, DOMAIN, HEADER, conversation, message
from tests.bridge.sample import stanza as parsed
from xmppstream import Element, Limits, Stanza, StreamFailed, StreamLost, StreamOptions, make
from xmppstream.builder import ElementParsed, RootClosed, RootOpened
from xmppstream.parser_thread import StreamParserThread
from xmppstream.stanza import Kind
from xmppstream.thread import InlineThread
from xmppstream.trio_stream import attach

START = datetime(2026, 11, 22, 23, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90.5", 90.5),
        ("23:51:00", 60),
        ("00:10", 1200),
        ("23:49", 86_340),
        ("2026-11-22T23:50:30Z", 30),
        ("2026-11-23T00:50:30+01:00", 30),
        ("2026-11-22T23:50:30", 30),
        ("2020-01-01T00:00:00Z", 0),
    ],
)
def test_a_moment_is_seconds_after_the_start(text: str, seconds: float) -> None:
    assert parse_since(text).after(START) == seconds


@pytest.mark.parametrize(("text", "speed"), [("10x", 10), ("0.5", 0.5), ("1x", 1), ("max", None)])
def test_a_speed(text: str, speed: float | None) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "x", "0x", "-1", "1e3", "nan", "inf", "MAX"])
def test_no_speed(text: str) -> None:
    with pytest.raises(BadValue, match="is not a valid speed"):
        parse_speed(text)


def test_addresses_select_by_their_parts() -> None:
    stanza = make("message", f"echo@{DOMAIN}/r", "Juliet@Localhost/balcony")
    for text in ("juliet@localhost", "JULIET@localhost/Balcony", "localhost", DOMAIN):
        assert Selection(frozenset({parse_only(text)})).takes(stanza)
    for text in ("juliet", "juliet@localhost/x", "host", "echo@localhost"):
        assert not Selection(frozenset({parse_only(text)})).takes(stanza)


def test_percentiles_are_right_to_within_a_bucket() -> None:
    latencies = Latencies()
    assert (latencies.percentile(50), list(latencies.histogram())) == (0, [])
    for number in range(1, 1001):
        latencies.add(number / 1000)
    for percent in (50, 90, 99):
        assert percent / 100 <= latencies.percentile(percent) <= percent / 100 * 1.08
    assert latencies.percentile(100) == latencies.max_s == 1
    rows = list(latencies.histogram(8))
    assert (len(rows) <= 8, sum(count for _, count in rows), rows[-1][0]) == (True, 1000, 1)


async def test_time_passes_as_fast_as_is_asked(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    pace, began = Timed(10, 5.0), trio.current_time()
    await pace.wait(25.0)
    assert (trio.current_time() - began, pace.now()) == (2.0, 25.0)
    await pace.wait(10.0)  # behind: at once
    assert trio.current_time() - began == 2.0


async def test_as_fast_as_can_be_waits_for_what_is_under_way(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    backlog = [1000]
    pace = Unpaced(0.0, lambda: backlog[0])
    with trio.move_on_after(1) as scope:
        await pace.wait(3.0)
    assert (scope.cancelled_caught, pace.now()) == (True, 0.0)
    backlog[0] = 999
    await pace.wait(3.0)
    assert pace.now() == 3.0


def test_a_stream_is_cut_into_its_units_byte_for_byte() -> None:
    data = f"{HEADER}<handshake/> {message('m1')}\n{message('m2')}{CLOSE}".encode()
    for size in (1, 7, len(data)):
        cutter = Cutter()
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        units = [unit for chunk in chunks for unit in cutter.feed(chunk)]
        assert b"".join(unit.data for unit in units) == data
        kinds = [type(unit.event) for unit in units]
        assert kinds == [RootOpened, *3 * [ElementParsed], RootClosed]
        assert units[2].data == b" " + message("m1").encode()


# --- the connection


def connection(sent: list[Stanza]) -> ReplayStream:
    return ReplayStream(DOMAIN, StreamParserThread(Limits(), InlineThread), sent.append)


async def test_a_barrier_waits_for_the_end_of_a_stanza() -> None:
    sent: list[Stanza] = []
    one = connection(sent)
    text = message("m1").encode()
    for chunk in (HEADER.encode(), b"<handshake/>", text[:20]):
        one.give(chunk)
    stream = await attach(one, DOMAIN, "secret", StreamOptions(), one.parser)
    got: list[object] = []

    async def handle(event: object) -> None:
        got.append(event)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.serve, handle)
        with trio.move_on_after(0.05):
            await stream.barrier()
        assert not stream.barrier_seen
        one.give(text[20:])
        await stream.barrier()
        assert (stream.barrier_seen, len(got), sent) == (True, 1, [])
        stream.send(make("message", "a@b", DOMAIN, id="x"))
        await stream.flush()
        one.end()
    assert [stanza.id for stanza in sent] == ["x"]
    assert stream.end == StreamLost("the server closed the connection without a word")


async def test_a_connection_that_ends_before_it_has_begun() -> None:
    one = connection([])
    one.end()
    with pytest.raises(StreamFailed, match="without a word"):
        await attach(one, DOMAIN, "secret", StreamOptions(), one.parser)
    one.give(b"nobody reads this")
    assert one.waiting == 0
    await one.wait_read()


async def test_calls_without_a_thread_are_made_at_once() -> None:
    thread = InlineThread("none")
    assert await thread.run(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    called: list[int] = []
    thread.close(lambda: called.append(1))
    assert called == [1]


# --- the tape


def test_reading_ahead_changes_nothing(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    (story,) = stories([File(path, path)])
    plain, ahead = StoryReader(story), StoryReader(story)
    assert [ahead.read_ahead(0.045) for _ in range(6)] == 5 * [True] + [False]
    assert ahead.read_until == 0.05
    one, two = list(iter(plain.next, None)), list(iter(ahead.next, None))
    assert one == two
    assert len(one) == 16


# --- the expectation


def stanza(number: int, body: str = "") -> Stanza:
    return make("message", "a@b", DOMAIN, id=f"n{number}", children=(body,) if body else ())


def test_what_differs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectation_module, "WINDOW", 50)
    one = Expectation(DOMAIN, Selection(), 3)
    for number in range(500):
        one.expected(stanza(number, "then"), number, 1)
        one.sent(stanza(number, "now"), number, 1)
        assert len(one._then) <= 50
        assert len(one._now) <= 50
        assert len(one._kept) <= 106
    one.end(500, in_order=True)
    assert (one.count, [found.at for found in one.differences]) == (500, [0, 1, 2])
    assert {found.what for found in one.differences} == {"sent differently"}


def test_either_side_may_be_first() -> None:
    one = Expectation(DOMAIN, Selection(), 3)
    one.expected(stanza(1), 1, 1)
    one.sent(stanza(1), 1, 1)
    one.sent(stanza(2), 1, 1)
    one.expected(stanza(2), 2, 1)
    one.end(3, in_order=True)
    assert (one.count, one.stanzas) == (0, 2)


def test_the_end_cuts_off_only_where_it_is_no_end() -> None:
    for in_order, count in ((True, 1), (False, 0)):
        one = Expectation(DOMAIN, Selection(), 3)
        one.sent(stanza(1), 9.5, 1)
        one.end(10, in_order=in_order)
        assert (one.count, one.left_out.total()) == (count, 1 - count)


# --- the captured endpoint


async def test_an_answer_comes_when_it_came(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    pace, recorded = Timed(1.0, 0.0), Recorded(START, Selection())
    answer = PostAnswer(200, {"content-type": "application/json"}, b"{}")
    request = b'{"kind":"message","from":"a@b","to":"c@d","id":"x"}'
    for attempt, start in ((1, 5.0), (2, 9.0)):
        recorded.hear(HttpExchange("msg_a", attempt, start, 2.0, request, answer), 100.0)
    endpoint = CapturedEndpoint(recorded, pace.now)
    lines = b"webhook-id: msg_a\r\nwebhook-attempt: %d\r\n"
    got = await endpoint.request("POST", lines % 1, request, math.inf)
    assert (got.status, got.body, pace.now(), endpoint.duration_s) == (200, b"{}", 107.0, 2.0)
    await trio.sleep(50)  # too late: it takes as long as it took
    await endpoint.request("POST", lines % 2, request, math.inf)
    assert (pace.now(), endpoint.latest) == (159.0, 159.0)
    with pytest.raises(httpx.ReadTimeout, match="no answer was captured"):
        await endpoint.request("POST", lines % 3, request, trio.current_time() + 30)
    assert pace.now() == 189.0


@pytest.mark.parametrize(
    ("sender", "is_same"), [("bot.example", True), ("echo@bot.example/x", True), ("a@b.c", False)]
)
def test_what_an_address_says_of_itself_is_not_compared(sender: str, is_same: bool) -> None:
    def meanings(*texts: str) -> set[Element]:
        return {meaning_of(parsed(text.format(sender)), "bot.example") for text in texts}

    caps = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>"
    photo = "<x xmlns='vcard-temp:x:update'><photo>1</photo></x>"
    presences = meanings(
        "<presence from='{}' to='a@b.c'><show>xa</show></presence>",
        f"<presence from='{{}}' to='a@b.c'><show>xa</show>{caps}{photo}</presence>",
    )
    info = "<query xmlns='http://jabber.org/protocol/disco#info' node='n'>{}</query>"
    answers = meanings(
        f"<iq from='{{}}' to='a@b.c' type='result' id='1'>{info.format('')}</iq>",
        f"<iq from='{{}}' to='a@b.c' type='result' id='1'>{info.format('<feature/>')}</iq>",
    )
    assert (len(presences), len(answers)) == ((1, 1) if is_same else (2, 2))
    assert len(meanings("<presence from='{}'/>", "<presence from='{}'><show/></presence>")) == 2


@pytest.mark.parametrize(
    ("kind", "type", "count"),
    [
        ("presence", None, 0),
        ("presence", "unavailable", 0),
        ("presence", "probe", 0),
        ("presence", "subscribed", 1),
        ("message", None, 1),
    ],
)
def test_what_contacts_were_told_is_not_expected(kind: Kind, type: str | None, count: int) -> None:
    one = Expectation(DOMAIN, Selection(), 3)
    one.expected(make(kind, "a@b", DOMAIN, type=type), 1, 1)
    one.end(3, in_order=True)
    assert one.count == count
    assert one.left_out == ({} if count else {"presence for contacts": 1})


# --- typing notices depend on time


def test_whether_the_bot_was_seen_typing_makes_no_difference() -> None:
    state = "<{} xmlns='http://jabber.org/protocol/chatstates'/>"
    hint = "<no-store xmlns='urn:xmpp:hints'/>"
    head = "<message from='bot.example' to='a@example' type='chat'"
    notice = f"{head}>{state.format('composing')}{hint}<thread>t</thread></message>"
    assert is_typing_notice(parsed(notice))
    assert not is_typing_notice(parsed(notice.replace(hint, "")))
    assert not is_typing_notice(parsed(notice.replace("type", "id='by-the-service' type")))
    assert not is_typing_notice(parsed(notice.replace("<thread", "<body>b</body><thread")))
    quick, slow, paused = (
        meaning_of(parsed(f"{head}><body>b</body>{end}</message>"), "bot.example")
        for end in ("", state.format("active"), state.format("paused"))
    )
    assert quick == slow != paused


# --- how often a streamed reply was shown depends on time, too


def text(id: str, body: str, replaces: str = "", hint: str = "") -> Stanza:
    """A text of a streamed reply, by its id without the uid."""
    inner = f"<body>{body}</body>"
    if replaces:
        inner += f"<replace xmlns='urn:xmpp:message-correct:0' id='{replaces}'/>"
    inner += f"<{hint} xmlns='urn:xmpp:hints'/>" if hint else ""
    return parsed(f"<message from='x@{DOMAIN}' to='a@b' id='{id}' type='chat'>{inner}</message>")


THEN = [
    text("msg_1-1", "Good"),
    text("msg_1-1.1.1", "Good n", "msg_1-1", "no-store"),
    text("msg_1-1.1.2", "Good night", "msg_1-1"),
    text("msg_1-2", "Bye"),
]


@pytest.mark.parametrize(
    "now",
    [
        [text("msg_9-1", "Good night"), text("msg_9-2", "Bye")],
        [
            text("msg_9-1", "Go"),
            text("msg_9-1.2.1", "Good night", "msg_9-1"),
            text("msg_9-2", "B"),
            text("msg_9-2.1.1", "Bye", "msg_9-2"),
        ],
    ],
    ids=["in one piece", "otherwise"],
)
@pytest.mark.parametrize("first", ["then", "now"])
def test_of_a_streamed_reply_the_last_text_is_compared(now: list[Stanza], first: str) -> None:
    one = Expectation(DOMAIN, Selection(), 3)
    sides = [(one.expected, THEN), (one.sent, now)]
    for tell, stanzas in sides if first == "then" else reversed(sides):
        for stanza in stanzas:
            tell(stanza, 1, 1)
    one.end(3, in_order=True)
    assert (one.count, one.stanzas) == (0, 2)


def test_another_last_text_of_a_streamed_reply_is_a_difference() -> None:
    one = Expectation(DOMAIN, Selection(), 3)
    for stanza in THEN:
        one.expected(stanza, 1, 1)
    one.sent(text("msg_1-1", "Good day"), 1, 1)
    one.sent(text("msg_1-2", "Bye"), 1, 1)
    one.end(3, in_order=True)
    assert [found.what for found in one.differences] == ["sent differently"]
