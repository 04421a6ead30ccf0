"""Uploads by a component: the service is found, a slot is asked for, and the file is PUT."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from attrs import evolve
from trio.testing import MockClock

from bridge.config.settings import Settings
from bridge.dispatch.submission import NotTaken
from bridge.dispatch.upload import Pieces, Uploader
from bridge.payload.shape import File
from bridge.xmpp.upload import (
    KNOWN_S,
    OTHERS_S,
    BadSlot,
    FileTooLarge,
    NewFile,
    NoUploadService,
    SlotRefused,
    SlotUnanswered,
    UploadError,
    UploadFailed,
    UploadUnavailable,
)
from tests.bridge.dispatch.life import BOT, COMPONENT, DOMAIN, Life
from tests.bridge.http_server import HOST, Exchange, HttpServer, response, saying
from tests.bridge.upload_service import SERVER, SERVICE, UPLOAD, FakeUploads
from xmppstream import Server
from xmppstream.names import DISCO_INFO, DISCO_ITEMS

CONTENT = bytes(range(256)) * 1024
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"


@asynccontextmanager
async def world(
    uploads: FakeUploads, **keys: Any
) -> AsyncIterator[tuple[Uploader, Life, trio.Nursery]]:
    """A component that runs, whose server has `uploads`."""
    life = Life(component=evolve(COMPONENT, **keys))
    async with trio.open_nursery() as nursery:
        await nursery.start(life.run)
        await uploads.serve(life, nursery)
        yield life.pipeline.uploader, life, nursery
        nursery.cancel_scope.cancel()


async def upload(uploader: Uploader, content: bytes = CONTENT, **keys: Any) -> File:
    file = NewFile("a.png", "image/png", keys.get("size", len(content)))
    return await uploader.upload(file, Pieces(content), BOT)


async def refused(uploads: FakeUploads, **keys: Any) -> UploadError:
    """Upload in vain, and return why."""
    async with world(uploads, **keys) as (uploader, _, _):
        with pytest.raises(UploadError) as caught:
            await upload(uploader)
    return caught.value


async def test_a_file_is_uploaded() -> None:
    uploads = FakeUploads()
    async with world(uploads) as (uploader, _, _):
        found = await upload(uploader)
    assert found == File("https://files.example/1/a.png", "a.png", "image/png", len(CONTENT))
    assert uploads.files == [CONTENT]
    [head] = uploads.heads
    assert head[0] == "PUT /1/a.png?token=x HTTP/1.1"
    assert sorted(head[1:]) == [
        "Accept-Encoding: identity",
        "Authorization: Bearer s3cret",
        f"Content-Length: {len(CONTENT)}",
        "Content-Type: image/png",
        f"Host: {HOST}:{uploads.port}",
    ]
    request = uploads.asked[-1].payload
    assert request is not None
    assert dict(request.attributes) == {
        "filename": "a.png",
        "size": str(len(CONTENT)),
        "content-type": "image/png",
    }
    assert {one.from_ for one in uploads.asked} == {BOT}


# --- which service


async def test_the_service_is_found_once_and_again_after_an_hour(mock_clock: MockClock) -> None:
    uploads = FakeUploads()
    async with world(uploads) as (uploader, _, _):
        await uploader.service(BOT)
        assert uploads.asked_for(DISCO_ITEMS) == [SERVER]
        assert sorted(uploads.asked_for(DISCO_INFO)) == [SERVER, "rooms.example", SERVICE]
        await uploader.service(BOT)
        assert len(uploads.asked) == 4
        mock_clock.jump(KNOWN_S + 1)
        assert (await uploader.service(BOT)).max_bytes == 1_000_000
        assert len(uploads.asked) == 8


async def test_the_component_does_not_ask_itself() -> None:
    uploads = FakeUploads(items=["BOT.example", SERVICE])
    async with world(uploads) as (uploader, _, _):
        await uploader.service(BOT)
    assert uploads.asked_for(DISCO_INFO) == [SERVER, SERVICE]


async def test_a_name_of_this_machine_is_loopback() -> None:
    uploads = FakeUploads(get_url="http://upload.localhost:5280/1")
    async with world(uploads) as (uploader, _, _):
        assert (await upload(uploader)).url == "http://upload.localhost:5280/1"


async def test_one_that_never_answers_does_not_hold_up_the_search(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.05
    uploads = FakeUploads(silent={"rooms.example"})
    async with world(uploads) as (uploader, _, _):
        began = trio.current_time()
        assert (await uploader.service(BOT)).jid == SERVICE
        assert trio.current_time() - began <= OTHERS_S


async def test_those_who_ask_at_once_share_one_search() -> None:
    uploads = FakeUploads()
    async with world(uploads) as (uploader, _, nursery):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(upload, uploader)
        assert uploads.asked_for(DISCO_ITEMS) == [SERVER]
    assert len(uploads.files) == 20


async def test_and_its_failure() -> None:
    uploads = FakeUploads(items=[])
    failures = []

    async def fail(uploader: Uploader) -> None:
        with pytest.raises(NoUploadService) as caught:
            await uploader.service(BOT)
        failures.append(caught.value)

    async with world(uploads) as (uploader, _, _):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(fail, uploader)
        assert uploads.asked_for(DISCO_ITEMS) == [SERVER]
        uploads.items = [SERVICE]
        assert (await uploader.service(BOT)).jid == SERVICE
    assert len(failures) == 20


async def test_a_search_that_is_cancelled_leaves_the_others_theirs() -> None:
    uploads = FakeUploads(silent={SERVER})
    async with world(uploads) as (uploader, _, nursery):
        scope = trio.CancelScope()

        async def give_up() -> None:
            with scope:
                await uploader.service(BOT)

        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(upload, uploader)
        await trio.testing.wait_all_tasks_blocked()
        uploads.silent.clear()
        scope.cancel()
        await uploader.service(BOT)
        assert scope.cancelled_caught


async def test_a_configured_service_is_used_without_a_search() -> None:
    uploads = FakeUploads(items=[])
    async with world(uploads, upload=SERVICE) as (uploader, _, _):
        await upload(uploader)
        assert (await uploader.service(BOT)).max_bytes == 1_000_000
    assert [one.to for one in uploads.asked] == [SERVICE, SERVICE]


async def test_also_if_it_does_not_say_that_it_is_one() -> None:
    uploads = FakeUploads(items=[])
    error = await refused(uploads, upload="other.example")
    assert isinstance(error, SlotRefused)
    assert [one.to for one in uploads.asked] == ["other.example", "other.example"]


async def test_the_server_is_asked_by_its_name() -> None:
    uploads = FakeUploads(items=[])
    error = await refused(uploads, server=Server("xmpp.example.net", 5347))
    assert isinstance(error, NoUploadService)
    assert "no upload service (XEP-0363) at example or xmpp.example.net" in error.why
    assert uploads.asked_for(DISCO_ITEMS) == [SERVER, "xmpp.example.net"]


async def test_a_service_that_answers_no_more_is_looked_for_again(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.05
    uploads = FakeUploads()
    async with world(uploads) as (uploader, _, _):
        await uploader.service(BOT)
        uploads.silent.add(SERVICE)
        with pytest.raises(SlotUnanswered, match=r"upload\.example does not answer"):
            await upload(uploader)
        with pytest.raises(NoUploadService):
            await upload(uploader)
        uploads.silent.clear()
        mock_clock.autojump_threshold = float("inf")
        await upload(uploader)


async def test_a_server_that_does_not_answer(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.05
    error = await refused(FakeUploads(silent={SERVER}))
    assert isinstance(error, SlotUnanswered)
    assert error.why == "no answer about an upload service from example"


async def test_a_component_that_does_not_run() -> None:
    life = Life()
    uploader = Uploader(COMPONENT, Settings((COMPONENT,)), Closed(), life.log.logger())  # type: ignore[arg-type]  # only what is called
    with pytest.raises(UploadUnavailable, match=f"{DOMAIN} does not run now"):
        await upload(uploader)


class Closed:
    """A submitter that takes nothing."""

    def open(self, *_: object) -> None:
        raise NotTaken


# --- slots


async def test_a_file_that_is_too_large_is_not_even_asked_for() -> None:
    uploads = FakeUploads(max_bytes="1000")
    error = await refused(uploads)
    assert isinstance(error, FileTooLarge)
    assert error.why == "the file has 262144 bytes, and upload.example takes at most 1000"
    assert uploads.asked_for(UPLOAD) == []


async def test_one_that_the_service_finds_too_large() -> None:
    large = (
        f"<file-too-large xmlns='{UPLOAD}'><max-file-size>20000</max-file-size></file-too-large>"
    )
    error = await refused(FakeUploads(max_bytes=None, refusal=large))
    assert isinstance(error, FileTooLarge)
    assert "takes at most 20000" in error.why


async def test_a_slot_that_is_refused() -> None:
    error = await refused(
        FakeUploads(refusal=f"<forbidden xmlns='{STANZAS}'/><text xmlns='{STANZAS}'>No!</text>")
    )
    assert isinstance(error, SlotRefused)
    assert error.why == (
        "no slot from upload.example: forbidden (No!); allow this component to upload"
    )


@pytest.mark.parametrize(
    ("put_url", "why"),
    [
        ("http://files.example/1", "begins with http://, not https://"),
        ("ftp://127.0.0.1/1", "begins with ftp://"),
        ("file:///etc/passwd", "is not a valid URL"),
        ("https:///1", "is not a valid URL"),
        ("https://user:pw@files.example/1", "is not a valid URL"),
        ("https://files.example/a b", "is not a valid URL"),
        ("https://files.example:port/", "is not a valid URL"),
        ("https://files.example/" + 5000 * "a", "is not a valid URL"),
        ("http://127.0.0.1.files.example/1", "begins with http://"),
        ("http://localhost.files.example/1", "begins with http://"),
    ],
)
async def test_a_slot_elsewhere_is_not_used(put_url: str, why: str) -> None:
    error = await refused(FakeUploads(put_url=put_url))
    assert isinstance(error, BadSlot)
    assert f"the URL that upload.example gives to upload to {why}" in error.why
    error = await refused(FakeUploads(get_url=put_url))
    assert isinstance(error, BadSlot)
    assert f"the URL that upload.example gives to download {why}" in error.why


async def test_only_the_headers_of_the_xep_are_sent_and_no_line_ends() -> None:
    headers = (
        "<header name='cookie'>a=b&#10;X-Evil: 1&#13;&#10;</header>"
        "<header name='Host'>evil.example</header>"
        "<header name='Content-Length'>1</header>"
        "<header name='Expires&#10;'>0</header>"
        "<header name='Authorization'>caf\u00e9</header>"
        "<header>nameless</header>"
    )
    uploads = FakeUploads(headers=headers)
    async with world(uploads) as (uploader, _, _):
        await upload(uploader)
    [head] = uploads.heads
    assert sorted(one for one in head[1:] if not one.startswith(("Host", "Accept"))) == [
        f"Content-Length: {len(CONTENT)}",
        "Content-Type: image/png",
        "Cookie: a=bX-Evil: 1",
        "Expires: 0",
    ]


# --- the PUT


async def test_a_put_that_is_refused() -> None:
    error = await refused(FakeUploads(behaviour="refuses"))
    assert isinstance(error, UploadFailed)
    assert error.why == "the upload to upload.example got the status 413"


async def test_a_redirect_is_not_followed() -> None:
    error = await refused(FakeUploads(behaviour="redirects"))
    assert error.why == "the upload to upload.example got the status 307"


async def test_a_put_that_breaks_half_way() -> None:
    error = await refused(FakeUploads(behaviour="breaks"))
    assert isinstance(error, UploadFailed)
    assert error.why.startswith("the upload to upload.example failed: ")


async def test_nobody_listens() -> None:
    error = await refused(FakeUploads(put_url=f"http://{HOST}:1/x"))
    assert isinstance(error, UploadFailed)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b""])
async def test_a_content_that_is_not_as_long_as_it_was_said(content: bytes) -> None:
    uploads = FakeUploads()
    async with world(uploads) as (uploader, _, _):
        with pytest.raises(UploadFailed):
            await upload(uploader, content, size=len(CONTENT))
    assert uploads.files == [] or len(content) > len(CONTENT)


async def test_what_the_content_raises_is_raised() -> None:
    class Broken(Pieces):
        async def __anext__(self) -> bytes:
            raise LookupError

    uploads = FakeUploads()
    async with world(uploads) as (uploader, _, _):
        with pytest.raises(LookupError):
            await uploader.upload(NewFile("a", "a/b", 9), Broken(b""), BOT)
    assert uploads.files == []


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("stalls", "the server took nothing for 30 s"),
        ("is deaf", "no answer within 60 s after the file"),
    ],
)
async def test_a_server_that_stands_still(behaviour: Any, why: str, mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.3
    content = bytes(20_000_000) if behaviour == "stalls" else CONTENT
    uploads = FakeUploads(behaviour=behaviour, max_bytes=None)
    async with world(uploads) as (uploader, _, _):
        with pytest.raises(UploadFailed, match=why):
            await upload(uploader, content)


async def test_cancellation_closes_the_connection() -> None:
    uploads = FakeUploads(hold=trio.Event())
    async with world(uploads) as (uploader, _, _):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(upload, uploader)
                while uploads.received < len(CONTENT):
                    await trio.testing.wait_all_tasks_blocked(0.01)
                scope.cancel()
        assert scope.cancelled_caught
    assert uploads.files == []


# --- certificates


@asynccontextmanager
async def https(authority: trustme.CA, uploads: FakeUploads) -> AsyncIterator[None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def answer(exchange: Exchange) -> None:
        uploads.files.append(exchange.request.content)
        await exchange.send(response("201 Created"))

    async with trio.open_nursery() as nursery:
        server = await HttpServer.start(nursery, answer, context=context)
        uploads.put_url = f"https://localhost:{server.port}/1"
        yield
        nursery.cancel_scope.cancel()


async def test_the_certificate_is_verified() -> None:
    uploads = FakeUploads()
    async with https(trustme.CA(), uploads):
        error = await refused(uploads)
    assert isinstance(error, UploadFailed)
    assert error.why.endswith("unable to get local issuer certificate")
    assert uploads.files == []


@pytest.mark.parametrize("of_stream", [True, False])
async def test_with_the_ca_of_the_stream_and_the_one_of_http(
    of_stream: bool, tmp_path: Path
) -> None:
    authority, uploads, path = trustme.CA(), FakeUploads(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    keys: dict[str, Any] = (
        {"server": Server("127.0.0.1", 5347, True, str(path))}
        if of_stream
        else {"http": evolve(Settings(()).http, ca_file=str(path))}
    )
    async with https(authority, uploads), world(uploads, **keys) as (uploader, _, _):
        await upload(uploader)
    assert uploads.files == [CONTENT]


@pytest.mark.parametrize("used", [True, False])
async def test_the_environment_names_a_proxy_if_it_is_asked(
    used: bool, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await HttpServer.start(nursery, saying(response("502 No Way")))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url().url)
    monkeypatch.setenv("NO_PROXY", "")
    http = evolve(Settings(()).http, proxy_from_env=used)
    uploads = FakeUploads(put_url="https://localhost:1/1")
    error = await refused(uploads, http=http)
    assert [one.line for one in proxy.requests] == ["CONNECT localhost:1 HTTP/1.1"] * used
    assert isinstance(error, UploadFailed)
    async with world(FakeUploads(), http=http) as (uploader, _, _):
        await upload(uploader)  # by plain http, to this machine
    assert len(proxy.requests) == used


async def test_a_reload_changes_the_service() -> None:
    uploads = FakeUploads(items=[])
    async with world(uploads) as (uploader, _, _):
        with pytest.raises(NoUploadService):
            await upload(uploader)
        component = evolve(COMPONENT, upload=SERVICE)
        uploader.change(component, Settings((component,)))
        await upload(uploader)
