"""The digest by which nodes find that their configurations differ."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.config.digest import digest_of
from bridge.config.loader import from_table

ROOT: Final = Path(__file__).parents[3]
DOMAIN: Final = "bot.example"


def digest(directory: str = "/nowhere", **changes: Any) -> str:
    top = {key: value for key, value in changes.items() if isinstance(value, dict)}
    component = {
        "component_secret": "s",
        "component_post_url": "http://127.0.0.1/",
        "allow_from": ["a.example", "b.example", "c.example"],
        "profile": {"*": {"name": "A", "features": ["x", "y"]}},
        **{key: value for key, value in changes.items() if not isinstance(value, dict)},
    }
    table = {"component": {DOMAIN: component}, **top}
    return digest_of(from_table(table, "test", directory=Path(directory), environment={}))


SAME: Final[list[dict[str, Any]]] = [
    {"component_secret": "another"},
    {"allow_from": ["c.example", "a.example", "b.example"]},
    {"server": "127.0.0.1:5348"},
    {"log": {"level": "debug"}},
    {"journal": {"url": "postgresql://other/"}, "node": {"label": "b"}},
    {"listen": {"address": "127.0.0.1:5281", "token": []}},
]


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_what_may_differ(changes: dict[str, Any]) -> None:
    assert digest(**changes) == digest()


OTHER: Final[list[dict[str, Any]]] = [
    {"component_post_url": "http://127.0.0.1/x"},
    {"allow_from": ["a.example"]},
    {"component_order": "none"},
    {"http": {"timeout_s": 5}},
    {"stream": {"grace_s": 6}},
    {"retry": {"iq_budget_s": 1}},
    {"limits": {"burst": 1}},
    {"node": {"spread": True}},
    {"command": [{"node": "a", "name": "A"}]},
    {"local_parts": ["a"]},
]


@pytest.mark.parametrize("changes", OTHER, ids=str)
def test_what_makes_it_another_one(changes: dict[str, Any]) -> None:
    assert digest(**changes) != digest()


def test_it_is_the_same_in_another_process() -> None:
    """The order of a set is another one there."""
    program = "from tests.bridge.config.test_digest import digest; print(digest())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest()


def test_secrets_are_not_in_it() -> None:
    one, other = (f"http://u:{secret}@127.0.0.1/" for secret in ("hunter2", "hunter3"))
    assert digest(component_post_url=one) == digest(component_post_url=other)
    sent = [{"headers": {"Authorization": secret}} for secret in ("a", "b")]
    assert digest(http=sent[0]) == digest(http=sent[1])


def test_a_digest_is_short() -> None:
    assert len(digest()) == 16
