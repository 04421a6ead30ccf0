"""The nodes of a run: daemons with a label, and which of them a connection belongs to."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.bench.store import Store
from tests.bench.victim import Victim

LOCAL, REMOTE, INODE = 1, 2, 9  # fields of /proc/net/tcp


class Nodes:
    """All nodes, by their labels."""

    def __init__(self) -> None:
        self.victims: dict[str, Victim] = {}

    def add(self, label: str, directory: Path, port: int, url: str, store: Store) -> Victim:
        """Make a node, with a state directory of its own; it is not started."""
        place = directory / label
        place.mkdir()
        component = {"component_post_stanzas": ["message", "iq"]}
        settings = store.settings(label)
        victim = Victim(place, port, url, "power", component=component, **settings)
        self.victims[label] = victim
        return victim

    def owner(self, server: int, client: int) -> str | None:
        """The label of the node that has connected from port `client` to port `server`, both on
        loopback; None if that node is gone.
        """
        inodes = set(_inodes(server, client))
        for label, victim in self.victims.items():
            if victim.has_started and inodes & set(_sockets(victim.daemon.process.pid)):
                return label
        return None

    def complaints(self) -> Iterator[str]:
        """What any of them has logged as an error."""
        for label, victim in self.victims.items():
            for line in victim.complaints():
                yield f"{label} has logged an error: {line}"


def _inodes(remote: int, local: int) -> Iterator[str]:
    """The sockets of this machine with these ports."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (_port(fields[LOCAL]), _port(fields[REMOTE])) == (local, remote):
            yield fields[INODE]


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)


def _sockets(pid: int) -> Iterator[str]:
    """The inodes of the sockets that a process has open."""
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError, ProcessLookupError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    yield target.removeprefix("socket:[").removesuffix("]")
