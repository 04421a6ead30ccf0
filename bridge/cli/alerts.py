"""`xmpp-bridge print-alerts`: the alerts for Prometheus that are shipped with the package."""

from importlib import resources

import click

from bridge.cli.exit import EXIT_CODES


@click.command("print-alerts", epilog=EXIT_CODES)
def print_alerts() -> None:
    """Print alerts for the bridge's metrics, as a rule file for Prometheus.

    \b
    xmpp-bridge print-alerts > xmpp-bridge.rules.yml

    Name the file under rule_files in prometheus.yml, and change times and limits as you like. There
    are six alerts: a component that is not attached, an endpoint or a journal that is down, a
    stanza that waits for ten minutes, a sender who was not told, and dead letters. The metrics are
    those that the listener ([listen]) serves; see xmpp-bridge help monitoring.
    """
    file = resources.files("bridge") / "listener" / "monitor" / "alerts.yml"
    click.echo(file.read_text(encoding="utf-8"), nl=False)
