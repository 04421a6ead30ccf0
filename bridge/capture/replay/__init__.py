"""`xmpp-bridge replay` and `show`: what was captured, run again or printed.

`story` reads captures (and plain XML, by `plain`) in order; `player` gives their server side to
the stream; `harness` puts the bridge's own parts together around it; `captured` is the endpoint,
the policy and the queue of a capture; `expectation` compares.
"""
