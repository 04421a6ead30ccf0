"""Who should have which part."""

from collections import Counter

import pytest

from bridge.cluster.assignment import gateway_of, next_after, workers_of

C = "echo.example.org"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_no_node_has_more_than_its_share_rounded_up(count: int) -> None:
    shares = Counter(workers_of(C, range(count)))
    assert max(shares.values()) <= -(-256 // count)
    assert sum(shares.values()) == 256


def test_the_order_of_the_nodes_does_not_matter() -> None:
    assert workers_of(C, [3, 1, 2]) == workers_of(C, {1, 2, 3})


def test_nobody_works_if_there_is_nobody() -> None:
    assert workers_of(C, []) == ()
    assert gateway_of(C, [], {}) is None


def test_a_node_that_comes_moves_little_but_its_share() -> None:
    before, after = workers_of(C, range(3)), workers_of(C, range(4))
    moved = sum(a != b for a, b in zip(before, after, strict=True))
    assert 64 - 3 <= moved <= 64 * 1.5


def test_components_differ_in_their_workers() -> None:
    assert workers_of(C, range(3)) != workers_of("news.example.org", range(3))


def test_a_gateway_goes_to_the_node_with_the_fewest() -> None:
    assert gateway_of(C, [1, 2, 3], {1: 2, 2: 1, 3: 2}) == 2


def test_all_nodes_have_their_turn() -> None:
    assert [next_after(one, [1, 4, 9]) for one in (1, 4, 9)] == [4, 9, 1]
    assert next_after(5, [1, 4, 9]) == 9, "a node that is not among them"
    assert next_after(1, [1]) is None
