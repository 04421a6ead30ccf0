"""The stub of a stanza: replies to it are those to the stanza itself."""

from typing import Any

import msgspec
import pytest

from bridge.payload.body import read_reply
from bridge.payload.reply import ReplyComposer
from bridge.payload.stub import Stub
from bridge.webhook.outcome import Replied
from tests.bridge.sample import meanings, stanza
from xmppstream import Element, Stanza, parse_element

ROOM = "room@muc.example"
SID = "urn:xmpp:sid:0"
REQUESTS = {
    "plain": "<message from='a@b/c' to='x@bot.example' id='1' type='chat'><body>hi</body>"
    "</message>",
    "no type": "<message from='a@b/c' to='x@bot.example' id='1'><body>hi</body></message>",
    "no id": "<message from='a@b/c' to='x@bot.example'><body>hi</body></message>",
    "thread": "<message from='a@b/c' to='x@bot.example' id='1' type='chat'><body>hi</body>"
    "<thread parent='p'>t</thread><active xmlns='http://jabber.org/protocol/chatstates'/>"
    "</message>",
    "origin id": "<message from='a@b/c' to='x@bot.example' id='1' type='chat'><body>hi</body>"
    f"<origin-id xmlns='{SID}' id='o'/><stanza-id xmlns='{SID}' id='s' by='b'/></message>",
    "room": f"<message from='{ROOM}/n' to='x@bot.example' id='1' type='groupchat'><body>hi</body>"
    f"<stanza-id xmlns='{SID}' id='s' by='{ROOM}'/><stanza-id xmlns='{SID}' id='z' by='b'/>"
    "</message>",
    "private": f"<message from='{ROOM}/n' to='x@bot.example' id='1' type='chat'><body>hi</body>"
    "<x xmlns='http://jabber.org/protocol/muc#user'/></message>",
    "presence": "<presence from='a@b/c' to='x@bot.example' id='1' type='subscribe'/>",
    "command": "<iq from='a@b/c' to='x@bot.example' id='1' type='set'><command "
    "xmlns='http://jabber.org/protocol/commands' node='n' sessionid='s' action='next'>"
    "<x xmlns='jabber:x:data' type='submit'/></command></iq>",
    "items": "<iq from='a@b/c' to='x@bot.example' id='1' type='get'>"
    "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/></iq>",
}
REPLIES: tuple[Any, ...] = (
    {"body": "a"},
    {"body": "a", "reply": True},
    {"reactions": ["x"]},
    {"receipt": True},
    {"displayed": True},
    {"type": "result"},
    {"command": {"status": "completed"}},
    {"items": [{"jid": "x@bot.example"}]},
    {"error": {"condition": "item-not-found"}},
    {"kind": "presence", "type": "subscribed"},
    {"stanza": "<message><body>a</body></message>"},
    {"stanza": "<message type='groupchat'><body>a</body></message>"},
)


async def parse(data: bytes) -> Element:
    return parse_element(data)


async def outcome(request: Stanza, reply: Any) -> Any:
    """The stanzas of a reply, or why it is refused."""
    composer = ReplyComposer("bot.example", 20_000, parse)
    try:
        objects = read_reply(Replied("json", msgspec.json.encode(reply))).objects
        return meanings(await composer.compose(objects, request, uid="u", in_room=False))
    except Exception as error:
        return str(error)


@pytest.mark.parametrize("reply", REPLIES, ids=repr)
@pytest.mark.parametrize("xml", REQUESTS.values(), ids=REQUESTS)
async def test_a_reply_to_it_is_the_same(xml: str, reply: Any) -> None:
    request = stanza(xml)
    stub = msgspec.msgpack.decode(msgspec.msgpack.encode(Stub.of(request)), type=Stub)
    assert await outcome(stub.stanza(), reply) == await outcome(request, reply)


def test_it_holds_no_text() -> None:
    for xml in REQUESTS.values():
        said = xml.replace("<body>hi<", "<body>a secret<")
        assert "secret" not in repr(Stub.of(stanza(said)))


async def test_quote_finds_nothing_to_quote() -> None:
    """The text is not in the URL, so the reply goes without a quotation."""
    stub = Stub.of(stanza(REQUESTS["thread"]))
    made = await outcome(stub.stanza(), {"body": "a", "reply": True, "quote": True})
    plain = await outcome(stub.stanza(), {"body": "a", "reply": True})
    assert made == plain
