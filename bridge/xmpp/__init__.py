"""The bridge's own exchanges with XMPP entities, and the state that it learns from them.

`link` attaches to the server and stays attached, with the delays of `backoff` (S11). `outbox`
holds stanzas until the server has confirmed them. `bounce` sends errors to senders.

`autoresponder` answers for the component's addresses (H6); `identity` says who they are, `contact`
who is subscribed to them, and `announcer` sends their presence. `command` leads people through the
forms of commands, and `offer` remembers the answers that they may choose from. `receipt` makes
receipts, and `typing` shows that the bot is busy. `iq` holds the iqs that wait for an answer,
`archive` collects the pages of archives, and `upload` asks the upload service for slots. `room`
keeps rooms joined, and `muc` tracks the bridge's occupants in them (S36). `state` is the small
state that outlives a component.
"""
