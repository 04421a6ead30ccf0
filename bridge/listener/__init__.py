"""The HTTP listener inside of the daemon: a way in, and a way to watch. Imported where `[listen]`
is configured, and only there: nothing else may import it at its top.
"""
