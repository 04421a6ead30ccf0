"""Fixtures of the stream's tests."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import pytest

from tests.xmppstream.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def parser_threads() -> set[threading.Thread]:
    """Give the parser threads that live."""
    return {thread for thread in threading.enumerate() if thread.name == "xml-parser"}


@pytest.fixture(autouse=True, scope="session")
def frozen_heap() -> Iterator[None]:
    """Keep pytest's own objects out of the collection that ends every parser's thread."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def no_stray_threads() -> Iterator[None]:
    """Fail the test that leaves a parser's thread behind."""
    before = parser_threads()
    yield
    for thread in parser_threads() - before:
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture
async def loopback(no_stray_threads: None) -> AsyncIterator[Loopback]:
    """A listening socket for scripted servers."""
    async with await Loopback.open() as opened:
        yield opened
