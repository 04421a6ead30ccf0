"""How much a peer may send before an element is refused or the stream ends (rule S17)."""

from typing import Final

from attrs import frozen

KIB: Final = 1024


@frozen
class Limits:
    """Limits on the input of a peer. A top-level element over one of the first five is consumed and
    refused: `max_elements` counts the elements in it and itself, and bounds their attributes, too.
    Beyond `endless_factor` times `max_stanza_bytes`, or over `max_header_bytes`, the stream is at
    fault. A parser is replaced after `life_bytes`.
    """

    max_stanza_bytes: int = 512 * KIB
    max_depth: int = 128
    max_elements: int = 10_000
    max_attributes: int = 256
    max_name_bytes: int = 1 * KIB
    endless_factor: int = 16
    max_header_bytes: int = 16 * KIB
    life_bytes: int = 8 * KIB * KIB

    @property
    def max_all_attributes(self) -> int:
        """The most attributes and namespace declarations of a top-level element, in all."""
        return 2 * self.max_elements
