"""`xmpp-bridge replay`: options, progress, output, exit codes."""

import gc
import json
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import trio
from attrs import define, evolve, field, frozen
from rich.console import Console

from bridge.capture.file import CaptureFileError
from bridge.capture.replay import summary
from bridge.capture.replay.clock import JumpingClock
from bridge.capture.replay.harness import Plan, ReplayHarness
from bridge.capture.replay.identity import (
    NoComponent,
    component_for,
    component_of,
    has_endpoint,
    seen_in,
    with_budget,
)
from bridge.capture.replay.player import parse_speed
from bridge.capture.replay.selection import Selection, Since
from bridge.capture.replay.story import Story, files, size_of, stories
from bridge.capture.replay.summary import Comparison, ReplayLog
from bridge.capture.replay.tally import Tally
from bridge.cli.exit import EXIT_CODES
from bridge.cli.option import selecting, selection_of, value
from bridge.cli.progress import Bar
from bridge.config.loader import load_without_secrets
from bridge.config.settings import ConfigError, Settings
from bridge.config.value import BadValue, PostUrl, parse_post_url
from xmppstream.stanza import KINDS

_INTERRUPTED: Final = 130
_TICK_S: Final = 0.2


def _parse_kinds(text: str) -> frozenset[str]:
    kinds = [word.strip() for word in text.split(",") if word.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise BadValue(f"{kind!r} is not a kind of stanza", f"Use some of {', '.join(KINDS)}")
    return frozenset(kinds)


def _parse_speed(text: str) -> float:
    return parse_speed(text) or math.inf


@frozen(kw_only=True)
class Asked:
    """The options of the command line."""

    post_url: PostUrl | None
    captured: bool
    config: Path | None
    post_stanzas: frozenset[str] | None
    speed: float | None
    selection: Selection
    expects: bool
    max_differences: int
    as_json: bool
    progress: bool | None
    verbose: bool


@click.command(epilog=EXIT_CODES)
@click.argument("paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--post-url",
    metavar="URL",
    callback=value(parse_post_url),
    help="POST stanzas to this URL.",
)
@click.option(
    "--answers",
    type=click.Choice(["captured"]),
    help="Use the captured answers instead of an endpoint. Nothing leaves this machine, no time is"
    " spent waiting, and the result is the same each time.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Replay with the component of this configuration file: its kinds of stanzas, order, HTTP"
    " options and, without --post-url, its URL. Its secret and journal are not used.",
)
@click.option(
    "--component-post-stanzas",
    "post_stanzas",
    metavar="KINDS",
    callback=value(_parse_kinds),
    help="POST these kinds of stanzas, such as message,iq. [default: those of --config, else those"
    " that were POSTed in the capture]",
)
@click.option(
    "--speed",
    metavar="FACTOR",
    callback=value(_parse_speed),
    help="Replay at this speed: 10x, 0.5x or max. [default: 1x with a live endpoint, else max]",
)
@selecting
@click.option(
    "--expect",
    "expects",
    is_flag=True,
    help="Compare the stanzas sent and the POSTs with the capture.",
)
@click.option(
    "--max-differences",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help="Print at most N differences.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--progress/--no-progress",
    default=None,
    help="Show the progress on stderr. [default: at a terminal]",
)
@click.option("-v", "--verbose", is_flag=True, help="Print the log of the bridge.")
def replay(
    paths: tuple[Path, ...],
    answers: str | None,
    only: frozenset[str],
    kind: tuple[str, ...],
    since: Since | None,
    **options: Any,
) -> NoReturn:
    """Replay captured traffic of a server against an endpoint.

    \b
    xmpp-bridge replay yesterday.xcap --answers captured --expect
    xmpp-bridge replay yesterday.xcap --post-url http://127.0.0.1:8000/ --expect --speed max
    xmpp-bridge replay message.xml --post-url http://127.0.0.1:8000/

    Plays the server side of each FILE, through the same code as `run`. FILE is a capture (.xcap,
    .xcap.gz, .xcap.zst) or plain XML (stanzas or a whole stream); `-` is standard input. Files of
    one rotation are replayed as one capture, others one after the other.
    """
    selection = selection_of(only, kind, since)
    asked = Asked(captured=answers is not None, selection=selection, **options)
    if asked.captured and asked.post_url is not None:
        raise click.UsageError("Use either --post-url or --answers captured, not both.")
    if not asked.captured and asked.post_url is None and asked.config is None:
        raise click.UsageError("Use --post-url URL, --answers captured, or --config CONFIG.")
    settings = _settings(asked)
    try:
        with files(paths) as given:
            found = stories(given)
            plans = [_plan(asked, story, settings) for story in found]
            replayer = Replayer(asked, list(zip(found, plans, strict=True)))
            code = replayer.run()
    except CaptureFileError as error:
        raise click.ClickException(f"{error}.") from None
    except NoComponent as error:
        raise click.UsageError(f"{asked.config}: {error}.") from None
    raise SystemExit(code)


def _settings(asked: Asked) -> Settings:
    if asked.config is None:
        return with_budget(Settings(()), captured=asked.captured)
    try:
        return load_without_secrets(asked.config)
    except ConfigError as error:
        for fault in error.faults:
            click.echo(f"{error.source}: {fault}", err=True)
        raise SystemExit(2) from None


def _plan(asked: Asked, story: Story, settings: Settings) -> Plan:
    seen = None
    if asked.captured or asked.config is None:
        seen = seen_in(story)
        if asked.captured and not has_endpoint(story, seen):
            why = "it has no HTTP exchanges, so there are no captured answers: use --post-url"
            raise CaptureFileError(story.parts[0].file.given, why)
    if asked.config is not None:
        component = component_of(settings, story.header.domain)
    else:
        assert seen is not None
        component = component_for(story, seen, captured=asked.captured)
    if asked.post_url is not None:
        component = evolve(component, post_url=asked.post_url)
    elif component.post_url.is_pulled and not asked.captured:
        why = "is pulled, so there is no endpoint to POST to: use --post-url URL"
        raise click.UsageError(f"{asked.config}: {component.domain} {why}.")
    if asked.post_stanzas is not None:
        component = evolve(component, post_stanzas=asked.post_stanzas)
    speed = asked.speed
    if speed is None:
        speed = math.inf if asked.captured or story.is_plain else 1.0
    return Plan(
        settings,
        component,
        asked.captured,
        asked.selection,
        None if math.isinf(speed) else speed,
        asked.expects,
        asked.max_differences,
    )


@define
class Replayer:
    """Replays captures one after the other, and prints the result."""

    asked: Asked
    work: Sequence[tuple[Story, Plan]]
    tally: Tally = field(factory=Tally)
    comparison: Comparison = field(factory=Comparison)
    errors: list[str] = field(factory=list)
    is_interrupted: bool = False

    def run(self) -> int:
        """Replay everything, print the result, and return the exit code."""
        asked, told = self.asked, Console(stderr=True, highlight=False)
        shown = told.is_terminal if asked.progress is None else asked.progress
        gc.freeze()  # keep loaded objects out of the full collection that ends each parser
        bar = Bar(size_of([story for story, _ in self.work]), shown=shown, console=told)
        replay_log = ReplayLog(
            self.tally, told, prints_all=asked.verbose, prints_errors=not asked.captured
        )
        clock = JumpingClock() if asked.captured else None
        with bar:
            try:
                trio.run(self._run, bar, replay_log, clock=clock)
            except* KeyboardInterrupt:  # before or after the signal receiver is open
                self.is_interrupted = True
        self._show(bar)
        if self.is_interrupted:
            return _INTERRUPTED
        return 1 if self.errors or self.comparison.count else 0

    async def _run(self, bar: Bar, replay_log: ReplayLog) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals, nursery.cancel_scope)
            for story, plan in self.work:
                await self._replay(story, plan, bar, replay_log)
            nursery.cancel_scope.cancel()

    async def _replay(self, story: Story, plan: Plan, bar: Bar, replay_log: ReplayLog) -> None:
        harness = ReplayHarness(story, plan, self.tally, replay_log.logger(), bar.advance)
        replay_log.now = harness.now
        try:
            async with trio.open_nursery() as nursery:
                if not plan.captured:
                    nursery.start_soon(_tick, harness, bar)
                await harness.run()
                nursery.cancel_scope.cancel()
        finally:
            self._note(harness)

    def _note(self, harness: ReplayHarness) -> None:
        self.tally.notes += harness.reader.cut
        if harness.failure is not None:
            self.errors.append(str(harness.failure))
        if harness.expectation is not None:
            one = harness.expectation
            self.comparison = self.comparison.plus(
                Comparison(one.stanzas, one.posts, one.count, one.left_out, one.differences)
            )

    async def _watch_signals(
        self,
        scope: trio.CancelScope,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self.is_interrupted = True
                scope.cancel()
                return

    def _show(self, bar: Bar) -> None:
        asked = self.asked
        comparison = self.comparison if asked.expects else None
        unreachable = self.tally.errors["unreachable"]
        if not asked.captured and unreachable:
            self.errors.append(f"{unreachable} stanzas: the endpoint could not be reached")
        if self.is_interrupted:
            self.tally.notes.append("interrupted: the replay is not complete")
        seconds = None if asked.captured else bar.seconds
        if asked.as_json:
            found = summary.to_json(self.tally, comparison, seconds)
            found["errors_of_files"] = self.errors
            click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            console = Console(highlight=False)
            summary.show(console, self.tally, comparison, asked.max_differences)
            if seconds is not None:
                console.print(f"{seconds:.1f} s, {bar.rate}")
        for error in self.errors:
            sys.stdout.flush()
            click.echo(f"Error: {error}.", err=True)


async def _tick(harness: ReplayHarness, bar: Bar) -> None:
    while True:
        await trio.sleep(_TICK_S)
        bar.look(harness.reader.position_bytes)
