"""A command of two steps, run by slixmpp's own plugin: wrong values, back, a restart, the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tests.servers.client import Client, open_client
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.endpoint import NOTHING, Endpoint, Posted, Reaction, open_endpoint, reply
from tests.servers.scene import BOT, bot_table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.ejabberd import Ejabberd
    from tests.servers.prosody import Prosody

ORDER: Final = {
    "node": "order",
    "name": "Order a pizza",
    "more": True,
    "fields": [
        {"var": "id", "label": "Number", "required": True, "validate": {"min": 1, "max": 99}}
    ],
}
SECRET: Final = {"node": "secret", "name": "Secret", "for": ["nobody@localhost"]}


def service(posted: Posted) -> Reaction:
    """Ask for a size, then take the order."""
    command = posted.get("command")
    if not command:
        return NOTHING
    data = command["data"]
    if command["action"] == "cancel":
        return reply({"command": {"note": "Nothing is ordered."}})
    if "size" not in data:
        size = {"var": "size", "required": True, "options": ["small", "large"]}
        return reply({"command": {"fields": [size]}})
    return reply({"command": {"note": f"{data['size']} {data['id']}"}})


class Commands:
    """The client of `slixmpp_commander`, asked step by step."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, **line: Any) -> dict[str, Any]:
        """Do what a line says; return the answer."""
        before = len(self._client.lines)
        await self._client.write(json.dumps(line))
        return await self._client.see(lambda _: True, before)

    async def do(self, action: str, **values: str) -> dict[str, Any]:
        return await self.ask(do=action, values=values)


def asked(endpoint: Endpoint) -> list[tuple[str, str, dict[str, str]]]:
    """The events, actions and data of all POSTs."""
    return [
        (one["event"], one["command"]["action"], one["command"]["data"]) for one in endpoint.posted
    ]


async def test_a_command_of_two_steps(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with open_endpoint(service) as endpoint:
        bot = bot_table(endpoint, command=[ORDER, SECRET])
        settings = settings_for(server.component_port, {BOT: bot})
        state = tmp_path / "state"
        script = "slixmpp_commander.py"
        async with open_client(server, script=script) as client:
            one = Commands(client)
            async with run_daemon(tmp_path, settings, state_dir=state):
                assert (await one.ask(list=True))["list"] == [["order", "Order a pizza"]]
                first = await one.ask(start="order")
                assert (first["status"], first["actions"]) == ("executing", ["next"])
                assert (first["fields"], first["required"]) == ({"id": None}, ["id"])
                wrong = await one.do("next", id="100")
                assert wrong["notes"] == [["error", "Number: this is more than 99."]]
                assert (wrong["session"], wrong["fields"]) == (first["session"], {"id": "100"})
                assert endpoint.posted == []
                second = await one.do("next", id="7")
                assert (second["fields"], second["actions"]) == (
                    {"size": None},
                    ["complete", "prev"],
                )
                back = await one.do("prev")
                assert (back["fields"], back["actions"]) == ({"id": "7"}, ["next"])
                assert (await one.do("next", id="8"))["fields"] == {"size": None}
            async with run_daemon(tmp_path, settings, state_dir=state):
                wrong = await one.do("complete", size="huge")
                assert wrong["notes"] == [["error", "size: choose one of the options."]]
                end = await one.do("complete", size="large")
                assert (end["status"], end["notes"]) == ("completed", [["info", "large 8"]])
                assert (end["session"], end["actions"]) == (first["session"], [])
                gone = await one.do("complete")
                assert gone == {"refused": ["cancel", "not-allowed", "session-expired"]}
                await one.ask(start="order")
                canceled = await one.do("cancel")
                assert (canceled["status"], canceled["notes"]) == ("canceled", [])
                await one.ask(start="order")
                await one.do("next", id="9")
                canceled = await one.do("cancel")
                assert canceled["notes"] == [["info", "Nothing is ordered."]]
                assert (await one.ask(start="secret"))["refused"] == ["auth", "forbidden"]
        both = {"id": "8", "size": "large"}
        assert asked(endpoint) == [
            ("command", "next", {"id": "7"}),
            ("command", "next", {"id": "8"}),
            ("command", "complete", both),
            ("command", "next", {"id": "9"}),
            ("command", "cancel", {"id": "9"}),
        ]


async def test_the_same_command_in_words(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with open_endpoint(service) as endpoint:
        bot = bot_table(endpoint, command=[ORDER, SECRET])
        settings = settings_for(server.component_port, {BOT: bot})
        state = tmp_path / "state"
        async with open_client(server, script="slixmpp_commander.py") as client:
            one = Commands(client)
            async with run_daemon(tmp_path, settings, state_dir=state):
                assert (await one.ask(say="/help"))["body"] == "/order <id>: Order a pizza"
                assert (await one.ask(say="/order"))["body"] == "Number?"
                many = await one.ask(say="a lot")
                assert many["body"] == "Number: this is not a whole number.\nNumber?"
                size = await one.ask(say="7")
                assert size["body"] == "size?\n1. small\n2. large"
            async with run_daemon(tmp_path, settings, state_dir=state):
                assert (await one.ask(say="large"))["body"] == "large 7"
        assert [data for _, _, data in asked(endpoint)] == [
            {"id": "7"},
            {"id": "7", "size": "large"},
        ]
