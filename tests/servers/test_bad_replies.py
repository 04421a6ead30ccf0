"""One bad reply while a hundred others are in flight costs one stanza, and never the stream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from tests.servers.endpoint import XMPP_XML, Answer, Posted, always, reply, xml
from tests.servers.scene import (
    ALL_KINDS,
    BOT,
    ECHO,
    PEER,
    STANZA_ERRORS,
    Scene,
    answered,
    body_of,
    message,
    open_scene,
    play,
    refused,
    row,
    stanza,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.servers.ejabberd import Ejabberd
    from tests.servers.prosody import Prosody

OTHERS: Final = 100
QUERY: Final = "<query xmlns='test:query'/>"
BODY: Final = "<body>x</body>"
BROKEN: Final = ("internal-server-error", "cancel")
BILLION: Final = (
    "<!DOCTYPE m [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
    "<message><body>&b;</body></message>"
)


def raw(body: bytes | str, media: str = "application/json") -> Answer:
    return Answer(body=body if isinstance(body, bytes) else body.encode(), media=media)


def said(**keys: Any) -> Answer:
    return reply({"body": "x", **keys})


def error(content: str, attributes: str = "") -> Answer:
    return xml(f"<message type='error' {attributes}>{content}</message>")


NOT_JSON: Final = {
    "no JSON": raw("hello"),
    "half an object": raw('{"body": "x"'),
    "two objects": raw('{"body": "x"} {"body": "y"}'),
    "a trailing comma": raw('{"body": "x",}'),
    "single quotes": raw("{'body': 'x'}"),
    "NaN": raw('{"body": NaN}'),
    "Latin-1": raw('{"body": "\xe9"}'.encode("latin-1")),
    "UTF-16": raw('{"body": "x"}'.encode("utf-16")),
    "UTF-8 of a surrogate": raw(b'{"body": "\xed\xa0\x80"}'),
    "NUL": raw(b'{"body": "x"}\0'),
    "deep": raw("[" * 100_000 + "]" * 100_000),
    "deep in an object": raw('{"a":' * 100_000 + "1" + "}" * 100_000),
    "an array of strings": raw('["x"]'),
    "an array in an array": raw('[[{"body": "x"}]]'),
    "an array with null": raw('[{"body": "x"}, null]'),
    "compressed": replace(said(), headers=(("Content-Encoding", "gzip"),)),
}
WRONG_TYPES: Final = {
    f"{key} is {json.dumps(value)}": said(**{key: value})
    for key in ("to", "from", "kind", "type", "id", "stanza")
    for value in (5, True, ["a"], {"a": "b"})
} | {
    "body is a list": said(body=["x"]),
    "body is an object": said(body={}),
    "the second object is wrong": reply({"body": "x"}, {"body": "y", "to": 5}),
}
WRONG_VALUES: Final = {
    "to: @@bad": said(to="@@bad"),
    "to without a domain": said(to="a@"),
    "to without a local part": said(to=f"@{PEER}"),
    "to with a space": said(to=f"a b@{PEER}"),
    "to without a resource": said(to=f"a@{PEER}/"),
    "to with a trailing dot": said(to=f"a@{PEER}."),
    "to with an empty label": said(to="a@peer..localhost"),
    "to with NUL": said(to=f"a\0@{PEER}"),
    "to with a newline": said(to=f"a@{PEER}/x\ny"),
    "to with markup": said(to=f"a<b>&'@{PEER}"),
    "to with a long local part": said(to=f"{'a' * 1024}@{PEER}"),
    "to with a long domain": said(to=f"a@{'a' * 1024}"),
    "to with a long resource": said(to=f"a@{PEER}/" + "\xe9" * 512),
    "a foreign from": said(**{"from": f"admin@{PEER}"}),
    "from of the server": said(**{"from": "localhost"}),
    "from of a subdomain": said(**{"from": f"a@b.{BOT}"}),
    "from with an empty local part": said(**{"from": f"@{BOT}"}),
    "from with a trailing dot": said(**{"from": f"echo@{BOT}."}),
    "from with an empty resource": said(**{"from": f"{ECHO}/"}),
    "from with a lookalike": said(**{"from": f"{ECHO}@{PEER}"}),
    "an unknown kind": said(kind="stream:error"),
    "kind in capitals": said(kind="Message"),
    "an unknown type": said(type="shout"),
    "type error": said(type="error"),
    "a presence of type chat": reply({"kind": "presence", "type": "chat"}),
    "an iq of type chat": reply({"kind": "iq", "type": "chat"}),
    "an iq get without a child": reply({"kind": "iq", "type": "get"}),
    "an answer that nobody asked for": reply({"kind": "iq", "type": "result"}),
    **{
        f"control character {number:#x} in id": said(id=f"a{chr(number)}b")
        for number in (0x0, 0x1, 0x8, 0xB, 0x1F, 0xFFFE, 0xFFFF)
    },
}
NOT_XML: Final = {
    "text": "hello",
    "nothing but white space in JSON": " ",
    "not closed": "<message>",
    "closed wrongly": "<message></presence>",
    "two stanzas": "<message/><message/>",
    "text behind": "<message/>x",
    "a stream's end": "</stream:stream>",
    "a stanza and a stream's end": "<message/></stream:stream>",
    "a stream": "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'/>",
    "a stream error": "<stream:error xmlns:stream='http://etherx.jabber.org/streams'/>",
    "a handshake": "<handshake/>",
    "unknown": "<thing/>",
    "a prefix of nowhere": "<message><a:b/></message>",
    "a prefix of an attribute": "<message a:b='c'/>",
    "a prefix undeclared": "<message xmlns:p=''/>",
    "two colons": "<message><a:b:c xmlns:a='x'/></message>",
    "one attribute twice": "<message id='a' id='b'/>",
    "one expanded name twice": "<message xmlns:a='x' xmlns:b='x' a:c='1' b:c='2'/>",
    "no quotes": "<message id=a/>",
    "a DTD": f"<!DOCTYPE message><message>{BODY}</message>",
    "entities": BILLION,
    "an external entity": "<!DOCTYPE m [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>"
    "<message><body>&a;</body></message>",
    "an unknown entity": "<message><body>&nbsp;</body></message>",
    "a comment": f"<message><!-- -->{BODY}</message>",
    "a processing instruction": f"<message><?php ?>{BODY}</message>",
    "a bare ampersand": "<message><body>a & b</body></message>",
    "a control character": "<message><body>\1</body></message>",
    "a reference to one": "<message><body>&#1;</body></message>",
    "a reference to NUL": "<message><body>&#0;</body></message>",
    "a reference to a surrogate": "<message><body>&#xD83D;</body></message>",
    "a reference to U+FFFF": "<message><body>&#xFFFF;</body></message>",
    "another namespace": f"<message xmlns='jabber:server'>{BODY}</message>",
    "XML 1.1": f"<?xml version='1.1'?><message>{BODY}</message>",
    "Latin-1": f"<?xml version='1.0' encoding='iso-8859-1'?><message>{BODY}</message>",
    "deep": f"<message>{'<a>' * 5000}{'</a>' * 5000}</message>",
    "too large": f"<message><body>{'x' * 520_000}</body></message>",
    "an unknown type": f"<message type='shout'>{BODY}</message>",
    "a foreign from": f"<message from='a@{PEER}'>{BODY}</message>",
    "from with an empty local part": f"<message from='@{BOT}'>{BODY}</message>",
    "from with a trailing dot": f"<message from='{ECHO}.'>{BODY}</message>",
    "an empty from": f"<message from=''>{BODY}</message>",
    "to: @@bad": f"<message to='@@bad'>{BODY}</message>",
    "an empty to": f"<message to=''>{BODY}</message>",
    "an empty id": f"<message id=''>{BODY}</message>",
    "an iq without a type": f"<iq>{QUERY}</iq>",
    "an iq of unknown type": f"<iq type='ask'>{QUERY}</iq>",
    "a get without a child": "<iq type='get'/>",
    "a set with two": f"<iq type='set'>{QUERY}{QUERY}</iq>",
    "an answer that nobody asked for": f"<iq type='result'>{QUERY}</iq>",
    "an error without an error": "<message type='error'/>",
    "an error without a condition": "<message type='error'><error type='cancel'/></message>",
    "an error without a type": f"<message type='error'><error><gone xmlns='{STANZA_ERRORS}'/>"
    "</error></message>",
    "an error of unknown type": "<message type='error'><error type='oops'>"
    f"<gone xmlns='{STANZA_ERRORS}'/></error></message>",
    "an error of unknown condition": "<message type='error'><error type='cancel'>"
    f"<oops xmlns='{STANZA_ERRORS}'/></error></message>",
    "an error with two conditions": "<message type='error'><error type='cancel'>"
    f"<gone xmlns='{STANZA_ERRORS}'/><conflict xmlns='{STANZA_ERRORS}'/></error></message>",
}
LIMITS: Final = {
    "a body over the limit": said(body="x" * 513_000),
    "over the limit by its escapes": said(body="&" * 110_000),
    "two bytes a character": said(body="\xe9" * 257_000),
    "the second of two": reply({"body": "x"}, {"body": "x" * 513_000}),
    "a reply over a megabyte": raw(" " * 1_100_000 + '{"body": "x"}'),
    "a chunked reply over a megabyte": raw('{"body": "%s"}' % ("x" * 1_100_000)),
    "a long id": said(id="x" * 513_000),
}
BAD: Final[Mapping[str, Answer]] = {
    **{f"JSON: {label}": it for label, it in NOT_JSON.items()},
    **{f"types: {label}": it for label, it in WRONG_TYPES.items()},
    **{f"values: {label}": it for label, it in WRONG_VALUES.items()},
    **{f"XML: {label}": xml(it) for label, it in NOT_XML.items() if it.strip()},
    **{f"XML in JSON: {label}": reply({"stanza": it}) for label, it in NOT_XML.items()},
    "XML: not UTF-8": raw(b"<message><body>\xe9</body></message>", XMPP_XML),
    "XML: UTF-16": raw("<message/>".encode("utf-16"), XMPP_XML),
    "XML in JSON: half a surrogate pair": raw('{"stanza": "<message>\\ud83d</message>"}'),
    **{f"limits: {label}": it for label, it in LIMITS.items()},
}
TO_AN_IQ: Final[Mapping[str, Answer]] = {
    "two answers": reply({"type": "result"}, {"type": "result"}),
    "two answers, one an error": reply(
        {"type": "result"},
        {
            "stanza": "<iq type='error'><error type='cancel'>"
            f"<gone xmlns='{STANZA_ERRORS}'/></error></iq>"
        },
    ),
    "another id": reply({"type": "result", "id": "other"}),
    "another id in XML": xml(f"<iq type='result' id='other'>{QUERY}</iq>"),
    "to another": reply({"type": "result", "to": f"other@{PEER}"}),
    "two payloads": xml(f"<iq type='result'>{QUERY}{QUERY}</iq>"),
    "an error without an error": xml("<iq type='error'/>"),
    "type error": reply({"type": "error"}),
    "a result of a message": reply({"kind": "message", "type": "result"}),
}
GOOD: Final[Mapping[str, Answer]] = {
    "from in another letter case": said(**{"from": "echo@BOT.localhost"}),
    "from in capitals": said(**{"from": "echo@BOT.LOCALHOST"}),
    "from in full width": said(**{"from": "echo@bot\uff0elocalhost"}),
    "from with a soft hyphen": said(**{"from": "echo@bo\xadt.localhost"}),
    "from in XML in another letter case": xml(
        f"<message from='echo@Bot.LocalHost' type='chat' id='i'>{BODY}</message>"
    ),
}


KINDS: Final = (
    "JSON: no JSON",
    "JSON: an array of strings",
    "types: to is 5",
    "values: to: @@bad",
    "values: a foreign from",
    "values: from with an empty local part",
    "values: from with a trailing dot",
    "values: control character 0x1 in id",
    "XML: a stream's end",
    "XML: a DTD",
    "XML in JSON: a foreign from",
    "XML in JSON: an error without an error",
    "limits: a body over the limit",
)


async def test_a_bad_reply_costs_one_stanza(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    """While a hundred others are in flight: first some kinds, one by one, then all at once."""
    get = stanza("iq", QUERY, type="get")
    rows = {label: row(label, message("x"), it, refused(*BROKEN)) for label, it in BAD.items()}
    iqs = [row(label, get, it, refused(*BROKEN, "iq")) for label, it in TO_AN_IQ.items()]
    good = [row(label, message("x"), it, answered("x")) for label, it in GOOD.items()]
    async with open_scene(
        shared_server,
        tmp_path,
        component={"component_post_stanzas": ALL_KINDS, "component_post_events": "all"},
    ) as scene:
        await _gather(scene)
        for label in KINDS:
            await play(scene, [rows[label]])
        await play(scene, [*rows.values(), *iqs, *good])
        await _scatter(scene)
        assert not scene.daemon.logged("detached"), scene.daemon.tail()


async def test_a_bad_reply_is_logged_once(prosody: Prosody, tmp_path: Path) -> None:
    async with open_scene(prosody, tmp_path) as scene:
        scene.endpoint.react = always(said(to="@@bad", body="nobody shall read this"))
        await scene.peer.send(message("bad", id="q7", from_=f"a@{PEER}"))
        await scene.peer.receive()
        (line,) = scene.daemon.logged("bad reply")
        assert line["level"] == "warning"
        assert (line["id"], line["endpoint"]) == ("q7", scene.endpoint.url)
        assert "@@bad" in line["why"]
        assert "nobody shall read this" not in scene.daemon.tail()


def _is_other(posted: Posted) -> bool:
    return str(posted["from"]).startswith("other")


async def _gather(scene: Scene) -> None:
    """Have a hundred messages in flight, whose replies wait."""
    scene.endpoint.hold(_is_other)
    scene.endpoint.react = always(reply({"body": "fine"}))
    for number in range(OTHERS):
        await scene.peer.send(message("hi", from_=f"other{number}@{PEER}"))
    await scene.endpoint.wait_requests(OTHERS, timeout_s=60)


async def _scatter(scene: Scene) -> None:
    """Let their replies go, and expect each of them."""
    assert scene.endpoint.in_flight == OTHERS
    scene.endpoint.release()
    got = [await scene.peer.receive(timeout_s=60) for _ in range(OTHERS)]
    expected = {f"other{number}@{PEER}" for number in range(OTHERS)}
    assert {it.get("to") for it in got} == expected
    assert {body_of(it) for it in got} == {"fine"}
