"""Accepts stanzas from HTTP clients, once per idempotency key."""
