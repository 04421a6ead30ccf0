"""Notifies the service manager (sd_notify(3)): sends datagrams to the socket that it names.

A missing, full or closed socket stops nothing: the manager only sees less. systemd before 253
(Debian 12 has 252) has no `Type=notify-reload`, but accepts its messages with `Type=notify`.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import trio

STATUS_EVERY_S: Final = 5.0


class SystemdNotifier:
    """Notifies the manager named in the environment; without one it does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment) if self._address is not None else None
        """How long the manager waits for a sign of life, in s; None: forever."""
        self._status = ""

    def ready(self) -> None:
        """Report that the daemon is up, or has read its configuration again."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Report that the configuration is being read again; `ready` must follow."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        """Report that the daemon is draining and will end."""
        self._send("STOPPING=1")

    async def run(self, status: Callable[[], str]) -> None:
        """Report a changed status every `STATUS_EVERY_S`, and feed the watchdog.

        Ends only by cancellation.
        """
        if self._address is None:
            return
        async with trio.open_nursery() as nursery:
            if self.watchdog_s is not None:
                nursery.start_soon(self._feed_watchdog, self.watchdog_s / 2)
            while True:
                self._tell_status(status())
                await trio.sleep(STATUS_EVERY_S)

    def _tell_status(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    async def _feed_watchdog(self, every_s: float) -> None:
        while True:
            self._send("WATCHDOG=1")
            await trio.sleep(every_s)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            ours.setblocking(False)  # never wait for the manager: it may be the one that hangs
            ours.sendto("\n".join(lines).encode(), self._address)


def _address(name: str) -> str | None:
    """Return a socket's address: a path, or an abstract name, which is written with `@`."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return how long the watchdog waits, in s; None if it does not watch this process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit()) or int(text[:18]) == 0:
        return None
    return int(text[:18]) / 1e6 if pid in ("", str(os.getpid())) else None
