"""HTML, made of values: whatever is not markup already is text, and is escaped."""

from collections.abc import Iterable
from html import escape
from typing import Final, TypeAlias

from bridge.telemetry.log import printable

_VOID: Final = frozenset({"br", "hr", "input", "link", "meta"})

Child: TypeAlias = "str | Iterable[Child] | None"
Value = str | int | float | bool | None


class Markup(str):
    """Text that is HTML, and safe."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Write text; what is no visible character is written as its escape, so that neither a line
    end nor a mark of direction in an address can make another text of the page.
    """
    return Markup(escape(printable(value)))


def join(*children: Child) -> Markup:
    """Write children, one after the other; None is none."""
    return Markup("".join(_written(children)))


def tag(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """Write an element. In the names of attributes `_` is `-`, but for one at the end; True is an
    attribute without a value, None and False are none.
    """
    words = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{text(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    end = "" if name in _VOID else f"{join(*children)}</{name}>"
    return Markup(f"<{name}{words}>{end}")


def _written(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield text(child)
        elif child is not None:
            yield from _written(child)
