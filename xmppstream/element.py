"""The frozen tree that represents XML outside the parser: equal by value, hashable.

Normal form: no empty text, no adjacent texts. Prefixes are not kept (rule S25).
"""

from collections.abc import Iterator
from typing import Self

from msgspec import Struct

from xmppstream.names import expanded, local_of, namespace_of


class Element(Struct, frozen=True, gc=False):
    """One element: expanded name, attributes in their original order, children in order."""

    # A Struct, since each stanza makes some: an attrs value takes six times as long to make.
    # `gc=False` is for values that are never in a cycle: frozen, and made only of such values.
    name: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: "tuple[Element | str, ...]" = ()

    @property
    def namespace(self) -> str:
        return namespace_of(self.name)

    @property
    def local(self) -> str:
        return local_of(self.name)

    @property
    def text(self) -> str:
        """The text directly inside, joined, without the text of child elements."""
        if len(self.children) == 1 and isinstance(self.children[0], str):
            return self.children[0]
        return "".join(child for child in self.children if isinstance(child, str))

    @property
    def elements(self) -> "tuple[Element, ...]":
        """The children that are elements."""
        return tuple([child for child in self.children if not isinstance(child, str)])

    def get(self, name: str) -> str | None:
        """Return the value of an attribute by its expanded name."""
        for key, value in self.attributes:
            if key == name:
                return value
        return None

    def find(self, name: str) -> "Element | None":
        """Return the first child with that expanded name."""
        for child in self.children:  # no generator: this is asked for each stanza
            if not isinstance(child, str) and child.name == name:
                return child
        return None

    def find_all(self, name: str) -> "Iterator[Element]":
        """Yield the children with that expanded name, in order."""
        for child in self.children:
            if not isinstance(child, str) and child.name == name:
                yield child

    def with_attributes(self, **changes: str | None) -> Self:
        """Return a copy with attributes set by local name (`from_` is `from`); None removes one."""
        new = {name.rstrip("_"): value for name, value in changes.items()}
        kept = ((k, new.pop(k, None)) if k in new else (k, v) for k, v in self.attributes)
        pairs = [(k, v) for k, v in kept if v is not None]
        pairs += [(k, v) for k, v in new.items() if v is not None]
        return type(self)(self.name, tuple(pairs), self.children)


def rehome(element: Element, namespace: str) -> Element:
    """Return a copy of an element in another namespace, with its content of the same namespace.

    A payload in a foreign namespace stays as it is, with everything inside: a forwarded stanza
    keeps `jabber:client` (rules S23, S24).
    """
    old = element.namespace
    if old == namespace:
        return element

    def move(one: Element) -> Element:
        if one.namespace != old:
            return one
        return Element(
            expanded(namespace, one.local),
            one.attributes,
            tuple(child if isinstance(child, str) else move(child) for child in one.children),
        )

    return move(element)
