"""A stanza that is to be POSTed, from its admission to its end."""

import math
import time
from itertools import count
from secrets import token_hex
from typing import Final, Self

import msgspec

from xmppstream import Element, Stanza, write
from xmppstream.jid import bare
from xmppstream.names import COMPONENT, expanded
from xmppstream.stanza import KINDS

_PROCESS: Final = token_hex(5)
_COUNT: Final = count()
_UNWRITTEN: Final = "(unwritten)"


def fresh_uid() -> str:
    """Make a uid that no other process has made."""
    # Time first: what is kept together then lies together in the journal's index.
    return f"msg_{time.time_ns() // 1000:x}{_PROCESS}{next(_COUNT):x}"


def is_of_this_process(uid: str) -> bool:
    """Tell whether this process has made a uid."""
    return _PROCESS in uid


class Attempt(msgspec.Struct, frozen=True):
    """A POST that failed: when it began (Unix time, s), and its outcome in a few words."""

    at: float
    result: str


class Delivery(msgspec.Struct, eq=False):  # 0.4 us less for each stanza than by attrs
    """Immutable but for `attempts` and `is_tried` (whether one of them was made in this process),
    which its own task alone changes, and for `load`.

    `received` is Unix time in s; `deadline`, by trio's clock, is the end of its budget. `uid` is
    its webhook-id. `xml` is the stanza as its component's stream has it. `parties` are the bare
    addresses of its sender and its recipient. `number` is given by the journal: a later one is
    greater. As the journal returns it, `stanza` is the head alone (kind, addresses, id).
    """

    stanza: Stanza
    received: float
    weight_bytes: int = 0
    deadline: float = math.inf
    uid: str = msgspec.field(default_factory=fresh_uid)
    xml: str = _UNWRITTEN
    attempts: tuple[Attempt, ...] = ()
    is_tried: bool = False
    component: str = ""
    number: int = 0
    parties: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        stanza = self.stanza
        self.parties = bare(stanza.from_ or ""), bare(stanza.to or "")
        if self.xml is _UNWRITTEN:
            self.xml = write(stanza.element, COMPONENT)

    @classmethod
    def stored(
        cls,
        uid: str,
        component: str,
        kind: str,
        from_: str,
        to: str,
        id: str | None,
        lang: str | None,
        xml: str,
        received: float,
        attempts: tuple[Attempt, ...] = (),
        number: int = 0,
    ) -> Self:
        """Return a delivery as the journal has it: `xml` is not parsed."""
        pairs = (("from", from_), ("to", to), ("id", id))
        head = tuple((name, value) for name, value in pairs if value is not None)
        name = kind if kind in KINDS else "message"
        stanza = Stanza(Element(expanded(COMPONENT, name), head), lang)
        return cls(
            stanza,
            received,
            uid=uid,
            xml=xml,
            attempts=attempts,
            component=component,
            number=number,
        )

    def load(self, stanza: Stanza, weight_bytes: int) -> None:
        """Take the parsed stanza of `xml` in place of its head."""
        self.stanza, self.weight_bytes = stanza, weight_bytes

    def __eq__(self, other: object) -> bool:
        """Deliveries are equal if the journal keeps the same of them."""
        return isinstance(other, Delivery) and self._stored == other._stored

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def _stored(self) -> tuple[object, ...]:
        one = self.stanza
        return (
            (self.uid, self.component, one.kind, one.from_ or "", one.to or "", one.id, one.lang),
            (self.xml, self.received, self.attempts, self.number),
        )
