"""Records traffic as `.xcap`, redacts it, replays it.

`format` is a record of the file, `exchange` the record of a POST, `compression` and `file` read and
write whole files. `recorder` collects what one component does, `rotation` decides when a file ends,
`writer` writes in a thread, `retention` deletes the oldest files. `redact` replaces names and words
by pseudonyms, `replay` runs a capture again.
"""
