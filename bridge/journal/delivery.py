"""A stanza to be POSTed, from its admission to its end."""

import math
import time
from itertools import count
from secrets import token_hex
from typing import Final, Self

import msgspec

from bridge.cluster.partition import partition_of
from bridge.config.event import EventName
from xmppstream import Element, Stanza, write
from xmppstream.jid import bare
from xmppstream.names import COMPONENT, expanded
from xmppstream.stanza import KINDS

_PROCESS: Final = token_hex(5)
_COUNT: Final = count()
_UNWRITTEN: Final = "(unwritten)"


def fresh_uid() -> str:
    """Return a new uid, unique among all processes."""
    # Time first, so entries of the same time are neighbours in the journal's index.
    return f"msg_{time.time_ns() // 1000:x}{_PROCESS}{next(_COUNT):x}"


def is_of_this_process(uid: str) -> bool:
    """Return whether this process made a uid."""
    return _PROCESS in uid


class Attempt(msgspec.Struct, frozen=True):
    """A failed POST: when it began (Unix time, s), and its outcome in a few words."""

    at: float
    result: str


class Delivery(msgspec.Struct, eq=False):  # 0.4 us less per stanza than attrs
    """A stanza to be POSTed. Only its own task changes `attempts` and `is_tried` (whether this
    process has made an attempt), and `load` replaces the stanza. The rest is immutable.

    `received` is Unix time in s; `deadline`, by trio's clock, is the end of the retry budget. `uid`
    is the webhook-id. `xml` is the stanza as serialized for its component's stream. `parties` are
    the bare addresses of sender and recipient, or of an occupant and the recipient; they are set
    before it joins its conversation. `number` is assigned by the journal, in order. `event` is set
    if the stanza itself does not say which event it is. `is_being_kept`: its POST has begun, and
    its acceptance is not committed yet, nor refused any more. `age_s` is how long ago it was
    accepted when it was read from a journal of several nodes, by the journal's clock: `received` is
    by the clock of the node that accepted it, and times of two machines are never compared.
    In a delivery from the journal, `stanza` is the head alone (kind, addresses, id) until `load`.
    """

    stanza: Stanza
    received: float
    weight_bytes: int = 0
    deadline: float = math.inf
    uid: str = msgspec.field(default_factory=fresh_uid)
    xml: str = _UNWRITTEN
    attempts: tuple[Attempt, ...] = ()
    is_tried: bool = False
    is_being_kept: bool = False
    component: str = ""
    number: int = 0
    parties: tuple[str, str] = ("", "")
    event: EventName | None = None
    age_s: float | None = None

    def __post_init__(self) -> None:
        stanza = self.stanza  # split here, since two calls of `bare` cost more
        sender, to = (stanza.from_ or "").partition("/")[0], (stanza.to or "").partition("/")[0]
        self.parties = sender, to
        if self.xml is _UNWRITTEN:
            self.xml = write(stanza.element, COMPONENT)

    @property
    def accepted_attempts(self) -> tuple[Attempt, ...]:
        """The attempts that it was accepted with. The journal's thread may ask while its task makes
        others, which `is_tried` says first.
        """
        attempts = self.attempts
        return () if self.is_tried else attempts

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
        event: EventName | None = None,
        age_s: float | None = None,
    ) -> Self:
        """Return a delivery from the journal. `xml` is not parsed."""
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
            event=event,
            age_s=age_s,
        )

    @property
    def part(self) -> int:
        """The partition of its conversation. All occupants of a room share one: a process that
        reads the stanza from the journal need not know that its sender is an occupant.
        """
        return partition_of((bare(self.stanza.from_ or ""), bare(self.stanza.to or "")))

    def load(self, stanza: Stanza, weight_bytes: int) -> None:
        """Replace the head by the stanza that was parsed from `xml`."""
        self.stanza, self.weight_bytes = stanza, weight_bytes

    def __eq__(self, other: object) -> bool:
        """Return whether the journal would keep the same for both."""
        return isinstance(other, Delivery) and self._stored == other._stored

    __hash__ = None  # type: ignore[assignment]  # mutable

    @property
    def _stored(self) -> tuple[object, ...]:
        one = self.stanza
        return (
            (self.uid, self.component, one.kind, one.from_ or "", one.to or "", one.id, one.lang),
            (self.xml, self.received, self.attempts, self.number, self.event),
        )
