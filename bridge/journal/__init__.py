"""The durable queue: an accepted stanza survives the process.

`queue` is the queue of accepted stanzas, in memory or durable (`durable`); `delivery` is one of
them. `store` is the protocol of a journal and its operations; `sqlite` implements it; `committer`
commits operations in batches, in a thread of its own. `idempotency` keeps the keys of the HTTP API,
`admin` answers the requests of `request` about the queue, `directory` is the state directory, and
`storage` opens all of it.
"""
