"""`xmpp-bridge replay` and `show`: captures, replayed or printed.

`story` reads captures (and, by `plain`, plain XML) in order. `player` feeds their server side to
the stream. `harness` assembles the bridge's own parts around it. `captured` has an endpoint, a
retry policy and a queue that follow the capture. `expectation` compares.
"""
