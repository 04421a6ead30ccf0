"""What a skilled author would write today instead of the bridge: slixmpp, aiohttp and uvloop.

It POSTs what the bridge POSTs (to, from, kind, stanza, body) on connections that are kept, reads
`body` of the reply and sends it back. No limit on connections, msgspec for JSON, no logging.
`python -m tests.bench.reference_bot PORT DOMAIN SECRET URL`
"""

import sys
from typing import Final

import aiohttp
import msgspec
import uvloop
from slixmpp.componentxmpp import ComponentXMPP
from slixmpp.stanza import Message

JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}


class Reply(msgspec.Struct):
    body: str


class Bot(ComponentXMPP):
    """A component whose every message is one POST."""

    def __init__(self, port: str, domain: str, secret: str, http: aiohttp.ClientSession, url: str):
        # slixmpp has typed neither this nor `reply`
        super().__init__(domain, secret, "127.0.0.1", int(port))  # type: ignore[no-untyped-call]
        self._http, self._url = http, url
        self._read = msgspec.json.Decoder(Reply).decode
        self.add_event_handler("session_start", lambda _: print("attached", flush=True))
        self.add_event_handler("message", self._answer)

    async def _answer(self, message: Message) -> None:
        if message["type"] == "error":
            return
        posted = {
            "to": str(message["to"]),
            "from": str(message["from"]),
            "kind": "message",
            "stanza": str(message),
            "body": message["body"],
        }
        data = msgspec.json.encode(posted)
        async with self._http.post(self._url, data=data, headers=JSON) as response:
            response.raise_for_status()
            body = self._read(await response.read()).body
            message.reply(body).send()  # type: ignore[no-untyped-call]


async def main(port: str, domain: str, secret: str, url: str) -> None:
    """Attach, and run until the stream is over."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector) as http:
        bot = Bot(port, domain, secret, http, url)
        bot.connect()
        await bot.disconnected


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
