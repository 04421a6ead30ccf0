"""The partition of a conversation is the same everywhere, and all partitions are used."""

from collections import Counter

import pytest

from bridge.cluster.ownership import Alone, Ownership
from bridge.cluster.partition import ALL_PARTS, PARTITIONS, partition_of


@pytest.mark.parametrize(
    ("parties", "part"),
    [
        (("", ""), 141),
        (("romeo@example.net", "echo.example.org"), 167),
        (("echo.example.org", "romeo@example.net"), 47),
        (("ромео@example.net", "echo.example.org"), 106),
    ],
)
def test_it_never_changes(parties: tuple[str, str], part: int) -> None:
    """It lies in the database beside each stanza: another version must find the same one."""
    assert partition_of(parties) == part


def test_many_conversations_fill_all_partitions_evenly() -> None:
    found = Counter(partition_of((f"user{n}@example.net", "echo")) for n in range(25_600))
    assert set(found) == ALL_PARTS
    assert max(found.values()) < 2 * 25_600 / PARTITIONS


def test_neither_address_runs_into_the_other() -> None:
    assert partition_of(("ab", "c")) != partition_of(("a", "bc"))


def test_whoever_is_alone_has_everything() -> None:
    alone: Ownership = Alone()
    assert alone.is_alive
    assert alone.is_gateway("echo.example.org")
    assert alone.owns("echo.example.org", 255)
    assert alone.parts("echo.example.org") == ALL_PARTS
