"""The HTTP listener in the daemon: the API that sends stanzas, metrics, health and the status page.

It is imported only if `[listen]` is configured; no other module may import it at module level.
"""
