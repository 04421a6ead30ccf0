"""`xmpp-bridge queue`: what is kept of stanzas, for the operator's eyes and hands."""
