"""What a component speaks with, for those who make it speak from outside."""

from collections.abc import Callable, Mapping

from attrs import frozen

from bridge.journal.queue import DeliveryQueue
from bridge.payload.reply import ReplyComposer
from bridge.xmpp.iq import PendingIqs
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.outbox import Outbox
from xmppstream.jid import domain_of, same_domain


@frozen
class Voice:
    """One component's."""

    composer: ReplyComposer
    queue: DeliveryQueue
    outbox: Outbox
    pending_iqs: PendingIqs
    rooms: MucOccupancy
    submitted: Callable[[str, bytes], None] = lambda uid, data: None
    """Is told what goes out by it, for a capture."""


Voices = Callable[[], Mapping[str, Voice]]
"""Gives, by domain, those of the components that can speak now."""


def voice_of(voices: Voices, address: str) -> Voice | None:
    """Give the voice of an address' domain."""
    domain = domain_of(address)
    for name, voice in voices().items():
        if same_domain(name, domain):
            return voice
    return None
