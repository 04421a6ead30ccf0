"""Conformance: how a server treats components, and how a component behaves, rule by rule.

`rule` is the table of rules, `report` what is said about each, `command` the command line. `server`
probes a server, as a component; `component` probes a component, as a server.
"""
