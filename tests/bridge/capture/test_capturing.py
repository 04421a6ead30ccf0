"""Whole daemons that record: in this process with the clock standing still, and as processes that
are killed, or whose disk is full.
"""

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from bridge.capture.exchange import HttpExchange, decode
from bridge.capture.file import open_capture
from bridge.capture.format import Header, Record
from bridge.capture.recorder import Recorders
from bridge.capture.retention import CaptureOptions
from bridge.config.settings import (
    Component,
    Count,
    HttpSettings,
    RetrySettings,
    Settings,
    StreamSettings,
)
from bridge.config.value import Secret, parse_post_url
from bridge.daemon.daemon import Daemon, ExitCode
from bridge.listener.submission.sender import open_sender
from bridge.webhook.observer import PostAnswer, PostFailure
from tests.bridge.http_server import Answer, Exchange, HttpServer, response
from tests.bridge.leak import nothing_left, until
from tests.bridge.recorder import Recorder as Log
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import SECRET, XmppServer
from xmppstream import Stanza, StreamCondition, digest, make

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
DOMAIN: Final = "bot.example"
OTHER: Final = "other.example"
ROOT: Final = Path(__file__).parents[3]
STREAM_ID: Final = "3BF96D32"  # of `xmpp_server`
WEBHOOK_SECRET: Final = "whsec_" + base64.b64encode(b"w3bh00k" * 5).decode()
DAEMON: Final = """
import resource, sys
from bridge.cli.main import main
if int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


def message(id: str, to: str = DOMAIN) -> Stanza:
    return stanza(
        f"<message id='{id}' type='chat' from='juliet@capulet.example/x' to='echo@{to}'>"
        f"<body>{id}</body></message>"
    )


async def echo(exchange: Exchange) -> None:
    asked = exchange.request.json
    value = {"body": asked["body"], "id": f"re-{asked['id']}"}
    await exchange.send(response(content=json.dumps(value).encode()))


def captures(directory: Path) -> dict[str, list[tuple[Header, list[Record]]]]:
    """What is in the files of each domain, in order."""
    found: dict[str, list[tuple[Header, list[Record]]]] = {}
    for path in sorted(directory.iterdir()):
        with open_capture(path) as reader:
            found.setdefault(reader.header.domain, []).append((reader.header, list(reader)))
            assert reader.cut is None
    return found


def of(records: list[Record], channel: str) -> bytes:
    return b"".join(record.data for record in records if record.channel == channel)


def exchanges(records: list[Record]) -> list[HttpExchange]:
    return [decode(record.data) for record in records if record.channel == "http"]


class World:
    """A server and a daemon that records, in this process."""

    def __init__(self, nursery: trio.Nursery, directory: Path, server: XmppServer) -> None:
        self.directory = directory
        self.server = server
        self.code: ExitCode | None = None
        self._nursery = nursery

    async def endpoint(self, answer: Answer = echo) -> HttpServer:
        return await HttpServer.start(self._nursery, answer)

    def component(self, url: str, domain: str = DOMAIN, **more: Any) -> Component:
        address = parse_post_url(url)
        return Component(domain, Secret(SECRET), address, self.server.address, **more)

    def start(self, *components: Component, **options: Any) -> Daemon:
        capture = CaptureOptions(self.directory, **options.pop("capture", {}))
        recording = Recorders(capture, components)
        read = options.pop("read", None)
        daemon = Daemon(Settings(components, **options), read=read, recording=recording)
        self._nursery.start_soon(self._run, daemon)
        return daemon

    async def _run(self, daemon: Daemon) -> None:
        self.code = await daemon.run()

    async def stop(self, daemon: Daemon) -> None:
        """Stop it, and let the time pass until it has."""
        daemon.stop()
        await self.until_stopped()

    async def until_stopped(self) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        while self.code is None:
            await trio.testing.wait_all_tasks_blocked(0.01)
            if self.code is None:
                clock.jump(0.1)


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    with log.installed():
        yield log


@pytest.fixture
async def world(nursery: trio.Nursery, mock_clock: MockClock, tmp_path: Path, log: Log) -> World:
    return World(nursery, tmp_path, await XmppServer.start(nursery))


# --- what is in it


async def test_it_is_the_whole_story(world: World, mock_clock: MockClock, log: Log) -> None:
    endpoint = await world.endpoint()
    daemon = world.start(world.component(endpoint.url().url))
    session = await world.server.attached(DOMAIN)
    for number in range(20):
        await session.send(message(f"m{number}"))
    await session.receive(20)
    await world.stop(daemon)
    [[(header, records)]] = captures(world.directory).values()
    assert header.get("server") == str(world.server.address)
    assert header.get("endpoint") == endpoint.url().url
    shown = session.received.replace(digest(STREAM_ID, SECRET).encode(), b"redacted")
    assert of(records, "out") == shown
    assert of(records, "in").count(b"<message") == 20
    assert (
        of(records, "link") == f"open {world.server.address}end the peer ended the stream".encode()
    )
    told = exchanges(records)
    assert [one.request for one in told] == [one.content for one in endpoint.requests]
    assert [one.uid for one in told] == [one.get("webhook-id") for one in endpoint.requests]
    for one in told:
        assert isinstance(one.result, PostAnswer)
        assert one.result.status == 200
        assert one.result.headers == {"content-type": "application/json"}
        asked = json.loads(one.request)
        expected = {"body": asked["body"], "id": f"re-{asked['id']}"}
        assert json.loads(one.result.body or b"") == expected
    [line] = log.of("capturing")
    assert line["component"] == DOMAIN


async def test_no_secret_is_ever_in_it(world: World, mock_clock: MockClock, log: Log) -> None:
    async def answer(exchange: Exchange) -> None:
        content = b'{"body":"hi"}'
        head = [
            "HTTP/1.1 200 OK",
            "Content-Type: application/json",
            "Set-Cookie: session=c00k1e",
            "WWW-Authenticate: Bearer r3alm",
            f"Content-Length: {len(content)}",
        ]
        await exchange.send("\r\n".join([*head, "", ""]).encode() + content)

    endpoint = await world.endpoint(answer)
    url = f"http://us3r:passw0rd@127.0.0.1:{endpoint.port}/api?token=t0k3n"
    component = world.component(url, webhook_secrets=(Secret(WEBHOOK_SECRET),))
    headers = {"Authorization": "Bearer b3ar3r", "X-Api-Key": "ap1k3y"}
    daemon = world.start(component, http=HttpSettings(headers=headers))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    await session.receive(1)
    await world.server.sessions[0].hang_up()
    await world.stop(daemon)
    [request] = endpoint.requests
    basic = base64.b64encode(b"us3r:passw0rd").decode()
    assert request.get("authorization") == f"Basic {basic}"
    assert request.get("x-api-key") == "ap1k3y"
    signature = request.get("webhook-signature")
    assert signature is not None
    [path] = world.directory.iterdir()
    text = path.read_text()
    secrets = [SECRET, "us3r", "passw0rd", "t0k3n", "b3ar3r", "ap1k3y", "c00k1e", "r3alm"]
    secrets += [digest(STREAM_ID, SECRET), signature, signature.removeprefix("v1,")]
    secrets += [WEBHOOK_SECRET, "w3bh00k", basic]
    for secret in secrets:
        assert secret not in text
    assert "<handshake>redacted</handshake>" in text
    for word in ("authorization", "webhook", "cookie", "user-agent"):
        assert word not in text.lower()


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (response("503 Busy", b"later", None), PostAnswer(503, {}, b"later")),
        (response("204 No Content"), PostAnswer(204, {"content-type": "application/json"}, b"")),
        (response(content=b"\xff", media="x/y"), PostAnswer(200, {"content-type": "x/y"}, b"\xff")),
    ],
)
async def test_an_answer_is_recorded_as_it_came(
    world: World, mock_clock: MockClock, answer: bytes, result: PostAnswer
) -> None:
    async def say(exchange: Exchange) -> None:
        await exchange.send(answer)

    endpoint = await world.endpoint(say)
    daemon = world.start(world.component(endpoint.url().url), retry=RetrySettings(0, 0))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    while not endpoint.requests:
        await trio.testing.wait_all_tasks_blocked()
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    assert [one.result for one in exchanges(records)] == [result]


@pytest.mark.parametrize(
    ("content", "coding", "result"),
    [
        (gzip.compress(b"{}"), "gzip", PostAnswer(200, {}, b"{}")),
        (b"\xffnone", "gzip", PostAnswer(200, {"content-encoding": "gzip"}, b"\xffnone")),
    ],
)
async def test_content_codings_are_undone_where_they_can_be(
    world: World, mock_clock: MockClock, content: bytes, coding: str, result: PostAnswer
) -> None:
    async def say(exchange: Exchange) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(content)}"
        await exchange.send(head.encode() + b"\r\n\r\n" + content)

    endpoint = await world.endpoint(say)
    daemon = world.start(world.component(endpoint.url().url), retry=RetrySettings(0, 0))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    while not endpoint.requests:
        await trio.testing.wait_all_tasks_blocked()
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    assert [one.result for one in exchanges(records)] == [result]


async def test_retry_after_is_kept(world: World, mock_clock: MockClock) -> None:
    async def say(exchange: Exchange) -> None:
        head = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nServer: x\r\nContent-Length: 0\r\n\r\n"
        await exchange.send(head.encode())

    endpoint = await world.endpoint(say)
    daemon = world.start(world.component(endpoint.url().url), retry=RetrySettings(0, 0))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    await session.receive(1)
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    assert [one.result for one in exchanges(records)] == [
        PostAnswer(503, {"retry-after": "7"}, b"")
    ]


async def test_a_post_without_an_answer_is_recorded_with_why(
    world: World, mock_clock: MockClock
) -> None:
    async def hang_up(exchange: Exchange) -> None:
        await exchange.close()

    endpoint = await world.endpoint(hang_up)
    daemon = world.start(world.component(endpoint.url().url), retry=RetrySettings(0, 0))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    await session.receive(1)
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    [one] = exchanges(records)
    why = "RemoteProtocolError: the connection was closed without a response"
    assert one.result == PostFailure("unreachable", why)


async def test_a_post_that_takes_too_long_is_recorded(world: World, mock_clock: MockClock) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.wait_gone()

    endpoint = await world.endpoint(hang)
    component = world.component(endpoint.url().url)
    daemon = world.start(component, http=HttpSettings(timeout_s=3), retry=RetrySettings(0, 0))  # type: ignore[arg-type]  # a NewType
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    while not session.stanzas:
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(0.1)
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    [one] = exchanges(records)
    assert one.result == PostFailure("timed_out")


async def test_a_post_that_the_end_cuts_off_is_recorded(
    world: World, mock_clock: MockClock
) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.wait_gone()

    endpoint = await world.endpoint(hang)
    daemon = world.start(world.component(endpoint.url().url))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    while not endpoint.requests:
        await trio.testing.wait_all_tasks_blocked()
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    [one] = exchanges(records)
    assert one.result == PostFailure("given_up")


async def test_an_answer_over_the_limit_is_not_kept(world: World, mock_clock: MockClock) -> None:
    async def say(exchange: Exchange) -> None:
        await exchange.send(response(content=b'"' + b"x" * 5000 + b'"'))

    endpoint = await world.endpoint(say)
    component = world.component(endpoint.url().url)
    daemon = world.start(component, http=HttpSettings(max_reply_bytes=Count(1000)))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    await session.receive(1)
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    [one] = exchanges(records)
    assert one.result == PostAnswer(200, {"content-type": "application/json"}, None)


# --- connections


async def test_reconnecting_is_part_of_the_story(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint()
    daemon = world.start(world.component(endpoint.url().url))
    for count in (1, 2):
        session = await world.server.attached(DOMAIN, count)
        await session.send(message(f"m{count}"))
        await session.receive(1)
        await session.hang_up()
        while count == 1 and len(world.server.sessions) < 2:
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(0.1)
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    links = [record.data.partition(b" ")[0] for record in records if record.channel == "link"]
    assert links[:4] == [b"open", b"end", b"open", b"end"]
    ends = [record.data for record in records if record.data.startswith(b"end ")]
    assert ends[0] == b"end the server closed the connection without a word"
    # The reply to m2 was not written any more: there is time enough to attach for it.
    assert of(records, "in").count(b"<handshake/>") == 3
    assert of(records, "out").count(b"id='re-m2'") == 1


async def test_a_wrong_secret_is_recorded_and_not_told(world: World, mock_clock: MockClock) -> None:
    world.server.refusals[DOMAIN] = StreamCondition.NOT_AUTHORIZED
    component = world.component("http://127.0.0.1:1/")
    world.start(component, stream=StreamSettings(exit_on_refusal=True))
    await world.until_stopped()
    assert world.code is ExitCode.REFUSED
    [[(_, records)]] = captures(world.directory).values()
    assert b"not-authorized" in of(records, "in")
    links = of(records, "link")
    assert links.startswith(b"open ")
    assert b"end not-authorized" in links
    assert digest(STREAM_ID, SECRET).encode() not in of(records, "out")


async def test_components_do_not_get_into_each_others_files(
    world: World, mock_clock: MockClock
) -> None:
    endpoint = await world.endpoint()
    one = world.component(endpoint.url().url)
    daemon = world.start(one, evolve(one, domain=OTHER))
    sessions = [await world.server.attached(domain) for domain in (DOMAIN, OTHER)]
    async with trio.open_nursery() as nursery:
        for domain, session in zip((DOMAIN, OTHER), sessions, strict=True):
            sent = (message(f"{domain}-{number}", domain) for number in range(50))
            nursery.start_soon(session.send, *sent)
    for session in sessions:
        await session.receive(50)
    await world.stop(daemon)
    found = captures(world.directory)
    assert set(found) == {DOMAIN, OTHER}
    for domain, [(_, records)] in found.items():
        ids = {json.loads(one.request)["id"] for one in exchanges(records)}
        assert ids == {f"{domain}-{number}" for number in range(50)}
        for number in range(50):
            assert f'{domain}-{number}"'.encode() in of(records, "in").replace(b"'", b'"')


# --- many files


async def test_files_of_a_rotation_tell_it_all_one_after_the_other(
    world: World, mock_clock: MockClock
) -> None:
    endpoint = await world.endpoint()
    daemon = world.start(world.component(endpoint.url().url), capture={"rotate_bytes": 20_000})
    session = await world.server.attached(DOMAIN)
    for number in range(0, 300, 30):
        await session.send(*(message(f"m{one}") for one in range(number, number + 30)))
        await session.receive(number + 30)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(0.1)
    await world.stop(daemon)
    [files] = captures(world.directory).values()
    assert len(files) > 2
    out, in_ = b"", b""
    for number, (header, records) in enumerate(files):
        repeated = int(header.get("repeated", "0")) if number else 0
        assert repeated == (5 if number else 0)
        assert of(records[:5] if number else records[:6], "in").endswith(b"<handshake/>")
        out += of(records[repeated:], "out")
        in_ += of(records[repeated:], "in")
    assert out == session.received.replace(digest(STREAM_ID, SECRET).encode(), b"redacted")
    assert in_.count(b"<message") == 300


# --- processes


class Process:
    """A daemon that records, by its command."""

    def __init__(self, directory: Path, port: int, url: str, *more: str, file_limit: int = 0):
        config = directory / "bridge.toml"
        config.write_text(
            # The journal may not grow either where files may not, so it is off.
            f'server = "127.0.0.1:{port}"\n[journal]\ndurability = "off"\n[component."{DOMAIN}"]\n'
            f'component_secret = "{SECRET}"\ncomponent_post_url = "{url}"\n'
        )
        config.chmod(0o600)
        self.captures = directory / "captures"
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *[sys.executable, "-c", DAEMON, str(file_limit), "run", str(config)],
                    *["--log-format", "json", "--capture", str(self.captures), *more],
                ],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )

    async def wait(self) -> int:
        return await trio.to_thread.run_sync(self.process.wait)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def read(self) -> tuple[list[Record], str | None]:
        """Give what is in its only file, and what of it is cut."""
        [path] = self.captures.iterdir()
        with open_capture(path) as reader:
            return list(reader), reader.cut


@pytest.mark.parametrize("format", ["plain", "gz", "zst"])
async def test_kill_9_leaves_a_file_that_reads_up_to_its_last_whole_record(
    nursery: trio.Nursery, tmp_path: Path, format: str
) -> None:
    server = await XmppServer.start(nursery)
    endpoint = await HttpServer.start(nursery, echo)
    url = endpoint.url().url
    one = Process(tmp_path, server.port, url, "--capture-format", format)
    session = await server.attached(DOMAIN)
    for number in range(0, 600, 20):
        await session.send(*(message(f"m{n}") for n in range(number, number + 20)))
        await session.receive(number + 20)
        if number == 300:
            await until(lambda: len(exchanges(one.read()[0])) == 320)
    one.process.send_signal(signal.SIGKILL)
    assert await one.wait() == -signal.SIGKILL
    records, cut = one.read()
    assert (cut is not None) == (format != "plain")
    received = of(records, "in")
    # At most what was reported in the last moment is not there.
    assert received.count(b"<message") >= 320
    shown = session.received.replace(digest(STREAM_ID, SECRET).encode(), b"redacted")
    assert shown.startswith(of(records, "out"))
    answered = {json.loads(one.request)["id"] for one in exchanges(records)}
    assert len(answered) >= 320


async def test_a_disk_that_is_full_stops_the_capture_and_not_the_bridge(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    server = await XmppServer.start(nursery)
    endpoint = await HttpServer.start(nursery, echo)
    one = Process(tmp_path, server.port, endpoint.url().url, file_limit=100_000)
    session = await server.attached(DOMAIN)
    for number in range(0, 600, 20):
        await session.send(*(message(f"m{n}") for n in range(number, number + 20)))
        await session.receive(number + 20)
    one.process.send_signal(signal.SIGTERM)
    assert await one.wait() == 0
    [line] = [line for line in one.lines() if line["level"] in ("error", "warning")]
    assert line["event"] == "capturing stopped"
    assert line["why"] == "it cannot be written (File too large)"
    [path] = one.captures.iterdir()
    assert path.stat().st_size == 100_000
    records, cut = one.read()
    assert cut is not None
    assert of(records, "in").count(b"<message") > 20


async def test_a_component_that_comes_later_is_recorded_too(
    world: World, mock_clock: MockClock, log: Log
) -> None:
    endpoint = await world.endpoint()
    one, other = (world.component(endpoint.url().url, name) for name in (DOMAIN, "later.example"))
    daemon = world.start(one, read=lambda: Settings((one, other)))
    await world.server.attached(DOMAIN)
    daemon.reload()
    await world.server.attached("later.example")
    await world.stop(daemon)
    found = captures(world.directory)
    assert set(found) == {DOMAIN, "later.example"}
    [(_, records)] = found["later.example"]
    assert b"<handshake/>" in of(records, "in")


async def test_what_an_http_client_has_it_send_is_told_apart(
    world: World, mock_clock: MockClock, log: Log
) -> None:
    endpoint = await world.endpoint()
    daemon = world.start(world.component(endpoint.url().url))
    session = await world.server.attached(DOMAIN)
    with open_sender(daemon.parts) as sender:
        uid = await sender.send(make("message", "a@b.example", DOMAIN))
    await session.receive(1)
    await world.stop(daemon)
    [[(_, records)]] = captures(world.directory).values()
    [submitted] = [json.loads(record.data) for record in records if record.channel == "api"]
    assert submitted["uid"] == uid
    assert f"id='{uid}'" in submitted["stanza"]
    assert submitted["stanza"].encode() in of(records, "out")
