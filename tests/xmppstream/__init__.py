"""Unit tests, a module for each one of `xmppstream`."""
