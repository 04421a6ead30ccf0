"""The parts of the embedded journal, which is `bridge.sqlite_journal`."""
