"""Parsers in threads of their own. That memory stays bounded is measured elsewhere."""

from __future__ import annotations

import threading

import pytest
import trio

from tests.xmppstream.conftest import parser_threads
from tests.xmppstream.wire import ROOT
from xmppstream.builder import ElementParsed, ParseEvent, ParserFaulted
from xmppstream.element import Element
from xmppstream.errors import RemoteError
from xmppstream.limit import Limits
from xmppstream.parser import StreamParser
from xmppstream.parser_thread import ElementParserThread, StreamParserThread


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


async def test_one_thread_serves_while_the_parser_lives(fed_in: list[threading.Thread]) -> None:
    parser = StreamParserThread(Limits())
    for chunk in (ROOT, b"<a/>", b"<b/>"):
        await parser.feed(chunk)
    assert len(set(fed_in)) == 1
    assert threading.current_thread() not in fed_in
    parser.close()


async def test_renewal_makes_a_new_thread_for_each_parser(
    fed_in: list[threading.Thread],
) -> None:
    parser = StreamParserThread(Limits(life_bytes=0))
    events = await parser.feed(ROOT + b"<a/>" * 5)
    assert sum(isinstance(event, ElementParsed) for event in events) == 5
    assert len(set(fed_in)) == len(fed_in) >= 5
    parser.close()


async def test_renewal_ends_the_old_threads(fed_in: list[threading.Thread]) -> None:
    parser = StreamParserThread(Limits(life_bytes=0))
    await parser.feed(ROOT + b"<a/>" * 5)
    for thread in fed_in[:-1]:
        thread.join(5)
    assert [thread.is_alive() for thread in fed_in] == [False] * (len(fed_in) - 1) + [True]
    parser.close()


async def test_a_feed_is_not_cancelled_half_way() -> None:
    parser = StreamParserThread(Limits())
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
    parser = ElementParserThread(Limits())
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
    parser = ElementParserThread(Limits())
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
    parser = ElementParserThread(Limits(life_bytes=9))
    for _ in range(6):
        await parser.parse(b"<a/>")
    assert [fed_in.index(thread) for thread in fed_in] == [0, 0, 0, 3, 3, 3]
    parser.close()


async def test_close_ends_the_thread() -> None:
    before = parser_threads()
    parser = StreamParserThread(Limits())
    [thread] = parser_threads() - before
    parser.close()
    parser.close()
    thread.join(5)
    assert not thread.is_alive()
