"""`xmpp-bridge queue`: options, output, exit codes."""

import re
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import trio
from attrs import define
from rich.console import Console

from bridge.cli import queue_table as view
from bridge.cli.exit import EXIT_CODES
from bridge.cli.queue_client import QueueClient, open_queue
from bridge.config.loader import load_domains, load_journal
from bridge.config.settings import ConfigError
from bridge.daemon.control import ControlError
from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve
from bridge.journal.request import (
    PAGE_LIMIT,
    UIDS_LIMIT,
    Changed,
    CommandError,
    Forget,
    Found,
    Holdings,
    Item,
    Kept,
    ListQueue,
    ListTotals,
    Page,
    Purge,
    Purged,
    Retry,
    Show,
)
from bridge.journal.store import JournalError
from bridge.telemetry.text import printable

TERMINAL_LIMIT: Final = 100

F = TypeVar("F", bound=Callable[..., Any])


@define
class Target:
    """The queue to work on, and the output format."""

    config: str | None = None
    state_dir: Path | None = None
    as_json: bool = False


class Queue(click.Group):
    """Takes an optional CONFIG before the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options, config, rest = list[str](), "", list(args)
        while rest and not (config and not rest[0].startswith("-")):
            if rest[0] == "--state-dir":
                options += rest[:2]
                del rest[:2]
            elif rest[0].startswith("-"):
                options.append(rest.pop(0))
            elif rest[0] in self.commands:
                break
            else:
                config = rest.pop(0)
        return super().parse_args(ctx, [*options, config, *rest] if args else args)


def _options(command: F) -> F:
    """Add the options that are allowed both before and after the command name."""

    def take(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(ctx.ensure_object(Target), str(parameter.name), value)

    state_dir = click.option(
        "--state-dir",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=take,
        help="Look for the daemon's journal here. [default: as for run]",
    )
    as_json = click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        callback=take,
        help="Print JSON, with all fields.",
    )
    return state_dir(as_json(command))


@click.group(cls=Queue, epilog=EXIT_CODES, subcommand_metavar="COMMAND …")
@click.argument("config", required=False)
@_options
@click.pass_context
def queue(ctx: click.Context, config: str | None) -> None:
    """Inspect the queue, retry or drop dead letters, drop replies.

    \b
    xmpp-bridge queue bridge.toml list
    xmpp-bridge queue bridge.toml show msg_4f0c
    xmpp-bridge queue bridge.toml retry msg_4f0c msg_77ab

    A dead letter is a stanza that could not be delivered; it is kept with the reason. The commands
    work whether or not the daemon is running. From the file CONFIG only the names of components are
    read, to mark stanzas of removed components as orphaned, and, if no daemon is running here,
    where the journal is. A unique prefix of a uid is enough.
    """
    ctx.ensure_object(Target).config = config or None


@queue.command("list", epilog=EXIT_CODES)
@click.option("--dead", "state", flag_value="dead", help="List only dead letters.")
@click.option(
    "--pending",
    "state",
    flag_value="pending",
    help="List only stanzas that are still to be delivered.",
)
@click.option(
    "--replies",
    "state",
    flag_value="reply",
    help="List only replies that the server has not confirmed.",
)
@click.option("--component", metavar="DOMAIN", help="List only stanzas of this component.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    help=f"List at most this many; 0 lists all. [default: {TERMINAL_LIMIT} at a terminal, else 0]",
)
@click.option("--text", is_flag=True, help="Print the text of each message.")
@_options
@click.pass_obj
def list_(
    target: Target, state: Kept | None, component: str | None, limit: int | None, text: bool
) -> None:
    """List dead letters, then pending stanzas, then unconfirmed replies, oldest first.

    \b
    xmpp-bridge queue bridge.toml list --dead

    If the output is not a terminal, each stanza is a line with tabs between the columns.
    """
    states: tuple[Kept, ...] = ("dead", "pending", "reply") if state is None else (state,)
    at_terminal = sys.stdout.isatty() and not target.as_json
    if limit is None:
        limit = TERMINAL_LIMIT if at_terminal else 0
    if target.as_json:  # it has the XML in any case
        _run(target, partial(_print_json, states=states, component=component, limit=limit))
    show = _print_tables if at_terminal else _print_lines
    _run(target, partial(show, states=states, component=component, limit=limit, text=text))


@queue.command(epilog=EXIT_CODES)
@click.argument("uid")
@click.option("--text", is_flag=True, help="Print the text of a message in place of its XML.")
@_options
@click.pass_obj
def show(target: Target, uid: str, text: bool) -> None:
    """Show everything that is stored under UID.

    \b
    xmpp-bridge queue bridge.toml show msg_4f0c

    Prints the stanza, each attempt to deliver it, and the reason of a dead letter. With --text, as
    in list, the text of a message is printed without the XML around it.
    """

    async def ask(client: QueueClient) -> int:
        found = await client.ask(Show(uid=uid), Found)
        if target.as_json:
            click.echo(view.to_json(found))
        else:
            click.echo(view.to_text(found.items, time.time(), text_only=text))
        return 0

    _run(target, ask)


@queue.command(epilog=EXIT_CODES)
@click.argument("uids", metavar="[UID…]", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Retry all dead letters that can be retried.")
@click.option("--component", metavar="DOMAIN", help="Retry those of this component.")
@click.option("--reason", metavar="TEXT", help="Retry those whose reason contains this text.")
@click.option(
    "--since",
    metavar="TIME",
    callback=lambda _, __, value: None if value is None else _moment(value),
    help="Retry those that died since then: 30min, 2h, 1d or 2026-11-28T10:00Z.",
)
@_options
@click.pass_obj
def retry(
    target: Target,
    uids: tuple[str, ...],
    every: bool,
    component: str | None,
    reason: str | None,
    since: float | None,
) -> None:
    """Deliver dead letters again, with a new retry budget.

    \b
    xmpp-bridge queue bridge.toml retry msg_4f0c msg_77ab
    xmpp-bridge queue bridge.toml retry --reason "status 503" --since 2h

    Options that select dead letters are combined, and leave out those that cannot be retried. A
    running daemon delivers them at once. An iq cannot be retried, because its sender has already
    had an answer; neither can a reply.
    """
    selects = every or not (component is None and reason is None and since is None)
    if bool(uids) == selects:
        why = "Give either uids, or --all, --component, --reason or --since"
        raise click.UsageError(f"{why}{', not both' if uids else ''}.")
    if not selects:
        _run(target, partial(_change, target, uids, Retry, "pending again"))

    async def retry_selected(client: QueueClient) -> int:
        found: list[str] = []
        left_out = 0
        async with aclosing(_pages(client, ("dead",), component, 0)) as pages:
            async for items in pages:
                for one in items:
                    if reason is not None and reason.lower() not in (one.reason or "").lower():
                        continue
                    if since is not None and (one.died or 0.0) < since:
                        continue
                    if one.kind == "iq" or one.is_reply:
                        left_out += 1
                    else:
                        found.append(one.uid)
        code = await _change(target, found, Retry, "pending again", client)
        if not target.as_json:
            noun = "dead letter" if len(found) == 1 else "dead letters"
            click.echo(f"{len(found):,} {noun} selected", err=True)
            if left_out:
                why = "which cannot be retried: iqs and stanzas of ours"
                click.echo(f"{left_out:,} left out, {why}", err=True)
        return code

    _run(target, retry_selected)


@queue.command(epilog=EXIT_CODES)
@click.argument("uids", metavar="UID…", nargs=-1, required=True)
@_options
@click.pass_obj
def drop(target: Target, uids: tuple[str, ...]) -> None:
    """Delete dead letters, or replies that the server has not confirmed.

    \b
    xmpp-bridge queue bridge.toml drop msg_4f0c

    If a uid has both, only the dead letter is deleted: the sender still gets the reply. A running
    daemon stops sending a deleted reply, but what is written already may arrive.
    """
    _run(target, partial(_change, target, uids, Forget, "dropped"))


@queue.command(epilog=EXIT_CODES)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_options
@click.pass_obj
def purge(target: Target, yes: bool) -> None:
    """Delete all dead letters of all components.

    \b
    xmpp-bridge queue bridge.toml purge --yes

    Asks for confirmation at a terminal; elsewhere, --yes is required.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("This deletes all dead letters: add --yes.")
        click.confirm("Delete all dead letters?", abort=True, err=True)

    async def ask(client: QueueClient) -> int:
        purged = await client.ask(Purge(), Purged)
        if target.as_json:
            click.echo(view.to_json(purged))
        else:
            click.echo(
                f"{purged.count:,} {'dead letter' if purged.count == 1 else 'dead letters'} dropped"
            )
        return 0

    _run(target, ask)


_AGO: Final = re.compile(r"(\d{1,9})(s|min|h|d)", re.ASCII)
_UNIT_S: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def _moment(value: str) -> float:
    """Return a time as Unix time: a duration before now, or ISO 8601, in UTC if it has no zone.

    Raises:
        click.BadParameter: it is neither.
    """
    ago = _AGO.fullmatch(value)
    if ago is not None:
        return time.time() - int(ago[1]) * _UNIT_S[ago[2]]
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        hint = "use 30min, 2h, 1d or a time such as 2026-11-28T10:00Z"
        raise click.BadParameter(f"{printable(value)!r} is not a time: {hint}.") from None


async def _change(
    target: Target,
    uids: Sequence[str],
    request: type[Retry] | type[Forget],
    said: str,
    client: QueueClient,
) -> int:
    done: list[str] = []
    failed: dict[str, str] = {}
    for start in range(0, len(uids), UIDS_LIMIT):
        some = tuple(uids[start : start + UIDS_LIMIT])
        changed = await client.ask(request(uids=some), Changed)
        done += changed.done
        failed |= changed.failed
    if target.as_json:
        click.echo(view.to_json(Changed(tuple(done), failed)))
    else:
        for uid in done:
            click.echo(f"{uid}: {said}")
        for uid, why in failed.items():
            click.echo(f"Error: {printable(uid)}: {why}.", err=True)
    return 1 if failed else 0


# --- lists


async def _pages(
    client: QueueClient,
    states: Sequence[Kept],
    component: str | None,
    limit: int,
    *,
    xml: bool = False,
) -> AsyncGenerator[tuple[Item, ...], None]:
    """Yield the stored items, page by page: at most `limit`, or all if that is 0."""
    given = 0
    for state in states:
        after: int | None = 0
        while after is not None and not (limit and given >= limit):
            some = min(PAGE_LIMIT, limit - given) if limit else PAGE_LIMIT
            request = ListQueue(state=state, component=component, after=after, limit=some, xml=xml)
            page = await client.ask(request, Page)
            if page.items:
                yield page.items
            given += len(page.items)
            after = page.next


async def _print_tables(
    client: QueueClient,
    *,
    states: Sequence[Kept],
    component: str | None,
    limit: int,
    text: bool,
) -> int:
    console, rows, shown = Console(), list[Item](), 0
    kept = (await client.ask(ListTotals(), Holdings)).components
    async with aclosing(_pages(client, states, component, limit, xml=text)) as pages:
        async for items in pages:
            rows += items
            shown += len(items)
            if len(rows) >= PAGE_LIMIT:  # a table is built in memory
                console.print(view.to_table(rows, time.time(), console.width, with_text=text))
                rows.clear()
    if rows:
        console.print(view.to_table(rows, time.time(), console.width, with_text=text))
    if shown and not text:
        click.echo("--text shows what people wrote; show UID shows a whole stanza.")
    if limit and shown == limit:
        click.echo(f"These are the first {shown}; --limit 0 shows all.")
    if shown:
        click.echo()
    for line in view.summary(kept, time.time()) or ["Nothing is stored."]:
        click.echo(line)
    return 0


async def _print_lines(
    client: QueueClient,
    *,
    states: Sequence[Kept],
    component: str | None,
    limit: int,
    text: bool,
) -> int:
    click.echo("\t".join([*view.COLUMNS, *(["text"] if text else [])]))
    async with aclosing(_pages(client, states, component, limit, xml=text)) as pages:
        async for items in pages:
            now = time.time()
            click.echo("\n".join(view.to_line(one, now, with_text=text) for one in items))
    for line in view.summary((await client.ask(ListTotals(), Holdings)).components, time.time()):
        click.echo(line, err=True)
    return 0


async def _print_json(
    client: QueueClient, *, states: Sequence[Kept], component: str | None, limit: int
) -> int:
    """Print one document with a line per stanza, without holding it in memory."""
    kept = await client.ask(ListTotals(), Holdings)
    click.echo(f'{{"components": {view.to_json(kept.components, indent=None)},\n"stanzas": [')
    before = ""
    async with aclosing(_pages(client, states, component, limit, xml=True)) as pages:
        async for items in pages:
            lines = ",\n".join(view.to_json(one, indent=None) for one in items)
            click.echo(before + lines, nl=False)
            before = ",\n"
    click.echo("\n]}" if before else "]}")
    return 0


# --- running


def _run(target: Target, command: Callable[[QueueClient], Awaitable[int]]) -> None:
    """Run a command on the daemon or its journal, and exit."""
    for stream in (sys.stdout, sys.stderr):  # a locale without UTF-8 must not end the command
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        opened = partial(open_queue, StateDirectory(resolve(target.state_dir)))
        if target.config is None:
            client = opened(None)
        else:
            file = Path(target.config)
            client = opened(load_domains(file), partial(load_journal, file))
        code = trio.run(_with_queue, client, command)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
    except (CommandError, ControlError, JournalError, StateDirectoryError) as error:
        raise click.ClickException(f"{printable(str(error))}.") from None
    raise SystemExit(code)


async def _with_queue(
    opening: AbstractAsyncContextManager[QueueClient],
    command: Callable[[QueueClient], Awaitable[int]],
) -> int:
    async with opening as client:
        return await command(client)
