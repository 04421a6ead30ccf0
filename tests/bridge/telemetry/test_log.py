"""The log: one line per event, text or JSON; what strangers can repeat or lengthen is bounded."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from bridge.telemetry.log import LEVELS, Throttle, configure, logger, set_level, shorten
from tests.bridge.sample import stanza

BURST = 20
WINDOW_S = 10.0


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines(captured: pytest.CaptureFixture[str]) -> list[str]:
    out, err = captured.readouterr()
    assert out == ""
    return err.splitlines()


def json_line(captured: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = lines(captured)
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_a_json_line_has_event_level_time_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logger(component="bot.example.com").warning("bad reply", why="not JSON", id="m1")
    line = json_line(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "bad reply",
        "level": "warning",
        "component": "bot.example.com",
        "why": "not JSON",
        "id": "m1",
    }


def test_a_json_line_begins_with_time_level_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logger(component="bot.example.com").warning("bad reply", why="not JSON", id="m1")
    assert list(json_line(capsys)) == ["timestamp", "level", "event", "component", "why", "id"]


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_stanza_is_xml_in_the_log(capsys: pytest.CaptureFixture[str], format: str) -> None:
    configure(format, "debug")
    xml = "<message id='m'><body>hi</body></message>"
    logger().debug("stanza in", stanza=stanza(xml))
    [line] = lines(capsys)
    assert xml in line
    assert "Element(" not in line


AWKWARD = ["a\nb", "a\rb", 'a"b', "\u00e4\u4e2d\U0001f600", "\u2028", "\x1b[31m", "{}", "\\"]


@pytest.mark.parametrize("value", AWKWARD)
def test_a_json_line_is_one_line_whatever_is_in_it(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    configure("json", "info")
    logger().info("event", id=value)
    out = capsys.readouterr().err
    assert (out.count("\n"), json.loads(out)["id"]) == (1, value)


@pytest.mark.parametrize("value", ["a\nb", "a\r\nb", "a b", "\x1b[31m", "\x9b31m", "a\x85b"])
def test_a_text_line_is_one_line_and_commands_no_terminal(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    configure("text", "info")
    logger().info("event", id=value)
    out = capsys.readouterr().err
    assert out.endswith("\n")
    assert out[:-1].isprintable()


def test_a_text_line_reads_event_then_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info")
    logger(component="bot.example.com").warning("bad reply", why="not JSON")
    (line,) = lines(capsys)
    head, _, tail = line.partition("bad reply")
    assert "warning" in head
    assert tail.split(maxsplit=1) == ["component=bot.example.com", "why='not JSON'"]


def test_an_exception_in_json_is_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    try:
        raise ValueError("boom")
    except ValueError:
        logger().exception("failed")
    assert "ValueError: boom" in json_line(capsys)["exception"]


def test_an_exception_in_text_follows_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info")
    try:
        raise ValueError("boom")
    except ValueError:
        logger().exception("failed")
    assert lines(capsys)[-1] == "ValueError: boom"


SHOWN = {
    "debug": ["debug", "info", "warning", "error"],
    "info": ["info", "warning", "error"],
    "warning": ["warning", "error"],
    "error": ["error"],
}


@pytest.mark.parametrize(("level", "shown"), SHOWN.items())
def test_levels_below_are_not_shown(
    capsys: pytest.CaptureFixture[str], level: str, shown: list[str]
) -> None:
    configure("json", level)
    for name in LEVELS:
        getattr(logger(), name)("event")
    assert [json.loads(line)["level"] for line in lines(capsys)] == shown


@pytest.mark.parametrize(("level", "shown"), SHOWN.items())
def test_a_level_is_changed_for_loggers_that_are_there(
    capsys: pytest.CaptureFixture[str], level: str, shown: list[str]
) -> None:
    configure("json", "warning")
    before = logger(component="bot.example").bind(more="context")
    set_level(level)
    for name in LEVELS:
        getattr(before, name)("event")
    assert [json.loads(line)["level"] for line in lines(capsys)] == shown


def test_all_levels_are_known() -> None:
    assert tuple(SHOWN) == LEVELS


# --- the throttle


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def line(event: str = "bad reply", level: str = "warning", component: str = "a") -> EventDict:
    return {"event": event, "level": level, "component": component}


def passed(throttle: Throttle, count: int, **values: str) -> int:
    found = 0
    for _ in range(count):
        try:
            throttle(None, "", line(**values))
        except structlog.DropEvent:
            continue
        found += 1
    return found


def test_a_burst_passes() -> None:
    assert passed(Throttle(Clock()), BURST) == BURST


def test_what_is_beyond_a_burst_is_dropped() -> None:
    assert passed(Throttle(Clock()), 1000) == BURST


def test_debug_lines_are_never_dropped() -> None:
    assert passed(Throttle(Clock()), 1000, level="debug") == 1000


@pytest.mark.parametrize("other", [{"event": "other"}, {"component": "b"}])
def test_events_and_components_have_bursts_of_their_own(other: dict[str, str]) -> None:
    throttle = Throttle(Clock())
    passed(throttle, 1000)
    assert passed(throttle, BURST, **other) == BURST


def test_until_the_window_ends_all_are_dropped() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    passed(throttle, 1000)
    clock.now_s += WINDOW_S - 0.01
    assert passed(throttle, 10) == 0


def test_after_the_window_a_burst_passes_again() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    passed(throttle, 1000)
    clock.now_s += WINDOW_S
    assert passed(throttle, 1000) == BURST


def test_the_next_line_tells_how_many_were_left_out() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    passed(throttle, BURST + 7)
    clock.now_s += WINDOW_S
    assert throttle(None, "", line())["suppressed"] == 7


def test_it_is_told_once() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    passed(throttle, BURST + 7)
    clock.now_s += WINDOW_S
    throttle(None, "", line())
    assert "suppressed" not in throttle(None, "", line())


@pytest.mark.parametrize("count", [1, BURST])
def test_where_none_was_left_out_nothing_is_told(count: int) -> None:
    clock = Clock()
    throttle = Throttle(clock)
    passed(throttle, count)
    clock.now_s += WINDOW_S
    assert "suppressed" not in throttle(None, "", line())


def test_it_is_at_work_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    for _ in range(100):
        logger().warning("bad reply")
    assert len(lines(capsys)) == BURST


# --- long values


def test_a_long_value_is_cut() -> None:
    event: EventDict = {"event": "e", "level": "info", "id": "a" * 301}
    assert shorten(None, "", event)["id"] == "a" * 300 + "…"


def test_a_value_of_the_limit_is_kept() -> None:
    event: EventDict = {"event": "e", "level": "info", "id": "a" * 300}
    assert shorten(None, "", event)["id"] == "a" * 300


@pytest.mark.parametrize(("level", "key"), [("debug", "id"), ("error", "exception")])
def test_what_is_for_developers_is_kept(level: str, key: str) -> None:
    event: EventDict = {"event": "e", "level": level, key: "a" * 5000}
    assert shorten(None, "", event)[key] == "a" * 5000


def test_a_value_that_is_no_text_is_kept() -> None:
    event: EventDict = {"event": "e", "level": "info", "count": 10**400}
    assert shorten(None, "", event)["count"] == 10**400


# --- a log that takes nothing


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_full_disk_under_the_log_loses_lines_and_raises_nothing(
    format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        configure(format, "info")
        for _ in range(3):
            logger().warning("bad reply")
        with suppress(OSError):
            full.close()
    configure(format, "info")
    logger().warning("back again")
    assert len(lines(capsys)) == 1


def test_the_end_of_its_reader_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        configure("text", "info")
        logger().warning("bad reply")
        monkeypatch.undo()
        with suppress(OSError):
            pipe.close()
