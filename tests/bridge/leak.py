"""What a test must not leave behind: sockets, and threads of parsers."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trio.testing import wait_all_tasks_blocked


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    while not condition():
        await wait_all_tasks_blocked(0.001)


def sockets() -> set[str]:
    """Give the sockets that this process has open."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        try:
            target = str(one.readlink())
        except FileNotFoundError:  # the directory's own
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def parser_threads() -> set[threading.Thread]:
    """Give the parsers' threads that live."""
    return {thread for thread in threading.enumerate() if thread.name == "xml-parser"}


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail the test that leaves a socket or a parser's thread behind."""
    sockets_before, threads_before = sockets(), parser_threads()
    yield
    for thread in parser_threads() - threads_before:
        thread.join(5)
    # What was there before may go meanwhile: a thread of the test before that is about to end.
    assert sockets() <= sockets_before
    assert parser_threads() <= threads_before
