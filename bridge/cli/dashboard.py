"""`xmpp-bridge print-dashboard`: a dashboard for Grafana, shipped with the package."""

from importlib import resources

import click

from bridge.cli.exit import EXIT_CODES


@click.command("print-dashboard", epilog=EXIT_CODES)
def print_dashboard() -> None:
    """Print a dashboard for Grafana (10 or later), of the metrics that [listen] serves.

    \b
    xmpp-bridge print-dashboard > xmpp-bridge.json
    """
    file = resources.files("bridge") / "listener" / "monitor" / "dashboard.json"
    click.echo(file.read_text(encoding="utf-8"), nl=False)
