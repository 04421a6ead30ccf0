"""The protocol of `bridge.journal.store`, implemented with SQLite."""
