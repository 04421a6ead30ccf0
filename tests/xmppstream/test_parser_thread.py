"""Parsers, by whoever asks or in threads of their own. Bounded memory is measured elsewhere."""

from __future__ import annotations

import threading

import pytest
import trio

from tests.xmppstream.conftest import parser_threads
from tests.xmppstream.wire import ROOT
from xmppstream.builder import ElementParsed, ElementRefused, ParseEvent, ParserFaulted
from xmppstream.dictionary import Dictionary
from xmppstream.element import Element
from xmppstream.errors import RemoteError
from xmppstream.limit import Limits
from xmppstream.parser import StreamParser
from xmppstream.parser_thread import ElementParserThread, StreamParserThread

NAMES = [f"n{number}" for number in range(100)]


def full() -> Dictionary:
    """Of a process that has met its share of names."""
    names = Dictionary(0)
    names.charge(1)
    return names


def element_parser(names: Dictionary) -> ElementParserThread:
    return ElementParserThread(Limits(), dictionary=names)


@pytest.fixture(autouse=True)
def closed(no_stray_threads: None) -> None:
    """Every test ends with its threads gone."""


@pytest.fixture
def fed_in(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which a parser was fed, in order."""
    threads: list[threading.Thread] = []
    feed = StreamParser.feed

    def note(self: StreamParser, data: bytes) -> list[ParseEvent]:
        threads.append(threading.current_thread())
        return feed(self, data)

    monkeypatch.setattr(StreamParser, "feed", note)
    return threads


async def test_events_are_those_of_the_parser() -> None:
    parser = StreamParserThread(Limits())
    assert await parser.feed(ROOT + b"<a>1</a><b") == StreamParser().feed(ROOT + b"<a>1</a><b")
    assert len(await parser.feed(b"/>")) == 1
    parser.close()


async def test_a_fault_is_an_event_there_too() -> None:
    parser = StreamParserThread(Limits())
    assert isinstance((await parser.feed(ROOT + b"<!-- -->"))[-1], ParserFaulted)
    assert await parser.feed(b"<a/>") == []
    parser.close()


async def test_ordinary_traffic_is_parsed_by_whoever_asks(fed_in: list[threading.Thread]) -> None:
    before = parser_threads()
    names, limits = Dictionary(100_000), Limits(life_bytes=1000)
    parser, elements = StreamParserThread(limits, dictionary=names), element_parser(names)
    await parser.feed(ROOT)
    for number in range(300):
        await parser.feed(b"<message id='%d' to='a'><body>%d</body></message>" % (number, number))
        await elements.parse(b"<message><body>%d</body></message>" % number)
    assert not names.full
    assert set(fed_in) == {threading.current_thread()}
    assert parser_threads() <= before
    parser.close()
    elements.close()


@pytest.mark.parametrize(
    "form",
    [
        "<{}/>",
        "<a {}='1'/>",
        "<a xmlns:{}='u'/>",
        "<a xmlns='{}'/>",
        "<a><a><a><a><{}/></a></a></a></a>",  # within what is refused
    ],
)
async def test_a_flood_of_names_moves_into_threads(
    form: str, fed_in: list[threading.Thread]
) -> None:
    names = Dictionary(50_000)
    parser = StreamParserThread(Limits(max_depth=3), dictionary=names)
    await parser.feed(ROOT)
    seen = 0
    for number in range(300):
        events = await parser.feed(form.format(f"n{number:0400}").encode())
        seen += sum(isinstance(one, ElementParsed | ElementRefused) for one in events)
    assert seen == 300
    inline = fed_in.count(threading.current_thread())
    assert 45 < inline < 130  # 50,000 bytes of them
    assert threading.current_thread() not in fed_in[inline:]
    assert len(set(fed_in)) == 2
    parser.close()


async def test_a_chunk_of_new_names_goes_on_in_a_thread_at_the_next_boundary(
    fed_in: list[threading.Thread],
) -> None:
    parser = StreamParserThread(Limits(), dictionary=Dictionary(1000))
    chunk = "".join(f"<{name}/>" for name in NAMES)
    assert len(await parser.feed(ROOT + chunk.encode())) == 1 + len(NAMES)
    assert [one is threading.current_thread() for one in fed_in] == [True, False]
    parser.close()


async def test_what_comes_after_a_flood_is_parsed_in_a_thread_from_the_start(
    fed_in: list[threading.Thread],
) -> None:
    parser = StreamParserThread(Limits(), dictionary=full())
    await parser.feed(ROOT)
    assert threading.current_thread() not in fed_in
    parser.close()


async def test_names_over_the_limit_count_each_time() -> None:
    names = Dictionary(10_000)
    parser = StreamParserThread(Limits(max_name_bytes=10), dictionary=names)
    await parser.feed(ROOT)
    for _ in range(50):
        [event] = await parser.feed(b"<a><%b/></a>" % (b"n" * 400))
        assert isinstance(event, ElementRefused)
    assert names.full
    parser.close()


@pytest.mark.parametrize(
    "form", ["<?{} x?><a/>", "<a>&{};</a>", "<a></{}>", "<a><{}", "<a {}='", "<{}:a/>", "<{}"]
)
async def test_names_that_a_faulty_reply_hides_count_too(
    form: str, fed_in: list[threading.Thread]
) -> None:
    names = Dictionary(50_000)
    parser = element_parser(names)
    for number in range(150):
        with pytest.raises(RemoteError):
            await parser.parse(form.format(f"n{number:0400}").encode())
    assert names.full
    assert 45 < fed_in.count(threading.current_thread()) < 130
    parser.close()


async def test_a_large_element_is_parsed_in_a_thread(fed_in: list[threading.Thread]) -> None:
    parser = element_parser(Dictionary())
    await parser.parse(b"<a>%b</a>" % (b"x" * 70_000))
    await parser.parse(b"<a/>")
    assert [one is threading.current_thread() for one in fed_in] == [False, True]
    parser.close()


async def test_elements_are_parsed_after_a_close() -> None:
    parser = element_parser(Dictionary())
    for _ in range(2):
        assert await parser.parse(b"<a/>") == Element("a")
        parser.close()


async def test_one_thread_serves_while_the_parser_lives(fed_in: list[threading.Thread]) -> None:
    parser = StreamParserThread(Limits(), dictionary=full())
    for chunk in (ROOT, b"<a/>", b"<b/>"):
        await parser.feed(chunk)
    assert len(set(fed_in)) == 1
    assert threading.current_thread() not in fed_in
    parser.close()


async def test_renewal_makes_a_new_thread_for_each_parser(
    fed_in: list[threading.Thread],
) -> None:
    parser = StreamParserThread(Limits(life_bytes=0), dictionary=full())
    events = await parser.feed(ROOT + b"<a/>" * 5)
    assert sum(isinstance(event, ElementParsed) for event in events) == 5
    assert len(set(fed_in)) == len(fed_in) >= 5
    parser.close()


async def test_renewal_ends_the_old_threads(fed_in: list[threading.Thread]) -> None:
    parser = StreamParserThread(Limits(life_bytes=0), dictionary=full())
    await parser.feed(ROOT + b"<a/>" * 5)
    for thread in fed_in[:-1]:
        thread.join(5)
    assert [thread.is_alive() for thread in fed_in] == [False] * (len(fed_in) - 1) + [True]
    parser.close()


async def test_renewal_without_a_thread_closes_the_old_parsers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[StreamParser] = []  # what is only dropped is never freed
    close = StreamParser.close

    def note(self: StreamParser) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(StreamParser, "close", note)
    parser = StreamParserThread(Limits(life_bytes=0), dictionary=Dictionary())
    await parser.feed(ROOT)
    for count in range(1, 5):
        await parser.feed(b"<a/>")
        assert len(set(closed)) >= count
    parser.close()


async def test_a_feed_is_not_cancelled_half_way() -> None:
    parser = StreamParserThread(Limits(), dictionary=full())
    with trio.CancelScope() as scope:
        scope.cancel()
        events = await parser.feed(ROOT + b"<a/>")
    assert len(events) == 2
    parser.close()


async def test_an_element_passes_through() -> None:
    parser = ElementParserThread(Limits())
    assert await parser.parse(b"<a>1</a>") == Element("a", (), ("1",))
    parser.close()


async def test_an_exception_passes_through_and_the_thread_lives_on() -> None:
    parser = element_parser(full())
    with pytest.raises(RemoteError, match="restricted-xml: a comment"):
        await parser.parse(b"<!-- --><a/>")
    assert await parser.parse(b"<a/>") == Element("a")
    parser.close()


async def test_elements_have_the_limits_they_are_given() -> None:
    parser = ElementParserThread(Limits(max_stanza_bytes=10))
    with pytest.raises(RemoteError, match="limit of 10 bytes"):
        await parser.parse(b"<a>12345678</a>")
    parser.close()


async def test_elements_wait_for_each_other() -> None:
    parser = element_parser(full())
    parsed: list[Element] = []

    async def parse(number: int) -> None:
        parsed.append(await parser.parse(f"<a{number}/>".encode()))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(parse, number)
    assert {one.name for one in parsed} == {f"a{number}" for number in range(10)}
    parser.close()


async def test_elements_get_a_new_thread_after_so_many_bytes(
    fed_in: list[threading.Thread],
) -> None:
    parser = ElementParserThread(Limits(life_bytes=9), dictionary=full())
    for _ in range(6):
        await parser.parse(b"<a/>")
    assert [fed_in.index(thread) for thread in fed_in] == [0, 0, 0, 3, 3, 3]
    parser.close()


async def test_close_ends_the_thread() -> None:
    before = parser_threads()
    parser = StreamParserThread(Limits(), dictionary=full())
    [thread] = parser_threads() - before
    parser.close()
    parser.close()
    thread.join(5)
    assert not thread.is_alive()
