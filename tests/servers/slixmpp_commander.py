"""A person's client that runs commands, by slixmpp's own plugin: run as a process.

It logs in and does what each line of its standard input says, in JSON: `{"list": true}`,
`{"start": NODE}`, or `{"do": ACTION, "values": {…}}` for a step of the command that it has begun.
It writes a line of JSON for each answer.
"""

import asyncio
import json
import os
import sys
from typing import Any

from slixmpp import JID, ClientXMPP

BOT = JID(os.environ["XMPP_BOT"])


def show(**what: Any) -> None:
    """Write a line."""
    print(json.dumps(what), flush=True)


class Commander(ClientXMPP):
    """Runs one command at a time."""

    def __init__(self) -> None:
        super().__init__(os.environ["XMPP_JID"], os.environ["XMPP_PASSWORD"])
        self.enable_starttls = self.enable_direct_tls = False
        self.enable_plaintext = True
        for plugin in ("xep_0004", "xep_0030", "xep_0050", "xep_0199"):
            self.register_plugin(plugin)
        self.commands: Any = self.plugin["xep_0050"]
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.session: dict[str, Any] = {}
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", lambda it: show(body=it["body"]))

    async def start(self, _: Any) -> None:
        self.send_presence()
        await self.get_roster()
        show(ready=True)

    async def list(self) -> None:
        """Write what is offered."""
        found = await self.commands.get_commands(BOT)
        show(list=[[node, name] for _, node, name in found["disco_items"]["items"]])

    def answered(self, iq: Any, session: dict[str, Any]) -> None:
        """Write what an answer says, and keep it for the next step."""
        command = iq["command"]
        form = command.xml.find("{jabber:x:data}x")
        fields = {} if form is None else iq["command"]["form"].get_fields()
        self.session = {**session, "form": None if form is None else command["form"]}
        show(
            status=command["status"],
            session=command["sessionid"],
            actions=sorted(command["actions"]),
            notes=[list(one) for one in command["notes"]],
            fields={var: one["value"] for var, one in fields.items()},
            required=[var for var, one in fields.items() if one["required"]],
        )

    def refused(self, iq: Any, session: dict[str, Any]) -> None:
        """Write the conditions of an error."""
        names = [one.tag.partition("}")[2] for one in iq["error"].xml]
        show(refused=[iq["error"]["type"], *(one for one in names if one != "text")])

    def do(self, action: str, values: dict[str, str]) -> None:
        """Take a step."""
        form = self.session.get("form")
        if form is not None:
            form["type"] = "submit"
            form.set_values(values)
        self.session["payload"] = None if form is None or action in ("prev", "cancel") else [form]
        match action:
            case "complete":
                self.commands.complete_command(self.session)
            case "cancel":
                self.commands.cancel_command(self.session)
            case _:
                self.commands.continue_command(self.session, direction=action)

    def listen(self) -> None:
        """Do what the next line says."""
        line = json.loads(sys.stdin.readline() or "{}")
        if "list" in line:
            self.listing = asyncio.ensure_future(self.list())
        elif "start" in line:
            handlers = {"next": self.answered, "error": self.refused}
            self.commands.start_command(BOT, line["start"], handlers)
        elif "do" in line:
            self.do(line["do"], line.get("values", {}))
        elif "say" in line:
            self.send_message(mto=BOT, mbody=line["say"], mtype="chat")


async def main() -> None:
    """Log in, and run until the stream is over."""
    client = Commander()
    client.connect(os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"]))
    asyncio.get_running_loop().add_reader(sys.stdin, client.listen)
    await client.disconnected


if __name__ == "__main__":
    asyncio.run(main())
