"""An HTTP/1.1 client on trio and httptools, behind httpx's transport interface.

`transport` implements `httpx.AsyncBaseTransport`; `pool` keeps connections per origin; `connection`
is one TCP or TLS connection, whose small sends leave together; `response` reads a response;
`deadline` watches many time-outs without a cancel scope for each.
"""
