"""The partition of a conversation: the unit in which work is spread over the nodes."""

import zlib
from typing import Final

PARTITIONS: Final = 256
"""The partitions of each component, numbered from 0."""
GATEWAY: Final = -1
"""The number by which a component's gateway is leased, beside its partitions."""
ALL_PARTS: Final = frozenset(range(PARTITIONS))


def partition_of(parties: tuple[str, str]) -> int:
    """Return the partition of a conversation, by its sender and its recipient.

    It is kept in the database, so it must be the same in each process, version and machine.
    """
    sender, recipient = parties
    return zlib.crc32(f"{sender}\0{recipient}".encode("utf-8", "surrogatepass")) % PARTITIONS
