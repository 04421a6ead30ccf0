"""`xmpp-bridge demo`: the bridge between an embedded server and an embedded endpoint.

The peer is the core in the server role on a real loopback socket. The endpoint is a dozen lines of
the standard library's HTTP server. Between them runs the same daemon as in `run`.
"""

import http.server
import json
import math
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

import click
import trio
from attrs import frozen
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from bridge.cli.chat import ChatPage
from bridge.cli.exit import EXIT_CODES, run_async
from bridge.cli.option import checked
from bridge.config.loader import from_table
from bridge.config.value import parse_post_url
from bridge.daemon.daemon import Daemon, ExitCode
from bridge.payload.namespace import CHAT_STATES, CORRECT
from bridge.telemetry.log import configure
from xmppstream import (
    ComponentConnection,
    Element,
    HandshakeReceived,
    Role,
    Stanza,
    StanzaReceived,
    StreamClosed,
    StreamFaulted,
    StreamOpened,
    make,
    verify,
    write,
)
from xmppstream.names import COMPONENT, DISCO_INFO, PING, expanded

DOMAIN: Final = "bot.localhost"
_USER: Final = "juliet@localhost/balcony"
_BOT: Final = f"echo@{DOMAIN}"
_SECRET: Final = "only for this demo"
_CAT: Final = "https://example.com/cat.jpg"
_STREAM_ID: Final = "demo-stream"
_ANSWER_TIMEOUT_S: Final = 10.0
_SERVE_EVERY_S: Final = 5.0
_NEXT: Final = """
What next:
  Write to your own service as a person would, still without a server:
    xmpp-bridge demo --chat --post-url http://127.0.0.1:8000/
  Connect it to a server, step by step:   xmpp-bridge help tutorial
  Read what a service may answer:         xmpp-bridge help contract
  Come from mod_component_http, mod_rest: xmpp-bridge help migration"""
_ACTIVE: Final = Element(f"{{{CHAT_STATES}}}active")
"""So the person sees that the bot is typing: its client says that it shows such a thing."""
Say = Callable[[str, str, str], None]


@frozen
class _Line:
    """One stanza of the script, and the number of stanzas expected in return."""

    about: str
    stanza: Stanza
    answers: int


def _chat(id: str, body: str, *more: Element) -> Stanza:
    element = Element(expanded(COMPONENT, "body"), (), (body,))
    return make("message", _BOT, _USER, type="chat", id=id, children=(element, *more))


def _get(id: str, to: str, payload: Element) -> Stanza:
    return make("iq", to, _USER, type="get", id=id, children=(payload,))


SCRIPT: Final = (
    _Line("A message: the endpoint replies.", _chat("m1", "Good night, good night!"), 1),
    _Line("The endpoint may answer with several stanzas at once.", _chat("m2", "twice, please"), 2),
    _Line("… or with none at all (status 204).", _chat("m3", "nothing"), 0),
    _Line("The endpoint reacts to the message, without any XML.", _chat("r1", "a joke"), 1),
    _Line("It sends a picture: a file by its URL.", _chat("f1", "a cat, please"), 1),
    _Line(
        "The sender corrects a message; the endpoint corrects its reply.",
        _chat("c1", "Good night!", Element(f"{{{CORRECT}}}replace", (("id", "m1"),))),
        1,
    ),
    _Line("If the endpoint refuses it (404), the sender gets an error.", _chat("m4", "refuse"), 1),
    _Line(
        "A subscription: presence is not POSTed here, the bridge answers it.",
        make("presence", _BOT, "juliet@localhost", type="subscribe"),
        2,
    ),
    _Line("A ping, answered by the bridge.", _get("q1", DOMAIN, Element(f"{{{PING}}}ping")), 1),
    _Line(
        "Service discovery, answered by the bridge.",
        _get("q2", _BOT, Element(f"{{{DISCO_INFO}}}query")),
        1,
    ),
)


async def run_demo(serve: bool) -> ExitCode:
    """Run the script and print both sides. Return `OTHER` if an answer is missing."""
    console = Console()
    say = _speaker(console)
    peer = _Peer(say)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    with _EchoEndpoint(say) as url:
        console.print(f"XMPP peer on {server}, endpoint on {url}, component {DOMAIN}.\n")
        table = {
            "server": server,
            "component": {DOMAIN: {"component_secret": _SECRET, "component_post_url": url}},
        }
        daemon = Daemon(from_table(table, "demo", directory=Path.cwd()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, peer.serve, listeners)
            nursery.start_soon(daemon.run)
            missing = await _play(console, peer)
            if serve:
                await _until_stopped(console, _send_for_ever, peer)
            daemon.stop()
            await peer.gone.wait()
            nursery.cancel_scope.cancel()
    counts = daemon.counts[DOMAIN]
    table_out = Table(title="Summary", title_justify="left", show_header=False)
    for name, value in (
        ("stanzas sent to the component", counts.received),
        ("POSTed to the endpoint", counts.posted),
        ("replies from the endpoint", counts.replied),
        ("answered by the bridge itself", counts.answered_by_bridge),
        ("errors sent for failures", counts.errors_sent),
        ("answers missing", missing),
    ):
        table_out.add_row(name, str(value))
    console.print(table_out)
    console.print(_NEXT, markup=False, highlight=False, soft_wrap=True)
    return ExitCode.OTHER if missing else ExitCode.OK


async def run_chat(post_url: str | None) -> ExitCode:
    """Serve the page on which a person writes to the bot, until Ctrl-C. The bot is the service at
    `post_url`, by default the embedded one.
    """
    console = Console()
    say = _speaker(console)
    token = trio.lowlevel.current_trio_token()
    sending, said = trio.open_memory_channel[str](math.inf)  # a person fills it

    def put(text: str) -> None:
        trio.from_thread.run_sync(sending.send_nowait, text, trio_token=token)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    with ExitStack() as stack:
        url = post_url or stack.enter_context(_EchoEndpoint(say))
        component = {"component_secret": _SECRET, "component_post_url": url}
        table = {"server": server, "component": {DOMAIN: component}}
        settings = from_table(table, "demo", directory=Path.cwd())
        page = ChatPage(put)
        peer = _Peer(say, page.hear)
        daemon = Daemon(settings)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, peer.serve, listeners)
            nursery.start_soon(daemon.run)
            await peer.attached.wait()
            with page:
                where = settings.components[0].post_url
                console.print(f"Each message is POSTed to {where}.", markup=False)
                console.print(f"Write to the bot on this page: {page.url}", soft_wrap=True)
                await _until_stopped(console, _pass_on, peer, said)
            daemon.stop()
            await peer.gone.wait()
            nursery.cancel_scope.cancel()
    return ExitCode.OK


async def _pass_on(peer: "_Peer", said: trio.MemoryReceiveChannel[str]) -> None:
    number = 0
    async for text in said:
        number += 1
        await peer.ask(_chat(f"c{number}", text, _ACTIVE), 0)


async def _play(console: Console, peer: "_Peer") -> int:
    missing = 0
    await peer.attached.wait()
    for line in SCRIPT:
        console.rule(f"[bold]{line.about}", align="left")
        with trio.move_on_after(_ANSWER_TIMEOUT_S) as scope:
            await peer.ask(line.stanza, line.answers)
        if scope.cancelled_caught:
            console.print("[red]an answer is missing")
            missing += 1
    console.rule()
    return missing


async def _until_stopped(
    console: Console, work: Callable[..., Awaitable[None]], *arguments: object
) -> None:
    with trio.open_signal_receiver(*_stop_signals()) as signals:
        console.print("Still running; press Ctrl-C to stop.")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, *arguments)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


async def _send_for_ever(peer: "_Peer") -> None:
    number = 0
    while True:
        await trio.sleep(_SERVE_EVERY_S)
        number += 1
        await peer.ask(_chat(f"s{number}", f"message {number}"), 1)


def _stop_signals() -> tuple[int, ...]:
    import signal

    return (signal.SIGINT, signal.SIGTERM)


class _Peer:
    """A server with one user. Stanzas from the component to itself are returned (S35)."""

    def __init__(self, say: Say, hear: Callable[[Stanza], None] = lambda _: None) -> None:
        self._hear = hear
        self.attached = trio.Event()
        self.gone = trio.Event()
        self._say = say
        self._connection = ComponentConnection(Role.SERVER)
        self._transport: trio.abc.Stream | None = None
        self._sending = trio.Lock()
        self._missing = 0
        self._answered = trio.Event()

    async def ask(self, stanza: Stanza, answers: int) -> None:
        """Send a stanza as the user, and wait until the user has received `answers` stanzas."""
        self._say("xmpp", "→ to the component", write(stanza.element, COMPONENT))
        self._missing, self._answered = answers, trio.Event()
        await self._send(self._connection.send(stanza))
        if answers:
            await self._answered.wait()
        else:
            await trio.sleep(0.3)  # long enough to see that nothing comes

    async def serve(self, transport: trio.SocketStream) -> None:
        """Serve the only component, until it disconnects."""
        self._transport = transport
        try:
            while data := await transport.receive_some(65536):
                for event in self._connection.receive_data(bytes(data)):
                    await self._handle(event)
        except trio.BrokenResourceError:
            pass
        finally:
            self.gone.set()

    async def _handle(self, event: object) -> None:
        match event:
            case StreamOpened():
                await self._send(self._connection.open(stream_id=_STREAM_ID))
            case HandshakeReceived(digest=digest):
                assert verify(digest, _STREAM_ID, _SECRET)
                await self._send(self._connection.accept())
                self.attached.set()
            case StanzaReceived(stanza=stanza) if stanza.to == DOMAIN:
                await self._send(self._connection.send(stanza))
            case StanzaReceived(stanza=stanza):
                self._say("xmpp", "← from the component", write(stanza.element, COMPONENT))
                self._hear(stanza)
                self._missing -= 1
                if self._missing == 0:
                    self._answered.set()
            case StreamClosed() | StreamFaulted():
                await self._send(self._connection.close())

    async def _send(self, data: bytes) -> None:
        assert self._transport is not None
        async with self._sending:
            await self._transport.send_all(data)


class _EchoEndpoint:
    """The HTTP service, which echoes bodies, in its own thread like a separate process."""

    def __init__(self, say: Say) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            uids: ClassVar[dict[str, str]] = {}

            def do_POST(self) -> None:
                stanza = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                say("http", "POST", json.dumps(stanza, indent=2, ensure_ascii=False))
                self.uids[stanza.get("id", "")] = stanza["uid"]
                status, reply = _reply(stanza, self.uids)
                content = b"" if reply is None else json.dumps(reply).encode()
                say("http", f"{status}", content.decode())
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Log nothing: the conversation is printed elsewhere."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _reply(stanza: dict[str, Any], uids: dict[str, str]) -> tuple[int, Any]:
    """Return the status and the JSON of a reply. `uids`: of the messages so far, by their ids."""
    text = stanza.get("text", "")
    if stanza["event"] == "edit":
        ours = f"{uids.get(stanza['replace'], '')}-1"
        return 200, {"body": f"Did you say {text}?", "replace": ours}
    match text:
        case "a joke":
            return 200, {"reactions": ["😂"]}
        case "a cat, please":
            return 200, {"files": [{"url": _CAT, "media_type": "image/jpeg"}]}
        case "nothing":
            return 204, None
        case "refuse":
            return 404, None
        case "twice, please":
            return 200, [{"body": "once"}, {"body": "twice"}]
        case _:
            return 200, {"body": f"Did you say {text}?"}


def _speaker(console: Console) -> Say:
    def say(side: str, what: str, text: str) -> None:
        style, lexer = ("cyan", "xml") if side == "xmpp" else ("magenta", "json")
        console.print(f"[{style}]{side.upper():5}{what}[/]")
        if text:
            console.print(Syntax(text, lexer, word_wrap=True, background_color="default"))

    return say


def _check_url(ctx: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    if given is not None:
        checked(parse_post_url, ctx, parameter, given)
    return given


@click.command(epilog=EXIT_CODES)
@click.option("--serve", is_flag=True, help="Keep running until Ctrl-C, with a message every 5 s.")
@click.option(
    "--chat",
    is_flag=True,
    help="Open a page on this machine on which you write to the bot, until Ctrl-C.",
)
@click.option(
    "--post-url",
    metavar="URL",
    callback=_check_url,
    help="With --chat: write to your own service in place of the embedded one.",
)
def demo(serve: bool, chat: bool, post_url: str | None) -> None:
    """Show the bridge in action; no XMPP server is needed.

    \b
    xmpp-bridge demo

    Starts an embedded XMPP peer and an embedded echo endpoint, sends some stanzas through the same
    code as `run`, and prints the conversation on both sides.

    \b
    xmpp-bridge demo --chat --post-url http://127.0.0.1:8000/

    Serves a page on which you write to your own service as a person on XMPP would.
    """
    if chat and serve:
        raise click.UsageError("Use either --chat or --serve, not both.")
    if post_url is not None and not chat:
        raise click.UsageError("--post-url needs --chat.")
    configure("text", "warning" if chat else "error")
    if chat:
        run_async(run_chat, post_url)
    run_async(run_demo, serve)
