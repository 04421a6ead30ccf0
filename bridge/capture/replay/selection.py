"""Selects the stanzas of a capture by address, kind and time."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

from attrs import frozen

from bridge.config.value import BadValue
from xmppstream import InvalidJid, Stanza, split
from xmppstream.jid import bare, domain_of, fold
from xmppstream.stanza import KINDS

_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_CLOCK: Final = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?")


@frozen
class Since:
    """A time: seconds after a capture's start, a date, or a time of day (UTC)."""

    value: float | datetime | time

    def after(self, start: datetime) -> float:
        """Return the time in seconds after the start of a capture, never less than 0."""
        match self.value:
            case datetime():
                return max((self.value - start).total_seconds(), 0.0)
            case time():
                moment = datetime.combine(start.astimezone(UTC).date(), self.value, UTC)
                if moment < start:  # the capture began before midnight
                    moment += timedelta(days=1)
                return (moment - start).total_seconds()
            case _:
                return self.value


@frozen
class Selection:
    """The selected stanzas, by default all. `only` holds addresses as `parse_only` returns them."""

    only: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset(KINDS)
    since: Since | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out, regardless of `since`."""
        return not self.only and len(self.kinds) == len(KINDS)

    def takes(self, stanza: Stanza) -> bool:
        """Return whether a stanza is selected, regardless of `since`."""
        return self.takes_parts(stanza.kind, stanza.from_, stanza.to)

    def takes_parts(self, kind: str, sender: str | None, receiver: str | None) -> bool:
        """Return whether a stanza with this kind and these addresses is selected."""
        if kind not in self.kinds:
            return False
        if not self.only:
            return True
        for address in (sender, receiver):
            name = fold(address or "").lower()
            if not self.only.isdisjoint((name, bare(name), domain_of(name))):
                return True
        return False


def parse_only(text: str) -> str:
    """Return an address to select by (full, bare, or a domain) in the spelling that is compared.

    Raises:
        BadValue: if it is not a valid address.
    """
    try:
        split(text)
    except InvalidJid as error:
        remedy = "Use user@example.com, user@example.com/resource, or example.com"
        raise BadValue(f"{text!r} is not a valid address: {error}", remedy) from None
    return fold(text).lower()


def parse_since(text: str) -> Since:
    """Parse a time: seconds, a time of day, or a date.

    Raises:
        BadValue: if it is not a valid time.
    """
    remedy = "Use seconds (90), a time of day in UTC (17:20:00), or 2026-11-22T17:20:00Z"
    try:
        if _SECONDS.fullmatch(text):
            return Since(float(text))
        if _CLOCK.fullmatch(text):
            return Since(time.fromisoformat(text))
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadValue(f"{text!r} is not a valid time", remedy) from None
    return Since(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
