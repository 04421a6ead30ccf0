"""`demo --chat`: the page, what is said on it and heard, and who may not use it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import trio
from click.testing import CliRunner

from bridge.cli.chat import MAX_TEXT_BYTES, ChatPage
from bridge.cli.main import main
from tests.bridge.http_server import Exchange, HttpServer, response
from tests.bridge.sample import stanza
from xmppstream import Element, make
from xmppstream.names import COMPONENT, expanded

ROOT = Path(__file__).parents[3]


class Client:
    """Asks a page."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc

    def ask(
        self, method: str, path: str, content: str | None = None, **headers: str
    ) -> tuple[int, str, str]:
        """Return the status, the media type and the text."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, content, fields)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read().decode()
        finally:
            connection.close()

    def say(self, text: str, **headers: str) -> int:
        headers = {"Content_Type": "application/json", **headers}
        return self.ask("POST", "/say", json.dumps({"text": text}), **headers)[0]

    def entries(self, start: int = 0) -> list[dict[str, Any]]:
        found = json.loads(self.ask("GET", f"/entries?from={start}")[2])
        assert isinstance(found, list)
        return found


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def page(said: list[str]) -> Iterator[ChatPage]:
    with ChatPage(said.append) as page:
        yield page


@pytest.fixture
def client(page: ChatPage) -> Client:
    return Client(page.url)


def test_the_page_is_html(client: Client) -> None:
    status, media, text = client.ask("GET", "/")
    assert (status, media) == (200, "text/html")
    assert "textContent" in text
    assert "innerHTML" not in text


def test_what_is_said_and_heard(page: ChatPage, client: Client, said: list[str]) -> None:
    assert client.say("<b>hi</b> ü") == 202
    body = Element(expanded(COMPONENT, "body"), (), ("Did you say hi?",))
    page.hear(make("message", "a@b", "bot@c", children=(body,)))
    page.hear(make("presence", "a@b", "bot@c"))
    assert said == ["<b>hi</b> ü"]
    assert client.entries()[:2] == [
        {"who": "you", "text": "<b>hi</b> ü", "xml": False},
        {"who": "bot", "text": "Did you say hi?", "xml": False},
    ]
    (last,) = client.entries(2)
    assert (last["xml"], last["text"].startswith("<presence")) == (True, True)


def test_typing_and_corrections_are_told_apart(page: ChatPage, client: Client) -> None:
    def heard(inner: str, id: str = "") -> dict[str, Any]:
        about = f" id='{id}'" if id else ""
        head = f"<message to='a@b' from='bot@c' type='chat'{about}>"
        page.hear(stanza(f"{head}{inner}</message>"))
        return client.entries()[-1]

    state = "<{} xmlns='http://jabber.org/protocol/chatstates'/>"
    hint = "<no-store xmlns='urn:xmpp:hints'/>"
    replace = "<replace xmlns='urn:xmpp:message-correct:0' id='u-1'/>"
    shown = {"who": "bot", "xml": False}
    assert heard(state.format("composing") + hint) == {**shown, "text": "", "state": "composing"}
    first = heard("<body>Good</body>" + state.format("active"), "u-1")
    assert first == {**shown, "text": "Good", "state": "active", "id": "u-1"}
    corrected = heard(f"<body>Good night</body>{replace}", "u-1.1.1")
    assert corrected == {**shown, "text": "Good night", "replaces": "u-1", "id": "u-1.1.1"}
    received = heard(f"<received xmlns='urn:xmpp:receipts' id='1'/>{state.format('active')}")
    assert received["xml"]


@pytest.mark.parametrize("start", ["x", "-1", "٣", "1e9", ""])
def test_a_start_that_is_not_a_number(client: Client, start: str) -> None:
    status, _, text = client.ask("GET", f"/entries?from={quote(start)}")
    assert (status, text) == (200, "[]")


BAD = ["", "[]", "{", '{"text": 1}', '{"text": ""}', '{"text": "\\u0000"}', "[" * 5000]


@pytest.mark.parametrize("content", BAD)
def test_a_text_that_cannot_be_sent(client: Client, said: list[str], content: str) -> None:
    status, _, _ = client.ask("POST", "/say", content, Content_Type="application/json")
    assert (status, said) == (400, [])


def test_a_text_that_is_too_long(client: Client, said: list[str]) -> None:
    assert client.ask("POST", "/say", None, Content_Length=str(MAX_TEXT_BYTES + 1))[0] == 413
    assert said == []


def test_other_pages_cannot_use_it(client: Client, said: list[str]) -> None:
    assert client.say("hi", Content_Type="text/plain") == 403
    assert client.say("hi", Host="evil.example") == 403
    assert client.ask("GET", "/entries", Host="evil.example")[0] == 403
    assert client.ask("GET", "/nowhere")[0] == 404
    assert said == []


# --- the whole command


class Chat:
    """`demo --chat` as a process."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "bridge", "demo", "--chat", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "60"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if found := re.search(r"on this page: (http://\S+)", line):
                self.client = Client(found[1])
                break

    def wait_entries(self, count: int) -> list[dict[str, Any]]:
        """Ask until there are so many; the time-out of the test is the limit."""
        while len(found := self.client.entries()) < count:
            pass
        return found

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


def test_a_person_writes_to_the_embedded_bot() -> None:
    chat = Chat()
    try:
        assert chat.client.say("hello") == 202
        assert chat.wait_entries(2)[1]["text"] == "Did you say hello?"
        assert chat.client.say("refuse") == 202
        refused = chat.wait_entries(4)[3]
        assert (refused["xml"], "item-not-found" in refused["text"]) == (True, True)
    finally:
        code, errors = chat.stop()
    assert (code, "Traceback" in errors) == (0, False)


async def test_a_person_writes_to_a_service_of_ones_own(nursery: trio.Nursery) -> None:
    async def answer(exchange: Exchange) -> None:
        text = exchange.request.json["text"].upper()
        await exchange.send(response(content=json.dumps({"body": text}).encode()))

    server = await HttpServer.start(nursery, answer)
    chat = await trio.to_thread.run_sync(Chat, "--post-url", f"http://127.0.0.1:{server.port}/bot")
    try:
        assert f"POSTed to http://127.0.0.1:{server.port}/bot." in chat.printed
        await trio.to_thread.run_sync(chat.client.say, "hello")
        entries = await trio.to_thread.run_sync(chat.wait_entries, 2)
        assert entries[1]["text"] == "HELLO"
    finally:
        code, _ = await trio.to_thread.run_sync(chat.stop)
    assert code == 0


MISUSES = [
    (["--chat", "--serve"], "Use either --chat or --serve, not both."),
    (["--post-url", "http://127.0.0.1/"], "--post-url needs --chat."),
    (["--chat", "--post-url", "localhost:8000"], "the URL must begin with http:// or https://"),
]


@pytest.mark.parametrize(("options", "told"), MISUSES)
def test_a_misuse_is_told(options: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["demo", *options])
    assert result.exit_code == 2
    assert told in result.stderr
