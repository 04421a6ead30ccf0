"""Sizes on the command line: 64M, 1G, 500K, or bytes."""

import re
from collections.abc import Callable
from typing import Final

import click

_FACTORS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE: Final = re.compile(r"([0-9]{1,15})(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)


def size_from(
    min_bytes: int,
) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """Return a callback that parses a size to bytes. K, M, G and T are powers of 1024."""

    def convert(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
        if text is None:
            return None
        found = _SIZE.fullmatch(text.strip())
        if found is None:
            raise click.BadParameter(f"{text!r} is not a valid size: use 64M or 1G.", ctx, param)
        size = int(found[1]) * _FACTORS[(found[2] or "").upper()]
        if size < min_bytes:
            raise click.BadParameter(f"{text!r} is less than {written(min_bytes)}.", ctx, param)
        return size

    return convert


def written(size_bytes: int) -> str:
    """Return a size as the option takes it, in the largest unit that divides it."""
    for unit, factor in reversed(_FACTORS.items()):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)
