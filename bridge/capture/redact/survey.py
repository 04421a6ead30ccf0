"""Reads a capture for what is to be hidden, and counts it: the first look, before redaction."""

from bridge.capture.redact.hidden import Hidden
from bridge.capture.redact.rewriter import Rewriter
from bridge.capture.redact.value import PIECE, Values


class Survey(Values):
    """Changes nothing, and adds what passes to `hidden`."""

    def __init__(self, hidden: Hidden) -> None:
        self.domain = ""
        self.attribute = self._attribute
        self.address = self._address
        self.words = 0
        """How many words, numbers and pictographs there are in texts."""
        self.addresses = 0
        """How many addresses there are that have a local part or a resource."""
        self._hidden = hidden

    def use(self, domain: str) -> None:
        self.domain = domain

    def text(self, text: str) -> str:
        words = PIECE.findall(text)
        self.words += len(words)
        self._hidden.add_words(words)
        return text

    def name(self, name: str) -> str:
        return name

    def _local(self, local: str) -> str:
        self._hidden.add_local(local)
        return local

    def _resource(self, resource: str) -> str:
        return resource

    def _address(self, address: str) -> str:
        self.addresses += "@" in address or "/" in address
        return super()._address(address)


def surveyor(survey: Survey) -> Rewriter:
    """Give what a capture is to be fed to."""
    return Rewriter(survey)
