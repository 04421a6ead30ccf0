"""The HTTP API: stanzas, queries, and the routes of Prosody's modules."""
