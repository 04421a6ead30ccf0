"""Real servers as fixtures. A test is marked by the server it uses and skipped without it.

With XMPP_BRIDGE_NO_SKIP=1 in the environment it fails instead.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.servers import chromium as chromium_module
from tests.servers import ejabberd as ejabberd_module
from tests.servers import mod_rest as mod_rest_module
from tests.servers import nginx as nginx_module
from tests.servers import postgres as postgres_module
from tests.servers import prosody as prosody_module
from tests.servers.ejabberd import Ejabberd
from tests.servers.postgres import Postgres
from tests.servers.prosody import Prosody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

MISSING: Final[dict[str, Callable[[], str | None]]] = {
    "prosody": prosody_module.missing,
    "ejabberd": ejabberd_module.missing,
    "nginx": nginx_module.missing,
    "chromium": chromium_module.missing,
    "postgres": postgres_module.missing,
}
COMPONENTS: Final = {"bot.localhost": "s3cret", "second.localhost": "s2", "peer.localhost": "s1"}
USERS: Final = {"alice": "pw", "bob": "pw"}
MUC: Final = "rooms.localhost"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than 20 s")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if mod_rest_module.missing() is not None:
        # No package has it, so that even the gate cannot ask for it.
        left_out = [item for item in items if item.get_closest_marker("mod_rest") is not None]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        for marker in MISSING.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(marker)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) is None or (reason := missing()) is None:
            continue
        if os.environ.get("XMPP_BRIDGE_NO_SKIP") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture
async def prosody(tmp_path: Path) -> AsyncIterator[Prosody]:
    """A started Prosody."""
    async with Prosody(tmp_path, components=COMPONENTS, users=USERS, muc=MUC) as server:
        yield server


@pytest.fixture
async def ejabberd(tmp_path: Path) -> AsyncIterator[Ejabberd]:
    """A started ejabberd."""
    async with Ejabberd(tmp_path, components=COMPONENTS, users=USERS, muc=MUC) as server:
        yield server


@pytest.fixture
async def postgres() -> AsyncIterator[Postgres]:
    """A started PostgreSQL with an empty database; its commits do not wait for the disk."""
    async with Postgres({"fsync": "off"}) as server:
        yield server


KINDS: Final = [
    pytest.param(Prosody, marks=pytest.mark.prosody, id="prosody"),
    pytest.param(Ejabberd, marks=pytest.mark.ejabberd, id="ejabberd"),
]


@pytest.fixture(params=KINDS)
async def server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Prosody | Ejabberd]:
    """Each server in turn, started, with the settings of `prosody` and `ejabberd`."""
    kind: type[Prosody | Ejabberd] = request.param
    async with kind(tmp_path, components=COMPONENTS, users=USERS, muc=MUC) as started:
        yield started


@pytest.fixture(scope="module", params=KINDS)
def shared_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prosody | Ejabberd]:
    """As `server`, for all tests of a module: for those that leave nothing behind in it."""
    kind: type[Prosody | Ejabberd] = request.param
    started = kind(tmp_path_factory.mktemp("shared"), components=COMPONENTS, users=USERS, muc=MUC)
    trio.run(started.__aenter__)
    yield started
    trio.run(started.__aexit__)
