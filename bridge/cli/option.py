"""Options that several commands share, and the parsing of their values."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import click

from bridge.capture.replay.selection import Selection, Since, parse_only, parse_since
from bridge.config.value import BadValue
from xmppstream.stanza import KINDS

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def checked(
    parse: Callable[[str], T], ctx: click.Context, parameter: click.Parameter, value: str
) -> T:
    """Return `parse(value)`. A value that it refuses is a usage error."""
    try:
        return parse(value)
    except BadValue as error:
        raise click.BadParameter(f"{error}.", ctx, parameter) from None


def value(parse: Callable[[str], T]) -> Callable[..., T | None]:
    """Return a callback for an option that may be absent."""

    def take(ctx: click.Context, parameter: click.Parameter, given: str | None) -> T | None:
        return None if given is None else checked(parse, ctx, parameter, given)

    return take


def values(parse: Callable[[str], T]) -> Callable[..., frozenset[T]]:
    """Return a callback for an option that may be repeated."""

    def take(ctx: click.Context, parameter: click.Parameter, given: Iterable[str]) -> frozenset[T]:
        return frozenset(map(partial(checked, parse, ctx, parameter), given))

    return take


def selecting(command: F) -> F:
    """Add the options that select stanzas of a capture to a command."""
    only = click.option(
        "--only",
        multiple=True,
        metavar="JID",
        callback=values(parse_only),
        help="Select stanzas from or to this full or bare address or domain. May be repeated.",
    )
    kind = click.option(
        "--kind",
        multiple=True,
        type=click.Choice(KINDS),
        help="Select stanzas of this kind. May be repeated.",
    )
    since = click.option(
        "--since",
        metavar="T",
        callback=value(parse_since),
        help="Select stanzas from then on: seconds after the start, a time of day in UTC"
        " (17:20:00), or a date (2026-11-22T17:20:00Z).",
    )
    return only(kind(since(command)))


def selection_of(only: frozenset[str], kind: tuple[str, ...], since: Since | None) -> Selection:
    """Return the selection that the options describe."""
    return Selection(only, frozenset(kind or KINDS), since)
