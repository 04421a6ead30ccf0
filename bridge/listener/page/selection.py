"""The dead letters that somebody looks for: what an address and a form say about them."""

from collections.abc import Mapping, Sequence
from typing import Final, Self
from urllib.parse import urlencode

from attrs import frozen
from msgspec import UNSET

from bridge.journal.request import REASON_LIMIT, ListQueue, Match

HOURS: Final = {
    0: "at any time",
    1: "in the last hour",
    24: "in the last day",
    168: "in the last week",
}
_HOUR_S: Final = 3600.0
_DOMAIN_LIMIT: Final = 1023  # RFC 7622 §3.2
_MAX_NUMBER: Final = 2**63 - 1

Given = Mapping[str, Sequence[str]]


@frozen
class Selection:
    """Dead letters of a component (any if empty) whose reason contains a text, and that died in
    the last so many `hours` (0: at any time); and those `after` a number, if only a page is meant.
    """

    component: str = ""
    reason: str = ""
    hours: int = 0
    after: int = 0

    @classmethod
    def of(cls, given: Given) -> Self:
        """Return the selection in the fields of a form or an address. A value that is not valid
        counts as absent.
        """
        hours = _number(given, "hours")
        return cls(
            _first(given, "component").strip()[:_DOMAIN_LIMIT],
            _first(given, "reason").strip()[:REASON_LIMIT],
            hours if hours in HOURS else 0,
            _number(given, "after"),
        )

    @property
    def is_filter(self) -> bool:
        return bool(self.component or self.reason or self.hours)

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a form that mean the same, without the page."""
        hours = str(self.hours) if self.hours else ""
        pairs = {"component": self.component, "reason": self.reason, "hours": hours}
        return {name: value for name, value in pairs.items() if value}

    def address(self, after: int | None = None) -> str:
        """Return the address of the page that shows it; with `after`, another part of the list."""
        number = self.after if after is None else after
        fields = self.fields | ({"after": str(number)} if number else {})
        return f"./?{urlencode(fields)}#letters" if fields else "./"

    def since(self, now: float) -> float | None:
        """Return the Unix time from which on they died, None if at any time."""
        return now - self.hours * _HOUR_S if self.hours else None

    def request(self, now: float, after: int, limit: int, *, xml: bool = False) -> ListQueue:
        """Return the request for a part of the list."""
        match = Match(reason=self.reason, since=self.since(now))
        return ListQueue(
            state="dead",
            component=self.component or None,
            after=after,
            limit=limit,
            xml=xml,
            match=match if match != Match() else UNSET,
        )

    def __str__(self) -> str:
        parts = [
            f"of {self.component}" if self.component else "",
            f"whose reason contains “{self.reason}”" if self.reason else "",
            f"given up {HOURS[self.hours]}" if self.hours else "",
        ]
        return ", ".join(filter(None, parts))


EVERYTHING: Final = Selection()


def _first(given: Given, name: str) -> str:
    return next(iter(given.get(name, ())), "")


def _number(given: Given, name: str) -> int:
    text = _first(given, name)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    return min(number, _MAX_NUMBER)
