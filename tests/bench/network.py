"""Networks of their own for the nodes of a run, whose links can be cut one by one.

Each node is a network namespace with a link to the database, one to the XMPP server and one to the
endpoint; all others are at the far ends. A cut link drops all that is sent, both ways and silently:
either side only sees that nothing comes. All this is inside a namespace that the run itself enters
first (`enter`), so that nothing is left on the machine, whatever happens. It needs root, and `ip`
from iproute2.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, Literal

Service = Literal["database", "server", "endpoint"]
SERVICES: Final[tuple[Service, ...]] = ("database", "server", "endpoint")
NETWORK: Final = "10.77.0.0/16"
INSIDE: Final = "KILLS_NETWORK"
"""Of the environment: the run has entered its namespace."""
ENTER: Final = """\
mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec "$@"
"""


def missing() -> str | None:
    """Why there cannot be such networks here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "iproute2 or util-linux is not installed"
    done = subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "the kernel refuses a network namespace"


def is_inside() -> bool:
    return INSIDE in os.environ


def enter(module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module` with these arguments inside; return its exit code."""
    command = ["unshare", "-n", "-m", "sh", "-ec", ENTER, "sh", sys.executable, "-m", module]
    environment = {**os.environ, INSIDE: "1"}
    return subprocess.run([*command, *arguments], env=environment, check=False).returncode


class Network:
    """The links of all nodes."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, label: str) -> None:
        """Make the namespace of a node, and its links."""
        self._numbers[label] = len(self._numbers) + 1
        _ip("netns", "add", label)
        _ip("-n", label, "link", "set", "lo", "up")
        for service in SERVICES:
            far, near = self._far(label, service), self._near(label, service)
            _ip("link", "add", far, "type", "veth", "peer", "name", near, "netns", label)
            _ip("addr", "add", f"{self.address(label, service)}/30", "dev", far)
            _ip("link", "set", far, "up")
            _ip("-n", label, "addr", "add", f"{self._subnet(label, service)}.2/30", "dev", near)
            _ip("-n", label, "link", "set", near, "up")

    def address(self, label: str, service: Service) -> str:
        """Where a node finds a service."""
        return f"{self._subnet(label, service)}.1"

    def command(self, label: str) -> list[str]:
        """What to put before a command so that it runs on that node."""
        return ["ip", "netns", "exec", label]

    def cut(self, label: str, service: Service) -> None:
        _ip("link", "set", self._far(label, service), "down")

    def mend(self, label: str, service: Service) -> None:
        _ip("link", "set", self._far(label, service), "up")

    def _subnet(self, label: str, service: Service) -> str:
        return f"10.77.{self._numbers[label] * len(SERVICES) + SERVICES.index(service)}"

    def _far(self, label: str, service: Service) -> str:
        return f"{service[:4]}{self._numbers[label]}"

    def _near(self, label: str, service: Service) -> str:
        return service[:4]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
