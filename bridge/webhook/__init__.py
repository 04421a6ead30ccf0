"""One POST to the endpoint: its outcome, and when to try again.

`endpoint` POSTs through an HTTP client from `client`. `outcome` has the results of a POST and the
table of H4, `retry` the retry policy and the circuit breaker. `signature` signs requests,
`reply_url` the URLs for later replies, and `observer` is the protocol through which a capture sees
each POST.

`pulled_endpoint` takes the place of `endpoint` where the service fetches its events: an attempt
offers one in `pull`, which knows who polls and who has which lease.
"""
