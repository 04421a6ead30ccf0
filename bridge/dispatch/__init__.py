"""Decides what happens to an incoming stanza, and when it is delivered.

`admission` sorts incoming stanzas, `ratelimit` limits each sender, `conversation` keeps the order,
`dispatcher` gives out slots and runs one task per stanza, `worker` makes one attempt, `inflight`
holds accepted stanzas until they are settled.
"""
