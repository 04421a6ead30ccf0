"""The watching half of the listener: metrics, health, and the status page."""

from starlette.routing import BaseRoute

from bridge.listener.access import Access
from bridge.listener.health import HealthRoutes
from bridge.listener.metrics import MetricsRoutes
from bridge.listener.page import PageRoutes
from bridge.listener.session import Sessions
from bridge.listener.view import Probe, View


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
