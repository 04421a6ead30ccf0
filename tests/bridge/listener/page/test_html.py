"""HTML whose text is text, whatever is in it."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from bridge.listener.page.html import join, tag, text


def test_an_element() -> None:
    made = tag("a", "x < y", None, [tag("b", "&")], href="?a=1&b=2", class_="k", data_id=5)
    assert made == '<a href="?a=1&amp;b=2" class="k" data-id="5">x &lt; y<b>&amp;</b></a>'


def test_attributes_without_a_value() -> None:
    assert tag("input", required=True, hidden=False, value=None) == "<input required>"


def test_what_cannot_be_seen_is_written_out() -> None:
    assert text("a\u202eb\nc\x00") == r"a\u202eb\nc\x00"


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_no_text_becomes_markup(one: str, other: str) -> None:
    reader = Reader()
    reader.feed(tag("p", one, title=other))
    reader.close()
    assert [name for name, _ in reader.tags] == ["p"]
    assert [name for name, _ in reader.tags[0][1]] == ["title"]
    if one.isprintable() and other.isprintable():
        assert (reader.text, reader.tags[0][1][0][1]) == (one, other)


def test_markup_stays_as_it_is() -> None:
    assert join("<", Markup("<br>"), ["&"], None) == "&lt;<br>&amp;"
