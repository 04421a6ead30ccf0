"""Lines of the log as sentences, and what never gets into one."""

import json
from typing import Any

import pytest
import structlog

from bridge.telemetry import log
from bridge.telemetry.log import LIMIT, RecentErrors, configure, sentence_of


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            {"event": "endpoint fails", "why": "no route."},
            "The endpoint does not answer: no route.",
        ),
        (
            {"event": "cannot attach", "why": "not-authorized", "hint": "the secret is wrong"},
            "Cannot attach to the server: not-authorized. The secret is wrong.",
        ),
        ({"event": "something new"}, "Something new."),
        (
            {"event": "your endpoint refuses the bridge", "status": 401},
            "The endpoint refuses the bridge (status 401).",
        ),
        (
            {"event": "bad reply", "why": "no", "suppressed": 7},
            "The endpoint's reply could not be used: no (suppressed lines 7).",
        ),
        (
            {"event": "fault in the configuration", "problem": "no", "remedy": "do it"},
            "Fault in the configuration: no. Do it.",
        ),
    ],
)
def test_a_sentence(line: dict[str, Any], sentence: str) -> None:
    assert sentence_of(line) == sentence


def test_who_sent_what_is_in_no_sentence() -> None:
    line = {"event": "stanza refused", "limit": "9 bytes", "sender": "bob@x", "id": "i<d"}
    assert sentence_of(line) == "A stanza exceeds a limit: 9 bytes."


def test_the_last_are_kept_and_the_latest_is_first() -> None:
    incidents = RecentErrors(lambda: 5.0)
    for number in range(LIMIT + 10):
        line = {"event": f"e{number}", "level": "warning", "component": "bot"}
        assert incidents(None, "", line) is line
    assert len(incidents.latest) == LIMIT
    assert incidents.latest[0].sentence == f"E{LIMIT + 9}."
    assert (incidents.latest[0].at, incidents.latest[0].component) == (5.0, "bot")


def test_the_log_feeds_it_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    incidents = RecentErrors()
    before = structlog.get_config()
    try:
        configure("json", "info", incidents)
        log.logger(component="bot.example").error("endpoint fails", why="no")
        log.logger().info("attached")
    finally:
        structlog.configure(**before)
    assert [one.sentence for one in incidents.latest] == ["The endpoint does not answer: no."]
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["endpoint fails", "attached"]
