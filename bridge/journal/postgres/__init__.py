"""The protocols of `bridge.journal.store` and `bridge.journal.cluster`, with PostgreSQL.

`schema` has the tables and their versions, `connection` the connections, and `errors` PostgreSQL's
errors in an operator's words. `statement` turns the operations of a batch into few statements,
whose text is in `sql`, and `fence` executes them as one transaction that only a live node can
commit. `query` reads, `nodes` has the nodes and their leases, and `store` is the whole. `wake`
wakes the other nodes. `command` opens the store for a command, and `inspection` is for `check`.
"""
