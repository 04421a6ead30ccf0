"""A stanza that is to be POSTed, from its admission to its end."""

import math
import time
from itertools import count
from secrets import token_hex
from typing import Final

import msgspec

from bridge.journal.store import Attempt, Entry
from xmppstream import Stanza, write
from xmppstream.jid import bare
from xmppstream.names import COMPONENT

_PROCESS: Final = token_hex(5)
_COUNT: Final = count()


def fresh_uid() -> str:
    """Make a uid that no other process has made."""
    # Time first: what is kept together then lies together in the journal's index.
    return f"msg_{time.time_ns() // 1000:x}{_PROCESS}{next(_COUNT):x}"


def is_of_this_process(uid: str) -> bool:
    """Tell whether this process has made a uid."""
    return _PROCESS in uid


class Delivery(msgspec.Struct, eq=False):  # 0.4 us less for each stanza than by attrs
    """Immutable but for `attempts`, which its own task alone adds to, and `is_tried`: whether one
    of them was made in this process.

    `received` is Unix time in s; `deadline`, by trio's clock, is when its budget ends. `uid` is
    its webhook-id. `xml` is the stanza as its component's stream has it. `parties` are the bare
    addresses of who sent it and whom it is to.
    """

    stanza: Stanza
    received: float
    weight_bytes: int
    deadline: float = math.inf
    uid: str = msgspec.field(default_factory=fresh_uid)
    xml: str = ""
    attempts: list[Attempt] = []
    is_tried: bool = False
    parties: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        stanza = self.stanza
        self.parties = bare(stanza.from_ or ""), bare(stanza.to or "")
        if not self.xml:
            self.xml = write(stanza.element, COMPONENT)

    def to_entry(self, component: str) -> Entry:
        """Give what the journal keeps of it."""
        stanza = self.stanza
        return Entry(
            self.uid,
            component,
            stanza.kind,
            stanza.from_ or "",
            stanza.to or "",
            stanza.id,
            stanza.lang,
            self.xml,
            self.received,
        )
