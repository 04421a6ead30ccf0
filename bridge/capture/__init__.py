"""Records traffic as `.xcap` files, redacts them and replays them.

`format` defines the header and the records of a file, `exchange` the record of a POST.
`compression` and `file` read and write files. `recorder` collects the events of one component,
`rotation` decides when a file ends, `writer` writes in a thread, `retention` deletes the oldest
files. `redact` replaces names and words by pseudonyms, `replay` runs a capture again.
"""
