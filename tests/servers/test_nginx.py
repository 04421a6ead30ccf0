"""The bridge's HTTP transport against real nginx: what a server of the world does, not ours."""

from __future__ import annotations

import gzip
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trustme

from bridge.httpclient.pool import PoolLimits
from bridge.httpclient.response import ResponseLimits
from bridge.httpclient.transport import Transport
from tests.bridge.leak import nothing_left, until
from tests.servers.nginx import Nginx
from tests.servers.process import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["nothing_left"]
pytestmark = [pytest.mark.nginx, pytest.mark.usefixtures("nothing_left")]

SAYS = "return 200 '$connection $connection_requests';"
BIG = bytes(8_000_000)


class World:
    """An nginx, and a client of it with our transport."""

    def __init__(
        self, directory: Path, block: str, *, identity: str | None = None, trusts: bool = True
    ) -> None:
        self.ca = trustme.CA()
        self.nginx = Nginx(directory, self.ca, block)
        context = ssl.create_default_context()
        if trusts:
            self.ca.configure_trust(context)
        if identity is not None:
            self.ca.issue_cert(identity).configure_cert(context)
        self.transport = Transport(
            context, PoolLimits(max_connections=8), ResponseLimits(max_body_bytes=1_000_000)
        )
        self.client = httpx.AsyncClient(
            transport=self.transport, headers={"Accept-Encoding": "identity"}, timeout=None
        )

    def url(self, path: str = "/", host: str = LOOPBACK, *, tls: bool = False) -> str:
        port = self.nginx.tls_port if tls else self.nginx.port
        return f"http{'s' if tls else ''}://{host}:{port}{path}"

    async def post(
        self, path: str = "/", content: bytes = b"{}", *, host: str = LOOPBACK, tls: bool = False
    ) -> httpx.Response:
        return await self.client.post(self.url(path, host, tls=tls), content=content)

    async def logged(self) -> str:
        """Stop nginx, and give what it logged: a line for each request."""
        await self.nginx.stop()
        return self.nginx.access_log

    async def count(self, *, tls: bool = False) -> tuple[int, int]:
        """Give nginx's number of the connection, and of the request on it."""
        connection, requests = (await self.post(tls=tls)).text.split()
        return int(connection), int(requests)


@asynccontextmanager
async def world(
    directory: Path, block: str, *, identity: str | None = None, trusts: bool = True
) -> AsyncIterator[World]:
    made = World(directory, block, identity=identity, trusts=trusts)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(made.nginx)
        await stack.enter_async_context(made.client)
        yield made
        await made.client.aclose()
        assert made.transport.pool.open_count == 0


def socket_fds() -> set[int]:
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        try:
            if str(one.readlink()).startswith("socket:"):
                found.add(int(one.name))
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_reuse(tmp_path: Path, tls: bool) -> None:
    async with world(tmp_path, f"location / {{ {SAYS} }}") as one:
        seen = [await one.count(tls=tls) for _ in range(5)]
        assert [requests for _, requests in seen] == [1, 2, 3, 4, 5]
        assert len({connection for connection, _ in seen}) == 1
        assert one.transport.pool.idle_count == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_many_at_once(tmp_path: Path, tls: bool) -> None:
    async with world(tmp_path, f"location / {{ {SAYS} }}") as one:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(partial(one.count, tls=tls))
        assert (await one.logged()).count(" 200 ") == 100
        assert 1 <= one.transport.pool.open_count <= 8


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_keepalive_requests(tmp_path: Path, tls: bool) -> None:
    async with world(tmp_path, f"keepalive_requests 3; location / {{ {SAYS} }}") as one:
        seen = [await one.count(tls=tls) for _ in range(7)]
        assert [requests for _, requests in seen] == [1, 2, 3, 1, 2, 3, 1]
        assert (await one.logged()).count(" 200 ") == 7


async def test_keepalive_time_out_is_told(tmp_path: Path) -> None:
    """`Keep-Alive: timeout=1` is too short to be used."""
    async with world(tmp_path, f"keepalive_timeout 1s 1s; location / {{ {SAYS} }}") as one:
        assert (await one.post()).headers["Keep-Alive"] == "timeout=1"
        assert [requests for _, requests in [await one.count(), await one.count()]] == [1, 1]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_stale(tmp_path: Path, tls: bool) -> None:
    async with world(tmp_path, f"keepalive_timeout 1s; location / {{ {SAYS} }}") as one:
        before = socket_fds()
        first, _ = await one.count(tls=tls)
        [kept] = socket_fds() - before
        await trio.lowlevel.wait_readable(kept)  # nginx closes after a second
        second, requests = await one.count(tls=tls)
        assert (second != first, requests) == (True, 1)
        assert (await one.logged()).count(" 200 ") == 2


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_restarted(tmp_path: Path, tls: bool) -> None:
    async with world(tmp_path, f"location / {{ {SAYS} }}") as one:
        await one.count(tls=tls)
        await one.nginx.restart()
        assert (await one.count(tls=tls))[1] == 1
        await one.nginx.kill()
        with pytest.raises(httpx.ConnectError, match="Connection refused"):
            await one.post(tls=tls)
        assert one.transport.pool.open_count == 0
        await one.nginx.start()
        assert (await one.count(tls=tls))[1] == 1


async def test_gzip(tmp_path: Path) -> None:
    text = "gzip me, " * 100
    block = f"gzip on; gzip_min_length 1; gzip_types *; location / {{ return 200 '{text}'; }}"
    async with world(tmp_path, block) as one:
        plain = await one.client.get(one.url())
        coded = await one.client.get(one.url(), headers={"Accept-Encoding": "gzip, deflate"})
        assert plain.text == coded.text == text
        assert ("Content-Encoding" in plain.headers, "Content-Length" in plain.headers) == (0, 1)
        assert coded.headers["Content-Encoding"] == "gzip"
        assert coded.headers["Transfer-Encoding"] == "chunked"
        assert one.transport.pool.open_count == 1


async def test_gzip_from_a_file(tmp_path: Path) -> None:
    """A bomb on the disk: small as it comes, over the limit as it is."""
    async with world(tmp_path, "gzip_static always; root .;") as one:
        (one.nginx.directory / "bomb.gz").write_bytes(gzip.compress(bytes(10_000_000)))
        with pytest.raises(httpx.RemoteProtocolError, match="over 1000000 bytes"):
            await one.client.get(one.url("/bomb"))


async def test_chunked(tmp_path: Path) -> None:
    block = "location / { sub_filter a b; sub_filter_types *; return 200 'banana'; }"
    async with world(tmp_path, block) as one:
        for _ in range(3):
            answer = await one.post()
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert answer.text == "bbnana"
        assert one.transport.pool.open_count == 1


async def test_large_body(tmp_path: Path) -> None:
    async with world(tmp_path, "root .;") as one:
        (one.nginx.directory / "within").write_bytes(bytes(1_000_000))
        (one.nginx.directory / "over").write_bytes(bytes(1_000_001))
        assert (await one.client.get(one.url("/within"))).content == bytes(1_000_000)
        with pytest.raises(httpx.RemoteProtocolError, match="over 1000000 bytes"):
            await one.client.get(one.url("/over"))
        head = await one.client.head(one.url("/over"))
        assert (head.headers["Content-Length"], head.content) == ("1000001", b"")


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 429, 500, 503])
async def test_status(tmp_path: Path, status: int) -> None:
    async with world(tmp_path, f"location / {{ return {status}; }}") as one:
        for _ in range(2):
            answer = await one.post()
            assert (answer.status_code, answer.http_version) == (status, "HTTP/1.1")
            if status in (204, 304):
                assert answer.content == b""
        assert (await one.logged()).count(f" {status} ") == 2


async def test_redirect_is_not_followed(tmp_path: Path) -> None:
    async with world(tmp_path, "location / { return 301 https://other.example/; }") as one:
        answer = await one.post()
        assert (answer.status_code, answer.headers["Location"]) == (301, "https://other.example/")
        assert (await one.logged()).count("\n") == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_413(tmp_path: Path, tls: bool) -> None:
    async with world(tmp_path, f"client_max_body_size 1k; location / {{ {SAYS} }}") as one:
        for _ in range(3):
            answer = await one.post(content=BIG, tls=tls)
            assert (answer.status_code, answer.headers["Connection"]) == (413, "close")
            assert one.transport.pool.open_count == 0
        assert (await one.count(tls=tls))[1] == 1


async def test_502(tmp_path: Path) -> None:
    async with world(tmp_path, "location / { proxy_pass http://127.0.0.1:1; }") as one:
        for _ in range(2):
            assert (await one.post()).status_code == 502
        assert one.transport.pool.open_count == 1


async def test_499(tmp_path: Path) -> None:
    """Cancelling closes the connection, and nginx sees it."""
    asked = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        asked.set()
        while await stream.receive_some():
            pass
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, silent, 0, host=LOOPBACK))
        upstream = listener.socket.getsockname()[1]
        block = f"location / {{ proxy_pass http://127.0.0.1:{upstream}; }}"
        async with world(tmp_path, block) as one:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as asking:
                    asking.start_soon(one.post)
                    await asked.wait()
                    scope.cancel()
            assert one.transport.pool.open_count == 0
            await until(lambda: " 499 " in one.nginx.access_log)
        nursery.cancel_scope.cancel()


async def test_444(tmp_path: Path) -> None:
    """Closed without an answer: repeated once where the connection was a kept one."""
    block = f"location / {{ {SAYS} }} location /444 {{ return 444; }}"
    async with world(tmp_path, block) as one:
        with pytest.raises(httpx.RemoteProtocolError, match="without a response"):
            await one.post("/444")
        await until(lambda: one.nginx.access_log.count(" 444 ") == 1)
        await one.count()
        with pytest.raises(httpx.RemoteProtocolError, match="without a response"):
            await one.post("/444")
        assert (await one.logged()).count(" 444 ") == 3


async def test_ipv6(tmp_path: Path) -> None:
    async with world(tmp_path, "location / { return 200 $server_addr; }") as one:
        for tls in (False, True):
            assert (await one.post(host="[::1]", tls=tls)).text == "::1"
        assert (await one.post(host="localhost", tls=True)).status_code == 200


TLS = "location / { return 200 '$ssl_server_name $ssl_client_verify $ssl_client_s_dn'; }"


async def test_tls_name(tmp_path: Path) -> None:
    async with world(tmp_path, TLS) as one:
        assert (await one.post(host="localhost", tls=True)).text == "localhost NONE "
        assert (await one.post(tls=True)).text == " NONE "


async def test_tls_wrong_ca(tmp_path: Path) -> None:
    async with world(tmp_path, TLS, trusts=False) as one:
        with pytest.raises(httpx.ConnectError, match="TLS failed"):
            await one.post(tls=True)
        assert await one.logged() == ""


async def test_client_certificate(tmp_path: Path) -> None:
    block = "ssl_verify_client on;" + TLS
    async with world(tmp_path, block, identity="bot@example.org") as one:
        for _ in range(2):
            answer = await one.post(tls=True)
            assert answer.text.split()[0] == "SUCCESS"
        assert one.transport.pool.open_count == 1


async def test_client_certificate_missing(tmp_path: Path) -> None:
    async with world(tmp_path, "ssl_verify_client on;" + TLS) as one:
        answer = await one.post(tls=True)
        assert answer.status_code == 400
        assert "No required SSL certificate was sent" in answer.text
        assert one.transport.pool.open_count == 0


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_tls_version(tmp_path: Path, version: str) -> None:
    block = f"ssl_protocols {version}; location / {{ return 200 '$ssl_protocol $connection'; }}"
    async with world(tmp_path, block) as one:
        answers = [(await one.post(tls=True)).text for _ in range(4)]
        assert set(answers) == {answers[0]}
        assert answers[0].startswith(version)
