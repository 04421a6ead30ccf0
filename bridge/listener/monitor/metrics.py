"""`GET /metrics`: the metrics of `collector` and those of the process, for Prometheus."""

import time
from collections.abc import Collection, Mapping
from typing import Final

from attrs import frozen
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.journal.request import Holding, Holdings, ListTotals
from bridge.journal.store import JournalError
from bridge.listener.auth import TokenAuth
from bridge.listener.monitor.collector import Scrape, ScrapeCollector
from bridge.listener.monitor.view import DaemonView, ask

_OPENMETRICS: Final = "application/openmetrics-text"


@frozen
class MetricsRoutes:
    """The route `/metrics`."""

    view: DaemonView
    access: TokenAuth

    @property
    def routes(self) -> list[Route]:
        return [Route("/metrics", self.metrics)]

    async def metrics(self, request: Request) -> Response:
        """Return all metrics in the text format of Prometheus, or in OpenMetrics if the client asks
        for it (`Accept: application/openmetrics-text`). Needs a token with the scope watch, which
        sees only its own components.
        """
        token = self.access.check(request, "watch")
        accept = request.headers.get("accept", "")
        # The rest of Accept is not passed on: prometheus_client fails on some of it.
        wanted = f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in accept.lower() else ""
        encode, media = choose_encoder(wanted)
        scrape = await scrape_of(self.view, token.components)
        return Response(
            encode(registry_of(scrape)),
            headers={"Cache-Control": "no-store", "Vary": "Accept", "Content-Type": media},
        )


async def scrape_of(view: DaemonView, domains: Collection[str]) -> Scrape:
    """Return the scrape of the components of those domains. The requests of the listener are of all
    tokens, so they are left out if a component is missing.
    """
    snapshots = view.snapshots()
    kept = None if view.answer is None else await _kept(view)
    sees_all = {one.status.domain for one in snapshots} <= set(domains)
    return Scrape(
        tuple(one for one in snapshots if one.status.domain in domains),
        kept and {name: one for name, one in kept.items() if sees_all or name in domains},
        view.answer is not None,
        time.time(),
        dict(view.requests) if sees_all else {},
        view.commits,
    )


async def _kept(view: DaemonView) -> Mapping[str, Holding] | None:
    assert view.answer is not None
    try:
        return (await ask(view.answer, ListTotals(), Holdings)).components
    except JournalError:
        return None


def registry_of(scrape: Scrape) -> CollectorRegistry:
    """Return a registry with the metrics of a scrape and of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ScrapeCollector(scrape))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
