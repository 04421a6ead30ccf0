"""What `check` tells of the nodes that share a running daemon's journal."""

from typing import Final

import pytest
from rich.console import Console

from bridge.cli.check.daemon import report_daemon
from bridge.cli.check.report import Report
from bridge.config.settings import Settings
from bridge.daemon.status import DaemonStatus, JournalStatus
from bridge.journal.request import Holding, NodeStatus

NODES: Final = (
    NodeStatus(label="a", is_self=True, version="0.9", partitions=64),
    NodeStatus(label="b", version="0.9", gateways=("bot.example",), partitions=192),
    NodeStatus(label="c", version="0.8", differs=True),
    NodeStatus(label="d", version="0.9", gateways=("old.example",), is_live=False),
)


def told(nodes: tuple[NodeStatus, ...], capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the rows of the table that are about nodes."""
    journal = JournalStatus(file="x", durability="power", failure=None, totals=Holding())
    status = DaemonStatus(
        pid=1,
        version="0.9",
        started=1e9,
        stopping=False,
        journal=journal,
        components=(),
        orphaned={},
        nodes=nodes,
    )
    report = Report()
    report_daemon(status, Settings(()), report)
    report.show(Console())
    rows = [line.split("\u2502") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row[2:5]] for row in rows if len(row) > 4]
    return [row for row in cells if row[0].startswith("node ")]


def test_the_nodes_of_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(NODES, capsys) == [
        ["node a (this one)", "ok", "version 0.9; stand-by; 64 partitions"],
        ["node b", "ok", "version 0.9; attaches as bot.example; 192 partitions"],
        [
            "node c",
            "warning",
            "version 0.8; stand-by; 0 partitions; its configuration differs from this daemon's",
        ],
        [
            "node d",
            "warning",
            "gone, others take over; version 0.9; attaches as old.example; 0 partitions",
        ],
    ]


def test_a_daemon_alone_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert told((), capsys) == []
