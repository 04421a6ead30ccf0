"""Ids and addresses of the iqs that were sent to a component, over all its connections."""

from collections.abc import Iterator
from itertools import count
from typing import Final

from attrs import define, field, frozen

SERVER: Final = "capulet.example"
"""Domain of the addresses that the scripted server sends from."""


@frozen
class Asked:
    """Addresses of an iq that was sent to the component."""

    from_: str
    to: str


@define
class Ledger:
    """Used ids and addresses. All connections of a component share one ledger, because a component
    may repeat an answer on its next stream.
    """

    asked: dict[str, Asked] = field(factory=dict)
    _numbers: Iterator[int] = field(factory=lambda: count(1))

    def fresh_id(self) -> str:
        return f"probe-{next(self._numbers)}"

    def fresh_address(self) -> str:
        """Return an address that is used nowhere else."""
        return f"juliet{next(self._numbers)}@{SERVER}/balcony"
