"""Two daemons on one PostgreSQL: an iq is sent at the one that is not attached."""

from __future__ import annotations

from functools import partial
from signal import SIGKILL
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio

from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import settings_for
from tests.servers.endpoint import open_endpoint
from tests.servers.peer import connect_component, name
from tests.servers.scene import BOT, PEER, bot_table
from tests.servers.test_stand_by import PATIENCE_S, TOKEN, node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres import Postgres
    from tests.servers.prosody import Prosody

pytestmark = [pytest.mark.postgres, pytest.mark.prosody]
HEADERS: Final = {"Authorization": f"Bearer {TOKEN}"}
QUESTION: Final = {
    "stanza": f"<iq type='get' to='a@{PEER}/1' from='bot@{BOT}'><q xmlns='urn:q'/></iq>"
}


@pytest.mark.parametrize("spread", [True, False])
async def test_an_iq_that_is_sent_at_a_stand_by_is_answered(
    postgres: Postgres, prosody: Prosody, tmp_path: Path, spread: bool
) -> None:
    """Also with a key, whose answer either node gives again; and a gateway that dies ends it."""
    async with (
        open_endpoint() as endpoint,
        httpx.AsyncClient(headers=HEADERS, timeout=PATIENCE_S) as client,
        connect_component(prosody.component_port, PEER, COMPONENTS[PEER]) as peer,
    ):
        settings = settings_for(
            prosody.component_port, {BOT: bot_table(endpoint)}, journal={"url": postgres.url}
        )
        run = partial(node, tmp_path, settings, spread=spread, scopes=("send", "query", "watch"))
        async with (
            run("one", first=True) as (first, one),
            run("two", first=False) as (_, two),
        ):
            answers: dict[str, httpx.Response] = {}

            async def ask(key: str, url: str) -> None:
                answers[key] = await client.post(
                    f"{url}/v1/stanzas",
                    json=QUESTION,
                    headers={"Idempotency-Key": key},
                )

            async def question() -> str:
                return (await peer.receive(lambda it: name(it) == "iq")).get("id") or ""

            with trio.fail_after(PATIENCE_S):
                while True:  # until the second node knows that the first one is the gateway
                    found = await client.get(f"{two}/v1/disco/localhost?from=bot@{BOT}")
                    if found.status_code == 200:
                        break
                    assert found.status_code == 503, found.text
                    await trio.sleep(0.2)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask, "a", two)
                    id = await question()
                    await peer.send(
                        f"<iq type='result' id='{id}' to='bot@{BOT}' from='a@{PEER}/1'>"
                        "<q xmlns='urn:q'>42</q></iq>"
                    )
                assert answers["a"].status_code == 200, answers["a"].text
                assert "42" in answers["a"].text
                first_answer = answers["a"].json()
                for url in (one, two):
                    await ask("a", url)
                    assert answers["a"].json() == first_answer
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask, "b", two)
                    await question()
                    first.signal(SIGKILL)
                assert answers["b"].status_code == 504, answers["b"].text
                assert "moved to another node" in answers["b"].text
