"""What /proc says about a process and its children."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
AFTER_NAME: Final = 2  # fields of `stat` before the state: the pid and the name


def rss_mb(pid: int | str = "self") -> float:
    """The resident memory of a process, in MB."""
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int | str = "self") -> float:
    """The most resident memory that a process ever had, in MB."""
    return _status_mb(pid, "VmHWM")


def cpu_s(pid: int | str = "self") -> float:
    """The seconds of CPU that a process has used so far, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[13 - AFTER_NAME : 15 - AFTER_NAME]
    return (int(user) + int(system)) * TICK_S


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    pids = [pid]
    for parent in pids:  # grows while it is walked
        for task in Path(f"/proc/{parent}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                pids += map(int, (task / "children").read_text().split())
    return pids


def _status_mb(pid: int | str, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has ended")
