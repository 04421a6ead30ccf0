"""Two daemons that share the POSTs, and a service that polls only one of them for its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import trio

from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import settings_for
from tests.servers.peer import connect_component
from tests.servers.scene import BOT, PEER, body_of, message
from tests.servers.test_stand_by import PATIENCE_S, TOKEN, held, node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres import Postgres
    from tests.servers.prosody import Prosody

pytestmark = [pytest.mark.postgres, pytest.mark.prosody]
SENDERS: Final = 12


async def test_a_service_that_polls_one_node_gets_the_events_of_all(
    postgres: Postgres, prosody: Prosody, tmp_path: Path
) -> None:
    table = {"component_secret": COMPONENTS[BOT], "component_post_url": "pull:"}
    settings = settings_for(prosody.component_port, {BOT: table}, journal={"url": postgres.url})
    scopes = ("receive", "watch")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=PATIENCE_S) as client,
        connect_component(prosody.component_port, PEER, COMPONENTS[PEER]) as peer,
        node(tmp_path, settings, "one", first=True, scopes=scopes) as (_, one),
        node(tmp_path, settings, "two", first=False, scopes=scopes) as (_, two),
    ):
        with trio.fail_after(2 * PATIENCE_S):
            while True:
                if all([(await held(client, url))[1] for url in (one, two)]):
                    break
                await trio.sleep(0.2)
            for number in range(SENDERS):
                await peer.send(message(str(number), from_=f"s{number}@{PEER}"))
            answered = 0
            while answered < SENDERS:
                polled = await client.get(f"{two}/v1/events?wait=20")
                assert polled.status_code == 200, polled.text
                events: list[dict[str, Any]] = polled.json()["events"]
                for event in events:
                    body = {"body": f"re {event['request']['body']}"}
                    reply = await client.post(f"{two}/v1/events/{event['uid']}", json=body)
                    assert reply.status_code == 204, reply.text
                answered += len(events)
            found = {body_of(await peer.receive()) for _ in range(SENDERS)}
            assert found == {f"re {number}" for number in range(SENDERS)}
