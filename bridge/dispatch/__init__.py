"""Decides what happens to an incoming stanza and when it is delivered.

`admission` sorts incoming stanzas, `ratelimit` limits each sender, `overload` handles a full
queue. `conversation` keeps the order, `dispatcher` assigns slots and runs one task per attempt,
`worker` makes the attempt, `retry` decides on the next one. `inflight` holds accepted stanzas until
`settlement` settles them. `submission` sends stanzas of the HTTP API. `promise` has the promises of
later replies, which `deferred` takes. `upload` brings files to the server's upload service, and
`attachment` those within replies. `pipeline` wires all parts.
"""
