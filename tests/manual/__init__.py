"""The documentation: its links and its code, that it names everything that there is, and the
English of the source.
"""
