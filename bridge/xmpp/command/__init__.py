"""Commands of a bot (XEP-0050), also as text, and registration (XEP-0077).

`registry` knows which commands there are and who may use them. `commands` is the machine: a stanza
in, and either an answer of the bridge or an event to be POSTed; later the reply of the service in,
and the answer out. It knows no stream and no clock of its own. `session` keeps the dialogs, in the
small state, so that one goes on after a restart. `value` checks what people fill in, and `form`
makes forms of fields. `text` leads the same dialogs in words, and `registration` the one of
XEP-0077.

All that strangers send is bounded: the fields of a form, the length of values, the dialogs of one
sender and of all.
"""
