"""How much a peer may send before an element is refused or the stream ends (rule S17)."""

from typing import Final

from attrs import frozen

KIB: Final = 1024


@frozen
class Limits:
    """Limits on the input of a peer. An element over one of the first four is consumed and refused.
    Beyond `endless_factor` times `max_stanza_bytes`, or over `max_header_bytes`, the stream is at
    fault. A parser is replaced after `life_bytes`.
    """

    max_stanza_bytes: int = 512 * KIB
    max_depth: int = 128
    max_attributes: int = 256
    max_name_bytes: int = 1 * KIB
    endless_factor: int = 16
    max_header_bytes: int = 16 * KIB
    life_bytes: int = 8 * KIB * KIB
