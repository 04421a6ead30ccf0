"""Whether and where to export spans: `[tracing]`, or the variables of OpenTelemetry."""

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
    """Return the tracing settings from `[tracing]`, or else from the variables of OpenTelemetry;
    None if nothing is to be exported.

    Raises:
        BadValue: if the address is missing, not valid, or holds credentials; or if a package is not
            installed.
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
            remedy = "Remove them, and set OTEL_EXPORTER_OTLP_HEADERS in the environment"
            raise BadValue("the URL contains credentials", remedy)
    elif not named:
        remedy = f'Set endpoint = "http://127.0.0.1:4318", or {_ENDPOINTS[1]} in the environment'
        raise BadValue("the URL to export spans to is missing", remedy)
    if not all(_is_installed(name) for name in _PACKAGES):
        problem = "exporting spans needs OpenTelemetry, which is not installed"
        remedy = "Run: pip install 'xmpp-bridge[tracing]', or remove the URL"
        raise BadValue(problem, remedy)
    return table


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even its parent package is installed
        return False
