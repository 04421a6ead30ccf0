"""A person's client, written with slixmpp: it writes a JSON line for each message with a file."""

import asyncio
import json
import os
from typing import Any

from slixmpp import ClientXMPP

SFS = "{urn:xmpp:sfs:0}file-sharing"
FILE = "{urn:xmpp:file:metadata:0}file"


def show(**what: Any) -> None:
    """Write a line."""
    print(json.dumps(what), flush=True)


class Receiver(ClientXMPP):
    """Shows the files that it gets, by slixmpp's plugins for XEP-0066 and XEP-0447."""

    def __init__(self) -> None:
        super().__init__(os.environ["XMPP_JID"], os.environ["XMPP_PASSWORD"])
        self.enable_starttls = self.enable_direct_tls = False
        self.enable_plaintext = True
        for plugin in ("xep_0066", "xep_0446", "xep_0447"):
            self.register_plugin(plugin)
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", self.message)

    async def start(self, _: Any) -> None:
        self.send_presence()
        show(ready=True)

    def message(self, message: Any) -> None:
        if message.xml.find(SFS) is None:
            show(body=message["body"])
            return
        file = message["sfs"]["file"]
        show(
            body=message["body"],
            oob=message["oob"]["url"],
            name=file["name"],
            media_type=file["media-type"],
            size=int(file["size"]),
        )


async def main() -> None:
    """Log in, and run until the stream is over."""
    client = Receiver()
    client.connect(os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"]))
    await client.disconnected


if __name__ == "__main__":
    asyncio.run(main())
