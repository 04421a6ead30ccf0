"""What the log says while an endpoint fails, and of stanzas that are given up."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.dispatch.outage import OutageLog
from bridge.webhook.outcome import Rejected
from bridge.webhook.retry import RetryPolicy
from tests.bridge.dispatch.life import DONE, Life, Postbox, Wall, pass_time
from tests.bridge.dispatch.test_retry import GONE, begin, message
from tests.bridge.recorder import Recorder


async def test_the_log_of_an_outage_of_90_s(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Five senders before it is noticed, one more in its midst; budgets of 50 s."""
    wall = Wall()
    postbox = Postbox(wall, lambda _: GONE if trio.current_time() < 90 else DONE)
    life = await begin(nursery, Life(wall=wall, endpoint=postbox, policy=RetryPolicy(50, 10)))
    await life.give(*(message(f"m{n}", f"{n}@x") for n in range(5)))
    await pass_time(45)
    await life.give(message("late", "late@x"))
    await pass_time(100)
    lines = life.log.told
    assert [(line["event"], line["level"]) for line in lines] == [
        ("endpoint fails", "error"),
        ("endpoint is down, asking it by one POST at a time", "error"),
        ("endpoint still fails", "error"),
        ("stanzas given up", "warning"),
        ("endpoint answers again", "info"),
        ("endpoint is back", "warning"),
    ]
    still, given_up, again = lines[2], lines[3], lines[4]
    assert (still["waiting"], still["given_up"], still["why"]) == (1, 5, "ConnectError")
    assert (given_up["count"], again["given_up"]) == (5, 5)
    assert again["failed"] > still["failed"] > 5


async def test_an_outage_that_lasts_is_told_of_once_a_minute(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    log = Recorder()
    outages = OutageLog(log.logger())
    nursery.start_soon(outages.run, lambda: 7)
    for second in range(600):
        outages.note_failure("ConnectError", f"msg_{second}")
        await trio.sleep(1)
    assert len(log.of("endpoint fails")) == 1
    assert len(log.of("endpoint still fails")) in (9, 10)
    assert {line["waiting"] for line in log.of("endpoint still fails")} == {7}


async def test_what_was_given_up_is_told_when_the_endpoint_is_back() -> None:
    log = Recorder()
    outages = OutageLog(log.logger())
    outages.note_failure("ConnectError", "msg_1")
    outages.note_given_up("it expired before it could be delivered")
    outages.note_answer()
    assert [line["event"] for line in log.told] == [
        "endpoint fails",
        "endpoint answers again",
        "stanzas given up",
    ]


async def test_stanzas_that_are_refused_one_by_one_are_told_of_together(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    wall = Wall()
    life = await begin(nursery, Life(wall=wall, endpoint=Postbox(wall, lambda _: Rejected(404))))
    await life.give(*(message(f"m{n}", f"{n}@x") for n in range(9)))
    await pass_time(300)
    [line] = life.log.of("stanzas given up")
    assert (line["level"], line["count"], line["why"]) == ("warning", 9, "status 404")
    await life.give(message("more"))
    await pass_time(300)
    assert [line["count"] for line in life.log.of("stanzas given up")] == [9, 1]


@pytest.mark.parametrize(
    ("why", "is_hinted"),
    [
        ("RemoteProtocolError: Server disconnected without sending a response.", True),
        ("RemoteProtocolError: the connection was closed without a response", True),
        ("RemoteProtocolError: the response is malformed", False),
        ("ReadError", True),
        ("ConnectError: Connection refused", False),
        ("no answer within 30 s", False),
    ],
)
async def test_a_connection_closed_without_an_answer_points_to_the_service(
    why: str, is_hinted: bool
) -> None:
    log = Recorder()
    OutageLog(log.logger()).note_failure(why, "msg_1")
    [line] = log.told
    assert ("log of your service" in line.get("hint", "")) is is_hinted


async def test_while_all_is_well_nothing_wakes_up(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    log = Recorder()
    nursery.start_soon(OutageLog(log.logger()).run, lambda: 0)
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
