"""Nodes, leases and the small messages between nodes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from bridge.journal.cluster import About, Lease, NodeRow, Post
from bridge.journal.postgres.errors import LockTimeout
from bridge.journal.postgres.fence import Fence
from bridge.journal.postgres.query import Rows
from bridge.journal.postgres.statement import Statement

_LOCKS: Final = 5  # attempts, of 1 s each
_DESCRIBE: Final = """
UPDATE node SET version = %(version)s, components = %(components)s, digest = %(digest)s
WHERE id = %(node)s"""
_TAKE: Final = """
INSERT INTO lease (component, part, node)
SELECT %(component)s, part, %(node)s FROM unnest(%(parts)s::smallint[]) AS part ORDER BY part
ON CONFLICT DO NOTHING"""
_MINE: Final = (
    "component = %(component)s AND part = ANY (%(parts)s::smallint[]) AND node = %(node)s"
)
_FREE: Final = f"DELETE FROM lease WHERE {_MINE}"
_GIVE: Final = f"""
UPDATE lease SET node = %(to)s WHERE {_MINE}
AND EXISTS (SELECT FROM node WHERE id = %(to)s AND incarnation IS NOT NULL)"""
_END: Final = """
UPDATE node SET incarnation = NULL, pids = '{}'
WHERE id = %(dead)s AND batch = %(seen)s AND incarnation IS NOT NULL"""
_FREE_ALL: Final = """
DELETE FROM lease USING node WHERE lease.node = node.id AND id = %(dead)s AND incarnation IS NULL"""
_DROP_ALL: Final = """
DELETE FROM post USING node WHERE for_node = id AND id = %(dead)s AND incarnation IS NULL"""
_DROP_MINE: Final = "DELETE FROM post WHERE for_node = %(node)s"
_POST: Final = """
INSERT INTO post (for_node, writer, kind, body)
SELECT id, %(writer)s, %(kind)s, %(body)s FROM node
WHERE id = %(for_node)s AND incarnation IS NOT NULL"""
_POSTS: Final = """
SELECT post.number, writer, kind, body FROM post
LEFT JOIN unnest(%(known)s::bigint[], %(marks)s::bigint[]) AS mark (known, number)
  ON known = writer
WHERE for_node = %(node)s AND post.number > coalesce(mark.number, 0)
ORDER BY post.number LIMIT %(limit)s"""


class NodeTable:
    """The nodes of a cluster, as one of them sees and changes them."""

    def __init__(self, fence: Fence, rows: Rows) -> None:
        self._fence = fence
        self._rows = rows

    def nodes(self) -> list[NodeRow]:
        rows = self._rows(
            "SELECT id, label, incarnation, batch, version, components, digest, status FROM node"
            " ORDER BY id"
        )
        return [
            NodeRow(
                id, label, incarnation, batch, About(version, tuple(components), digest), status
            )
            for id, label, incarnation, batch, version, components, digest, status in rows
        ]

    def leases(self) -> list[Lease]:
        rows = self._rows(
            'SELECT component, part, node FROM lease ORDER BY component COLLATE "C", 2'
        )
        return [Lease(*row) for row in rows]

    def describe(self, about: About) -> None:
        values = {
            "version": about.version,
            "components": list(about.components),
            "digest": about.digest,
        }
        self._fence.run([Statement(_DESCRIBE, values)], synced=True)

    def take(self, component: str, parts: Collection[int]) -> frozenset[int]:
        values = {"component": component, "parts": sorted(parts)}
        found = self._fence.run(
            [
                Statement(_TAKE, values),
                Statement(f"SELECT part FROM lease WHERE {_MINE}", values),
            ],
            synced=True,
        )
        if found is None:
            wanted = set(parts)
            return frozenset(
                one.part
                for one in self.leases()
                if (one.component, one.node) == (component, self._fence.node) and one.part in wanted
            )
        return frozenset(part for (part,) in found[1])

    def give(self, component: str, parts: Collection[int], to: int | None) -> None:
        values = {"component": component, "parts": sorted(parts), "to": to}
        self._fence.run([Statement(_FREE if to is None else _GIVE, values)], synced=True)

    def retire(self) -> None:
        """Free all leases and end this node, in one batch."""
        self._fence.run(
            [
                Statement("DELETE FROM lease WHERE node = %(node)s", {}),
                Statement(_DROP_MINE, {}),
                Statement(
                    "UPDATE node SET incarnation = NULL, pids = '{}' WHERE id = %(node)s", {}
                ),
            ],
            synced=True,
        )
        self._fence.incarnation = 0

    def forget(self) -> None:
        """Free all leases and remove this node, in one batch."""
        self._fence.run(
            [
                Statement("DELETE FROM lease WHERE node = %(node)s", {}),
                Statement(_DROP_MINE, {}),
                Statement("DELETE FROM node WHERE id = %(node)s", {}),
            ],
            synced=True,
        )
        self._fence.incarnation = 0

    def end_node(self, node: int, seen_batch: int) -> bool:
        """End a node and free its leases, unless its counter has changed. A batch of it that is
        being committed is waited for, but a frozen one is ended after a second.
        """
        values = {"dead": node, "seen": seen_batch}
        statements = [
            Statement("SET LOCAL lock_timeout = '1s'", {}),
            Statement(_END, values),
            Statement(_FREE_ALL, values),
            Statement(_DROP_ALL, values),
        ]
        for _ in range(_LOCKS):
            try:
                self._fence.run(statements, synced=True)
                break
            except LockTimeout:
                self._fence.terminate(node)
        return any(one.id == node and one.incarnation is None for one in self.nodes())

    def post(self, for_node: int, kind: str, body: bytes) -> None:
        self._fence.run([Statement(_POST, {"for_node": for_node, "kind": kind, "body": body})])

    def posts(self, marks: Mapping[int, int], limit: int) -> list[Post]:
        values = {
            "node": self._fence.node,
            "known": list(marks),
            "marks": list(marks.values()),
            "limit": limit,
        }
        return [Post(*row) for row in self._rows(_POSTS, values)]

    def drop_posts(self, numbers: Sequence[int]) -> None:
        text = "DELETE FROM post WHERE number = ANY (%(numbers)s::bigint[])"
        self._fence.run([Statement(text, {"numbers": sorted(numbers)})])

    def set_status(self, status: bytes) -> None:
        text = "UPDATE node SET status = %(status)s WHERE id = %(node)s"
        self._fence.run([Statement(text, {"status": status})])
