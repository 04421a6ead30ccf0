"""A page in Markdown, as the tests see it: headings, links, blocks of code and tables."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

from attrs import define, frozen
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).parents[2]
MANUAL: Final = ROOT / "bridge" / "manual"
README: Final = ROOT / "README.md"
_PARSER: Final = MarkdownIt("commonmark").enable("table")


@frozen
class Block:
    """A fenced block of code; `line` is that of its first line of code."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@define(slots=False)
class Page:
    """One file of the documentation."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tokens(self) -> list[Token]:
        return _PARSER.parse(self.text)

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        """Each with its level, without markup."""
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        return [
            (int(token.tag[1]), _plain(inline))
            for token, inline in pairs
            if token.type == "heading_open"
        ]

    @cached_property
    def anchors(self) -> set[str]:
        """The names that GitHub gives to the headings."""
        seen: Counter[str] = Counter()
        anchors = set()
        for _, heading in self.headings:
            name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            anchors.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
        return anchors

    @cached_property
    def links(self) -> list[str]:
        return [str(token.attrs["href"]) for token in self._inlines() if token.type == "link_open"]

    @cached_property
    def spans(self) -> list[str]:
        """The code within sentences."""
        return [token.content for token in self._inlines() if token.type == "code_inline"]

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(self.path, token.map[0] + 2, token.info, token.content)
            for token in self.tokens
            if token.type == "fence" and token.map is not None
        ]

    @cached_property
    def prose(self) -> list[str]:
        """All paragraphs, headings, items and cells, without their code."""
        return [
            "".join(
                " " if one.type == "softbreak" else one.content
                for one in token.children or ()
                if one.type != "code_inline"
            )
            for token in self.tokens
            if token.type == "inline"
        ]

    def section(self, heading: str) -> "Section":
        """Return the section under a heading, which the page must have once."""
        (found,) = (one for one in self.sections if one.heading == heading)
        return found

    @cached_property
    def sections(self) -> list["Section"]:
        """All sections, each without those below it."""
        sections: list[Section] = []
        for at, token in enumerate(self.tokens):
            if token.type == "heading_open":
                sections.append(Section(_plain(self.tokens[at + 1]), int(token.tag[1]), []))
            elif sections:
                sections[-1].tokens.append(token)
        return sections

    def _inlines(self) -> Iterator[Token]:
        for token in self.tokens:
            yield from token.children or ()


@frozen
class Section:
    """A heading and what stands below it, up to the next heading."""

    heading: str
    level: int
    tokens: list[Token]

    @property
    def tables(self) -> list[list[list[Token]]]:
        """The tables, each as rows of cells, the head first."""
        tables: list[list[list[Token]]] = []
        inside = False
        for token in self.tokens:
            if token.type == "table_open":
                tables.append([])
                inside = True
            elif token.type == "table_close":
                inside = False
            elif token.type == "tr_open":
                tables[-1].append([])
            elif token.type == "inline" and inside:
                tables[-1][-1].append(token)
        return tables

    def table(self, head: str) -> dict[str, list[str]]:
        """Return the rows of the tables whose first column has that head: the code of the first
        cell, each piece by itself, and the texts of the other cells.
        """
        rows = {}
        for table in self.tables:
            if table[0][0].content == head:
                for first, *others in table[1:]:
                    for name in code_of(first):
                        rows[name] = [one.content for one in others]
        return rows


def code_of(cell: Token) -> list[str]:
    """Return the pieces of code in a cell."""
    return [one.content for one in cell.children or () if one.type == "code_inline"]


def _plain(inline: Token) -> str:
    return "".join(one.content for one in inline.children or ())


PAGES: Final = [Page(path) for path in sorted(MANUAL.glob("*.md"))]
DOCUMENTS: Final = [
    Page(README),
    *PAGES,
    *(Page(path) for path in sorted((ROOT / ".github").glob("*.md"))),
    Page(ROOT / "fixtures" / "README.md"),
]
BLOCKS: Final = [block for document in DOCUMENTS for block in document.blocks]


def page(topic: str) -> Page:
    """Return the page of a topic."""
    (found,) = (one for one in PAGES if one.path.stem == topic)
    return found


def blocks_in(language: str) -> list[Block]:
    """Return the blocks of all documents that are in that language."""
    return [block for block in BLOCKS if block.language == language]
