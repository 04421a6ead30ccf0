"""`xmpp-bridge import`: the bridge's configuration from Prosody's.

`evaluation` runs the file, which is a Lua program, in an environment without files, processes and
modules, and returns its `section`s. `translation` turns those of mod_component_http, mod_rest and
mod_post_msg into a plan: files to write, lines for Prosody, and notes about everything that cannot
be carried over. `command` writes and prints them, and never overwrites a file.
"""
