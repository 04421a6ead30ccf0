"""The log's account of what goes wrong: a failing endpoint, and stanzas that are given up.

Both may last for hours, with thousands of failures. So the first failure is logged at once, and
then a line a minute with counts, until there is nothing to tell. While all is well, no task wakes
up here.
"""

import re
from collections.abc import Callable
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

REMIND_EVERY_S: Final = 60.0
_HINT: Final = "see the log of your service: it closed the connection without an answer"
_CLOSED: Final = re.compile(
    "ReadError|RemoteProtocolError: .*(without (a|sending a) response|in the middle of)"
)


class OutageLog:
    """Logs the outages of one component's endpoint. `run` writes the reminders."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._has_news = trio.Event()
        self.failed = 0
        """The number of POSTs without an answer since the endpoint last answered."""
        self._why = ""  # of the last failed POST
        self._given_up = 0  # since the outage began
        self._untold = 0  # given up since the last line about it
        self._reason = ""  # of the last stanza given up

    def change(self, log: FilteringBoundLogger) -> None:
        """Write with another logger from now on: its endpoint is another one."""
        self._log = log

    def note_failure(self, why: str, uid: str) -> None:
        """Record a POST without an answer."""
        self.failed += 1
        self._why = why
        if self.failed == 1:
            self._given_up = 0
            hint = {"hint": _HINT} if _CLOSED.match(why) else {}
            self._log.error("endpoint fails", why=why, **hint, uid=uid)
            self._has_news.set()

    def note_answer(self) -> None:
        """Record that the endpoint has answered."""
        if self.failed:
            given_up = {"given_up": self._given_up} if self._given_up else {}
            self._log.info("endpoint answers again", failed=self.failed, **given_up)
            self.failed = 0
            self._tell_given_up()

    def note_given_up(self, reason: str) -> None:
        """Record that a stanza has become a dead letter."""
        self._given_up += 1
        self._untold += 1
        self._reason = reason
        self._has_news.set()

    async def run(self, waiting: Callable[[], int]) -> None:
        """Write a line a minute while there is something to tell; ends only by cancellation.
        `waiting` returns how many stanzas wait.
        """
        while True:
            await self._has_news.wait()
            while self.failed or self._untold:
                await trio.sleep(REMIND_EVERY_S)
                self._remind(waiting())
            self._has_news = trio.Event()

    def _remind(self, waiting: int) -> None:
        if self.failed:
            self._log.error(
                "endpoint still fails",
                why=self._why,
                failed=self.failed,
                waiting=waiting,
                given_up=self._given_up,
            )
        self._tell_given_up()

    def _tell_given_up(self) -> None:
        if self._untold:
            self._log.warning("stanzas given up", count=self._untold, why=self._reason)
            self._untold = 0
