"""The ids and addresses that a component was asked with, over all its connections."""

from collections.abc import Iterator
from itertools import count
from typing import Final

from attrs import define, field, frozen

SERVER: Final = "capulet.example"
"""Where the component's correspondents live."""


@frozen
class Asked:
    """Addresses of an iq that the component was sent."""

    from_: str
    to: str


@define
class Ledger:
    """Ids and addresses that were used: one for all connections of a component, since it may give
    an answer again on its next stream.
    """

    asked: dict[str, Asked] = field(factory=dict)
    _numbers: Iterator[int] = field(factory=lambda: count(1))

    def fresh_id(self) -> str:
        return f"probe-{next(self._numbers)}"

    def fresh_address(self) -> str:
        """An address that nothing else has to do with."""
        return f"juliet{next(self._numbers)}@{SERVER}/balcony"
