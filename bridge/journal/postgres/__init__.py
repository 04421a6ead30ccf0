"""The protocols of `bridge.journal.store` and `bridge.journal.cluster`, with PostgreSQL.

`schema` has the tables and their versions, `connection` the connections and PostgreSQL's errors in
an operator's words. `statement` turns the operations of a batch into few statements, and `fence`
executes them as one transaction that only a live node can commit. `store` is the whole.
"""
