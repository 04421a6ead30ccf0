"""What is known of a component over all its connections: the iqs that it was sent, and whether it
answers pings.
"""

from collections.abc import Iterator
from itertools import count
from typing import Final

from attrs import define, field, frozen

SERVER: Final = "capulet.example"
"""Domain of the addresses that the scripted server sends from."""


@frozen
class Asked:
    """Addresses of an iq that was sent to the component.

    `legal` is false if no server should send such an iq. The check that sends it judges the answer;
    otherwise, one fault would break several rules.
    """

    from_: str | None
    to: str
    legal: bool = True


@define
class Ledger:
    """Used ids and addresses. All connections of a component share one ledger, because a component
    may repeat an answer on its next stream.

    `asked` is by id; the id of an iq without id is "". `answers_pings` is None until it is known.
    """

    asked: dict[str, Asked] = field(factory=dict)
    answers_pings: bool | None = None
    _numbers: Iterator[int] = field(factory=lambda: count(1))

    def fresh_id(self) -> str:
        return f"probe-{next(self._numbers)}"

    def fresh_address(self) -> str:
        """Return an address that is used nowhere else."""
        return f"juliet{next(self._numbers)}@{SERVER}/balcony"
