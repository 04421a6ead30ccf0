"""Conformance tests: how a server treats components, and how a component behaves, rule by rule.

`rule` is the table of rules, `report` the findings about each. `server` attaches to a server as a
component; `component` plays a server towards a component.
"""
