"""Traces (W3C Trace Context; OpenTelemetry): which POST belongs to which stanza, across systems.

The IDs of the trace and its first span are derived from the stanza's uid. So all attempts belong to
one trace, even across a restart, and nothing has to be stored for it. Each attempt is a span of its
own. Spans are made, and opentelemetry is imported, only if spans are exported. A thread of the SDK
exports them from a bounded queue. Spans that cannot be exported are dropped and logged.

No span holds a body, or more of an address than one of our domains.
"""

import logging
import random
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from attrs import frozen
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import TracingSettings
from bridge.telemetry.log import logger

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.util.types import AttributeValue


_PATH: Final = "/v1/traces"


@frozen
class Ids:
    """The IDs of a stanza's trace and of its first span."""

    trace: int
    span: int


def ids_of(uid: str) -> Ids:
    """Return the IDs of a stanza's trace; they depend only on its uid."""
    digest = blake2b(uid.encode(), digest_size=24).digest()
    return Ids(int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:], "big"))


def fresh_span() -> int:
    """Return a random span ID, never 0."""
    return random.getrandbits(64) or 1


def traceparent(uid: str, span: int, *, sampled: bool = False) -> str:
    """Return the header line that tells an endpoint the trace and span of an attempt."""
    trace = blake2b(uid.encode(), digest_size=24).hexdigest()[:32]
    # `to_bytes` and `hex` take half the time of the format `016x`.
    return f"traceparent: 00-{trace}-{span.to_bytes(8).hex()}-{'01' if sampled else '00'}\r\n"


# --- spans


class Spans:
    """Exports spans. All methods but `close` are called in one thread, and none waits."""

    def __init__(self, ratio: float, exporter: "SpanExporter") -> None:
        """`exporter` is called in a thread of its own."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        from bridge import __version__

        self._below = int(ratio * 2**64)
        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            # Neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES names another one.
            resource = resource.merge(Resource({"service.name": "xmpp-bridge"}))
        self._resource = resource
        self._scope = InstrumentationScope("xmpp-bridge", __version__)
        self._processor = BatchSpanProcessor(exporter)

    def samples(self, uid: str) -> bool:
        """Whether a stanza is traced; the same at each of its attempts."""
        return ids_of(uid).trace % 2**64 < self._below

    def post_ended(
        self,
        uid: str,
        span: int,
        number: int,
        began_ns: int,
        url: str,
        result: int | str,
    ) -> None:
        """Export an attempt, the `number`-th (from 1). `result` is the status or the failure."""
        attributes: dict[str, AttributeValue] = {
            "http.request.method": "POST",
            "url.full": url,
        }
        if number > 1:
            attributes["http.request.resend_count"] = number - 1
        failed = ""
        if isinstance(result, int):
            attributes["http.response.status_code"] = result
            failed = str(result) if result >= 400 else ""
        else:
            failed = result
        ids = ids_of(uid)
        self._export("POST", ids.trace, span, ids.span, began_ns, attributes, failed, client=True)

    def stanza_ended(
        self, uid: str, kind: str, component: str, received: float, attempts: int, failed: str
    ) -> None:
        """Export a stanza, from `received` (Unix time, s) to now. `failed` is why, or ""."""
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "xmpp",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": component,
            "messaging.message.id": uid,
            "xmpp.stanza.kind": kind,
            "xmpp_bridge.failed_attempts": attempts,
        }
        ids = ids_of(uid)
        began_ns = int(received * 1e9)
        name = f"process {component}"
        self._export(name, ids.trace, ids.span, None, began_ns, attributes, failed, client=False)

    def _export(
        self,
        name: str,
        trace: int,
        span: int,
        parent: int | None,
        began_ns: int,
        attributes: "dict[str, AttributeValue]",
        failed: str,
        *,
        client: bool,
    ) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        if failed:
            attributes["error.type"] = failed
        flags = TraceFlags(TraceFlags.SAMPLED)
        above = None if parent is None else SpanContext(trace, parent, False, flags)
        self._processor.on_end(
            ReadableSpan(
                name,
                context=SpanContext(trace, span, False, flags),
                parent=above,
                resource=self._resource,
                attributes=attributes,
                kind=SpanKind.CLIENT if client else SpanKind.CONSUMER,
                status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
                start_time=began_ns,
                end_time=max(time.time_ns(), began_ns),
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Export the rest. This takes as long as the collector does: call it in a thread."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # untyped in the SDK


def open_spans(tracing: TracingSettings) -> Spans:
    """Start to export; no connection is opened yet."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    _redirect_log(logger())
    endpoint = tracing.endpoint
    if endpoint is not None and not endpoint.rstrip("/").endswith(_PATH):
        endpoint = endpoint.rstrip("/") + _PATH
    return Spans(tracing.ratio, OTLPSpanExporter(endpoint=endpoint))


class _LogHandler(logging.Handler):
    """Forwards OpenTelemetry's warnings to our log, as one event, which is throttled."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning("spans are not exported", why=record.getMessage())


def _redirect_log(log: FilteringBoundLogger) -> None:
    told = logging.getLogger("opentelemetry")
    told.handlers[:] = [_LogHandler(log)]
    told.propagate = False
