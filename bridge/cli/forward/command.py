"""The command `forward`: its options, and the words in which it ends."""

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
import trio

from bridge.cli.exit import EXIT_CODES, run_async
from bridge.cli.forward.client import BridgeClient, BridgeRefuses
from bridge.cli.forward.forwarder import Forwarder
from bridge.cli.option import value
from bridge.config.settings import Count, HttpSettings, Seconds
from bridge.config.validation import readable_by_all
from bridge.config.value import BadValue, PostUrl, Secret, check_domain, parse_key, parse_post_url
from bridge.telemetry.log import configure, logger
from bridge.webhook.endpoint import Endpoint
from bridge.webhook.signature import Signer

AT_ONCE: Final = 10
AT_ONCE_LIMIT: Final = 100
TIMEOUT_S: Final = 30.0
INTERRUPTED: Final = 130


def _domain(text: str) -> str:
    check_domain(text)
    return text


@click.command(epilog=EXIT_CODES)
@click.option(
    "--bridge",
    metavar="URL",
    required=True,
    callback=value(parse_post_url),
    help="Poll the listener of the bridge here, such as https://bridge.example.com/.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help='Read the secret of a token with the scope "receive" from this file.',
)
@click.option(
    "--to",
    metavar="URL",
    required=True,
    callback=value(parse_post_url),
    help="POST each event to this URL, such as http://localhost:8000/.",
)
@click.option(
    "--component",
    metavar="DOMAIN",
    callback=value(_domain),
    help="Take the events of this component only. [default: all that the token is for]",
)
@click.option(
    "--secrets-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Sign each POST with the secrets in this file, one per line, as webhook_secrets_file of a"
    " component would.",
)
@click.option(
    "--at-once",
    metavar="N",
    type=click.IntRange(1, AT_ONCE_LIMIT),
    default=AT_ONCE,
    help=f"Forward up to this many events at a time. [default: {AT_ONCE}]",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=TIMEOUT_S,
    help=f"Wait this long for an answer of the service. [default: {TIMEOUT_S:g}]",
)
def forward(
    bridge: PostUrl,
    token_file: Path,
    to: PostUrl,
    component: str | None,
    secrets_file: Path | None,
    at_once: int,
    timeout: float,
) -> None:
    """Forward events of a bridge to a service that it cannot reach.

    \b
    xmpp-bridge forward --bridge https://bridge.example.com/ \\
        --token-file token --to http://localhost:8000/

    For a service on a laptop, behind NAT, or under development: the bridge has the component with
    component_post_url = "pull:", and this command polls it, POSTs each event to the service exactly
    as the bridge would, and brings the reply back. The service needs no change when it is deployed
    behind a URL later.

    If the service does not answer, the event is given back and comes again. Ctrl-C gives back all
    events that are under way.
    """
    configure("text", "info")
    token = Secret(_content_of("--token-file", token_file))
    if len(token.value.split()) > 1:
        problem = f"{token_file} holds more than one secret."
        raise click.BadParameter(problem, param_hint="--token-file")
    secrets = () if secrets_file is None else _keys(secrets_file)
    http = HttpSettings(timeout_s=Seconds(timeout), max_in_flight=Count(at_once))
    run_async(_run, bridge, token, to, component, secrets, http)


async def _run(
    bridge: PostUrl,
    token: Secret,
    to: PostUrl,
    component: str | None,
    secrets: tuple[Secret, ...],
    http: HttpSettings,
) -> int:
    log = logger()
    client = BridgeClient(bridge, token, component, http.max_in_flight)
    target = Endpoint(to, http, signer=Signer(secrets), text_replies=True)
    forwarder = Forwarder(client, target, http.max_in_flight, log.bind(endpoint=str(to)))
    refused: list[str] = []
    ended_by: list[int] = []
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_end_by_signal, nursery.cancel_scope, ended_by)
            log.info("forwarding", bridge=str(bridge), to=str(to))
            try:
                await forwarder.run()
            except* BridgeRefuses as group:
                refused += _messages(group.exceptions)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await client.aclose()
            await target.aclose()
    for message in refused:
        click.echo(f"Error: {message}.", err=True)
    if not ended_by:
        return 1
    return INTERRUPTED if ended_by[0] == signal.SIGINT else 0


async def _end_by_signal(
    scope: trio.CancelScope,
    ended_by: list[int],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            ended_by.append(number)
            scope.cancel()


def _messages(errors: Iterable[BaseException]) -> list[str]:
    found = []
    for one in errors:
        found += _messages(one.exceptions) if isinstance(one, BaseExceptionGroup) else [str(one)]
    return found


def _content_of(option: str, path: Path) -> str:
    """Return the text of a file with a secret, and warn if everyone may read it.

    Raises:
        click.BadParameter: if there is none.
    """
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise click.BadParameter(
            f"{path} cannot be read ({error.strerror}).", param_hint=option
        ) from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path} is not UTF-8 text.", param_hint=option) from None
    if not text:
        raise click.BadParameter(f"{path} is empty.", param_hint=option)
    if any(not (word.isascii() and word.isprintable()) for word in text.split()):
        raise click.BadParameter(f"{path} does not hold a secret.", param_hint=option)
    for warning in readable_by_all(path, "the secret in it"):
        logger().warning("configuration", warning=warning)
    return text


def _keys(path: Path) -> tuple[Secret, ...]:
    try:
        return tuple(map(parse_key, _content_of("--secrets-file", path).split()))
    except BadValue as error:
        raise click.BadParameter(f"{path}: {error}.", param_hint="--secrets-file") from None
