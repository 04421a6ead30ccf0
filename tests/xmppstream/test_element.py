"""The frozen tree."""

from __future__ import annotations

import pytest

from xmppstream.element import Element, rehome

TREE = Element(
    "{urn:x}a",
    (("to", "b"), ("{urn:y}k", "v")),
    ("one", Element("{urn:x}b", (), ("in",)), "two", Element("c"), Element("{urn:x}b")),
)


def test_it_is_equal_by_value_and_hashable() -> None:
    assert Element("a", (("k", "v"),), ("t",)) == Element("a", (("k", "v"),), ("t",))
    assert len({Element("a"), Element("a"), Element("b")}) == 2


@pytest.mark.parametrize(
    ("name", "namespace", "local"), [("{urn:x}a", "urn:x", "a"), ("a", "", "a")]
)
def test_name_parts(name: str, namespace: str, local: str) -> None:
    assert (Element(name).namespace, Element(name).local) == (namespace, local)


def test_text_is_only_what_is_directly_inside() -> None:
    assert TREE.text == "onetwo"


def test_elements_leaves_text_out() -> None:
    assert [one.name for one in TREE.elements] == ["{urn:x}b", "c", "{urn:x}b"]


@pytest.mark.parametrize(
    ("name", "value"), [("to", "b"), ("{urn:y}k", "v"), ("k", None), ("{urn:x}to", None)]
)
def test_get_wants_the_expanded_name(name: str, value: str | None) -> None:
    assert TREE.get(name) == value


def test_find_gives_the_first() -> None:
    assert TREE.find("{urn:x}b") == Element("{urn:x}b", (), ("in",))


@pytest.mark.parametrize("name", ["b", "{urn:y}b", "{urn:x}c"])
def test_find_compares_expanded_names(name: str) -> None:
    assert TREE.find(name) is None


def test_find_all_keeps_the_order() -> None:
    assert [one.text for one in TREE.find_all("{urn:x}b")] == ["in", ""]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"to": "c"}, (("to", "c"), ("from", "f"))),
        ({"from_": "g"}, (("to", "b"), ("from", "g"))),
        ({"to": None}, (("from", "f"),)),
        ({"id": "1", "type": "t"}, (("to", "b"), ("from", "f"), ("id", "1"), ("type", "t"))),
        ({"id": None}, (("to", "b"), ("from", "f"))),
        ({}, (("to", "b"), ("from", "f"))),
    ],
)
def test_with_attributes(
    changes: dict[str, str | None], expected: tuple[tuple[str, str], ...]
) -> None:
    before = Element("a", (("to", "b"), ("from", "f")), ("t",))
    assert before.with_attributes(**changes) == Element("a", expected, ("t",))
    assert before.attributes == (("to", "b"), ("from", "f"))


FORWARDED = Element("{urn:f}forwarded", (), (Element("{c}message", (), (Element("{c}body"),)),))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Element("{c}a"), Element("{n}a")),
        (Element("{n}a", (), (Element("{c}b"),)), Element("{n}a", (), (Element("{c}b"),))),
        (Element("{c}a", (), (Element("{c}b"),)), Element("{n}a", (), (Element("{n}b"),))),
        (
            Element("{c}a", (("k", "v"),), ("t", Element("{c}b", (("l", "w"),), ("u",)))),
            Element("{n}a", (("k", "v"),), ("t", Element("{n}b", (("l", "w"),), ("u",)))),
        ),
        (Element("a", (), (Element("b"),)), Element("{n}a", (), (Element("{n}b"),))),
        (Element("{c}a", (), (Element("b"),)), Element("{n}a", (), (Element("b"),))),
        # S24: a forwarded stanza keeps its namespace, however deep it is.
        (Element("{c}a", (), (FORWARDED,)), Element("{n}a", (), (FORWARDED,))),
    ],
)
def test_rehome(before: Element, after: Element) -> None:
    assert rehome(before, "n") == after


def test_rehome_out_of_every_namespace() -> None:
    assert rehome(Element("{c}a", (), (Element("{c}b"),)), "") == Element("a", (), (Element("b"),))


def test_rehome_to_where_it_is_changes_nothing() -> None:
    assert rehome(TREE, "urn:x") is TREE
