"""Who the addresses of a component are, as clients see them: name, picture, features.

`book` finds the profile of an address: one that was set while the bridge runs, or the one of the
configuration. `disco` makes the answer to disco#info and its hash (XEP-0115), `vcard` both forms of
a vCard, and `pubsub` the items that clients look for at a person's account (XEP-0163).
"""
