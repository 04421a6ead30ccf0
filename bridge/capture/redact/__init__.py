"""What makes a capture fit to be given away: pseudonyms in place of what people said and are."""

from bridge.capture.redact.rewriter import Redactor

__all__ = ["Redactor"]
