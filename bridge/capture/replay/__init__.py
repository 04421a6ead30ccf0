"""`xmpp-bridge replay` and `show`: what was captured, run again or printed.

`tape` reads captures (and plain XML, by `plain`) in order; `player` gives their server side to the
stream; `rig` puts the bridge's own parts together around it; `recorded` is the endpoint of a
capture; `expectation` compares. `command` and `show` are what a user sees.
"""
