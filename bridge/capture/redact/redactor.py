"""The redactor: rewrites a capture with pseudonyms, so that it is fit to be given away."""

from bridge.capture.redact.pseudonym import Avoid, Pseudonyms
from bridge.capture.redact.rewriter import Rewriter
from bridge.capture.redact.value import Values


class Redactor(Rewriter):
    """Redacts captures of one story: the same names and words get the same pseudonyms, which
    depend on the key alone. `avoid` tells what no pseudonym may be, see `pseudonym`.
    """

    def __init__(self, key: bytes, avoid: Avoid | None = None) -> None:
        """`key` has 16 bytes at least; who has it can find out what stands for what."""
        super().__init__(Values(Pseudonyms(key, avoid)))
