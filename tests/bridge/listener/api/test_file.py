"""`POST /v1/files`: who may upload what, and what each failure becomes."""

import errno
import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import trio
from attrs import frozen
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Count, ListenSettings, TcpAddress
from bridge.dispatch.upload import Pieces
from bridge.listener.api.file import PIECE_S
from bridge.listener.api.form import SPOOL_BYTES
from bridge.listener.api.upload import UPLOADS_OF_TOKEN
from bridge.listener.auth import BODY_WAIT_S, TokenAuth
from bridge.listener.listener import make_app
from tests.bridge.dispatch.life import Life
from tests.bridge.listener.api.test_stanza import problem
from tests.bridge.listener.conftest import MAX_BODY_BYTES, TOKENS, bearer
from tests.bridge.listener.fake_sender import BOT, FakeSender
from tests.bridge.recorder import Recorder
from tests.bridge.upload_service import UPLOAD, FakeUploads

CONTENT: Final = bytes(range(256)) * 1000
STANZAS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"


@frozen
class World:
    """The application on a component that runs, whose server has `uploads`."""

    client: httpx.AsyncClient
    uploads: FakeUploads
    sender: FakeSender
    app: Any

    async def post(
        self, path: str = "/v1/files?name=a.png", content: Any = CONTENT, **headers: str
    ) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {**bearer("one"), **given}
        if not isinstance(content, bytes):
            return await self.client.post(path, content=content, headers=given)
        url = self.client.base_url.join(path)
        given |= {"Host": "listener", "Content-Length": str(len(content))}
        return await self.client.send(
            httpx.Request("POST", url, headers=given, stream=Whole(content))
        )


class Whole(httpx.AsyncByteStream):
    """A body in pieces, without an async generator, which would be left behind if it is not read
    to its end.
    """

    def __init__(self, content: bytes) -> None:
        self._pieces = Pieces(content)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


@pytest.fixture
async def world(log: Recorder, nursery: trio.Nursery) -> AsyncIterator[World]:
    life, uploads, sender = Life(), FakeUploads(), FakeSender()
    await nursery.start(life.run)
    await uploads.serve(life, nursery)
    listen = ListenSettings(
        TcpAddress("127.0.0.1", 0), TOKENS, "example.org", Count(MAX_BODY_BYTES)
    )
    app = make_app(
        sender, TokenAuth(TOKENS), listen, uploaders=lambda: {BOT: life.pipeline.uploader}
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://listener") as client:
        yield World(client, uploads, sender, app)


async def test_a_file_that_is_larger_than_any_other_body(world: World) -> None:
    assert len(CONTENT) > MAX_BODY_BYTES
    response = await world.post(Content_Type="image/png")
    assert response.status_code == 201
    assert response.json() == {
        "url": "https://files.example/1/a.png",
        "size": len(CONTENT),
        "media_type": "image/png",
        "name": "a.png",
    }
    assert response.headers["location"] == "https://files.example/1/a.png"
    assert world.uploads.files == [CONTENT]
    assert world.uploads.asked[-1].from_ == BOT


async def test_the_answer_is_an_entry_of_files(world: World) -> None:
    entry = (await world.post(Content_Type="image/png")).json()
    sent = await world.client.post(
        "/v1/stanzas", json={"to": "a@b.example", "files": [entry]}, headers=bearer("one")
    )
    assert sent.status_code == 202
    [(stanza, _)] = world.sender.sent
    assert "<body>https://files.example/1/a.png</body>" in str(stanza)


@pytest.mark.parametrize(
    ("path", "media", "attributes"),
    [
        ("?name=a.jpg", None, ("a.jpg", "image/jpeg")),
        ("?name=a.jpg", "application/x-www-form-urlencoded", ("a.jpg", "image/jpeg")),
        ("?name=../../a%0d%0aX:%20y.jpg", "text/plain; charset=utf-8", ("aX: y.jpg", "text/plain")),
        ("", "image/png", ("file.png", "image/png")),
        ("", None, ("file.bin", "application/octet-stream")),
    ],
)
async def test_name_and_type(
    world: World, path: str, media: str | None, attributes: tuple[str, str]
) -> None:
    headers = {} if media is None else {"Content_Type": media}
    value = (await world.post(f"/v1/files{path}", **headers)).json()
    assert (value["name"], value["media_type"]) == attributes
    payload = world.uploads.asked[-1].payload
    assert payload is not None
    assert (payload.get("filename"), payload.get("content-type")) == attributes


# --- who may


@pytest.mark.parametrize(
    ("token", "query", "from_"),
    [
        ("one", "", BOT),
        ("one", f"?from=any@{BOT}", f"any@{BOT}"),
        ("echo", "", f"echo@{BOT}"),
        ("two", f"?from=alert@{BOT}", f"alert@{BOT}"),
        ("sender", "", BOT),
    ],
)
async def test_on_whose_behalf(world: World, token: str, query: str, from_: str) -> None:
    assert (await world.post(f"/v1/files{query}", **bearer(token))).status_code == 201
    assert {one.from_ for one in world.uploads.asked} == {from_}


@pytest.mark.parametrize(
    ("token", "query", "status", "why"),
    [
        ("asker", "", 403, 'lacks the scope "send"'),
        ("echo", f"?from=alert@{BOT}", 403, "may not speak as that address"),
        ("two", "", 422, "from is missing"),
        ("one", "?from=@@", 422, "not a valid address"),
        ("other", "", 404, "not a component here"),
    ],
)
async def test_who_may_not(world: World, token: str, query: str, status: int, why: str) -> None:
    told = problem(await world.post(f"/v1/files{query}", **bearer(token)), status)
    assert why in told["detail"]
    assert world.uploads.asked == []


async def test_without_a_token(world: World) -> None:
    problem(await world.post(Authorization="Bearer wrong-0123456789abcdef"), 401)


# --- what may not be uploaded


async def pieces() -> AsyncIterator[bytes]:
    yield b"a"


@pytest.mark.parametrize(
    ("content", "headers", "status", "why"),
    [
        (pieces, {}, 411, "Set Content-Length"),
        (b"", {}, 422, "The file is empty"),
        (b"a", {"Content_Encoding": "gzip"}, 415, "no Content-Encoding"),
        (b"a", {"Content_Type": "image"}, 415, "not a media type"),
        (b"a", {"Content_Type": "multipart/form-data; boundary=x"}, 415, "Send the file itself"),
    ],
)
async def test_bad_requests(
    world: World, content: Any, headers: dict[str, str], status: int, why: str
) -> None:
    body = content() if callable(content) else content
    assert why in problem(await world.post(content=body, **headers), status)["detail"]
    assert world.uploads.asked == []


# --- what the upload service does


@pytest.mark.parametrize(
    ("keys", "status", "type", "why"),
    [
        ({"items": []}, 501, "urn:xmpp-bridge:problem:not-implemented", "no upload service"),
        ({"max_bytes": "1000"}, 413, None, "takes at most 1000."),
        (
            {"refusal": f"<forbidden xmlns='{STANZAS}'/>"},
            403,
            "urn:xmpp-bridge:problem:remote:forbidden",
            "allow this component to upload",
        ),
        (
            {"refusal": f"<resource-constraint xmlns='{STANZAS}'/>"},
            429,
            "urn:xmpp-bridge:problem:remote:resource-constraint",
            "from upload.example: resource-constraint",
        ),
        ({"put_url": "http://files.example/"}, 502, None, "begins with http://"),
        ({"behaviour": "breaks"}, 502, None, "failed"),
        ({"behaviour": "refuses"}, 502, None, "status 413"),
    ],
)
async def test_failures(
    world: World, keys: dict[str, Any], status: int, type: str | None, why: str
) -> None:
    for key, value in keys.items():
        setattr(world.uploads, key, value)
    told = problem(await world.post(), status)
    assert why in told["detail"]
    assert type is None or told["type"] == type
    assert world.uploads.files == []


async def test_a_service_that_does_not_answer(world: World, mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.05
    await world.post()
    world.uploads.silent.add("upload.example")
    assert "does not answer" in problem(await world.post(), 504)["detail"]


async def test_a_client_that_stands_still(world: World, mock_clock: MockClock) -> None:
    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield CONTENT[:100]
            await trio.sleep_forever()

    mock_clock.autojump_threshold = 0.1
    began = trio.current_time()
    told = problem(await world.post(content=Slow(), Content_Length="1000"), 408)
    assert told["detail"] == f"Nothing came of the file for {PIECE_S:g} s."
    assert trio.current_time() - began >= PIECE_S
    assert world.uploads.files == []


async def test_a_client_that_leaves(world: World) -> None:
    messages = [{"type": "http.request", "body": b"abc", "more_body": True}]
    status = 0

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = {**bearer("one"), "Content-Length": "1000"}
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "raw_path": b"/v1/files",
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }
    await world.app(scope, receive, send)
    assert status == 499
    assert world.uploads.files == []


async def test_uploads_are_bounded_and_delay_no_send(world: World, mock_clock: MockClock) -> None:
    world.uploads.hold = trio.Event()
    statuses: list[int] = []

    async def upload() -> None:
        statuses.append((await world.post(content=b"a")).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(UPLOADS_OF_TOKEN + 1):
            nursery.start_soon(upload)
        while len(world.uploads.heads) < UPLOADS_OF_TOKEN:
            await wait_all_tasks_blocked(0.01)
        sent = await world.client.post(
            "/v1/stanzas", json={"to": "a@b.example", "body": "hi"}, headers=bearer("one")
        )
        assert sent.status_code == 202
        mock_clock.jump(BODY_WAIT_S + 1)
        await wait_all_tasks_blocked(0.01)
        assert statuses == [429]
        assert len(world.uploads.heads) == UPLOADS_OF_TOKEN
        world.uploads.hold.set()
    assert statuses == [429, *[201] * UPLOADS_OF_TOKEN]
    assert len(world.uploads.asked_for(UPLOAD)) == UPLOADS_OF_TOKEN


async def test_small_pieces_slow_themselves_down_and_large_ones_do_not(
    world: World, mock_clock: MockClock
) -> None:
    class Many(httpx.AsyncByteStream):
        def __init__(self, size: int) -> None:
            self.size = size

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(100):
                yield bytes(self.size)

    mock_clock.autojump_threshold = 0.05
    began = trio.current_time()
    await world.post(content=Many(9000), Content_Length="900000")
    assert trio.current_time() == began
    await world.post(content=Many(1), Content_Length="100")
    assert trio.current_time() - began > 30


# --- files within sends

FILE: Final = {"name": "../a.png", "data_base64": "AAECAw=="}
PEER: Final = "a@b.example"


async def send(world: World, value: Any, token: str = "one", **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): one for name, one in headers.items()}
    return await world.client.post("/v1/stanzas", json=value, headers={**bearer(token), **given})


async def test_a_send_with_the_content_of_a_file(world: World) -> None:
    response = await send(world, {"to": PEER, "body": "Look:", "files": [FILE]})
    assert response.status_code == 202
    assert len(response.json()) == 2
    assert world.uploads.files == [b"\0\1\2\3"]
    assert world.uploads.asked[-1].from_ == BOT
    [(text, _), (picture, _)] = world.sender.sent
    assert "Look:" in str(text)
    for part in ("<body>https://files.example/1/a.png</body>", "<name>a.png</name>", "<size>4<"):
        assert part in str(picture)
    assert "upload.invalid" not in str(picture)


async def test_each_on_behalf_of_its_sender(world: World) -> None:
    objects = [
        {"to": PEER, "from": f"x@{BOT}", "files": [FILE]},
        {"to": PEER, "files": [FILE, {"url": "https://a.example/b.png"}]},
    ]
    response = await send(world, objects)
    assert len(response.json()) == 3
    slots = [one.from_ for one in world.uploads.asked if "request" in str(one)]
    assert slots == [f"x@{BOT}", BOT]
    assert len(world.uploads.files) == 2


@pytest.mark.parametrize(
    ("value", "token", "status", "why"),
    [
        ({"to": PEER, "from": f"alert@{BOT}", "files": [FILE]}, "echo", 403, "may not speak as"),
        ({"to": PEER, "files": [FILE]}, "two", 422, 'so set "from"'),
        ({"to": PEER, "files": [FILE]}, "asker", 403, 'lacks the scope "send"'),
        ({"to": "@@", "files": [FILE]}, "one", 422, "to: '@@' is not a valid JID"),
        ({"files": [FILE]}, "one", 422, "to is missing"),
        ({"to": PEER, "files": [FILE], "replace": "m0"}, "one", 422, "replace and files"),
        (
            [{"to": PEER, "body": "x"}, {"to": PEER, "files": [FILE], "text": "x"}],
            "one",
            422,
            "object 2",
        ),
        ({"to": PEER, "files": [{"data_base64": "%"}]}, "one", 422, "is not base64"),
        ({"to": PEER, "files": [FILE], "from": "a@c.example"}, "one", 404, "not a component here"),
        (
            {"to": PEER, "files": [FILE | {"data_base64": 12000 * "A"}]},
            "one",
            413,
            "max_body_bytes",
        ),
    ],
)
async def test_nothing_is_uploaded_for_a_send_that_is_refused(
    world: World, value: Any, token: str, status: int, why: str
) -> None:
    assert why in problem(await send(world, value, token), status)["detail"]
    assert world.uploads.asked == []
    assert world.sender.sent == []


async def test_nothing_is_sent_if_an_upload_fails(world: World) -> None:
    world.uploads.behaviour = "refuses"
    problem(await send(world, [{"to": PEER, "body": "x"}, {"to": PEER, "files": [FILE]}]), 502)
    world.uploads.items = []
    assert world.sender.sent == []


async def test_a_send_that_is_repeated_uploads_again(world: World) -> None:
    value = {"to": PEER, "files": [FILE]}
    for _ in range(2):
        assert (await send(world, value, Idempotency_Key="k")).status_code == 202
    assert len(world.uploads.files) == 2
    [(_, one), (_, two)] = world.sender.sent
    assert one == two
    assert one is not None


# --- a form


def form(*parts: tuple[str, str, bytes], end: bytes = b"--\r\n") -> bytes:
    """A form of parts: name, further lines of the head, content."""
    body = b""
    for name, head, content in parts:
        lines = f'--X\r\nContent-Disposition: form-data; name="{name}"{head}\r\n\r\n'
        body += lines.encode() + content + b"\r\n"
    return body + b"--X" + end


MESSAGE: Final = ("stanza", "\r\nContent-Type: application/json", b'{"to": "a@b.example"}')
PNG: Final = ("file", '; filename="C:\\\\x\\\\a.png"', CONTENT)


async def post_form(world: World, body: bytes, token: str = "one", **more: str) -> httpx.Response:
    headers = {"Content_Type": "multipart/form-data; boundary=X", **bearer(token), **more}
    return await world.post("/v1/stanzas", body, **headers)


async def test_a_form_with_files(world: World) -> None:
    text = (
        "stanza",
        "",
        b'{"to": "a@b.example", "body": "Look:", "files": [{"url": "https://a/"}]}',
    )
    pdf = ("file[1]", '; filename="Gr\u00fc\u00dfe.pdf"\r\nContent-Type: application/pdf', b"%PDF")
    response = await post_form(world, form(text, PNG, pdf))
    assert response.status_code == 202
    assert len(response.json()) == 4
    assert world.uploads.files == [CONTENT, b"%PDF"]
    slots = [one.payload for one in world.uploads.asked if "<request" in str(one)]
    assert [one and one.get("filename") for one in slots] == ["a.png", "Gr\u00fc\u00dfe.pdf"]
    assert [one and one.get("content-type") for one in slots] == ["image/png", "application/pdf"]
    [text_, link, picture, _] = [str(stanza) for stanza, _ in world.sender.sent]
    assert "Look:" in text_
    assert "<body>https://a/</body>" in link
    assert "<body>https://files.example/1/a.png</body>" in picture
    assert f"<size>{len(CONTENT)}</size>" in picture


async def test_what_real_clients_send(world: World) -> None:
    """httpx's own form, with a file that is larger than what is kept in memory."""
    files = [
        ("stanza", (None, b'{"to": "a@b.example"}', "application/json")),
        ("file", ("a.png", CONTENT * 10, "image/png")),
    ]
    world.uploads.max_bytes = None
    response = await world.client.post("/v1/stanzas", files=files, headers=bearer("one"))
    assert response.status_code == 202, response.text
    assert len(CONTENT) * 10 > SPOOL_BYTES
    assert world.uploads.files == [CONTENT * 10]


async def test_a_form_without_files_is_a_message(world: World) -> None:
    text = ("stanza", "", b'{"to": "a@b.example", "body": "hi"}')
    assert (await post_form(world, form(text))).status_code == 202
    assert world.uploads.asked == []


async def test_a_form_may_have_content_as_base64_too(world: World) -> None:
    text = {"to": PEER, "files": [FILE]}
    parts = (("stanza", "", json.dumps(text).encode()), PNG)
    assert (await post_form(world, form(*parts))).status_code == 202
    assert sorted(world.uploads.files, key=len) == [b"\0\1\2\3", CONTENT]


async def test_the_same_form_with_the_same_key_is_the_same_request(world: World) -> None:
    async def key_of(body: bytes, boundary: str = "X") -> Any:
        media = f"multipart/form-data; boundary={boundary}"
        body = body.replace(b"--X", b"--" + boundary.encode())
        response = await post_form(world, body, Idempotency_Key="k", Content_Type=media)
        assert response.status_code == 202
        return world.sender.sent[-1][1]

    first = await key_of(form(MESSAGE, PNG))
    assert first is not None
    assert await key_of(form(MESSAGE, PNG), "Y") == first
    assert await key_of(form(MESSAGE, ("file", '; filename="a.png"', CONTENT + b"x"))) != first
    assert await key_of(form(MESSAGE, ("file", '; filename="b.png"', CONTENT))) != first


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (form(PNG, MESSAGE), 422, 'The first part of the form must be "stanza"'),
        (form(), 422, "The first part"),
        (form(MESSAGE, ("picture", "", b"x")), 422, 'must be named "file"'),
        (form(MESSAGE, ("file", "", b"")), 422, "file: it is empty"),
        (form(MESSAGE, ("file", "\r\nContent-Type: png", b"x")), 422, "not a media type"),
        (form(("stanza", "", b"{")), 400, "not JSON"),
        (form(("stanza", "", b"[]"), PNG), 422, "one JSON object"),
        (form(("stanza", "", b'{"files": 5}'), PNG), 422, "files is not a list"),
        (form(("stanza", "", b"{}"), PNG), 422, "to is missing"),
        (form(("stanza", "", b'{"to": "@@"}'), PNG), 422, "not a valid JID"),
        (form(("stanza", "", b'{"to": "a@b", "kind": "iq"}'), PNG), 422, "not a key of an iq"),
        (form(("stanza", "", b'{"to": "a@b", "stanza": "<message/>"}'), PNG), 422, "has no files"),
        (form(("stanza", "", bytes(MAX_BODY_BYTES + 1))), 413, "The part stanza is longer than"),
        (form(MESSAGE, PNG, end=b""), 400, "cut off"),
        (form(MESSAGE, PNG)[:-300_000], 400, "cut off"),
        (b"--Y\r\n", 400, "not a valid multipart form"),
        (b"--X\r\nContent-Type: a/b\r\n\r\nx\r\n--X--", 400, "not a valid multipart form"),
        (b"--X\r\nA: " + bytes(9000) + b"\r\n\r\n", 400, "not a valid multipart form"),
        (form(MESSAGE, ("file", 3 * ("\r\nA: " + 4000 * "a"), b"x")), 400, "not a valid"),
        (b"--X\r\n" + b"A: b\r\n" * 5000 + b"\r\n", 400, "not a valid multipart form"),
        (b"", 400, "cut off"),
        (form(MESSAGE, *[("file", "", b"x")] * 101), 422, "more than 100 entries"),
    ],
)
async def test_bad_forms(world: World, body: bytes, status: int, why: str) -> None:
    assert why in problem(await post_form(world, body), status)["detail"]
    assert world.sender.sent == []


@pytest.mark.parametrize(
    "media", ["multipart/form-data", "multipart/form-data; boundary=" + 300 * "x"]
)
async def test_a_form_without_a_boundary(world: World, media: str) -> None:
    told = problem(await post_form(world, form(MESSAGE), Content_Type=media), 400)
    assert told["detail"] == "The Content-Type has no valid boundary."


async def test_a_form_of_whom_it_is_not_allowed(world: World) -> None:
    text = ("stanza", "", json.dumps({"to": PEER, "from": f"alert@{BOT}"}).encode())
    problem(await post_form(world, form(text, PNG), "echo"), 403)
    problem(await post_form(world, form(MESSAGE, PNG), "asker"), 403)
    assert (
        "from is missing"
        in problem(await post_form(world, form(MESSAGE, PNG), "two"), 422)["detail"]
    )
    assert world.uploads.asked == []


async def test_a_file_of_a_form_that_is_too_large_is_not_read_to_its_end(world: World) -> None:
    world.uploads.max_bytes = "20000"
    told = problem(await post_form(world, form(MESSAGE, PNG)), 413)
    assert told["detail"] == "A file has more than 20000 bytes, the limit of upload.example."
    assert world.uploads.asked_for(UPLOAD) == []


async def test_a_disk_that_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    big = ("file", "", bytes(SPOOL_BYTES))
    world.uploads.max_bytes = None
    assert "No space left" in problem(await post_form(world, form(MESSAGE, big)), 507)["detail"]
