"""A stanza as JSON, and JSON as a stanza.

`request` writes the JSON that is POSTed (H1): the keys of the table in `field`, which `reader`
reads, and those that `derived` makes of them. `event` says in one word what a stanza is.

A reply or a send (H2) is read by `body`; `key` finds what its objects do not have. `reply` makes
stanzas of it, from the keys of the table in `content`, and `check` refuses what must not be sent
(S27 to S31).
`correction` knows which of our messages answered which, `stub` has what a reply needs of its
request. `schema` describes both tables.
`error` has the bridge's own stanza errors and decides which senders may get one (S29, S30).
"""
