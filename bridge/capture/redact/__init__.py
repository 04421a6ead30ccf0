"""Makes a capture safe to share: pseudonyms replace the names and the words of people."""

from bridge.capture.redact.rewriter import Redactor

__all__ = ["Redactor"]
