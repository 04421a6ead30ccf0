"""`xmpp-bridge print-schema`: what a service receives and may answer, as JSON Schema."""

import json

import click

from bridge.cli.exit import EXIT_CODES
from bridge.payload.schema import json_schema


@click.command("print-schema", epilog=EXIT_CODES)
def print_schema() -> None:
    """Print the JSON Schema of requests and replies.

    \b
    xmpp-bridge print-schema > xmpp-bridge.schema.json

    A POST of the bridge is `#/$defs/Request`, the body of an answer `#/$defs/Reply`. Use it to
    check your service, or to generate types for it.
    """
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
