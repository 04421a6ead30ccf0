"""The nodes of a run: daemons with a label, and which of them a connection belongs to."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.bench.network import Network, Service
from tests.bench.store import Store
from tests.bench.victim import Victim
from tests.servers.daemon import Line, Table
from tests.servers.process import LOOPBACK

POLL_S: Final = 0.1
LOCAL, REMOTE, INODE = 1, 2, 9  # fields of /proc/net/tcp


class Nodes:
    """All nodes, by their labels."""

    def __init__(self, network: Network | None = None) -> None:
        """With a `network`, each node is in a namespace of its own."""
        self.network = network
        self.victims: dict[str, Victim] = {}

    def add(
        self,
        label: str,
        directory: Path,
        port: int,
        url_port: int,
        store: Store,
        **tables: Table,
    ) -> None:
        """Make a node, with a state directory of its own and further `tables` of its
        configuration; it is not started.
        """
        place = directory / label
        place.mkdir()
        if self.network is not None:
            self.network.add(label)
        host = partial(self._host, label)
        victim = Victim(
            place,
            port,
            f"http://{host('endpoint')}:{url_port}/",
            "power",
            host=host("server"),
            component={"component_post_stanzas": ["message", "iq"]},
            prefix=self.network.command(label) if self.network is not None else (),
            **store.settings(label, host("database")),
            **tables,
        )
        self.victims[label] = victim

    def _host(self, label: str, service: Service) -> str:
        return LOOPBACK if self.network is None else self.network.address(label, service)

    def owner(self, server: int, client: int) -> str | None:
        """The label of the node that has connected from port `client` to port `server`; None if
        that node is gone.
        """
        for label, victim in self.victims.items():
            if victim.has_started:
                pid = victim.daemon.process.pid
                if set(_inodes(pid, server, client)) & set(_sockets(pid)):
                    return label
        return None

    async def wait_attached(self) -> None:
        """Wait until one of them is attached. Raises: AssertionError if one ends meanwhile."""
        victims = self.victims.values()
        while True:
            ended = [one for one in victims if one.daemon.process.poll() is not None]
            assert not ended, f"a node ended at its start\n{ended[0].daemon.tail()}"
            if any(one.daemon.logged("attached") for one in victims):
                return
            await trio.sleep(POLL_S)

    def complaints(self, is_known: Callable[[str, Line], bool]) -> Iterator[str]:
        """What any of them has logged as an error, but for what is known to happen."""
        for label, victim in self.victims.items():
            for line in victim.complaints():
                if not is_known(label, line):
                    yield f"{label} has logged an error: {line}"


def _inodes(pid: int, remote: int, local: int) -> Iterator[str]:
    """The sockets with these ports in the network that a process sees."""
    with suppress(FileNotFoundError, ProcessLookupError, OSError):  # it has just ended
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
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
