"""Expanded names."""

from __future__ import annotations

import pytest

from xmppstream.names import LANG, XML, expanded, local_of, namespace_of


@pytest.mark.parametrize(
    ("namespace", "local", "name"),
    [("urn:x", "a", "{urn:x}a"), ("", "a", "a"), ("a}b{c", "d", "{a}b{c}d"), (XML, "lang", LANG)],
)
def test_names_are_put_together_and_taken_apart(namespace: str, local: str, name: str) -> None:
    assert expanded(namespace, local) == name
    assert (namespace_of(name), local_of(name)) == (namespace, local)
