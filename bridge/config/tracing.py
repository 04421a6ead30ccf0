"""Whether spans are exported, and where to: `[tracing]`, or the variables of OpenTelemetry."""

import importlib.util
from collections.abc import Mapping
from typing import Final

from bridge.config.settings import TracingSettings
from bridge.config.value import BadValue, parse_post_url

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def resolve(
    table: TracingSettings | None, environment: Mapping[str, str]
) -> TracingSettings | None:
    """Give what is to be exported and where to, by `[tracing]` or else by the variables of
    OpenTelemetry; None for nothing.

    Raises:
        BadValue: `[tracing]` without an address; or what is needed for it is not installed.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    named = any(environment.get(name) for name in _ENDPOINTS)
    if table is None:
        if not named or environment.get("OTEL_TRACES_EXPORTER") == "none":
            return None
        table = TracingSettings()
    if table.endpoint is not None:
        url = parse_post_url(table.endpoint)
        if url.authorization is not None:
            remedy = "Take them away, and set OTEL_EXPORTER_OTLP_HEADERS"
            raise BadValue("the address holds credentials", remedy)
    elif not named:
        remedy = f'Set endpoint = "http://127.0.0.1:4318", or {_ENDPOINTS[1]} in the environment'
        raise BadValue("there is no address to export spans to", remedy)
    if not all(_is_installed(name) for name in _PACKAGES):
        problem = "spans are to be exported, but OpenTelemetry is not installed"
        remedy = "pip install 'xmpp-bridge[tracing]', or take the address away"
        raise BadValue(problem, remedy)
    return table


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False
