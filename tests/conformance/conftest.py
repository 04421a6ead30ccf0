"""Fixtures of the conformance tests."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from tests.xmppstream.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(autouse=True, scope="session")
def frozen_heap() -> Iterator[None]:
    """Keep pytest's own objects out of the collection that ends every parser's thread."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    """A listening socket for scripted servers."""
    async with await Loopback.open() as opened:
        yield opened
