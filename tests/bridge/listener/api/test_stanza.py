"""`POST /v1/stanzas`: what is sent, and every refusal."""

import json
from typing import Any

import httpx
import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.listener.api.request import BODY_S
from bridge.listener.problem import type_of
from bridge.listener.submission.sender import (
    IdInUse,
    JournalUnavailable,
    KeyReused,
    NoAnswer,
    NotConfigured,
    NotRunning,
    QueueFull,
    SendRefused,
)
from tests.bridge.listener.conftest import AT_ONCE, MAX_BODY_BYTES, World, basic, bearer
from tests.bridge.listener.fake_sender import BOT, OTHER
from tests.bridge.sample import meaning, stanza

JSON = "application/json"
XML = "application/xmpp+xml"
TEXT = "text/plain"
PROBLEM = "application/problem+json"
JULIET = "juliet@capulet.example"
MESSAGE = {"to": JULIET, "from": f"echo@{BOT}", "body": "hi", "id": "m1"}
PING = f"<iq type='get' to='{JULIET}' from='{BOT}' id='p1'><ping xmlns='urn:xmpp:ping'/></iq>"


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Give a refusal's object, its form checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    value: dict[str, Any] = response.json()
    assert value["status"] == status
    error = value.get("error")
    remote = error and f"urn:xmpp-bridge:problem:remote:{error['condition']}"
    assert value["type"] == (remote or type_of(status))
    assert value["title"]
    return value


def sent(world: World) -> list[Any]:
    return [meaning(one.element) for one, _ in world.sender.sent]


def means(xml: str) -> Any:
    return meaning(stanza(xml).element)


# --- what is sent


async def test_a_message_in_json(world: World) -> None:
    response = await world.post("/v1/stanzas", json.dumps(MESSAGE), JSON)
    assert response.status_code == 202
    assert response.json() == {"id": "m1", "uid": "msg_1"}
    assert sent(world) == [
        means(
            f"<message to='{JULIET}' from='echo@{BOT}' type='chat' id='m1'>"
            "<body>hi</body></message>"
        )
    ]


async def test_a_message_in_xml(world: World) -> None:
    xml = f"<message to='{JULIET}' from='{OTHER}' id='x'><subject>s</subject></message>"
    assert (await world.post("/v1/stanzas", xml, XML)).status_code == 202
    assert sent(world) == [means(xml)]


async def test_a_stanza_in_json(world: World) -> None:
    xml = f"<presence to='{JULIET}' from='echo@{BOT}' id='x'><show>away</show></presence>"
    content = json.dumps({"stanza": xml})
    assert (await world.post("/v1/stanzas", content, JSON + "; charset=UTF-8")).status_code == 202
    assert sent(world) == [means(xml)]


@pytest.mark.parametrize(
    ("content", "media", "expected"),
    [
        ({"body": "\x1b[31mFAILED\x1b[0m \ud83d\x00"}, JSON, "FAILED \ufffd\ufffd"),
        ({"body": "hi", "id": "", "type": "", "kind": "", "stanza": ""}, JSON, "hi"),
        ("\ufeff\x1b[31mFAILED\x1b[0m\x08", TEXT, "FAILED\ufffd"),
        ("\ufeff\ufeffhi", TEXT, "hi"),
    ],
)
async def test_what_programs_send_is_read_liberally(
    world: World, content: Any, media: str, expected: str
) -> None:
    path = f"/v1/stanzas/message/chat/{JULIET}"
    if media == JSON:
        path, content = "/v1/stanzas", json.dumps({"to": JULIET, **content})
    assert (await world.post(path, content.encode(), media, **bearer("one"))).status_code == 202
    xml = f"<message to='{JULIET}' from='{BOT}' type='chat'><body>{expected}</body></message>"
    assert sent(world) == [means(xml)]


@pytest.mark.parametrize("media", [JSON, XML])
async def test_a_byte_order_mark(world: World, media: str) -> None:
    content = json.dumps(MESSAGE)
    if media == XML:
        content = f"<message to='{JULIET}' from='echo@{BOT}'><body>hi</body></message>"
    response = await world.post("/v1/stanzas", b"\xef\xbb\xbf" + content.encode(), media)
    assert response.status_code == 202
    problem(await world.post("/v1/stanzas", b"\xef\xbb\xbf", media), 400)


async def test_what_the_xml_lacks_is_filled_in(world: World) -> None:
    xml = "<message><body>hi</body></message>"
    content = json.dumps({"stanza": xml, "to": JULIET, "from": f"echo@{BOT}", "id": "x"})
    assert (await world.post("/v1/stanzas", content, JSON)).status_code == 202
    filled = f"<message to='{JULIET}' from='echo@{BOT}' id='x'><body>hi</body></message>"
    assert sent(world) == [means(filled)]


@pytest.mark.parametrize("type", ["", " type='error'"])
async def test_without_an_id_it_has_the_uid(world: World, type: str) -> None:
    error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    xml = f"<message to='{JULIET}' from='{BOT}'{type}>{error}</message>"
    response = await world.post("/v1/stanzas", xml, XML)
    assert response.json() == {"id": "msg_1", "uid": "msg_1"}
    assert [one.id for one, _ in world.sender.sent] == [None]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            f"message/chat/{JULIET}",
            "häß <&>",
            f"<message to='{JULIET}' from='{BOT}' type='chat'><body>häß &lt;&amp;&gt;</body>"
            "</message>",
        ),
        (
            f"message/headline/{JULIET}/orchard%2F1",
            "x",
            f"<message to='{JULIET}/orchard/1' from='{BOT}' type='headline'><body>x</body>"
            "</message>",
        ),
        (
            f"presence/available/{JULIET}",
            "here",
            f"<presence to='{JULIET}' from='{BOT}'><status>here</status></presence>",
        ),
        (
            f"presence/subscribe/{JULIET}",
            "",
            f"<presence to='{JULIET}' from='{BOT}' type='subscribe'/>",
        ),
    ],
)
async def test_text_with_its_head_in_the_path(
    world: World, path: str, body: str, expected: str
) -> None:
    response = await world.post(f"/v1/stanzas/{path}", body.encode(), TEXT, **bearer("one"))
    assert response.status_code == 202
    assert response.json() == {"id": "msg_1", "uid": "msg_1"}
    assert sent(world) == [means(expected)]


async def test_an_address_that_is_too_long(world: World) -> None:
    for path in (f"/v1/stanzas/message/chat/{'h' * 3072}", f"/msg/{'h' * 3072}@x.example"):
        response = await world.post(path, b"hi", TEXT, **bearer("one"))
        assert response.status_code == 422
    assert sent(world) == []


# --- in whose name


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        (bearer("one"), "", BOT),
        (bearer("echo"), "", f"echo@{BOT}"),
        (bearer("two"), f"?from=alert@{BOT}/x", f"alert@{BOT}/x"),
        (basic(f"alert@{BOT}", "two-0123456789abcdef"), "", f"alert@{BOT}"),
        (basic(BOT, "one-0123456789abcdef"), "", BOT),
        (basic(f"alert@{BOT}", "two-0123456789abcdef"), f"?from=echo@{BOT}", f"echo@{BOT}"),
        (bearer("all"), f"?from=any@{OTHER}", f"any@{OTHER}"),
    ],
)
async def test_who_sends_where_the_stanza_does_not_say(
    world: World, headers: dict[str, str], query: str, expected: str
) -> None:
    path = f"/v1/stanzas/message/chat/{JULIET}{query}"
    assert (await world.post(path, "x", TEXT, **headers)).status_code == 202
    assert [one.from_ for one, _ in world.sender.sent] == [expected]


XML_WITHOUT_FROM = f"<message to='{JULIET}'><body>x</body></message>"
WITHOUT_FROM: dict[str, tuple[str, Any, str]] = {
    "JSON": ("/v1/stanzas", {"to": JULIET, "body": "x"}, JSON),
    "stanza": ("/v1/stanzas", {"stanza": XML_WITHOUT_FROM}, JSON),
    "an array": ("/v1/stanzas", [{"to": JULIET, "body": "x"}], JSON),
    "XML": ("/v1/stanzas", XML_WITHOUT_FROM, XML),
    "iq": ("/v1/stanzas", f"<iq type='get' to='{JULIET}'><ping xmlns='urn:xmpp:ping'/></iq>", XML),
    "text": (f"/v1/stanzas/message/chat/{JULIET}", "x", TEXT),
    "mod_rest": ("/rest", {"kind": "message", "to": JULIET, "body": "x"}, JSON),
    "mod_post_msg": (f"/msg/{JULIET}", "x", TEXT),
}


@pytest.mark.parametrize("name", ["two", "all"])
@pytest.mark.parametrize(("path", "content", "media"), WITHOUT_FROM.values(), ids=WITHOUT_FROM)
async def test_a_token_of_several_names_has_to_say_which(
    world: World, name: str, path: str, content: Any, media: str
) -> None:
    content = json.dumps(content) if media == JSON else content
    value = problem(await world.post(path, content, media, **bearer(name)), 422)
    detail = 'from is missing; this token may speak as several addresses, so set "from"'
    assert value["detail"] == detail
    assert not world.sender.sent


@pytest.mark.parametrize("name", ["two", "all"])
async def test_the_short_forms_have_to_say_which_as_well(world: World, name: str) -> None:
    value = problem(await world.get(f"/v1/ping/{JULIET}", **bearer(name)), 422)
    assert value["detail"].endswith('so set "from"')


async def test_a_bad_sender_is_not_taken_for_none(world: World) -> None:
    content = json.dumps({**MESSAGE, "from": f"@{BOT}"})
    value = problem(await world.post("/v1/stanzas", content, JSON), 422)
    assert value["detail"].startswith("from: ")
    assert "several addresses" not in value["detail"]


# --- several at once


async def test_an_array_is_answered_with_a_list(world: World) -> None:
    two = {**MESSAGE, "body": "ho"}
    del two["id"]
    response = await world.post("/v1/stanzas", json.dumps([MESSAGE, two]), JSON)
    assert response.status_code == 202
    accepted = response.json()
    assert accepted == [
        {"id": "m1", "uid": accepted[0]["uid"]},
        {"id": accepted[1]["uid"], "uid": accepted[1]["uid"]},
    ]
    head = f"<message to='{JULIET}' from='echo@{BOT}' type='chat'"
    assert sent(world) == [
        means(f"{head} id='m1'><body>hi</body></message>"),
        means(f"{head}><body>ho</body></message>"),
    ]


async def test_an_array_of_one_is_answered_with_a_list(world: World) -> None:
    response = await world.post("/v1/stanzas", json.dumps([MESSAGE]), JSON)
    [accepted] = response.json()
    assert accepted["id"] == "m1"


async def test_an_object_with_files_is_answered_with_a_list(world: World) -> None:
    url = "https://a.example/cat.png"
    content = json.dumps({**MESSAGE, "files": [{"url": url}]})
    response = await world.post("/v1/stanzas", content, JSON)
    assert [one["id"] == one["uid"] for one in response.json()] == [False, True]
    bodies = [one.child("body") for one, _ in world.sender.sent]
    assert [one.text for one in bodies if one is not None] == ["hi", url]


async def test_an_array_has_one_key(world: World) -> None:
    content = json.dumps([MESSAGE, MESSAGE])
    await world.post("/v1/stanzas", content, JSON, Idempotency_Key="k")
    [one, two] = [key for _, key in world.sender.sent]
    assert one is two
    assert one is not None


async def test_an_iq_alone_in_an_array_waits_for_its_answer(world: World) -> None:
    world.sender.answer = stanza(f"<iq type='result' from='{JULIET}' to='{BOT}' id='p1'/>")
    response = await world.post("/v1/stanzas", json.dumps([{"stanza": PING}]), JSON)
    assert (response.status_code, response.json()["type"]) == (200, "result")


@pytest.mark.parametrize(
    ("name", "second", "status", "detail"),
    [
        ("one", {"boddy": "x"}, 422, "object 2: key 'boddy' is unknown; perhaps you meant body"),
        ("one", {"stanza": PING}, 422, "object 2: an iq waits for its answer; send it alone"),
        ("one", {"from": "a@evil.example"}, 404, "object 2: from: 'evil.example' is not a compo"),
        ("all", {"from": OTHER}, 422, f"object 2: from: {OTHER} and {BOT} are two components"),
        ("all", {"from": None}, 422, "object 2: from is missing; this token may speak as several"),
        ("echo", {"from": f"alert@{BOT}"}, 403, "object 2: from: this token may not speak as"),
        ("asker", {}, 403, 'This token lacks the scope "send"'),
    ],
)
async def test_nothing_of_an_array_is_sent_if_one_may_not_be(
    world: World, name: str, second: dict[str, Any], status: int, detail: str
) -> None:
    content = json.dumps([MESSAGE, {**MESSAGE, **second}])
    value = problem(await world.post("/v1/stanzas", content, JSON, **bearer(name)), status)
    assert value["detail"].startswith(detail)
    assert not world.sender.sent


async def test_an_array_is_sent_at_v1_only(world: World) -> None:
    problem(await world.post("/rest", json.dumps([MESSAGE]), JSON), 422)
    assert not world.sender.sent


@pytest.mark.parametrize(
    ("name", "from_"),
    [
        ("one", f"x@{OTHER}"),
        ("other", f"x@{BOT}"),
        ("echo", f"alert@{BOT}"),
        ("echo", BOT),
        ("echo", f"Echo@{BOT}"),
        ("echo", f"echo@{OTHER}"),
    ],
)
async def test_a_token_speaks_only_as_its_own(world: World, name: str, from_: str) -> None:
    content = json.dumps({**MESSAGE, "from": from_})
    problem(await world.post("/v1/stanzas", content, JSON, **bearer(name)), 403)
    text = f"/v1/stanzas/message/chat/{JULIET}?from={from_}"
    problem(await world.post(text, "x", TEXT, **bearer(name)), 403)
    xml = f"<iq type='get' to='x.example' from='{from_}'><ping xmlns='urn:xmpp:ping'/></iq>"
    problem(await world.post("/v1/stanzas", xml, XML, **bearer(name)), 403)
    assert not world.sender.sent
    assert not world.sender.asked


@pytest.mark.parametrize(
    ("name", "content", "media"),
    [
        ("asker", json.dumps(MESSAGE), JSON),
        ("sender", PING, XML),
        ("watcher", json.dumps(MESSAGE), JSON),
        ("watcher", PING, XML),
    ],
)
async def test_a_scope_that_is_missing(world: World, name: str, content: str, media: str) -> None:
    value = problem(await world.post("/v1/stanzas", content, media, **bearer(name)), 403)
    assert "scope" in value["detail"]
    assert not world.sender.sent
    assert not world.sender.asked


async def test_text_needs_the_scope_send(world: World) -> None:
    path = f"/v1/stanzas/message/chat/{JULIET}"
    problem(await world.post(path, "x", TEXT, **bearer("asker")), 403)


# --- an iq waits


async def test_an_iq_is_answered_as_json(world: World) -> None:
    world.sender.answer = stanza(f"<iq type='result' from='{JULIET}' to='{BOT}' id='p1'/>")
    response = await world.post("/v1/stanzas", PING, XML)
    assert response.status_code == 200
    assert response.json() == {
        "kind": "iq",
        "type": "result",
        "from": JULIET,
        "to": BOT,
        "id": "p1",
        "stanza": f"<iq type='result' from='{JULIET}' to='{BOT}' id='p1'/>",
    }
    assert "Preference-Applied" not in response.headers
    ((asked, wait_s, key),) = world.sender.asked
    assert (meaning(asked.element), wait_s, key) == (means(PING), 30, None)


async def test_an_iq_is_answered_as_xml(world: World) -> None:
    world.sender.answer = stanza(f"<iq type='result' from='{JULIET}' to='{BOT}' id='p1'/>")
    response = await world.post("/v1/stanzas", PING, XML, Accept=XML)
    assert response.headers["content-type"] == XML
    assert response.text == f"<iq type='result' from='{JULIET}' to='{BOT}' id='p1'/>"


@pytest.mark.parametrize(
    ("given", "wait_s", "applied"),
    [
        ("wait=7", 7, "wait=7"),
        ('respond-async, WAIT = "12"', 12, "wait=12"),
        ("wait=99999", 300, "wait=300"),
        ("wait=0", 1, "wait=1"),
        ("wait=5; x=y", 5, "wait=5"),
        ("wait=-1", 30, None),
        ("wait=soon", 30, None),
        ("wait", 30, None),
        ("", 30, None),
    ],
)
async def test_how_long_an_iq_waits(
    world: World, given: str, wait_s: int, applied: str | None
) -> None:
    world.sender.answer = stanza(f"<iq type='result' from='{JULIET}' to='{BOT}' id='p1'/>")
    response = await world.post("/v1/stanzas", PING, XML, Prefer=given)
    assert [wait for _, wait, _ in world.sender.asked] == [wait_s]
    assert response.headers.get("preference-applied") == applied


@pytest.mark.parametrize("type", ["result", "error"])
async def test_only_questions_are_asked(world: World, type: str) -> None:
    error = (
        "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        if type == "error"
        else ""
    )
    xml = f"<iq type='{type}' to='{JULIET}' from='{BOT}' id='x'>{error}</iq>"
    problem(await world.post("/v1/stanzas", xml, XML), 422)
    assert not world.sender.asked
    assert not world.sender.sent


# --- idempotency


async def test_the_key_goes_with_all_that_makes_the_request(world: World) -> None:
    async def digest(path: str, content: str, media: str, **headers: str) -> Any:
        response = await world.post(path, content, media, Idempotency_Key="k 1", **headers)
        assert response.status_code == 202
        key = world.sender.sent[-1][1]
        assert key is not None
        assert (key.token, key.key) == ((headers and "two") or "all", "k 1")
        return key.digest

    content, text = json.dumps(MESSAGE), f"/v1/stanzas/message/chat/{JULIET}?from=echo@{BOT}"
    first = await digest("/v1/stanzas", content, JSON)
    assert first == await digest("/v1/stanzas", content, JSON)
    others = [
        await digest("/v1/stanzas", content + " ", JSON),
        await digest("/v1/stanzas", content, JSON + ";charset=utf-8"),
        await digest(text, "x", TEXT),
        await digest(text.replace("echo", "alert"), "x", TEXT),
        await digest(text.replace("chat", "headline"), "x", TEXT),
        await digest(
            text.partition("?")[0], "x", TEXT, **basic(f"echo@{BOT}", "two-0123456789abcdef")
        ),
        await digest(
            text.partition("?")[0], "x", TEXT, **basic(f"alert@{BOT}", "two-0123456789abcdef")
        ),
    ]
    assert len({first, *others}) == 1 + len(others)


async def test_an_iq_has_its_key(world: World) -> None:
    world.sender.answer = stanza(f"<iq type='result' from='{JULIET}' to='{BOT}' id='p1'/>")
    await world.post("/v1/stanzas", PING, XML, Idempotency_Key="k")
    ((_, _, key),) = world.sender.asked
    assert key is not None
    assert key.key == "k"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_key_that_is_none(world: World, key: str) -> None:
    problem(await world.post("/v1/stanzas", json.dumps(MESSAGE), JSON, Idempotency_Key=key), 400)
    assert not world.sender.sent


# --- refusals


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "JSON"),
        (b"{}x", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 5000, "JSON"),
        (b'{"body": "\xff"}', "JSON"),
    ],
)
async def test_what_is_no_json(world: World, content: bytes, detail: str) -> None:
    value = problem(await world.post("/v1/stanzas", content, JSON), 400)
    assert detail in value["detail"]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("[]", "one object"),
        ("3", "not a JSON object"),
        ("{}", "nothing"),
        ('{"to": "a@b"}', "nothing"),
        ('{"body": "x"}', "to"),
        ('{"to": "@@", "body": "x"}', "to"),
        ('{"to": 5, "body": "x"}', "to"),
        ('{"to": "a@b", "body": []}', "body"),
        ('{"to": "a@b", "kind": "mail", "body": "x"}', "kind"),
        ('{"to": "a@b", "type": "shout", "body": "x"}', "type"),
        ('{"to": "a@b", "type": "error", "body": "x"}', "error"),
        ('{"to": "a@b", "from": "@", "body": "x"}', "from: not a valid address"),
        ('{"to": "a@b", "from": "x@no where.example", "body": "x"}', "from: not a valid address"),
        ('{"stanza": "<message"}', "stanza"),
        ('{"stanza": "<mail/>"}', "not a stanza"),
        ('{"to": "a@b", "id": "\\u0000", "body": "x"}', "character U+0000"),
        ("null", "not a JSON object"),
        ("true", "not a JSON object"),
        ('"hi"', "not a JSON object"),
        ('{"to": "a@b", "body": ""}', "nothing to send"),
        ('{"to": "a@b", "type": "success"}', "nothing to send: type 'success' is not valid"),
        ('{"to": "", "body": "x"}', "to is missing"),
        ('{"to": "a@b", "text": "x"}', "key 'text' is unknown; perhaps you meant body"),
        ('{"to": "a@b", "body": "x", "zzz": null}', "key 'zzz' is unknown; known keys: kind,"),
        ('{"to": "a@b", "body": "x", "received": "now"}', "key 'received' is read only"),
        ('{"stanza": "<message to=\'a@b\'/>", "colour": 1}', "key 'colour' is unknown"),
        ('{"to": "a@b", "body": "%s"}' % ("x" * 9_900), None),
    ],
)
async def test_what_may_not_be_sent(world: World, content: str, detail: str | None) -> None:
    headers = bearer("one")
    response = await world.post("/v1/stanzas", content, JSON, **headers)
    if detail is None:
        assert response.status_code == 202
        return
    value = problem(response, 422)
    assert detail in value["detail"]
    assert not world.sender.sent


@pytest.mark.parametrize(
    ("path", "content", "media"),
    [
        ("/v1/stanzas", '{"to": "a@b", "from": "x@nowhere.example", "body": "x"}', JSON),
        ("/v1/stanzas", "<message to='a@b' from='nowhere.example'/>", XML),
        ("/v1/stanzas", "<iq type='get' to='a@b' from='nowhere.example'><x/></iq>", XML),
        ("/v1/stanzas/message/chat/a@b?from=x@nowhere.example", "x", TEXT),
        ("/rest", '{"to": "a@b", "from": "x@nowhere.example", "body": "x"}', JSON),
    ],
)
async def test_a_sender_that_is_no_component(
    world: World, path: str, content: str, media: str
) -> None:
    value = problem(await world.post(path, content, media), 404)
    assert value["detail"] == "from: 'nowhere.example' is not a component here"
    assert not world.sender.sent
    assert not world.sender.asked


async def test_a_stanza_over_the_streams_limit(world: World) -> None:
    content = msgspec.json.encode({**MESSAGE, "body": "<" * 6_000})  # &lt; each
    assert (
        "max_send_bytes" in problem(await world.post("/v1/stanzas", content, JSON), 422)["detail"]
    )


@pytest.mark.parametrize(
    ("media", "headers"),
    [
        (None, {}),
        ("text/html", {}),
        ("application/x-www-form-urlencoded", {}),
        (TEXT, {}),
        ("application/json; charset=latin-1", {}),
        (JSON, {"Content_Encoding": "gzip"}),
    ],
)
async def test_media_that_are_not_taken(
    world: World, media: str | None, headers: dict[str, str]
) -> None:
    response = await world.post("/v1/stanzas", json.dumps(MESSAGE), media, **headers)
    problem(response, 415)
    assert ("accept" in response.headers) != bool(headers)
    assert not world.sender.sent


async def test_a_body_that_says_that_it_is_too_long_is_not_read(world: World) -> None:
    async def body() -> Any:
        yield b""
        raise AssertionError("it was read")

    headers = {**bearer("all"), "Content-Type": JSON, "Content-Length": str(MAX_BODY_BYTES + 1)}
    response = await world.client.post("/v1/stanzas", content=body(), headers=headers)
    assert "max_body_bytes" in problem(response, 413)["detail"]


async def test_a_body_that_turns_out_to_be_too_long(world: World) -> None:
    parts = 0

    async def receive() -> dict[str, Any]:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    assert await world.call("/v1/stanzas", receive, JSON) == 413
    assert parts == MAX_BODY_BYTES // 1000 + 1


async def test_a_client_that_leaves_before_its_body_ends(world: World) -> None:
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    assert await world.call("/v1/stanzas", receive, JSON) == 499
    assert not world.sender.sent


async def test_a_client_that_leaves_takes_its_question_back(
    world: World, nursery: trio.Nursery
) -> None:
    left = trio.Event()
    codes = []

    async def receive() -> dict[str, Any]:
        if not world.sender.asked:
            return {"type": "http.request", "body": PING.encode(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def call() -> None:
        codes.append(await world.call("/v1/stanzas", receive, XML))

    nursery.start_soon(call)
    await wait_all_tasks_blocked()
    assert (len(world.sender.asked), world.sender.taken_back) == (1, 0)
    left.set()
    await wait_all_tasks_blocked()
    assert world.sender.taken_back == 1
    assert codes == [499]


async def test_a_body_of_the_size_that_is_allowed(world: World) -> None:
    content = json.dumps(MESSAGE).ljust(MAX_BODY_BYTES)
    assert (await world.post("/v1/stanzas", content, JSON)).status_code == 202


async def test_a_body_that_does_not_come(world: World, autojump_clock: MockClock) -> None:
    async def body() -> Any:
        yield b"{"
        await trio.sleep_forever()

    headers = {**bearer("all"), "Content-Type": JSON}
    start = trio.current_time()
    response = await world.client.post("/v1/stanzas", content=body(), headers=headers)
    problem(response, 408)
    assert trio.current_time() - start == pytest.approx(BODY_S)


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (KeyReused("used"), 409),
        (IdInUse("used"), 409),
        (QueueFull("full"), 503),
        (JournalUnavailable("the disk is full"), 503),
        (NotConfigured("gone"), 404),
        (NotRunning("restarts"), 503),
        (NoAnswer("none"), 504),
    ],
)
@pytest.mark.parametrize(("content", "media"), [(json.dumps(MESSAGE), JSON), (PING, XML)])
async def test_what_the_sender_refuses(
    world: World, refusal: SendRefused, status: int, content: str, media: str
) -> None:
    world.sender.refusal = refusal
    response = await world.post("/v1/stanzas", content, media)
    assert problem(response, status)["detail"] == refusal.why
    assert ("retry-after" in response.headers) == (status == 503)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("message/chat/@@", "x", 422),
        ("message/chat/", "x", 422),
        ("message/shout/a@b", "x", 422),
        ("message/error/a@b", "x", 422),
        ("message/chat/a@b", "", 422),
        ("message/chat/a@b", b"\xff", 400),
        ("iq/get/a@b", "x", 422),
        ("mail/chat/a@b", "x", 404),
        ("presence/chat/a@b", "x", 422),
    ],
)
async def test_text_that_cannot_be_sent(
    world: World, path: str, body: bytes | str, status: int
) -> None:
    response = await world.post(f"/v1/stanzas/{path}", body, TEXT, **bearer("one"))
    problem(response, status)
    assert not world.sender.sent


async def test_a_token_has_so_many_requests_at_work(world: World, nursery: trio.Nursery) -> None:
    world.sender.hold = trio.Event()
    codes: list[int] = []

    async def post(name: str = "one") -> None:
        response = await world.post("/v1/stanzas", json.dumps(MESSAGE), JSON, **bearer(name))
        codes.append(response.status_code)

    for _ in range(AT_ONCE):
        nursery.start_soon(post)
    await wait_all_tasks_blocked()
    response = await world.post("/v1/stanzas", json.dumps(MESSAGE), JSON, **bearer("one"))
    problem(response, 429)
    assert response.headers["retry-after"] == "1"
    nursery.start_soon(post, "two")  # another token has its own bound
    await wait_all_tasks_blocked()
    world.sender.hold.set()
    await wait_all_tasks_blocked()
    assert codes == [202] * (AT_ONCE + 1)
    assert (await world.post("/v1/stanzas", json.dumps(MESSAGE), JSON, **bearer("one"))).is_success


async def test_a_fault_of_ours_is_told_as_a_problem(world: World) -> None:
    world.sender.fault = RuntimeError("a secret of ours")
    response = await world.post("/v1/stanzas", json.dumps(MESSAGE), JSON)
    value = problem(response, 500)
    assert "a secret" not in response.text
    assert response.headers["x-request-id"] in value["detail"]
