"""A person's client for streamed replies, written with slixmpp: run as a process.

It logs in and writes one JSON line for each message of the address in XMPP_BOT, and for each
notice. The line `archive` on its standard input has it write what the archive holds; any other line
is sent as a message with a chat state.
"""

import asyncio
import json
import os
import sys
from typing import Any

from slixmpp import JID, ClientXMPP

BOT = JID(os.environ["XMPP_BOT"])
HINTS = "{urn:xmpp:hints}"


def show(**what: Any) -> None:
    """Write a line."""
    print(json.dumps(what), flush=True)


def read(message: Any) -> dict[str, Any]:
    """What a message is for the person."""
    replace = message.xml.find("{urn:xmpp:message-correct:0}replace")
    states = "{http://jabber.org/protocol/chatstates}"
    return {
        "id": message["id"],
        "body": message["body"],
        "replaces": None if replace is None else replace.get("id"),
        "state": next((c.tag[len(states) :] for c in message.xml if c.tag.startswith(states)), ""),
        "hints": [child.tag[len(HINTS) :] for child in message.xml if child.tag.startswith(HINTS)],
        "is_ours": message["from"].bare != BOT,
    }


class Client(ClientXMPP):
    """Shows what it hears of the bot."""

    def __init__(self) -> None:
        super().__init__(os.environ["XMPP_JID"], os.environ["XMPP_PASSWORD"])
        self.enable_starttls = self.enable_direct_tls = False
        self.enable_plaintext = True
        for plugin in ("xep_0085", "xep_0308", "xep_0313"):
            self.register_plugin(plugin)
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", lambda it: show(**read(it)))
        for state in ("composing", "paused"):
            self.add_event_handler(f"chatstate_{state}", lambda it: show(notice=it["chat_state"]))

    async def start(self, _: Any) -> None:
        self.send_presence()
        show(ready=True)

    async def look(self) -> None:
        """Write what the archive holds of the bot."""
        found = await self.plugin["xep_0313"].retrieve(with_jid=BOT)
        results = found["mam"]["results"]
        show(archive=[read(one["mam_result"]["forwarded"]["stanza"]) for one in results])

    def listen(self) -> None:
        """Do what the next line says."""
        line = sys.stdin.readline().strip()
        if line == "archive":
            self.looking = asyncio.ensure_future(self.look())
            self.looking.add_done_callback(lambda it: show(failure=repr(it.exception())))
        elif line:
            message = self.make_message(mto=BOT, mbody=line, mtype="chat")
            message["chat_state"] = "active"
            message.send()


async def main() -> None:
    """Log in, and run until the stream is over."""
    client = Client()
    client.connect(os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"]))
    asyncio.get_running_loop().add_reader(sys.stdin, client.listen)
    await client.disconnected


if __name__ == "__main__":
    asyncio.run(main())
