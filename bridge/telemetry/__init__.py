"""Logs, counters and traces.

`log` configures structlog and keeps the recent errors, `meter` counts for one component, `tracing`
exports spans by OpenTelemetry, `text` formats times, sizes and untrusted text for people.
"""
