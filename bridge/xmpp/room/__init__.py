"""The rooms in which the bridge keeps an occupant (XEP-0045, 0249, 0410, 0421).

`room` is the state machine of one room, `rooms` all rooms of a component, and `runner` their task.
`outcome` says why we are not in a room, and whether to join again; `selfping` when to ask whether
we still are. `request` makes the stanzas, `occupant` reads those of occupants. `history` tells live
messages from a room's history by their place, `reflection` knows the room's ids of our own
messages, and `invitation` judges invitations. `outgoing` changes what leaves for a room. `kept` has
the rooms that were added by HTTP or by an invitation, `tracked` those that a service has joined.
All but `runner` are without clock and socket.
"""
