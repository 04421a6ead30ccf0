"""Each link leads somewhere: to a file, to a heading; and each path that a page names exists."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.manual.page import DOCUMENTS, ROOT, Page

REPOSITORY = "https://github.com/xmpp-bridge/xmpp-bridge/"
PATH = re.compile(r"(?:bridge|xmppstream|tests|fixtures|\.github|\.ci)/[\w./-]*")


def name(document: Page) -> str:
    return str(document.path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Page) -> None:
    assert [link for link in document.links if not leads_somewhere(document, link)] == []


def leads_somewhere(document: Page, link: str) -> bool:
    if "://" in link:
        return link.startswith("https://") and ".." not in link
    file, _, anchor = link.partition("#")
    path = (document.path.parent / file).resolve() if file else document.path
    return path.exists() and (not anchor or anchor in Page(path).anchors)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_paths_exist(document: Page) -> None:
    paths = [span for span in document.spans if PATH.fullmatch(span) and "NAME" not in span]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_a_page_links_only_to_what_is_shipped_with_it() -> None:
    outside = {
        (document.path.stem, link)
        for document in DOCUMENTS
        if document.path.parent.name == "manual"
        for link in document.links
        if link.startswith("..")
    }
    assert outside == {("architecture", "../../.github/CONTRIBUTING.md")}


def test_the_addresses_of_the_project_lead_somewhere() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    for url in urls.values():
        assert url.startswith(REPOSITORY.rstrip("/"))
        if found := re.fullmatch(re.escape(REPOSITORY) + "(?:tree|blob)/main/(.*)", url):
            assert (ROOT / found[1]).exists()


def test_the_anchors_are_those_of_github(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        '# `[component."DOMAIN"]`\n\n## H6. What the *bridge* answers\n\n## Two-words & _more_\n\n'
        "```\n# no heading\n```\n\n## It\n\n## It\n"
    )
    names = {"componentdomain", "h6-what-the-bridge-answers", "two-words--more", "it", "it-1"}
    assert Page(path).anchors == names
