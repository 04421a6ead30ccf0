"""The HTTP contract on the wire, H1 to H6 and each row of the table, against real servers.

One table per test, played over one daemon; the expectations are written out here and not taken
from the code.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from bridge import __version__
from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.endpoint import (
    NOTHING,
    Answer,
    Never,
    Raw,
    always,
    open_endpoint,
    reply,
    xml,
)
from tests.servers.peer import connect_client, connect_component, name
from tests.servers.prosody import Prosody
from tests.servers.scene import (
    ALL_KINDS,
    BOT,
    ECHO,
    MUC_USER,
    ONE_ATTEMPT,
    PEER,
    STANZA_ERRORS,
    Case,
    answered,
    bot_table,
    message,
    open_scene,
    own,
    parsed,
    plain,
    play,
    refused,
    row,
    stanza,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.ejabberd import Ejabberd

PING: Final = "<ping xmlns='urn:xmpp:ping'/>"
QUERY: Final = "<query xmlns='test:query'/>"
INFO: Final = "http://jabber.org/protocol/disco#info"
ITEMS: Final = "http://jabber.org/protocol/disco#items"
VERSION: Final = "<query xmlns='jabber:iq:version'/>"
IN_ROOM: Final = f"<x xmlns='{MUC_USER}'/>"
NOT_FOUND: Final = f"<error type='cancel'><item-not-found xmlns='{STANZA_ERRORS}'/></error>"

WORST: Final = {
    "planes": "h\xe9 \u4f60\u597d \U0001f600 \U0010fffd \ue000 \ufffd",
    "joined": "\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301\u0323",
    "right to left": "\u202eabc\u202c \u2066x\u2069 \u05e9\u05dc\u05d5\u05dd",
    "spaces": "\u2028|\u2029|\xa0|\u3000|\u200b|\ufeff|\t|\n|  two  ",
    "controls": "\x7f\x85\x9f",
    "markup": "<b>&amp;</b> ]]> <![CDATA[x]]> <!-- --> &#1; &lt; \"'",
    "json": '{"a": "\\u0000\\n"} \\ / \\ud83d',
    "non-characters": "\ufdd0 \U0001fffe",
}


# --- H1: what is POSTed


async def test_each_stanza_becomes_one_object(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    here: dict[str, Any] = {"to": ECHO, "from": "{me}", "id": "q"}
    normal = (
        "normal" if isinstance(shared_server, Prosody) else None
    )  # ejabberd takes the default away
    async with open_scene(
        shared_server,
        tmp_path,
        component={"component_post_stanzas": ALL_KINDS, "component_post_events": "all"},
    ) as scene:
        await play(
            scene,
            [
                row(
                    "chat",
                    message("hi"),
                    NOTHING,
                    posted={**here, "kind": "message", "type": "chat", "body": "hi"},
                ),
                row("normal", message("x", type="normal"), NOTHING, posted={"type": normal}),
                row("no type", message("x", type=""), NOTHING, posted={"type": None, "body": "x"}),
                row("headline", message("x", type="headline"), NOTHING, posted={"body": "x"}),
                row("room", message("x", type="groupchat"), NOTHING, posted={"type": "groupchat"}),
                row("no id", message("x", id=""), NOTHING, posted={"id": None, "body": "x"}),
                row("empty body", message(""), NOTHING, posted={"body": ""}),
                row("no body", message(None), NOTHING, posted={"body": None, "kind": "message"}),
                row(
                    "resource",
                    message("x", to=f"{ECHO}/a b"),
                    NOTHING,
                    posted={"to": f"{ECHO}/a b"},
                ),
                row("host", message("x", to=BOT), NOTHING, posted={"to": BOT}),
                row(
                    "two bodies",
                    stanza("message", "<body xml:lang='de'>ja</body><body>yes</body>"),
                    NOTHING,
                    posted={"body": "yes"},
                ),
                row(
                    "foreign bodies",
                    stanza(
                        "message", "<body xml:lang='de'>ja</body><body xml:lang='fr'>oui</body>"
                    ),
                    NOTHING,
                    posted={"body": "ja"},
                ),
                row(
                    "presence",
                    stanza("presence", "<show>away</show>"),
                    NOTHING,
                    posted={**here, "kind": "presence", "type": None, "body": None},
                ),
                row(
                    "subscribe",
                    stanza("presence", type="subscribe"),
                    NOTHING,
                    posted={"kind": "presence", "type": "subscribe"},
                ),
                row(
                    "get",
                    stanza("iq", QUERY, type="get"),
                    reply({"type": "result"}),
                    stanza("iq", to="{me}", from_=ECHO, type="result"),
                    posted={**here, "kind": "iq", "type": "get"},
                ),
                row(
                    "set",
                    stanza("iq", QUERY, type="set"),
                    NOTHING,
                    stanza("iq", to="{me}", from_=ECHO, type="result"),
                    posted={**here, "kind": "iq", "type": "set"},
                ),
            ],
        )
        for request in scene.endpoint.requests:
            assert request.method == "POST"
            assert request.target == "/"
            assert request.headers["content-type"] == "application/json"
            assert "application/json" in request.headers["accept"]
            assert "application/xmpp+xml" in request.headers["accept"]
            assert request.headers["user-agent"].startswith("xmpp-bridge/")
            assert json.loads(request.body.decode("utf-8")) == request.json
            always = {"to", "from", "kind", "stanza", "received", "event", "uid", "attempt"}
            assert set(request.json) >= always | {"timestamp"}
            received = datetime.fromisoformat(request.json["received"])
            assert received.utcoffset() == timedelta(0)
            assert abs(datetime.now(UTC) - received) < timedelta(minutes=5)


async def test_stanza_is_the_whole_xml(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    sent = stanza(
        "message",
        "<x xmlns='jabber:x:oob'><url>u</url></x>"
        "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='a@b'>"
        "<body>c</body></message></forwarded>"
        "<y xmlns='a:b' xmlns:p='c:d' p:q='1'><p:z/></y>"
        "<body>a &lt; b</body>",  # ejabberd puts it last in any case
        type="chat",
        from_=f"a@{PEER}",
    )
    async with (
        open_scene(shared_server, tmp_path) as scene,
        connect_client(shared_server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        scene.endpoint.react = always(NOTHING)  # a reply might come when alice has gone
        await scene.peer.send(sent)
        await alice.send(f"<message to='{ECHO}' xml:lang='de'><body>ja</body></message>")
        await alice.send(f"<message to='{ECHO}'><body>yes</body></message>")
        await scene.endpoint.wait_requests(3)
        whole, *of_alice = sorted(scene.endpoint.posted, key=lambda it: it["from"] != f"a@{PEER}")
        assert whole["stanza"].startswith("<message ")
        assert "xmlns" not in whole["stanza"].partition(">")[0]
        assert plain(parsed(whole["stanza"])) == plain(parsed(sent))
        # the language is only inherited; Prosody writes it into each stanza itself
        assert ("xml:lang" in whole["stanza"]) == isinstance(shared_server, Prosody)
        assert [it["from"] for it in of_alice] == [alice.jid, alice.jid]
        assert "xml:lang" in of_alice[0]["stanza"]
        assert [it["body"] for it in of_alice] == ["ja", "yes"]


async def test_a_client_and_a_component_have_their_answers(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with (
        open_scene(shared_server, tmp_path) as scene,
        connect_client(shared_server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        for body in ("hello", *WORST.values()):
            await alice.send(message(body, from_=""))
            got = await alice.receive(lambda it: name(it) == "message")
            assert plain(got, any_id=True) == plain(
                parsed(answered(body).replace("{me}", alice.jid))
            )
        assert scene.endpoint.posted[0]["from"] == alice.jid
        bodies = {label: (message(body), body) for label, body in WORST.items()}
        await play(
            scene,
            [
                row(label, sent, reply({"body": body}), answered(body), posted={"body": body})
                for label, (sent, body) in bodies.items()
            ],
        )
        await play(
            scene,
            [
                row(
                    f"XML: {label}",
                    sent,
                    xml(f"\n <message type='chat'>{sent.partition('>')[2]}"),
                    answered(body),
                )
                for label, (sent, body) in bodies.items()
            ],
        )
        for body in WORST.values():
            assert body not in scene.daemon.tail()


async def test_awkward_addresses_and_ids(prosody: Prosody, tmp_path: Path) -> None:
    local, resource = "\xfc\u7528\u6237.x-y=1", "\u0440\u0435\u0441 '\"<&> \xe9/@"
    me, id = f"{local}@{PEER}/{resource}", "a'\"<&> \u2028\U0001f600{}%"
    async with open_scene(
        prosody,
        tmp_path,
        component={"component_post_stanzas": ALL_KINDS, "component_post_events": "all"},
    ) as scene:
        await scene.peer.send(message("x", from_=me, id=id))
        got = await scene.peer.receive()
        assert (got.get("to"), got.get("from")) == (me, ECHO)
        await scene.peer.send(stanza("iq", PING, type="get", from_=me, id=id))
        got = await scene.peer.receive()
        assert (got.get("to"), got.get("id"), got.get("type")) == (me, id, "result")
        posted = scene.endpoint.posted
        assert [(it["from"], it["id"]) for it in posted] == [(me, id), (me, id)]


# --- H2: replies


async def test_replies_in_json(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    hi = message("hi")
    body = {"body": "x"}
    thread = "<thread parent='p'>t</thread>"
    media = ("application/json; charset=utf-8", "Application/JSON;q=1", "APPLICATION/json ; a=b")
    cases = [
        row("a body", hi, reply(body), answered("x")),
        *(row(it, hi, Answer(body=b'{"body":"x"}', media=it), answered("x")) for it in media),
        row("with a BOM", hi, Answer(body=b'\xef\xbb\xbf{"body":"x"}'), answered("x")),
        row("an array", hi, reply(body, {"body": "y"}), answered("x"), answered("y")),
        row(
            "partly nothing", hi, reply({}, body, {"id": "n"}, {"body": "y"}), *map(answered, "xy")
        ),
        row("an empty array", hi, Answer(body=b"[]")),
        row("an empty object", hi, reply({})),
        row("nulls", hi, reply({"body": None, "stanza": None, "type": None, "kind": None})),
        row("only an address", hi, reply({"to": "a@b", "from": ECHO, "id": "1"})),
        row("null is absent", hi, reply({**body, "to": None, "id": None}), answered("x")),
        row("other keys", hi, reply({**body, "whatever": [1]}), answered("x")),
        row("kind", hi, reply({"kind": "message"}), answered("").replace("<body></body>", "")),
        row(
            "type alone",
            hi,
            reply({"type": "headline"}),
            stanza("message", to="{me}", from_=ECHO, id="*", type="headline"),
        ),
        *(
            row(f"type {it}", hi, reply({**body, "type": it}), answered("x", type=it))
            for it in ("chat", "normal", "headline")
        ),
        row(  # a room is spoken to as a whole
            "type groupchat",
            hi,
            reply({**body, "type": "groupchat"}),
            answered("x", type="groupchat").replace("{me}", "{bare}"),
        ),
        row("an id", hi, reply({**body, "id": "mine"}), answered("x", id="mine")),
        row("empty body", hi, reply({"body": ""})),
        *(
            row(f"the body {text}", hi, Answer(body=text.encode()))
            for text in ("null", "true", "5", '"ok"', "\ufeff")
        ),
        row("another's type", hi, reply({"type": "success", "id": 5})),
        row(
            "empty is absent",
            hi,
            reply({**body, **dict.fromkeys(("to", "from", "kind", "type", "id", "stanza"), "")}),
            answered("x"),
        ),
        row(
            "in colour",
            hi,
            Answer(body=b'{"body": "\\u001b[1;31mFAILED\\u001b[0m \\u0000\\ud83d"}'),
            answered("FAILED \ufffd\ufffd"),
        ),
        row("a byte order mark", hi, Answer(body=b'\xef\xbb\xbf{"body": "x"}'), answered("x")),
        *(
            row(f"body {text}", hi, Answer(body=b'{"body": %s}' % text.encode()), answered(text))
            for text in ("5", "true", "false", "0", "-1", "1.5", "1000000000000000000")
        ),
        row(
            "from a resource",
            message("hi", to=f"{ECHO}/r"),
            reply(body),
            answered("x", from_=f"{ECHO}/r"),
        ),
        row("from the host", message("hi", to=BOT), reply(body), answered("x", from_=BOT)),
        row("from", hi, reply({**body, "from": f"a@{BOT}/b"}), answered("x", from_=f"a@{BOT}/b")),
        row("letter case", hi, reply({**body, "from": "echo@BOT.LocalHost"}), answered("x")),
        row("to", hi, reply({**body, "to": "{me}"}), answered("x")),
        row(
            "a thread",
            stanza("message", f"<body>hi</body>{thread}", type="chat"),
            reply(body),
            answered("x").replace("</body>", f"</body>{thread}"),
        ),
        row(
            "to a room",
            message("hi", type="groupchat"),
            reply(body),
            answered("x", type="groupchat").replace("{me}", "{bare}"),
        ),
        row(
            "to an occupant",
            message("hi", type="groupchat"),
            reply({**body, "type": "chat"}),
            answered("x"),
        ),
        row("to a headline", message("hi", type="headline"), reply(body), answered("x")),
        *(
            row(
                f"presence {it}",
                hi,
                reply({"kind": "presence", "type": it, "body": "ignored"}),
                stanza("presence", to="{me}", from_=ECHO, id="*", type=it or ""),
            )
            for it in (None, "unavailable", "subscribe", "subscribed", "unsubscribe", "probe")
        ),
    ]
    async with open_scene(shared_server, tmp_path) as scene:
        await play(scene, cases)
        ids = [it.get("id") for it in scene.peer.stanzas if it.get("id") != "mine"]
        assert len(set(ids)) == len(ids)


async def test_replies_in_xml(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    hi = message("hi")
    short = "<message><body>x</body></message>"
    whole = f"<message to='{{me}}' from='a@{BOT}/b' type='normal' id='i'><body>x</body></message>"
    plainly = stanza("message", "<body>x</body>", to="{me}", from_=ECHO, id="*")
    rich = (
        "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>"
        "<p style='a'>b<br/>c</p></body></html><x xmlns='a:b' xmlns:p='c:d' p:q='1' xml:lang='de'/>"
    )
    forwarded = (
        "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='a@b'>"
        "<body>c</body></message></forwarded>"
    )
    cases = [
        row("in JSON", hi, reply({"stanza": short}), plainly),
        row("as XML", hi, xml(short), plainly),
        row(
            "as XML, its type with parameters", hi, xml(short, "Application/XMPP+XML; a=b"), plainly
        ),
        row("with a declaration", hi, xml(f"<?xml version='1.0'?>\n{short}\n"), plainly),
        row("in white space", hi, xml(f" \n{short}\n "), plainly),
        row(
            "overrides",
            hi,
            reply({"stanza": whole, "to": "a@b", "from": f"c@{BOT}", "body": "y", "id": "j"}),
            whole,
        ),
        row("as supplied", hi, xml(whole), whole),
        *(
            row(
                f"in {space}",
                hi,
                xml(f"<message xmlns='{space}'><body>x</body></message>"),
                plainly,
            )
            for space in ("jabber:client", "jabber:component:accept", "")
        ),
        row(
            "with a prefix",
            hi,
            xml("<a:message xmlns:a='jabber:client'><a:body>x</a:body></a:message>"),
            plainly,
        ),
        row("rich", hi, xml(f"<message>{rich}</message>"), plainly.replace("<body>x</body>", rich)),
        row(
            "forwarded",
            hi,
            xml(f"<message>{forwarded}</message>"),
            plainly.replace("<body>x</body>", forwarded),
        ),
        row(
            "several",
            hi,
            reply({"stanza": whole}, {"body": "y"}, {"stanza": whole}),
            whole,
            answered("y"),
            whole,
        ),
        row(
            "letter case",
            hi,
            xml(whole.replace(f"a@{BOT}", "a@Bot.LOCALHOST")),
            whole,
        ),
        row(
            "an error of its own",
            hi,
            xml(f"<message type='error'>{NOT_FOUND}</message>"),
            refused("item-not-found", "cancel"),
        ),
        row(
            "presence",
            hi,
            xml("<presence><show>away</show></presence>"),
            stanza("presence", "<show>away</show>", to="{me}", from_=ECHO, id="*"),
        ),
        row(
            "an iq of its own",
            hi,
            xml(f"<iq type='get'>{QUERY}</iq>"),
            stanza("iq", QUERY, to="{me}", from_=ECHO, id="*", type="get"),
        ),
    ]
    async with open_scene(shared_server, tmp_path) as scene:
        await play(scene, cases)


async def test_answers_to_iqs(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    get, put = (stanza("iq", QUERY, type=type) for type in ("get", "set"))
    result = stanza("iq", to="{me}", from_=ECHO, type="result")
    full = stanza("iq", QUERY, to="{me}", from_=ECHO, type="result")
    unavailable = refused("service-unavailable", "cancel", "iq")
    broken = refused("internal-server-error", "cancel", "iq")
    says_x = {"kind": "message", "body": "x"}
    cases = [
        row("a result", get, reply({"type": "result"}), result),
        row("kind alone", get, reply({"kind": "iq"}), result),
        row("a body is ignored", get, reply({"body": "x"}), result),
        row("its own id", get, reply({"type": "result", "id": "q"}), result),
        row("XML", get, xml(f"<iq type='result'>{QUERY}</iq>"), full),
        row("XML in JSON", put, reply({"stanza": f"<iq type='result'>{QUERY}</iq>"}), full),
        row("XML, whole", get, xml(full), full),
        row(
            "an error",
            get,
            xml(f"<iq type='error'>{NOT_FOUND}</iq>"),
            refused("item-not-found", "cancel", "iq"),
        ),
        row("a message besides", get, reply(says_x, {"type": "result"}), answered("x"), result),
        row("only a message", put, reply(says_x), answered("x"), result),
        row("only a message to a get", get, reply(says_x), answered("x"), unavailable),
        row(
            "only a get",
            put,
            xml(f"<iq type='get' id='g'>{QUERY}</iq>"),
            stanza("iq", QUERY, to="{me}", from_=ECHO, id="g", type="get"),
            result,
        ),
        row("nothing to a set", put, reply({}), result),
        row("no objects to a set", put, Answer(body=b"[]"), result),
        row("202 to a set", put, Answer(202, b"ok", "text/plain"), result),
        row("empty 200 to a set", put, Answer(), result),
        row("empty 200 without a type", put, Answer(media=None), result),
        row("HTML to a set", put, Answer(body=b"<p>hi", media="text/html"), result),
        row("nothing to a get", get, reply({}), unavailable),
        row("204 to a get", get, NOTHING, unavailable),
        row("HTML to a get", get, Answer(body=b"<p>hi", media="text/html"), unavailable),
        row(
            "204 to a ping",
            stanza("iq", PING, type="get"),
            NOTHING,
            result,
        ),
        row("two answers", get, reply({"type": "result"}, {"type": "result"}), broken),
        row("another id", get, reply({"type": "result", "id": "r"}), broken),
        row("another id in XML", get, xml(f"<iq type='result' id='r'>{QUERY}</iq>"), broken),
        row("to another", get, reply({"type": "result", "to": f"x@{PEER}"}), broken),
        row("not JSON", put, Answer(body=b"{"), broken),
        row("404", get, Answer(404), refused("item-not-found", "cancel", "iq")),
        row("closed", put, Raw(), refused("remote-server-timeout", "wait", "iq")),
    ]
    async with open_scene(
        shared_server,
        tmp_path,
        component={"component_post_stanzas": ["iq"]},
        retry=ONE_ATTEMPT,
    ) as scene:
        await play(scene, cases)


async def test_iqs_that_are_none(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    bad = refused("bad-request", "modify", "iq")
    cases = [own("two children", stanza("iq", PING + QUERY, type="set"), bad)]
    # what one server passes on, the other answers or drops itself
    if isinstance(shared_server, Prosody):
        cases.append(own("unknown type", stanza("iq", PING, type="ask"), bad))
        cases.append(own("no id", stanza("iq", PING, type="get", id="")))
    else:
        cases.append(own("no child", stanza("iq", type="get"), bad))
    for kinds in (["message", "iq"], ["message"]):
        async with open_scene(
            shared_server, tmp_path, component={"component_post_stanzas": kinds}
        ) as scene:
            await play(scene, cases)


# --- H3: no reply


async def test_nothing_is_said(prosody: Prosody, tmp_path: Path) -> None:
    hi = message("hi")
    says = b'{"body": "x"}'
    cases = [
        *(
            row(f"{it}", hi, Answer(it, says if it != 204 else b""))
            for it in (201, 202, 203, 204, 206, 299)
        ),
        row("empty", hi, Answer()),
        row("white space", hi, Answer(body=b" \r\n")),
        row("HTML", hi, Answer(body=says, media="text/html; charset=utf-8")),
        row("HTML again", hi, Answer(body=b"<p>", media="text/html")),
        row("text", hi, Answer(body=says, media="text/plain")),
        row("no type", hi, Answer(body=says, media=None)),
        row("no type again", hi, Answer(body=says, media="")),
        row("another JSON", hi, Answer(body=says, media="application/problem+json")),
        row("XML", hi, Answer(body=b"<message/>", media="text/xml")),
    ]
    async with open_scene(prosody, tmp_path) as scene:
        await play(scene, cases)
        warnings = [it for it in scene.daemon.logged("reply ignored") if "media_type" in it]
        types = ["application/problem+json", "none", "text/html", "text/plain", "text/xml"]
        assert sorted(line["media_type"] for line in warnings) == types
        assert all(line["level"] == "warning" for line in warnings)
        assert all(line["endpoint"] == scene.endpoint.url for line in warnings)
        assert all("Content-Type: application/json" in line["hint"] for line in warnings)
        statuses = [it["status"] for it in scene.daemon.logged("reply ignored") if "status" in it]
        assert sorted(statuses) == [201, 202, 203, 206, 299]


# --- H4: failure

SECRET_OF_ENDPOINT: Final = b'{"body": "LEAK"}'
STATUSES: Final = {
    **dict.fromkeys((400, 411, 416, 422), ("bad-request", "modify")),
    **dict.fromkeys((401, 511), ("not-authorized", "auth")),
    **dict.fromkeys((402, 403, 451), ("forbidden", "auth")),
    404: ("item-not-found", "cancel"),
    405: ("not-allowed", "cancel"),
    406: ("not-acceptable", "modify"),
    **dict.fromkeys((408, 504), ("remote-server-timeout", "wait")),
    **dict.fromkeys((409, 412), ("conflict", "cancel")),
    410: ("gone", "cancel"),
    **dict.fromkeys((413, 414, 431), ("resource-constraint", "modify")),
    **dict.fromkeys((415, 501), ("feature-not-implemented", "cancel")),
    **dict.fromkeys((423, 425, 429, 507), ("resource-constraint", "wait")),
    500: ("internal-server-error", "cancel"),
    502: ("remote-server-timeout", "cancel"),
    503: ("remote-server-timeout", "wait"),
}
OTHERS: Final = sorted({*range(300, 600), 600, 999} - STATUSES.keys())
GARBLED: Final = {
    "closed without a word": b"",
    "not HTTP": b"hello\r\n\r\n",
    "binary": bytes(range(256)),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
}


async def test_each_status_has_its_error(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    table = STATUSES | dict.fromkeys(OTHERS, ("service-unavailable", "cancel"))
    away = ("Location", "/elsewhere")
    cases = [
        row(
            str(status),
            message("hi"),
            Answer(status, b"" if status == 304 else SECRET_OF_ENDPOINT, headers=(away,)),
            refused(*error),
        )
        for status, error in table.items()
    ]
    cases += [
        row(
            f"{status} to an iq",
            stanza("iq", QUERY, type="set"),
            Answer(status, SECRET_OF_ENDPOINT),
            refused(*error, "iq"),
        )
        for status, error in STATUSES.items()
    ]
    async with open_scene(
        shared_server,
        tmp_path,
        component={"component_post_stanzas": ["message", "iq"]},
        http={"max_in_flight": 32},
        retry=ONE_ATTEMPT,
    ) as scene:
        await play(scene, cases)
        assert all(request.target == "/" for request in scene.endpoint.requests)
        errors = [it for it in scene.peer.stanzas if it.get("type") == "error"]
        assert len(errors) == len(cases)
        texts = {it.findtext(f".//{{{STANZA_ERRORS}}}text") for it in errors}
        assert texts == {"The service has failed.", "The service has refused this."}
        assert "LEAK" not in str(texts)
        assert "LEAK" not in scene.daemon.tail()


async def test_an_endpoint_that_refuses_the_bridge(prosody: Prosody, tmp_path: Path) -> None:
    statuses = [401, 403, 407, 404]
    async with open_scene(prosody, tmp_path) as scene:
        scene.endpoint.react = lambda posted: Answer(int(posted["body"]))
        for status in statuses:
            await scene.peer.send(message(str(status), from_=f"a@{PEER}", id=f"q{status}"))
            await scene.peer.receive()
        lines = scene.daemon.logged("your endpoint refuses the bridge")
        assert [(line["status"], line["id"]) for line in lines] == [
            (401, "q401"),
            (403, "q403"),
            (407, "q407"),
        ]


async def test_no_answer_or_a_garbled_one(prosody: Prosody, tmp_path: Path) -> None:
    timeout = refused("remote-server-timeout", "wait")
    cases = [row(it, message("hi"), Raw(data), timeout) for it, data in GARBLED.items()]
    cases += [row("silence", message("hi"), Never(), timeout)]
    cases += [row("too late", message("hi"), Answer(delay_s=60), timeout)]
    cases += [
        row(
            "a body too late",
            message("hi"),
            Never(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
            timeout,
        )
    ]
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    until_closed = b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"body":"x"}'
    cases += [
        row(
            "hints before",
            message("hi"),
            Raw(hints + reply({"body": "x"}).to_bytes()),
            answered("x"),
        ),
        row("HTTP/1.0, until closed", message("hi"), Raw(until_closed), answered("x")),
    ]
    async with open_scene(prosody, tmp_path, http={"timeout_s": 4.0}, retry=ONE_ATTEMPT) as scene:
        await play(scene, cases)
        await scene.endpoint.stop()
        for id in ("one", "two"):
            await scene.peer.send(message("hi", from_=f"a@{PEER}", id=id))
            got = await scene.peer.receive(lambda it: it.get("id") in ("one", "two"))
            assert (got.get("id"), got.get("type")) == (id, "error")
            error = refused("remote-server-timeout", "wait").replace("{me}", f"a@{PEER}")
            assert plain(got) == plain(parsed(error.replace('id="q"', f'id="{id}"')))
        await scene.endpoint.start()
        await scene.peer.send(message("back", from_=f"a@{PEER}"))
        got = await scene.peer.receive(
            lambda it: it.get("type") == "chat" and it.get("to") == f"a@{PEER}"
        )
        assert plain(got, any_id=True) == plain(
            parsed(answered("back").replace("{me}", f"a@{PEER}"))
        )


async def test_whom_no_error_is_sent(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    internal = ("internal-server-error", "cancel")
    cases = [
        row("chat", message("x"), Answer(500), refused(*internal)),
        row("normal", message("x", type="normal"), Answer(500), refused(*internal)),
        row("no type", message("x", type=""), Answer(500), refused(*internal)),
        row("get", stanza("iq", QUERY, type="get"), Answer(500), refused(*internal, "iq")),
        row(
            "get of an occupant",
            stanza("iq", f"<query xmlns='test:query'>{IN_ROOM}</query>", type="get"),
            Answer(500),
            refused(*internal, "iq"),
        ),
        row("headline", message("x", type="headline"), Answer(500)),
        row("groupchat", message("x", type="groupchat"), Answer(500)),
        row("occupant", stanza("message", f"<body>x</body>{IN_ROOM}", type="chat"), Answer(500)),
        row("error", stanza("message", NOT_FOUND, type="error"), Answer(500)),
        row("presence", stanza("presence"), Answer(500)),
        row("subscribe", stanza("presence", type="subscribe"), Answer(500)),
        row("result", stanza("iq", QUERY, type="result"), Answer(500)),
        row("iq error", stanza("iq", NOT_FOUND, type="error"), Answer(500)),
        row("bad reply to a headline", message("x", type="headline"), Answer(body=b"{")),
        row("closed on a presence", stanza("presence"), Raw()),
    ]
    async with open_scene(
        shared_server,
        tmp_path,
        component={"component_post_stanzas": ALL_KINDS, "component_post_events": "all"},
        retry=ONE_ATTEMPT,
    ) as scene:
        await play(scene, cases)
        await scene.daemon.wait_logged("sender not told", 7)  # nothing comes that says so
        untold = scene.daemon.logged("sender not told")
        kinds = sorted(line["kind"] for line in untold)
        assert kinds == ["message"] * 4 + ["presence"] * 3


# --- H5: which stanzas


async def test_answers_to_errors_and_results_are_ignored(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    says = reply({"kind": "message", "body": "x"})
    cases = [
        row("bounce", stanza("message", NOT_FOUND, type="error"), says, posted={"type": "error"}),
        row("presence", stanza("presence", NOT_FOUND, type="error"), says),
        row("result", stanza("iq", QUERY, type="result"), says, posted={"type": "result"}),
        row("empty result", stanza("iq", type="result"), says, posted={"id": "q"}),
        row("iq error", stanza("iq", NOT_FOUND, type="error"), says, posted={"type": "error"}),
        row("bad reply", stanza("message", NOT_FOUND, type="error"), Answer(body=b"{")),
    ]
    async with open_scene(
        shared_server,
        tmp_path,
        component={"component_post_stanzas": ALL_KINDS, "component_post_events": "all"},
    ) as scene:
        await play(scene, cases)


# --- H6: what the bridge answers itself


async def test_presences_and_iqs_that_are_not_posted(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with open_scene(shared_server, tmp_path, component={"name": "Echo & Co"}) as scene:
        await play(scene, [*_presences("Echo & Co"), *_iqs("Echo & Co")])


FEATURES: Final = (
    "http://jabber.org/protocol/caps",
    "http://jabber.org/protocol/chatstates",
    INFO,
    ITEMS,
    "jabber:iq:last",
    "jabber:iq:version",
    "jabber:x:data",
    "jabber:x:oob",
    "urn:xmpp:message-correct:0",
    "urn:xmpp:ping",
    "urn:xmpp:receipts",
    "urn:xmpp:reply:0",
    "urn:xmpp:sfs:0",
    "urn:xmpp:time",
    "urn:xmpp:tmp:quick-response",
)


def _caps(identity: str, shown: str) -> str:
    """What a presence says of the features (XEP-0115 §5)."""
    text = "".join(f"{one}<" for one in (f"{identity}//{shown}", *FEATURES))
    ver = base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()
    node = "https://github.com/xmpp-bridge/xmpp-bridge"
    return f"<c xmlns='{FEATURES[0]}' hash='sha-1' node='{node}' ver='{ver}'/>"


def _presences(name: str) -> list[Case]:
    def presence(from_: str, type: str = "", content: str = "") -> str:
        return stanza("presence", content, to="{me}", from_=from_, type=type, id="")

    cases = []
    for to, shown in ((ECHO, f"{ECHO}/default"), (f"{ECHO}/r", f"{ECHO}/r"), (BOT, BOT)):
        accepted = presence(to.partition("/")[0], "subscribed")
        caps = _caps("component/generic" if to == BOT else "client/bot", name)
        answers = {
            "subscribe": [accepted, presence(shown, content=caps)],
            "probe": [presence(shown, content=caps)],
            "unsubscribe": [presence(shown, "unavailable")],
            "subscribed": [],
            "unsubscribed": [],
            "unavailable": [],
            "": [],
        }
        cases += [
            own(f"{type} to {to}", stanza("presence", to=to, type=type), *expected)
            for type, expected in answers.items()
        ]
    return [*cases, own("an error", stanza("presence", NOT_FOUND, type="error"))]


def _iqs(shown: str) -> list[Case]:
    shown = shown.replace("&", "&amp;")
    features = "".join(f"<feature var='{it}'/>" for it in FEATURES)
    cases = []
    for to, identity in (
        (ECHO, "category='client' type='bot'"),
        (f"{ECHO}/r", "category='client' type='bot'"),
        (BOT, "category='component' type='generic'"),
    ):
        info = f"<query xmlns='{INFO}'><identity {identity} name='{shown}'/>{features}</query>"
        version = VERSION.replace(
            "/>", f"><name>{shown}</name><version>{__version__}</version></query>"
        )
        results = [
            ("ping", PING, ""),
            ("info", f"<query xmlns='{INFO}'/>", info),
            ("items", f"<query xmlns='{ITEMS}'/>", f"<query xmlns='{ITEMS}'/>"),
            ("version", VERSION, version),
        ]
        cases += [
            own(
                f"{label} of {to}",
                stanza("iq", asked, to=to, type="get"),
                stanza("iq", told, to="{me}", from_=to, type="result"),
            )
            for label, asked, told in results
        ]
    none = refused("item-not-found", "cancel", "iq")
    unavailable = refused("service-unavailable", "cancel", "iq")
    return [
        *cases,
        own("a node", stanza("iq", f"<query xmlns='{INFO}' node='n'/>", type="get"), none),
        own("a node's items", stanza("iq", f"<query xmlns='{ITEMS}' node='n'/>", type="get"), none),
        own("unknown", stanza("iq", QUERY, type="get"), unavailable),
        own("unknown set", stanza("iq", QUERY, type="set"), unavailable),
        own("set of a ping", stanza("iq", PING, type="set"), unavailable),
        own("result", stanza("iq", QUERY, type="result")),
        own("error", stanza("iq", NOT_FOUND, type="error")),
    ]


async def test_messages_that_are_not_posted(prosody: Prosody, tmp_path: Path) -> None:
    unavailable = refused("service-unavailable", "cancel")
    async with open_scene(
        prosody, tmp_path, component={"component_post_stanzas": ["presence"]}
    ) as scene:
        scene.endpoint.react = always(reply({"kind": "message", "body": "curtain"}))
        await play(
            scene,
            [
                own("chat", message("x"), unavailable),
                own("normal", message("x", type="normal"), unavailable),
                own("no type", message("x", type=""), unavailable),
                own("headline", message("x", type="headline")),
                own("groupchat", message("x", type="groupchat")),
                own("error", stanza("message", NOT_FOUND, type="error")),
            ],
        )


# --- the configuration's other keys


async def test_only_messages_with_a_body(prosody: Prosody, tmp_path: Path) -> None:
    typing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
    async with open_scene(
        prosody, tmp_path, component={"component_post_events": ["message", "edit"]}
    ) as scene:
        await play(
            scene,
            [
                own("typing", stanza("message", typing, type="chat")),
                own("an error", stanza("message", NOT_FOUND, type="error")),
                row("a body", message("hi"), reply({"body": "x"}), answered("x")),
                row("an empty body", message(""), reply({"body": "x"}), answered("x")),
            ],
        )


async def test_only_some_senders(prosody: Prosody, tmp_path: Path) -> None:
    forbidden = refused("forbidden", "auth")
    said = reply({"body": "x"})
    async with open_scene(
        prosody,
        tmp_path,
        component={"allow_from": [f"C0@{PEER}", f"c1@{PEER}/r", f"curtain@{PEER}", "localhost"]},
    ) as scene:
        await play(
            scene,
            [
                row("its bare JID", message("hi"), said, answered("x")),
                row("its full JID", message("hi"), said, answered("x")),
                own("a stranger", message("hi"), forbidden),
                own("a stranger's headline", message("hi", type="headline")),
                own(
                    "a stranger's ping",
                    stanza("iq", PING, type="get"),
                    refused("forbidden", "auth", "iq"),
                ),
                own("a stranger's probe", stanza("presence", type="probe")),
            ],
        )
        async with connect_client(prosody.c2s_port, "alice@localhost", "pw") as alice:
            await alice.send(message("from a domain", from_=""))
            await alice.receive(lambda it: name(it) == "message" and it.get("type") == "chat")


async def test_two_components_in_one_process(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        bot, second = [await stack.enter_async_context(open_endpoint()) for _ in range(2)]
        bot.react = lambda posted: reply({"body": f"bot: {posted['body']}"})
        components = {
            BOT: bot_table(bot),
            "second.localhost": {
                "component_secret": COMPONENTS["second.localhost"],
                "component_post_url": f"http://user:pass%40word@127.0.0.1:{second.port}/a/b?key=value",
                "post_stanza_types": ["message", "presence"],
            },
        }
        http = {"headers": {"Authorization": "Bearer t0ken", "X-Two": "2"}}
        daemon = await stack.enter_async_context(
            run_daemon(tmp_path, settings_for(shared_server.component_port, components, http=http))
        )
        peer = await stack.enter_async_context(
            connect_component(shared_server.component_port, PEER, COMPONENTS[PEER])
        )
        await peer.send(message("one", from_=f"a@{PEER}"))
        got = await peer.receive()
        assert plain(got, any_id=True) == plain(
            parsed(answered("bot: one").replace("{me}", f"a@{PEER}"))
        )
        await peer.send(message("two", from_=f"a@{PEER}", to="echo@second.localhost"))
        got = await peer.receive()
        assert got.get("from") == "echo@second.localhost"
        await peer.send(stanza("presence", from_=f"a@{PEER}", to="echo@second.localhost"))
        await second.wait_requests(2)
        assert len(bot.requests) == 1
        assert {request.target for request in second.requests} == {"/a/b?key=value"}
        assert bot.requests[0].headers["authorization"] == "Bearer t0ken"
        assert bot.requests[0].headers["x-two"] == "2"
        log = json.dumps(daemon.lines)
        assert not [it for it in ("pass", "t0ken", "key=value", *COMPONENTS.values()) if it in log]
        # a reply of one component in the name of the other is a bad one
        bot.react = always(reply({"body": "x", "from": "echo@second.localhost"}))
        await peer.send(message("three", from_=f"a@{PEER}"))
        assert plain(await peer.receive()) == plain(
            parsed(refused("internal-server-error", "cancel").replace("{me}", f"a@{PEER}"))
        )


# --- sizes


async def test_large_stanzas(shared_server: Prosody | Ejabberd, tmp_path: Path) -> None:
    large = "0123456789" * 30_000
    deep = "<a xmlns='a:b'>" * 300 + "</a>" * 300
    many = "<a xmlns='a:b' " + " ".join(f"a{n}=''" for n in range(300)) + "/>"
    policy = ("policy-violation", "modify")
    over = "x" * 450_000
    cases = [
        row(
            "300 kB",
            message(large),
            reply({"body": large}),
            answered(large),
            posted={"body": large},
        ),
        row(
            "300 kB as XML",
            message("x"),
            xml(message(large, to="", from_="", id="i")),
            answered(large, id="i"),
        ),
        own("450 kB", message(over), refused(*policy)),
        own(
            "450 kB in an iq",
            stanza("iq", f"<query xmlns='a:b'>{over}</query>", type="set"),
            refused(*policy, "iq"),
        ),
        own("450 kB in a headline", message(over, type="headline")),
        own(
            "450 kB of an occupant", stanza("message", f"{IN_ROOM}<body>{over}</body>", type="chat")
        ),
        own("450 kB in an error", message(over, type="error")),
        own("deep", stanza("message", deep, type="chat"), refused(*policy)),
        own("many attributes", stanza("message", many, type="chat"), refused(*policy)),
        row(
            "450 kB to send",
            message("x"),
            reply({"body": over}),
            refused("internal-server-error", "cancel"),
        ),
        row(
            "1 MB to send",
            message("x"),
            Answer(body=b"[%s]" % (b" " * 1_100_000)),
            refused("internal-server-error", "cancel"),
        ),
        row("small", message("x"), reply({"body": "x"}), answered("x")),
    ]
    limits = {"max_stanza_bytes": 400_000, "max_send_bytes": 400_000}
    async with open_scene(shared_server, tmp_path, stream=limits) as scene:
        await play(scene, cases)
        assert len(scene.daemon.logged("stanza refused")) == 7
