"""What an operator sees of two nodes: each is ready, and each shows the whole."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import trio
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from bridge.cli.main import main
from bridge.cluster.partition import PARTITIONS
from tests.servers.daemon import Daemon, run_daemon, settings_for, toml
from tests.servers.endpoint import open_endpoint
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.scene import BOT, bot_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.postgres import Postgres
    from tests.servers.prosody import Prosody

pytestmark = [pytest.mark.postgres, pytest.mark.prosody]
PATIENCE_S: Final = 40.0
TOKEN: Final = "a-token-of-the-watch-0123"


@asynccontextmanager
async def node(
    directory: Path,
    settings: dict[str, Any],
    label: str,
    *,
    first: bool,
    spread: bool = True,
    scopes: tuple[str, ...] = ("watch",),
) -> AsyncIterator[tuple[Daemon, str]]:
    """Run a node with a listener, and return it with the URL of that."""
    with reserve_port() as reserved:
        address = f"{LOOPBACK}:{reserved.getsockname()[1]}"
    token = {"name": "watch", "secret": TOKEN, "scopes": list(scopes)}
    table = {
        **settings,
        "node": {"label": label, "spread": spread},
        "listen": {"address": address, "token": [token]},
    }
    state = directory / label
    async with run_daemon(directory, table, wait_attached=first, state_dir=state) as daemon:
        await daemon.wait_logged("listening")
        yield daemon, f"http://{address}"


async def held(client: httpx.AsyncClient, url: str) -> tuple[float, float]:
    """Return a node's `node_leases` and `partitions_owned`."""
    response = await client.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    families = text_string_to_metric_families(response.text)
    values = {one.name: one.samples[0].value for one in families if one.samples}
    return values["xmpp_bridge_node_leases"], values["xmpp_bridge_partitions_owned"]


async def test_a_stand_by_is_ready_and_shows_the_whole(
    postgres: Postgres, prosody: Prosody, tmp_path: Path
) -> None:
    async with open_endpoint() as endpoint, httpx.AsyncClient() as client:
        settings = settings_for(
            prosody.component_port, {BOT: bot_table(endpoint)}, journal={"url": postgres.url}
        )
        file = tmp_path / "check.toml"
        file.write_text(toml(settings))
        async with (
            node(tmp_path, settings, "one", first=True) as (first, one),
            node(tmp_path, settings, "two", first=False) as (second, two),
        ):
            with trio.fail_after(PATIENCE_S):
                while True:
                    (gateway, ours), (stand_by, theirs) = [
                        await held(client, url) for url in (one, two)
                    ]
                    if theirs and ours + theirs == PARTITIONS:
                        break
                    await trio.sleep(0.2)
            assert (gateway, stand_by) == (1, 0)
            for url in (one, two):
                ready = await client.get(f"{url}/readyz")
                assert (ready.status_code, ready.json()["ready"]) == (200, True)
            state = ["--state-dir", str(tmp_path / "two")]
            told = await trio.to_thread.run_sync(
                lambda: CliRunner(env={"COLUMNS": "300"}).invoke(main, ["check", str(file), *state])
            )
            assert "node two (this one)" in told.output
            assert f"attaches as {BOT}" in told.output
            assert "no: this node is a stand-by, another one attaches" in told.output
            for daemon in (first, second):
                assert daemon.logged("a node has another configuration") == []
