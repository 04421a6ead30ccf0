"""A stanza as JSON, and JSON as a stanza.

`request` writes the JSON that is POSTed (H1), `reply` reads and checks replies (H2, S27 to S31),
`error` holds the stanza errors and decides who may be sent one (S29, S30).
"""
