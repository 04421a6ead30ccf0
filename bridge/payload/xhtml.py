"""Formatted text (XEP-0071): what strangers send is reduced to what is safe to show on a web page,
and the HTML of a service is made into the XHTML that clients know.
"""

from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlsplit

from bridge.payload.namespace import XHTML
from xmppstream import Element, write
from xmppstream.names import expanded

_ALLOWED: Final = {
    "a": ("href",),
    "img": ("src", "alt", "height", "width"),
    **dict.fromkeys(
        ("blockquote", "br", "cite", "em", "li", "ol", "p", "span", "strong", "ul", "b", "i", "u"),
        (),
    ),
}
_DROPPED: Final = frozenset({"script", "style", "head", "title"})
_SCHEMES: Final = frozenset({"http", "https", "mailto", "xmpp", "cid"})
_DEPTH: Final = 50


def reduced(body: Element) -> str:
    """Return the content of an XHTML body as text, with elements and attributes of XEP-0071 only.

    Other elements are replaced by their content; scripts and styles vanish, and so do URLs of
    schemes that could run code.
    """
    children = _reduce(body.children, _DEPTH)
    shell = write(Element(expanded(XHTML, "body"), (), children), XHTML)
    return shell.removeprefix("<body>").removesuffix("</body>") if children else ""


def _reduce(children: tuple[Element | str, ...], depth: int) -> tuple[Element | str, ...]:
    kept: list[Element | str] = []
    for child in children:
        if isinstance(child, str):
            kept.append(child)
        elif child.local not in _DROPPED and depth:
            inner = _reduce(child.children, depth - 1)
            known = _ALLOWED.get(child.local) if child.namespace == XHTML else None
            if known is None:
                kept.extend(inner)
            else:
                pairs = tuple(pair for pair in child.attributes if _is_safe(*pair, known))
                kept.append(Element(child.name, pairs, inner))
    return tuple(kept)


def _is_safe(name: str, value: str, known: tuple[str, ...]) -> bool:
    if name not in known:
        return False
    if name not in ("href", "src"):
        return True
    try:
        return urlsplit(value.strip()).scheme.lower() in _SCHEMES
    except ValueError:
        return False


_WRITTEN: Final = {
    **dict.fromkeys(_ALLOWED, ("style",)),
    "a": ("href", "style"),
    "img": _ALLOWED["img"],
}
_RENAMED: Final = {"b": "strong", "i": "em"}
_EMPTY: Final = frozenset({"br", "img"})
_LINE: Final = frozenset({"br", "p", "li", "blockquote"})

Children = tuple[Element | str, ...]


def xhtml_of(html: str) -> Children:
    """Return HTML as the elements that XEP-0071 allows; others are replaced by their content."""
    return _XhtmlBuilder.read(html)


def plain_text(children: Children) -> str:
    """Return the text of XHTML, for clients that show none. `br` and paragraphs end lines."""
    said = []
    for child in children:
        if isinstance(child, str):
            said.append(child)
        else:
            alt = child.get("alt") or "" if child.local == "img" else plain_text(child.children)
            said.append(f"{alt}\n" if child.local in _LINE else alt)
    return "".join(said)


def _normal(content: list[Element | str]) -> Children:
    """Return content without empty and adjacent texts."""
    kept: list[Element | str] = []
    texts: list[str] = []
    for one in (*content, None):
        if isinstance(one, str):
            texts.append(one)
            continue
        if any(texts):
            kept.append("".join(texts))
        texts.clear()
        if one is not None:
            kept.append(one)
    return tuple(kept)


class _XhtmlBuilder(HTMLParser):
    """Builds elements of HTML, however untidy: tags that are not closed end with what is around."""

    @classmethod
    def read(cls, html: str) -> Children:
        builder = cls()
        builder.feed(html)
        builder.close()
        while builder._open:
            builder._end()
        return _normal(builder._content)

    def __init__(self) -> None:
        super().__init__()
        self._content: list[Element | str] = []
        self._open: list[tuple[Element, list[Element | str]]] = []
        self._dropped = 0  # how many of the open tags hide what is in them

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED:
            self._dropped += 1
        known = _WRITTEN.get(tag)
        if known is None or self._dropped or len(self._open) >= _DEPTH:
            return
        safe = (pair for pair in attrs if pair[1] is not None and _is_safe(pair[0], pair[1], known))
        pairs = tuple({name: value or "" for name, value in safe}.items())
        element = Element(expanded(XHTML, _RENAMED.get(tag, tag)), pairs)
        if tag in _EMPTY:
            self._content.append(element)
        else:
            self._open.append((element, self._content))
            self._content = []

    def handle_endtag(self, tag: str) -> None:
        if tag in _DROPPED and self._dropped:
            self._dropped -= 1
        name = _RENAMED.get(tag, tag)
        if any(element.local == name for element, _ in self._open):
            while self._end() != name:
                pass

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self._content.append(data)

    def _end(self) -> str:
        element, around = self._open.pop()
        around.append(Element(element.name, element.attributes, _normal(self._content)))
        self._content = around
        return element.local
