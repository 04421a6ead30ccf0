"""Tests of a component, by a scripted server with the quirks of a known one (`probe`)."""
