"""The watching half of the listener: metrics, health, and the status page."""

from starlette.routing import BaseRoute

from bridge.listener.auth import Access
from bridge.listener.monitor.health import HealthRoutes
from bridge.listener.monitor.metrics import MetricsRoutes
from bridge.listener.monitor.view import Probe, View
from bridge.listener.page.page import PageRoutes
from bridge.listener.page.session import Sessions


def routes(view: View, access: Access) -> list[BaseRoute]:
    """Give the routes to watch a daemon by. To be called within trio; `view.run` is to run while
    they are served, so that the page has its last hour.
    """
    probe = None if view.query is None else Probe(view.query)
    return [
        *MetricsRoutes(view, access).routes,
        *HealthRoutes(view, probe).routes,
        *PageRoutes(view, Sessions(access)).routes,
    ]
