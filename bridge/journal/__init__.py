"""The durable queue: an accepted stanza survives the process.

`queue` is the queue of accepted stanzas, in memory or durable (`durable`), and `delivery` one of
these stanzas. `store` is the protocol of a journal and its operations; `sqlite` implements it in a
file, and `postgres` in a database that several nodes share (`cluster` is what that adds).
`committer` commits operations in batches, in a thread of its own. `idempotency` keeps the keys of
the HTTP API; `state` keeps the small state of components; `age` is the clock by which keys and dead
letters grow old. `admin` executes the commands of `request` on the queue. `directory` is the state
directory, and `storage` opens everything.
"""
