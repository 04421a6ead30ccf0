"""SQLite behind the protocol of `bridge.journal.store`."""
