"""A person with a full client, slixmpp's: what its plugins make of a stanza is what a person sees.

It runs on asyncio, so a test that uses it is not a trio test. It checks nothing that it sends.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from slixmpp import ClientXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

from tests.servers.process import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

WAIT_S: Final = 20.0
PLUGINS: Final = (
    "xep_0004",  # forms
    "xep_0030",  # service discovery
    "xep_0045",  # rooms
    "xep_0050",  # commands
    "xep_0054",  # vCards
    "xep_0066",  # URLs beside a message
    "xep_0085",  # typing notices
    "xep_0153",  # avatars in presence
    "xep_0172",  # nicknames
    "xep_0184",  # receipts
    "xep_0199",  # pings
    "xep_0249",  # invitations
    "xep_0308",  # corrections
    "xep_0428",  # ranges that stand in for something
    "xep_0444",  # reactions
    "xep_0447",  # files
    "xep_0461",  # replies
)


class Person:
    """One account, logged in; `client` does what there is no method for."""

    def __init__(self, client: ClientXMPP) -> None:
        self.client: Any = client  # its plugins are found at run time
        self.bare = str(client.boundjid.bare)
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self._presences: asyncio.Queue[Any] = asyncio.Queue()
        for kind, queue in (("message", self._messages), ("presence", self._presences)):
            client.register_handler(Callback(f"all {kind}", StanzaPath(kind), queue.put_nowait))

    def plugin(self, number: str) -> Any:
        return self.client.plugin[f"xep_{number}"]

    def say(self, to: str, text: str, type: str = "chat") -> str:
        """Send a message and return its id."""
        return self.send(self.client.make_message(mto=to, mbody=text, mtype=type))

    def send(self, message: Any) -> str:
        """Send a message that `client` has made, and return its id."""
        message["id"] = message["id"] or self.client.new_id()
        message.send()
        return str(message["id"])

    async def enter(self, room: str, nick: str) -> None:
        """Enter a room, without its history; its subject is not heard."""
        await self.plugin("0045").join_muc_wait(room, nick, maxstanzas=0, timeout=WAIT_S)
        while not self._messages.empty():
            self._messages.get_nowait()

    async def hear(self) -> Any:
        """Take the next message, of whatever type and content. Raises: TimeoutError."""
        return await asyncio.wait_for(self._messages.get(), WAIT_S)

    async def see(self, sender: str, type: str = "available") -> Any:
        """Take presences up to one of that sender and type, and return it. Raises: TimeoutError."""
        return await self._see(
            lambda it: it["from"] == sender and (it.xml.get("type") or "available") == type
        )

    async def _see(self, predicate: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(WAIT_S):
            while not predicate(presence := await self._presences.get()):
                pass
            return presence


@asynccontextmanager
async def log_in(port: int, jid: str, password: str) -> AsyncIterator[Person]:
    """A person who has sent presence, on a server that takes passwords without TLS.

    Raises: TimeoutError when the server does not let the person in.
    """
    client = ClientXMPP(jid, password)
    client.enable_plaintext = True
    client.enable_starttls = client.enable_direct_tls = False
    for plugin in PLUGINS:
        client.register_plugin(plugin)
    mechanisms = client.plugin["feature_mechanisms"]
    mechanisms.unencrypted_plain = mechanisms.unencrypted_scram = True
    person = Person(client)
    started = asyncio.Event()
    client.add_event_handler("session_start", lambda _: started.set())
    client.connect(host=LOOPBACK, port=port)
    try:
        await asyncio.wait_for(started.wait(), WAIT_S)
        client.send_presence()
        await client.get_roster()
        yield person
    finally:
        await client.disconnect()
