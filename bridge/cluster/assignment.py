"""Which node should have which part, given the nodes that can have it. Pure, so all nodes that see
the same nodes come to the same result without talking about it.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from bridge.cluster.partition import GATEWAY, PARTITIONS

_CACHED: Final = 1024


def workers_of(
    component: str, nodes: Collection[int], partitions: int = PARTITIONS
) -> Sequence[int]:
    """Return the node that should have each partition of a component: none if there are no `nodes`.

    By rendezvous hashing, so a node that comes or goes moves little but its own share. Each node
    has at most its share, rounded up.
    """
    return _workers(component, tuple(sorted(nodes)), partitions)


@lru_cache(maxsize=_CACHED)
def _workers(component: str, nodes: tuple[int, ...], partitions: int) -> Sequence[int]:
    if not nodes:
        return ()
    room = dict.fromkeys(nodes, -(-partitions // len(nodes)))
    found = []
    for part in range(partitions):
        free = [node for node in nodes if room[node]]
        chosen = max(free, key=lambda node: _score(component, part, node))
        room[chosen] -= 1
        found.append(chosen)
    return tuple(found)


def gateway_of(component: str, nodes: Collection[int], held: Mapping[int, int]) -> int | None:
    """Return the node that should take a component's gateway: one with the fewest of them. `held`
    is how many gateways each node has.
    """
    if not nodes:
        return None
    return min(nodes, key=lambda node: (held.get(node, 0), _score(component, GATEWAY, node)))


def next_after(node: int, nodes: Collection[int]) -> int | None:
    """Return the node that tries after `node`, so that all have their turn."""
    others = sorted(one for one in nodes if one != node)
    return next((one for one in others if one > node), others[0] if others else None)


def _score(component: str, part: int, node: int) -> bytes:
    return blake2b(f"{component}\0{part}\0{node}".encode(), digest_size=8).digest()
