"""A stanza as JSON, and JSON as a stanza.

`request` writes the JSON that is POSTed (H1). `reply` reads and checks replies (H2, S27 to S31).
`error` has the bridge's own stanza errors and decides which senders may get one (S29, S30).
"""
