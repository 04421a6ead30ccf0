"""The process: components, reloads, signals, the control socket, systemd.

`daemon` owns everything of which a process has one; `supervisor` starts, replaces and stops the
components of a configuration; `component` is one of them at work. `control` is the control socket,
`status` answers what comes over it, `systemd` notifies the service manager.
"""
