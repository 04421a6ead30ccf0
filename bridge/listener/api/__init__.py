"""The HTTP API: stanzas, files, queries, and the routes of Prosody's modules.

`upload` bounds the uploads, of `file` (a body that is a file), of `attachment` (a multipart `form`)
and of `handler` (content within JSON).
"""
