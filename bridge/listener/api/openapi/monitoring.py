"""The operations for metrics, health, and the description itself."""

from typing import Final

from bridge.listener.api.openapi.operation import WHY, content, problem, ref
from bridge.listener.api.openapi.schema import TEXTS, Table, object_schema
from bridge.listener.api.stanza import JSON

_REASON: Final = object_schema(["problem", "detail"], problem=TEXTS, detail=TEXTS, component=TEXTS)
SCHEMAS: Final[Table] = {
    "Health": object_schema(["status"], status={"const": "alive"}),
    "Readiness": object_schema(
        ["ready", "reasons", "journal"],
        ready={"type": "boolean"},
        reasons={"type": "array", "items": _REASON},
        journal={"enum": ["ok", "failing", "off"]},
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    text = {"type": "string"}
    media = {"text/plain": text, "application/openmetrics-text": text}
    refused = {str(status): problem(WHY[status]) for status in (401, 403)}
    alive = content("The daemon is alive", {JSON: ref("Health")})
    ready = {JSON: ref("Readiness")}
    description = {"200": content("This document", {JSON: {"type": "object"}})}
    return {
        "/v1/openapi.json": {
            "get": {
                "operationId": "getDescription",
                "tags": ["monitoring"],
                "summary": "This document",
                "security": [],
                "responses": description,
            }
        },
        "/metrics": {
            "get": {
                "operationId": "getMetrics",
                "tags": ["monitoring"],
                "summary": "Metrics for Prometheus (scope watch)",
                "responses": {"200": content("Metrics", media), **refused},
            }
        },
        "/healthz": {
            "get": {
                "operationId": "getHealth",
                "tags": ["monitoring"],
                "summary": "Whether the daemon is alive",
                "security": [],
                "responses": {"200": alive},
            }
        },
        "/readyz": {
            "get": {
                "operationId": "getReadiness",
                "tags": ["monitoring"],
                "summary": "Whether the daemon is ready",
                "security": [],
                "responses": {
                    "200": content("It is ready", ready),
                    "503": content("It is not ready", ready),
                },
            }
        },
    }
