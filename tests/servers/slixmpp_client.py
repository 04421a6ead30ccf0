"""A person's client, written with slixmpp as its documentation has it: run as a process.

It logs in, subscribes to the address in XMPP_BOT, and writes one JSON line for each thing that it
sees of it. The line `look` on its standard input has it look at the profile, with slixmpp's own
plugins; any other line is sent as a message that asks for a receipt.
"""

import asyncio
import base64
import hashlib
import json
import os
import sys
from typing import Any

from slixmpp import JID, ClientXMPP
from slixmpp.exceptions import IqError

BOT = JID(os.environ["XMPP_BOT"])


def show(**what: Any) -> None:
    """Write a line."""
    print(json.dumps(what), flush=True)


class Client(ClientXMPP):
    """Shows what it sees of the bot."""

    def __init__(self) -> None:
        super().__init__(os.environ["XMPP_JID"], os.environ["XMPP_PASSWORD"])
        self.enable_starttls = self.enable_direct_tls = False
        self.enable_plaintext = True
        for plugin in (
            *("xep_0012", "xep_0030", "xep_0054", "xep_0060", "xep_0084", "xep_0092"),
            *("xep_0115", "xep_0172", "xep_0184", "xep_0199", "xep_0202", "xep_0292"),
        ):
            self.register_plugin(plugin)
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.plugin["xep_0184"].auto_request = True
        self.add_event_handler("session_start", self.start)
        for event in ("presence_available", "presence_unavailable", "presence_subscribed"):
            self.add_event_handler(event, self.presence)
        self.add_event_handler("entity_caps", lambda presence: show(caps=presence["caps"]["ver"]))
        self.add_event_handler("receipt_received", lambda it: show(receipt=it["receipt"]))
        self.add_event_handler("message", lambda it: show(body=it["body"]))

    @property
    def _plugins(self) -> Any:  # slixmpp has typed some of them only
        return self.plugin

    async def start(self, _: Any) -> None:
        await self.get_roster()
        self.send_presence()
        self.send_presence(pto=BOT, ptype="subscribe")
        show(ready=True)

    def presence(self, presence: Any) -> None:
        if presence["from"].bare == BOT:
            photo = presence.xml.find(".//{vcard-temp:x:update}photo")
            show(
                presence=presence["type"],
                from_=str(presence["from"]),
                nick=presence["nick"]["nick"],
                photo=None if photo is None else photo.text,
            )

    async def look(self) -> None:
        """Ask what clients ask when they open a chat."""
        bare, full, ask = BOT, JID(f"{BOT}/default"), self._plugins
        card = (await ask["xep_0054"].get_vcard(bare))["vcard_temp"]
        info = (await ask["xep_0030"].get_info(full))["disco_info"]
        caps = await ask["xep_0115"].get_caps(full)
        data = await ask["xep_0084"].retrieve_avatar(bare, card_hash(card))
        [item] = data["pubsub"]["items"]
        last = await ask["xep_0012"].get_last_activity(full)
        time = await ask["xep_0202"].get_entity_time(bare)
        version = await ask["xep_0092"].get_version(full)
        try:
            await ask["xep_0060"].get_items(bare, "eu.siacs.conversations.axolotl.devicelist")
            keys = "some"
        except IqError as error:
            keys = error.condition
        show(
            name=card["FN"],
            about=card["DESC"],
            picture=base64.b64encode(card["PHOTO"]["BINVAL"]).decode(),
            media_type=card["PHOTO"]["TYPE"],
            avatar=base64.b64encode(item["avatar_data"]["value"]).decode(),
            features=sorted(info["features"]),
            identities=[list(one) for one in info["identities"]],
            verified=caps is not None and sorted(caps["features"]) == sorted(info["features"]),
            idle_s=last["last_activity"]["seconds"],
            utc=time.xml.find(".//{urn:xmpp:time}utc").text,  # slixmpp 1.17 appends another Z
            software=version["software_version"]["name"],
            keys=keys,
        )

    def listen(self) -> None:
        """Do what the next line says."""
        line = sys.stdin.readline().strip()
        if line == "look":
            self.looking = asyncio.ensure_future(self.look())
            self.looking.add_done_callback(lambda it: show(failure=repr(it.exception())))
        elif line:
            self.send_message(mto=BOT, mbody=line)


def card_hash(card: Any) -> str:
    """The name of the picture of a vCard."""
    return hashlib.sha1(card["PHOTO"]["BINVAL"]).hexdigest()


async def main() -> None:
    """Log in, and run until the stream is over."""
    client = Client()
    client.connect(os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"]))
    asyncio.get_running_loop().add_reader(sys.stdin, client.listen)
    await client.disconnected


if __name__ == "__main__":
    asyncio.run(main())
