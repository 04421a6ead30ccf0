"""An HTTP/1.1 client on trio and httptools, behind httpx's transport interface.

`transport` implements `httpx.AsyncBaseTransport`; `pool` keeps connections per origin; `connection`
is one TCP or TLS connection, and collects small sends; `response` reads responses; `deadline`
watches many time-outs without a cancel scope for each. `put` uploads a file by httpx's own
transport, and `proxy` reads the environment.
"""
