"""Tests of a server, by a component that breaks the rules on purpose (`probe`)."""
