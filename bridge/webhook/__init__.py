"""One POST to the endpoint: its outcome, and when to try again.

`endpoint` POSTs, through an HTTP client of `client`; `outcome` is the result of a POST and the
table of H4; `retry` holds the retry policy and the circuit breaker; `signature` signs requests.
"""
