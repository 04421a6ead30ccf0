"""Takes the captures in `fixtures/` from real servers; see `fixtures/README.md`."""
