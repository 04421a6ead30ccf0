"""What went wrong lately, in sentences for an operator: the last warnings and errors of the log.

Of a line only what is listed here becomes part of a sentence: no address and no id of a sender,
nothing that a stranger has chosen but what a condition or a reason quotes.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import frozen
from structlog.typing import EventDict, WrappedLogger

LIMIT: Final = 50
_LEVELS: Final = frozenset({"warning", "error", "critical"})
_PLAIN: Final = {
    "answers dropped, the server does not read": "Answers were dropped: the server does not read",
    "bad reply": "The endpoint's reply could not be used",
    "cannot attach": "Cannot attach to the server",
    "configuration": "The configuration can be better",
    "detached": "The stream to the server ended",
    "endpoint fails": "The endpoint does not answer",
    "endpoint is back": "The endpoint is back",
    "endpoint is down, asking it by one POST at a time": "The endpoint is down; it is asked by one"
    " POST at a time",
    "journal fails": "The journal cannot be written",
    "journal hangs": "The journal hangs",
    "queue full, refusing stanzas": "The queue is full: stanzas are refused",
    "reply ignored": "The endpoint's reply was ignored",
    "sender not told": "A sender may not be told of a failure",
    "stanza failed in the bridge": "A stanza failed by a fault of the bridge; its log has more",
    "stanza refused": "A stanza is over a limit",
    "stanza without address dropped": "A stanza without addresses was dropped",
    "your endpoint refuses the bridge": "The endpoint refuses the bridge",
}
_REASONS: Final = ("why", "problem", "warning", "condition", "limit", "media_type")
_NUMBERS: Final = {
    "status": "status",
    "count": "count",
    "pending": "pending",
    "dead": "dead letters",
    "suppressed": "more like it",
}


@frozen
class Incident:
    """One of them; `at` is Unix time in s, `component` is empty where it is of none."""

    at: float
    level: str
    component: str
    sentence: str


class Incidents:
    """A structlog processor that keeps the last `LIMIT` of them, and lets all lines pass."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._kept: deque[Incident] = deque(maxlen=LIMIT)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        level = str(event["level"])
        if level in _LEVELS:
            component = str(event.get("component", ""))
            self._kept.append(Incident(self._now(), level, component, sentence_of(event)))
        return event

    @property
    def latest(self) -> list[Incident]:
        """All that are kept, the latest first."""
        return list(reversed(self._kept))


def sentence_of(event: EventDict) -> str:
    """Say in a sentence what a line of the log says."""
    name = str(event["event"])
    text = _PLAIN.get(name) or name[:1].upper() + name[1:]
    reason = next((str(event[key]) for key in _REASONS if event.get(key)), "")
    if reason:
        text += f": {reason.rstrip('.')}"
    numbers = [f"{noun} {event[key]}" for key, noun in _NUMBERS.items() if key in event]
    if numbers:
        text += f" ({', '.join(numbers)})"
    hint = str(event.get("hint") or event.get("remedy") or "")
    return f"{text}. {hint[:1].upper()}{hint[1:].rstrip('.')}." if hint else f"{text}."


INCIDENTS: Final = Incidents()
"""Those of this process, as logging is the process' own; `log.configure` has it fed."""
