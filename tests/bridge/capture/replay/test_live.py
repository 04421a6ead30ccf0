"""`replay --post-url`: a real endpoint on loopback, there, slow, different, or gone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from tests.bridge.capture.replay.maker import DOMAIN, Script, conversation, message, reply


class Endpoint(ThreadingHTTPServer):
    """Says yes to everything; goes away after `lives` requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.lives = 1_000_000
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((dict(self.headers), request))
        if len(self.server.requests) > self.server.lives:
            self.server.socket.close()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"body": "yes"}')

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, arguments)])


def test_another_endpoint_makes_a_difference(tmp_path: Path, endpoint: Endpoint) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    result = run(path, "--post-url", endpoint.url, "--expect", "--speed", "max")
    assert result.exit_code == 1
    assert [request["id"] for _, request in endpoint.requests] == ["m1", "m2", "m3"]
    assert "sent differently: message error to juliet@localhost/balcony id m2" in result.output
    assert "    +   <body>yes</body>" in result.output
    assert "sent now, not then: message chat" in result.output  # to m3 it had said nothing
    assert "2 differences; 1 stanzas and 3 POSTs match" in result.output


def test_stanzas_are_known_by_the_ids_that_they_had(tmp_path: Path, endpoint: Endpoint) -> None:
    run(conversation().write(tmp_path / "c.xcap"), "--post-url", endpoint.url, "--speed", "10x")
    ids = [headers["webhook-id"] for headers, _ in endpoint.requests]
    assert ids == ["msg_a1", "msg_a2", "msg_a3"]


def test_a_room_that_gives_our_message_back_is_known(tmp_path: Path, endpoint: Endpoint) -> None:
    room, us = "hall@rooms.localhost", f"bot@{DOMAIN}"
    script = Script().open()
    head = f"to='{us}' from='{room}/juliet' type='groupchat' id='g1'"
    script.came(f"<message {head}><body>hi</body></message>")
    changed: dict[str, Any] = {
        "to": us,
        "type": "groupchat",
        "stanza": f"<message {head}><body>hi</body></message>",
    }
    script.posted("msg_a1", "g1", {"body": "yes"}, sender=f"{room}/juliet", **changed)
    ours = "type='groupchat' id='msg_a1-1'><body>yes</body></message>"
    script.sent(f"<message to='{room}' from='{us}' {ours}")
    script.wait(0.5).came(f"<message from='{room}/bot' to='{us}' {ours}").stop()
    path = script.write(tmp_path / "c.xcap")
    result = run(path, "--post-url", endpoint.url, "--expect", "--json")
    assert (result.exit_code, json.loads(result.stdout)["posted"]["message"]) == (0, 1)


def test_an_endpoint_that_goes_away_is_told_of(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.lives = 2
    script = Script().open()
    for number in range(6):
        script.came(message(f"m{number}", sender=f"user{number}@localhost/x"))
    path = script.stop().write(tmp_path / "c.xcap")
    config = tmp_path / "bridge.toml"
    config.write_text(
        f'[component."{DOMAIN}"]\ncomponent_post_url = "{endpoint.url}"\n[retry]\nbudget_s = 0\n'
    )
    result = run(path, "--config", config, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["replies"], found["errors"]) == (1, 2, {"unreachable": 4})
    assert found["sent"]["message"] == 6
    assert "error: endpoint fails  " in result.stderr
    assert "Error: 4 stanzas: the endpoint could not be reached." in result.stderr


PLAIN = {
    "a stanza": message("m1"),
    "several": f"<?xml version='1.0'?>\n{message('m1')}\n{message('m2')}\n",
    "of a client": message("m1").replace("<message", "<message xmlns='jabber:client'"),
    "a client's stream": (
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        f"<stream:features/>{message('m1')}</stream:stream>"
    ),
    "a component's stream": (
        "<stream:stream xmlns='jabber:component:accept' from='bot.localhost' id='x'"
        " xmlns:stream='http://etherx.jabber.org/streams'>"
        f"<handshake/>{message('m1')}</stream:stream>"
    ),
}


@pytest.mark.parametrize("given", PLAIN.values(), ids=PLAIN.keys())
@pytest.mark.parametrize("name", ["message.xml", "-"])
def test_plain_xml_is_replayed(tmp_path: Path, endpoint: Endpoint, given: str, name: str) -> None:
    path = tmp_path / "message.xml"
    path.write_text(given)
    file = "-" if name == "-" else str(path)
    command = ["replay", file, "--post-url", endpoint.url, "--json"]
    result = CliRunner().invoke(main, command, input=given)
    count = given.count("<body>")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["replies"]) == (0, count), result.output
    assert found["sent"]["message"] == count
    request = endpoint.requests[0][1]
    assert (request["body"], request["stanza"]) == ("hi", message("m1"))


def test_captured_speed_is_kept(tmp_path: Path, endpoint: Endpoint) -> None:
    script = Script().open().came(message("m1")).wait(1).came(message("m2")).stop()
    path = script.write(tmp_path / "c.xcap")
    taken = []
    for speed in ("1x", "10x", "max"):
        result = run(path, "--post-url", endpoint.url, "--json", "--speed", speed)
        taken.append(json.loads(result.stdout)["seconds"])
    assert taken[0] > 1
    assert taken[1] < 1
    assert taken[2] < 1
    assert len(endpoint.requests) == 6


def test_answers_that_come_late_are_waited_for(tmp_path: Path, endpoint: Endpoint) -> None:
    script = Script(step_s=0.0001).open()
    for number in range(50):
        script.came(message(f"m{number}")).posted(f"msg_a{number}", f"m{number}", {"body": "yes"})
        script.sent(reply(f"msg_a{number}", "yes"))
    path = script.stop().write(tmp_path / "c.xcap")
    result = run(path, "--post-url", endpoint.url, "--expect", "--speed", "max")
    assert (result.exit_code, "no difference: 50 stanzas and 50 POSTs" in result.output) == (
        0,
        True,
    )
