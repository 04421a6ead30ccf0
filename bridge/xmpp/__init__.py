"""The bridge's own exchanges with XMPP entities, and the state that it learns from them.

`link` attaches to the server and stays attached, with the delays of `backoff` (S11). `outbox`
holds stanzas until the server has confirmed them. `bounce` sends errors to senders.

`autoresponder` answers for the component's addresses (H6); `identity` says who they are, `contact`
who is subscribed to them, and `announcer` sends their presence. `receipt` makes receipts. `iq`
holds the iqs that wait for an answer. `upload` finds the upload service and asks it for slots.
`room` keeps rooms joined, and `muc` tracks the bridge's occupants in them (S36). `state` is the
small state that outlives a component.
"""
