"""A page of the manual at a terminal: Markdown with links that name topics, and tables that fit."""

import re
from typing import ClassVar, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.measure import Measurement
from rich.table import Table

_FENCE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_PAGE: Final = re.compile(r"([a-z]+)\.md(?:#.*)?")
_WIDTH: Final = 100
"""The most columns of a page: longer lines are hard to read."""
_UNBOUNDED: Final = 10_000


def render(page: str, console: Console) -> str:
    """Return a page as it looks on this console; its last line names the pages that it links to."""
    shown = spell_links(page)
    if linked := _linked(page):
        topics = ", ".join(f"`{topic}`" for topic in linked)
        shown += f"\n## See also\n\nEach with `xmpp-bridge help TOPIC`: {topics}.\n"
    with console.capture() as capture:
        console.print(_Page(shown), width=min(console.width, _WIDTH))
    return capture.get()


def spell_links(page: str) -> str:
    """Return a page with its links as text, since a terminal cannot follow them.

    A link to another page names its topic, unless its text does so already; a link within the page
    becomes its text. Blocks of code are left as they are.
    """
    parts: list[str] = []
    start = 0
    for fence in _FENCE.finditer(page):
        parts += (_LINK.sub(_spelt, page[start : fence.start()]), fence[0])
        start = fence.end()
    parts.append(_LINK.sub(_spelt, page[start:]))
    return "".join(parts)


def _spelt(link: re.Match[str]) -> str:
    text, target = link[1], link[2]
    page = _PAGE.fullmatch(target)
    if page is not None:
        return text if text.strip("`") == page[1] else f"{text} (see `help {page[1]}`)"
    if target.startswith("#"):
        return text
    return f"{text} ({target.removeprefix('../../')})"


def _linked(page: str) -> list[str]:
    """Return the topics that a page links to, in the order of their first mention."""
    found = (_PAGE.fullmatch(link[2]) for link in _LINK.finditer(page))
    return list(dict.fromkeys(one[1] for one in found if one is not None))


class _Table(TableElement):
    """A table that cuts nothing off, and breaks no word if there is room for all of them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                _fit(table, console, options)
            yield table


def _fit(table: Table, console: Console, options: ConsoleOptions) -> None:
    """Set the widths of a table's columns: the widest shrink first, none below its longest word."""
    unbounded = options.update(width=_UNBOUNDED)
    widths, longest_words = [], []
    for column in table.columns:
        column.overflow = "fold"
        cells = [
            Measurement.get(console, unbounded, cell) for cell in (column.header, *column.cells)
        ]
        widths.append(max(cell.maximum for cell in cells))
        longest_words.append(max(cell.minimum for cell in cells))
    excess = Measurement.get(console, unbounded, table).maximum - options.max_width
    for _ in range(excess):
        able = [at for at, width in enumerate(widths) if width > longest_words[at]]
        if not able:
            return
        widths[max(able, key=widths.__getitem__)] -= 1
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width


class _Page(Markdown):
    elements: ClassVar = {**Markdown.elements, "table_open": _Table}
