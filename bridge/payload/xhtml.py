"""Formatted text from strangers (XEP-0071), reduced to what is safe to show on a web page."""

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
