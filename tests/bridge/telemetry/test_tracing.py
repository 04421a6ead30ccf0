"""Traces: names that outlive a restart, headers, and spans as a collector gets them."""

import importlib.util
import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from trio.testing import MockClock

from bridge.config.settings import RetrySettings, TracingSettings
from bridge.config.tracing import _PACKAGES, resolve
from bridge.config.value import BadValue
from bridge.daemon.daemon import Daemon
from bridge.telemetry.tracing import Spans, ids_of, open_spans, traceparent
from tests.bridge.daemon.test_daemon import DOMAIN, echo, message
from tests.bridge.daemon.test_supervisor import Stage, log, stage
from tests.bridge.http_server import Exchange, response
from tests.bridge.recorder import Recorder

__all__ = ["log", "stage"]  # fixtures
UID: Final = "msg_1"
HEADER: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


class Kept(SpanExporter):
    """An exporter that keeps what it gets, or hangs until it is `freed`."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.spans: list[ReadableSpan] = []
        self.freed = threading.Event()
        if not hangs:
            self.freed.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.freed.wait(10)
        self.spans += spans
        return SpanExportResult.SUCCESS


# --- names


def test_a_trace_is_called_after_its_stanza_and_always_the_same() -> None:
    assert ids_of(UID) == ids_of(UID)
    assert traceparent(UID, 0xAB) == (
        "traceparent: 00-8239505e3d2f4fc90b9717651342a686-00000000000000ab-00\r\n"
    )
    assert f"{ids_of(UID).trace:032x}" in traceparent(UID, 1)
    assert traceparent(UID, 1, sampled=True).endswith("-01\r\n")


async def test_each_attempt_is_of_one_trace_and_a_span_of_its_own(
    stage: Stage, mock_clock: MockClock
) -> None:
    async def fail_once(exchange: Exchange) -> None:
        if exchange.request.get("webhook-attempt") == "1":
            await exchange.send(response("503 Service Unavailable"))
        else:
            await echo(exchange)

    endpoint = await stage.endpoint(fail_once)
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"), message("m2", "nurse@x"))
        await stage.pass_until(lambda: len(session.stanzas) == 2)
    found: dict[str, list[tuple[str, str]]] = {}
    for one in endpoint.requests:
        match = HEADER.fullmatch(one.get("traceparent") or "")
        assert match is not None
        trace, span, flags = match.groups()
        assert flags == "00"
        uid = one.get("webhook-id")
        assert uid is not None
        assert trace == f"{ids_of(uid).trace:032x}"
        found.setdefault(trace, []).append((span, str(one.get("webhook-attempt"))))
    assert [sorted(attempt for _, attempt in one) for one in found.values()] == [["1", "2"]] * 2
    spans = [span for one in found.values() for span, _ in one]
    assert len(set(spans)) == 4


async def test_every_line_about_a_stanza_has_its_id(stage: Stage, mock_clock: MockClock) -> None:
    async def misbehave(exchange: Exchange) -> None:
        body = exchange.request.json["body"]
        if body == "rejected":
            await exchange.send(response("400 Bad Request"))
        elif body == "forbidden":
            await exchange.send(response("403 Forbidden"))
        elif body == "bad":
            await exchange.send(response(content=b"{"))
        else:
            await echo(exchange)

    endpoint = await stage.endpoint(misbehave)
    async with stage.running_with(stage.component(endpoint), retry=RetrySettings(0, 0)):
        session = await stage.server.attached(DOMAIN)
        for text in ("rejected", "forbidden", "bad", "fine"):
            await session.send(message(text, f"{text}@x"))
        await session.receive(4)
    uids = {one.json["id"]: one.get("webhook-id") for one in endpoint.requests}
    told: dict[str, set[str]] = {}
    for line in stage.log.lines:
        for id, uid in uids.items():
            if line.get("uid") == uid:
                told.setdefault(id, set()).add(line["event"])
            elif line.get("id") == id:
                pytest.fail(f"a line without the id: {line}")
    always = {"accepted", "posted", "ended"}
    assert told == {
        "rejected": {*always, "endpoint rejected a stanza"},
        "forbidden": {*always, "your endpoint refuses the bridge"},
        "bad": {*always, "bad reply"},
        "fine": always,
    }


# --- configuration

HERE: Final = "http://127.0.0.1:4318"
ENVIRONMENT: Final = {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}


@pytest.mark.parametrize(
    ("table", "environment", "expected"),
    [
        (None, {}, None),
        (TracingSettings(HERE), {}, TracingSettings(HERE)),
        (None, ENVIRONMENT, TracingSettings()),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{HERE}/x"}, TracingSettings()),
        (TracingSettings(), ENVIRONMENT, TracingSettings()),
        (None, {**ENVIRONMENT, "OTEL_TRACES_EXPORTER": "none"}, None),
        (TracingSettings(HERE), {"OTEL_SDK_DISABLED": "true"}, None),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
    ],
)
def test_what_is_exported(
    table: TracingSettings | None, environment: Mapping[str, str], expected: TracingSettings | None
) -> None:
    assert resolve(table, environment) == expected


@pytest.mark.parametrize(
    ("table", "problem", "remedy"),
    [
        (
            TracingSettings(),
            "the URL to export spans to is missing",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        (TracingSettings("localhost:4317"), "must begin with http://", "https://example.com"),
        (
            TracingSettings("http://me:hush@h/"),
            "contains credentials",
            "OTEL_EXPORTER_OTLP_HEADERS",
        ),
    ],
)
def test_what_cannot_be_exported(table: TracingSettings, problem: str, remedy: str) -> None:
    with pytest.raises(BadValue, match=problem) as caught:
        resolve(table, {})
    assert remedy in caught.value.remedy
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("package", _PACKAGES)
def test_not_installed_is_a_fault_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = importlib.util.find_spec

    def find_spec(name: str) -> object:
        if name == package:
            raise ModuleNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(BadValue, match="not installed") as caught:
        resolve(TracingSettings(HERE), {})
    assert "pip install 'xmpp-bridge[tracing]'" in caught.value.remedy
    assert resolve(None, {}) is None


def test_it_is_not_imported_unless_it_is_asked_for() -> None:
    import subprocess

    code = (
        "import sys, bridge.cli.main, bridge.daemon.daemon; print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- spans


async def test_a_stanza_is_a_span_and_its_attempts_are_children(
    stage: Stage, mock_clock: MockClock
) -> None:
    async def fail_once(exchange: Exchange) -> None:
        if exchange.request.get("webhook-attempt") == "1":
            await exchange.send(response("503 Service Unavailable"))
        else:
            await echo(exchange)

    endpoint = await stage.endpoint(fail_once)
    kept = Kept()
    await _run_traced(stage, Spans(1.0, kept), endpoint, message("secret-body", "juliet@x/r"))
    first, second, whole = kept.spans
    [uid] = {one.get("webhook-id") for one in endpoint.requests}
    assert uid is not None
    ids = ids_of(uid)
    for one, sent in zip((first, second), endpoint.requests, strict=True):
        context, parent = one.get_span_context(), one.parent
        assert context is not None
        assert parent is not None
        assert (context.trace_id, parent.span_id) == (ids.trace, ids.span)
        line = sent.get("traceparent")
        assert line == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        assert one.kind is SpanKind.CLIENT
        assert one.attributes is not None
        assert one.attributes["url.full"] == str(endpoint.url())
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert dict(first.attributes or {})["error.type"] == "503"
    assert dict(second.attributes or {})["http.request.resend_count"] == 1
    assert dict(second.attributes or {})["http.response.status_code"] == 200
    context = whole.get_span_context()
    assert context is not None
    assert (context.trace_id, context.span_id, whole.parent) == (ids.trace, ids.span, None)
    assert dict(whole.attributes or {}) == {
        "messaging.system": "xmpp",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": DOMAIN,
        "messaging.message.id": uid,
        "xmpp.stanza.kind": "message",
        "xmpp_bridge.failed_attempts": 1,
    }
    assert whole.start_time is not None
    assert whole.end_time is not None
    assert whole.start_time <= whole.end_time
    written = "".join(one.to_json() for one in kept.spans)
    assert "juliet" not in written
    assert "secret-body" not in written
    assert whole.resource.attributes["service.name"] == "xmpp-bridge"


async def _run_traced(stage: Stage, spans: Spans, endpoint: Any, *stanzas: Any) -> None:
    settings = stage.settings = tracing_settings(stage, endpoint)
    async with stage._running(Daemon(settings, read=stage.read, spans=spans)):
        session = await stage.server.attached(DOMAIN)
        await session.send(*stanzas)
        await stage.pass_until(lambda: len(session.stanzas) == len(stanzas))


def tracing_settings(stage: Stage, endpoint: Any) -> Any:
    from bridge.config.settings import Settings

    return Settings((stage.component(endpoint),))


async def test_a_share_of_them(stage: Stage, mock_clock: MockClock) -> None:
    endpoint = await stage.endpoint()
    kept = Kept()
    stanzas = [message(str(n), f"u{n}@x") for n in range(200)]
    await _run_traced(stage, Spans(0.25, kept), endpoint, *stanzas)
    flags = [(one.get("traceparent") or "")[-2:] for one in endpoint.requests]
    assert len(kept.spans) == 2 * flags.count("01")
    assert 20 < flags.count("01") < 90


async def test_an_endpoint_that_is_not_there(stage: Stage, mock_clock: MockClock) -> None:
    async def reset(exchange: Exchange) -> None:
        await exchange.reset()

    endpoint = await stage.endpoint(reset)
    kept = Kept()
    settings = stage.settings = tracing_settings(stage, endpoint)
    async with stage._running(Daemon(settings, spans=Spans(1.0, kept))):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"))
        await stage.pass_until(lambda: len(session.stanzas) == 1 or len(endpoint.requests) > 1)
    assert dict(kept.spans[0].attributes or {})["error.type"] == "ReadError"


async def test_a_collector_that_hangs_holds_nothing_up(stage: Stage, mock_clock: MockClock) -> None:
    endpoint = await stage.endpoint()
    kept = Kept(hangs=True)
    stanzas = [message(str(n), f"u{n}@x") for n in range(50)]
    began = mock_clock.current_time()
    await _run_traced(stage, Spans(1.0, kept), endpoint, *stanzas)
    assert mock_clock.current_time() - began < 3
    kept.freed.set()


class Collector(BaseHTTPRequestHandler):
    """Takes what an exporter sends."""

    requests: Final[list[tuple[str, ExportTraceServiceRequest]]] = []
    status: int = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(type(self).status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.requests.clear()
    Collector.status = 200
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["", "/", "/v1/traces", "/base"])
def test_over_the_wire(collector: str, path: str) -> None:
    spans = open_spans(TracingSettings(collector + path))
    spans.stanza_ended(UID, "message", DOMAIN, 1_700_000_000.0, 0, "expired")
    spans.close()
    [(target, request)] = Collector.requests
    assert target == {"/base": "/base/v1/traces"}.get(path, "/v1/traces")
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert span.trace_id.hex() == f"{ids_of(UID).trace:032x}"
    assert span.start_time_unix_nano == 1_700_000_000 * 10**9
    assert span.name == f"process {DOMAIN}"


def test_the_environment_says_where(collector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "romeo")
    spans = open_spans(TracingSettings())
    spans.post_ended(UID, 1, 1, 5, "http://x/", 200)
    spans.close()
    [(target, request)] = Collector.requests
    assert target == "/v1/traces"
    named = {
        one.key: one.value.string_value for one in request.resource_spans[0].resource.attributes
    }
    assert named["service.name"] == "romeo"


def test_what_fails_is_told_in_our_log(collector: str, log: Recorder) -> None:
    Collector.status = 400
    spans = open_spans(TracingSettings(collector))
    spans.post_ended(UID, 1, 1, 5, "http://x/", 200)
    spans.close()
    lines = log.of("spans are not exported")
    assert lines
    assert all(line["level"] == "warning" for line in lines)
    assert not logging.getLogger("opentelemetry").propagate
