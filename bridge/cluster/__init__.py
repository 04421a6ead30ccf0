"""Which process of a cluster attaches as a component, and which POSTs which conversations.

A *node* is a process. For each component, one node holds the lease of the *gateway*: it attaches to
the server. The conversations are hashed into `PARTITIONS` partitions per component, and each of
these is leased, too: whoever has it POSTs their stanzas, in order. Two nodes never hold one lease,
because every lease lies in a database, and the store fences each batch of a node (rule 1).

A node renews its leases by committing anything. It may use what it holds only while it is *alive*:
until `LOST_S` after it sent its last batch that succeeded. The others end it `DEAD_S` after they
saw its last batch, which is later than it was sent; so it stops before anybody takes over. No time
of one machine is ever compared with that of another.

All here is free of input and output and asks no clock: `partition` and `ownership` are what the
other packages use, `assignment` says who should have what, `membership` who is dead, and
`participant` joins them to the decisions of one node. The daemon executes these on trio.
"""
