"""The form of the documentation: short where it is to be, each page with a task and a reference."""

import itertools
import re

import pytest

from bridge.cli.help import summary_of
from tests.manual.page import MANUAL, PAGES, README, Page, page

MAX_CODE_WIDTH = 78
"""What a terminal of 80 columns shows of a block in one line."""
COPIED = {"sh", "python", "js", "php", "toml", "lua", "nginx", "yaml"}
WITHOUT_REFERENCE = {"changelog"}

every_page = pytest.mark.parametrize("one", PAGES, ids=lambda one: one.path.stem)


def test_the_readme_is_short() -> None:
    text = README.read_bytes()
    assert len(text.splitlines()) <= 260
    assert len(text) <= 18 * 1024


def test_the_readme_lists_the_pages() -> None:
    """With the line that `xmpp-bridge help` shows."""
    rows = re.findall(r"^\| \[(\w+)\]\((.+?)\) +\| (.+?) +\|$", README.read_text(), re.M)
    listed = {topic: (path, line) for topic, path, line in rows}
    pages = {
        one.path.stem: (f"bridge/manual/{one.path.name}", summary_of(one.text)) for one in PAGES
    }
    assert listed == pages
    assert len(rows) == len(pages)


def test_the_manual_holds_nothing_but_pages() -> None:
    assert sorted(MANUAL.iterdir()) == [one.path for one in PAGES]
    assert all(re.fullmatch(r"[a-z]+\.md", one.path.name) for one in PAGES)


@every_page
def test_a_page_begins_with_a_title_a_line_and_a_task(one: Page) -> None:
    assert [level for level, _ in one.headings].count(1) == 1
    title, summary, task, *_ = one.text.split("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    assert re.fullmatch(r"\*[^*\n]+\.\*", summary)
    assert re.search(r"\b(you|your)\b", task, re.I)


@every_page
def test_no_level_of_headings_is_left_out(one: Page) -> None:
    levels = [level for level, _ in one.headings]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@every_page
def test_a_page_ends_with_its_reference(one: Page) -> None:
    if one.path.stem in WITHOUT_REFERENCE:
        return
    last = max(at for at, section in enumerate(one.sections) if section.level == 2)
    assert one.sections[last].heading.startswith("Reference")
    assert any(section.tables for section in one.sections[last:])


@every_page
def test_a_cell_holds_one_sentence(one: Page) -> None:
    cells = [
        cell.content
        for section in one.sections
        for table in section.tables
        for row in table
        for cell in row
    ]
    assert [cell for cell in cells if re.search(r"[.!?] [A-Z]", re.sub("`[^`]+`", "", cell))] == []


@every_page
def test_code_that_a_reader_copies_fits_a_terminal(one: Page) -> None:
    lines = [
        f"{block}: {line}"
        for block in one.blocks
        if block.language in COPIED
        for line in block.text.splitlines()
        if len(line) > MAX_CODE_WIDTH
    ]
    assert lines == []


def test_the_changelog_begins_with_what_is_not_released() -> None:
    sections = [one.heading for one in page("changelog").sections if one.level == 2]
    assert sections[0] == "Unreleased"
    assert sections[-1] == "0.1.0"
