"""The commands: options in, text and an exit code out. One module per command."""

from bridge.cli.main import main

__all__ = ["main"]
