"""`xmpp-bridge check`: test a configuration without disturbing a running daemon.

`command` runs all checks and prints what `report` has collected: a table, the lines for the
server's own configuration (`lines`), and a verdict. `server` and `endpoint` try what the file
names, from this machine, and `database` the journal's; `attach` also takes the component's place
for a moment, and `room` joins its rooms. If a daemon runs, `daemon` asks it, and nothing attaches
as its components.

Whatever may be wrong is told with a remedy, and whatever was not tried is named in the verdict.
"""
