"""Scenes of messages: what people say, how their clients say it, and what comes back."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from tests.capture.stage import BOT, ECHO, HOST, Stage, has_id, message, says, stanzas, was
from tests.servers.endpoint import Answer, reply, xml
from tests.servers.peer import name

if TYPE_CHECKING:
    from collections.abc import Callable

CARBONS: Final = "urn:xmpp:carbons:2"
FORWARD: Final = "urn:xmpp:forward:0"
LARGE_BYTES: Final = 300_000
ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz_éßжи日本語שלום😀"
"""For the words of the large stanza, with characters of every width."""

NONCHARACTERS: Final = tuple(
    chr(plane + low) for plane in range(0x10000, 0x110000, 0x10000) for low in (0xFFFE, 0xFFFF)
)
CHARACTERS: Final = {
    "planes": "h\xe9 \u4f60\u597d \U0001f600 \U0001d11e \U0010fffd \ue000 \U00020000 \ufffd",
    "joined": "\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301\u0323 \u1100\u1161\u11a8"
    " Z\u0351\u036b\u0343",
    "right to left": "\u202eabc\u202c \u2066x\u2069 \u05e9\u05dc\u05d5\u05dd"
    " \u0645\u0631\u062d\u0628\u0627 \u200f\u061c",
    "spaces": "\u2028|\u2029|\xa0|\u3000|\u200b|\ufeff|\u180e|  two  ",
    "tab, line feed, carriage return": "\t|\n|\r|\r\n",
    "C1 and delete": "".join(map(chr, range(0x7F, 0xA0))),
    "noncharacters": "".join(("\ufdd0", "\ufdef", *NONCHARACTERS)),
    "markup": "<b>&amp;</b> ]]> <![CDATA[x]]> <!-- --> &#1; &lt; \"'",
    "escapes": '{"a": "\\u0000\\n"} \\ \\x00 / \\ud83d',
}
"""The worst that XML 1.0 lets through, by what it is."""


async def chat(stage: Stage) -> None:
    """People talk to the bot, and it replies in each way that there is."""
    stage.answer(
        {
            "Good night": reply({"body": "Did you say Good night?"}),
            "twice": reply({"body": "once"}, {"body": "and again"}),
            "as XML": xml("<message><subject>XML</subject><body>as XML it is</body></message>"),
            "as HTML": Answer(body=b"<p>not said</p>", media="text/html"),
            "tell bob": reply({"to": f"bob@{HOST}", "body": "alice says hello"}),
            "normal": reply({"type": "normal", "body": "normal, too"}),
        }
    )
    async with (
        stage.bridge(),
        stage.user("alice", "phone") as alice,
        stage.user("bob", "tv") as bob,
    ):
        await alice.send(
            f"<message to='{ECHO}/room' type='chat' id='m1' xml:lang='en'>"
            "<body>Good night</body><thread>t1</thread></message>"
        )
        assert (await alice.receive(says("Did you say Good night?"))).get("from") == f"{ECHO}/room"
        await alice.send(message("twice", id="m2"))
        await alice.receive(says("once"))
        await alice.receive(says("and again"))
        await alice.send(message("as XML", id="m3"))
        await alice.receive(says("as XML it is"))
        for number, unanswered in enumerate(("nothing to say", "as HTML", ""), 4):
            await alice.send(message(unanswered, id=f"m{number}"))
            await stage.posted(was(body=unanswered))
        await alice.send(message("tell bob", id="m7"))
        await bob.receive(says("alice says hello"))
        await alice.send(message("normal", id="m8", type="normal"))
        await alice.receive(says("normal, too"))
        await alice.send(message("a headline", id="m9", type="headline"))
        await stage.posted(was(body="a headline"))


async def notice(stage: Stage) -> None:
    """Chat states, receipts, markers, a correction, a reaction, a retraction."""
    states = "http://jabber.org/protocol/chatstates"
    origin = "<origin-id xmlns='urn:xmpp:sid:0' id='{}'/>"
    stage.answer(
        {
            "helo": stanzas(
                "<message type='chat'><received xmlns='urn:xmpp:receipts' id='n2'/></message>",
                f"<message type='chat'><composing xmlns='{states}'/></message>",
                f"<message type='chat' id='b1'><active xmlns='{states}'/><body>Helo?</body>"
                "<markable xmlns='urn:xmpp:chat-markers:0'/></message>",
            ),
            "hello": stanzas(
                "<message type='chat' id='b2'><body>Hello!</body>"
                "<replace xmlns='urn:xmpp:message-correct:0' id='b1'/></message>",
                "<message type='chat' id='b3'><reactions xmlns='urn:xmpp:reactions:0' id='n3'>"
                "<reaction>👋🏽</reaction><reaction>🐎</reaction></reactions></message>",
            ),
        }
    )
    sent = {
        "n1": f"<composing xmlns='{states}'/>",
        "n2": f"<body>helo</body><active xmlns='{states}'/><request xmlns='urn:xmpp:receipts'/>"
        + origin.format("n2"),
        "n3": "<body>hello</body><replace xmlns='urn:xmpp:message-correct:0' id='n2'/>"
        + origin.format("n3"),
        "n4": "<displayed xmlns='urn:xmpp:chat-markers:0' id='b1'/>",
        "n5": "<reactions xmlns='urn:xmpp:reactions:0' id='b2'><reaction>❤️</reaction></reactions>"
        "<store xmlns='urn:xmpp:hints'/>",
        "n6": "<reactions xmlns='urn:xmpp:reactions:0' id='b2'/>",
        "n7": "<retract xmlns='urn:xmpp:message-retract:1' id='n3'/><body>/me took it back</body>"
        "<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:message-retract:1'/>",
        "n8": f"<gone xmlns='{states}'/>",
    }
    replies = {"n2": 3, "n3": 2}
    async with stage.bridge(component_post_events="all"), stage.user("alice", "phone") as alice:
        for id, content in sent.items():
            await alice.send(f"<message to='{ECHO}' type='chat' id='{id}'>{content}</message>")
            for _ in range(replies.get(id, 0)):
                await alice.receive(lambda it: name(it) == "message")
            await stage.posted(was(id=id))


async def forward(stage: Stage) -> None:
    """A forwarded message, and carbon copies as a client gets them and hands them on."""
    quoted = (
        f"<forwarded xmlns='{FORWARD}'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>"
        "<message xmlns='jabber:client' from='romeo@montague.example/orchard' id='0202197'"
        " to='juliet@capulet.example/balcony' type='chat'><body>Yet I should kill thee</body>"
        "<mood xmlns='http://jabber.org/protocol/mood'><amorous/></mood></message></forwarded>"
    )
    stage.answer(
        {
            "look what he says": stanzas(
                f"<message type='chat'><body>I see</body>{quoted}</message>"
            ),
            "copy this": reply({"body": "copied"}),
            "what I said": reply({"body": "you said it"}),
            "what it said": reply({"body": "it said so"}),
        }
    )
    async with (
        stage.bridge(),
        stage.user("alice", "phone") as phone,
        stage.user("alice", "desk") as desk,
    ):
        await phone.send(
            f"<message to='{ECHO}' type='chat' id='f1'><body>look what he says</body>{quoted}"
            "</message>"
        )
        await phone.receive(says("I see"))
        await desk.send(f"<iq type='set' id='carbons'><enable xmlns='{CARBONS}'/></iq>")
        await desk.receive(has_id("carbons"))
        await phone.send(message("copy this", id="f2"))
        sent = await desk.receive(_carbon("sent", "copy this"))
        received = await desk.receive(_carbon("received", "copied"))
        await phone.receive(says("copied"))
        for number, body, carbon in ((3, "what I said", sent), (4, "what it said", received)):
            # a private message: the carbon of a carbon would come back to this very client
            await desk.send(
                f"<message to='{ECHO}' type='chat' id='f{number}'><body>{body}</body>"
                f"{_text(carbon)}<private xmlns='{CARBONS}'/></message>"
            )
            await stage.posted(was(body=body))
        await desk.receive(says("you said it"))
        await desk.receive(says("it said so"))


async def unicode(stage: Stage) -> None:
    """Unicode at its worst, in bodies, attributes and addresses, both ways."""
    stage.endpoint.react = lambda posted: reply(
        {"body": posted["body"]},
        {"stanza": f"<message><x xmlns='urn:x' k={_quoted(posted['body'])}/></message>"},
    )
    async with stage.bridge(), stage.user("alice", "ждать-日本") as alice:
        for number, text in enumerate(CHARACTERS.values()):
            await alice.send(
                f"<message to='жук.日本@{BOT}/שלום' type='chat' id='é{number}'>"
                f"<body>{_escaped(text)}</body>"
                f"<é:ж xmlns:é='urn:é' é:日={_quoted(text)}/></message>"
            )
            # both servers pass a carriage return on as it is, and that is a line feed to a reader
            heard = text.replace("\r\n", "\n").replace("\r", "\n")
            await alice.receive(says(heard))
            await alice.receive(lambda it: it.find("{urn:x}x") is not None)


async def large(stage: Stage) -> None:
    """A stanza of 300 kB."""
    dice = random.Random(0)
    words = ["".join(dice.choices(ALPHABET, k=dice.randint(1, 9))) for _ in range(200)]
    text = " ".join(dice.choices(words, k=LARGE_BYTES))
    body = text.encode()[:LARGE_BYTES].decode(errors="ignore")
    stage.endpoint.react = lambda posted: reply({"body": f"{len(posted['body'])} characters"})
    async with stage.bridge(), stage.user("alice", "phone") as alice:
        await alice.send(message(body, id="large"))
        await alice.receive(says(f"{len(body)} characters"))


def _carbon(direction: str, body: str) -> Callable[[ET.Element], bool]:
    message = "{jabber:client}message/{jabber:client}body"
    path = f"{{{CARBONS}}}{direction}/{{{FORWARD}}}forwarded/{message}"
    return lambda it: it.findtext(path) == body


def _text(carbon: ET.Element) -> str:
    return "".join(ET.tostring(one, encoding="unicode") for one in carbon)


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})


def _quoted(text: str) -> str:
    references = {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;", "'": "&#39;"}
    return f"'{escape(text, references)}'"
