"""How much a peer may send before it is refused, or the stream is given up (rule S17)."""

from typing import Final

from attrs import frozen

KIB: Final = 1024


@frozen
class Limits:
    """What a peer may send. Over the first four, an element is consumed and refused; beyond
    `endless_factor` times `max_stanza_bytes`, or over `max_header_bytes`, the stream is at fault.
    """

    max_stanza_bytes: int = 512 * KIB
    max_depth: int = 128
    max_attributes: int = 256
    max_name_bytes: int = 1 * KIB
    endless_factor: int = 16
    max_header_bytes: int = 16 * KIB
    life_bytes: int = 8 * KIB * KIB
