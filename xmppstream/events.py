"""The events that the core reports, in the order of their cause. Frozen, equal by value."""

from attrs import field, frozen
from msgspec import Struct

from xmppstream.element import Element
from xmppstream.errors import StreamCondition
from xmppstream.stanza import Stanza


@frozen
class StreamOpened:
    """The peer's stream header is complete. `id` may be missing if an early error follows (S3)."""

    id: str | None
    from_: str | None = None
    to: str | None = None
    lang: str | None = None
    version: str | None = None


@frozen
class HandshakeReceived:
    """Server role: the component has sent its digest (XEP-0114 §3)."""

    digest: str


@frozen
class HandshakeAccepted:
    """Component role: the server has sent `<handshake/>`."""


class StanzaReceived(Struct, frozen=True, gc=False, eq=False):
    """A stanza is complete. `weight_bytes` estimates its memory, and is not compared."""

    stanza: Stanza
    weight_bytes: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StanzaReceived) and self.stanza == other.stanza

    def __hash__(self) -> int:
        return hash(self.stanza)


@frozen
class StanzaRefused:
    """A stanza exceeded a limit and was consumed without being built (S17).

    `stanza` has only the parts that an answer needs: the addresses, type and id, and an empty
    muc#user child if there was one (S30). `limit` names the limit, with its number. `weight_bytes`
    is an estimate of what reading it took, and is not compared.
    """

    stanza: Stanza
    limit: str
    weight_bytes: int = field(default=0, eq=False)


@frozen
class ElementIgnored:
    """An unknown top-level element: callers log it and ignore it (S33)."""

    name: str


@frozen
class StreamFaulted:
    """The stream is over: the peer sent a stream error, or its input is at fault.

    The last event of a connection. `by_peer` is whether the peer sent a stream error, and then
    `application` is its application-specific element. If not, `close(fault)` reports it to the
    peer.
    """

    condition: StreamCondition
    text: str = ""
    by_peer: bool = False
    application: Element | None = None

    def __str__(self) -> str:
        return f"{self.condition}: {self.text}" if self.text else str(self.condition)


@frozen
class StreamClosed:
    """The peer has sent `</stream:stream>` (S12)."""

    def __str__(self) -> str:
        return "the peer ended the stream"


Event = (
    StreamOpened
    | HandshakeReceived
    | HandshakeAccepted
    | StanzaReceived
    | StanzaRefused
    | ElementIgnored
    | StreamFaulted
    | StreamClosed
)
