"""Health, metrics, and the history behind the status page."""
