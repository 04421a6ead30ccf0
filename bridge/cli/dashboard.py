"""`xmpp-bridge print-dashboard`: the Grafana dashboard that is shipped with the package."""

from importlib import resources

import click

from bridge.cli.exit import EXIT_CODES


@click.command("print-dashboard", epilog=EXIT_CODES)
def print_dashboard() -> None:
    """Print a Grafana dashboard for the bridge's metrics.

    \b
    xmpp-bridge print-dashboard > xmpp-bridge.json

    Import it into Grafana 10 or later. The metrics are those that the listener ([listen]) serves.
    """
    file = resources.files("bridge") / "listener" / "monitor" / "dashboard.json"
    click.echo(file.read_text(encoding="utf-8"), nl=False)
