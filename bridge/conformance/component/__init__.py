"""How a component behaves: a scripted server with the quirks of a known one (`probe`)."""
