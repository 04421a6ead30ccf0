"""The process: components, reloads, signals, the control socket, systemd.

`daemon` owns the parts that exist once per process; `supervisor` starts, replaces and stops the
components of a configuration; `component` runs one of them. `control` is the control socket,
`status` answers its requests, `listener` is the port to the HTTP server, and `systemd` notifies the
service manager.
"""
