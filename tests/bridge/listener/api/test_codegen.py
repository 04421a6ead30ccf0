"""Code generators take the description: openapi-python-client, whose client then sends through a
real server, and openapi-typescript, whose types a TypeScript compiler checks.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from bridge.config.settings import Count, ListenSettings, TcpAddress
from bridge.listener.api.openapi.document import document
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from tests.bridge.listener.conftest import TOKENS
from tests.bridge.listener.fake_sender import BOT, FakeSender
from tests.bridge.listener.server.serving import serving
from tests.bridge.sample import stanza

PACKAGE: Final = "generated_xmpp_bridge_client"
JULIET: Final = "juliet@capulet.example"
Load = Callable[[str], ModuleType]

CONFIG: Final = """\
post_hooks: []
content_type_overrides:
  text/plain: application/octet-stream
  application/openmetrics-text: application/octet-stream
"""
"""The generator knows no text but JSON; with these lines it takes text as bytes."""
WARNING: Final = re.compile(r"^WARNING parsing .*|^Unable to .*|^Failure to .*", re.MULTILINE)
XML_IS_LEFT_OUT: Final = "Unsupported content type application/xmpp+xml"


def run(*words: str | Path) -> str:
    """Run a command and return what it says. Fail with that if the command fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole description, in a file."""
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_bytes(document(["/metrics", "/healthz", "/readyz"]))
    return path


# --- Python


@pytest.fixture(scope="module")
def load(described: Path) -> Iterator[Load]:
    """Generate a client, and give a function that imports its modules. Nothing may be left out but
    bodies of XML.
    """
    place = described.parent
    (place / "config.yml").write_text(CONFIG)
    tool = Path(sys.executable).with_name("openapi-python-client")
    output = ("--output-path", place / PACKAGE, "--meta", "none", "--config", place / "config.yml")
    said = run(tool, "generate", "--path", described, *output)
    assert len(WARNING.findall(said)) == said.count(XML_IS_LEFT_OUT) == 5, said
    sys.path.insert(0, str(place))
    try:
        yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    finally:
        sys.path.remove(str(place))
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def sender() -> FakeSender:
    sender = FakeSender(BOT)
    sender.answer = stanza(f"<iq type='result' id='x' from='{JULIET}' to='{BOT}'/>")
    return sender


@pytest.fixture(scope="module")
def client(load: Load, sender: FakeSender) -> Iterator[Any]:
    """A generated client of a real server."""
    listen = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS, "example.org", Count(10_000))
    with serving(make_app(sender, TokenAuth(TOKENS), listen)) as url:
        token = "one-0123456789abcdef"
        with load("client").AuthenticatedClient(base_url=url, token=token) as client:
            yield client


def test_every_operation_is_a_function(load: Load) -> None:
    functions = {
        "send": ("send_stanzas", "send_text"),
        "query": ("query_disco", "query_items", "query_ping", "query_version"),
        "prosody": ("get_rest", "post_msg", "post_rest", "post_rest_echo", "post_rest_to"),
        "events": ("poll_events", "answer_event", "extend_event"),
        "monitoring": ("get_description", "get_health", "get_metrics", "get_readiness"),
    }
    for tag, names in functions.items():
        for name in names:
            assert callable(load(f"api.{tag}.{name}").sync_detailed)


def test_a_generated_client_sends(load: Load, client: Any, sender: FakeSender) -> None:
    models, send = load("models"), load("api.send.send_stanzas").sync
    cat = models.StanzaFile(url="https://a.example/cat.png")
    one = models.Stanza(to=JULIET, body="hi", id="own")
    two = models.Stanza(to=JULIET, files=[cat])
    accepted = send(client=client, body=one, idempotency_key="k")
    assert isinstance(accepted, models.Accepted)
    assert accepted.id == "own"
    several = send(client=client, body=[one, two])
    assert [type(each) for each in several] == [models.Accepted] * 2
    assert len(sender.sent) == 3
    refused = send(client=client, body=[one, models.Stanza(to=JULIET)])
    assert isinstance(refused, models.Problem)
    assert refused.detail.startswith("object 2: there is nothing to send")


def test_a_generated_client_asks(load: Load, client: Any) -> None:
    pong = load("api.query.query_ping").sync(JULIET, client=client)
    assert isinstance(pong, load("models").Ping)
    assert pong.jid == JULIET


# --- TypeScript


def _node_binary(name: str) -> str | None:
    """Return a command of a package that NODE_PATH has, or that is installed."""
    places = [f"{place}/.bin" for place in os.environ.get("NODE_PATH", "").split(os.pathsep)]
    return shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))


TYPESCRIPT: Final = """\
import type { components, operations, webhooks } from "./openapi";

type Stanza = components["schemas"]["Stanza"];
const picture: Stanza = { to: "a@b", files: [{ url: "https://a.example/cat.png" }] };
const bodies: operations["sendStanzas"]["requestBody"]["content"]["application/json"][] = [
  picture,
  [picture, { to: "a@b", reactions: ["👍"] }],
];

type Posted = webhooks["stanza"]["post"]["requestBody"]["content"]["application/json"];
type Reply = webhooks["stanza"]["post"]["responses"][200]["content"]["application/json"];
export function answer(posted: Posted, id: Posted["uid"]): Reply {
  if (posted.event !== "message") return null;
  return { body: posted.text ?? "", reply: true, to: posted.from };
}
// @ts-expect-error: no such key
const wrong: Stanza = { boddy: "x" };
// @ts-expect-error: no such state
const shout: Stanza = { to: "a@b", state: "shouting" };
export default [bodies, wrong, shout];
"""


@pytest.mark.openapi_typescript
def test_typescript_knows_what_is_sent_and_posted(described: Path) -> None:
    generator, compiler = _node_binary("openapi-typescript"), _node_binary("tsc")
    if generator is None or compiler is None:
        pytest.skip("openapi-typescript or typescript is not installed from npm")
    place = described.parent
    run(generator, described, "--output", place / "openapi.d.ts")
    (place / "bot.ts").write_text(TYPESCRIPT)
    run(compiler, "--noEmit", "--strict", "--target", "es2022", place / "bot.ts")
