"""Whether the daemon is alive, and whether it is ready: for load balancers, container runtimes and
whoever else asks without a token. A stranger learns which component has which kind of trouble, and
nothing of where its server and endpoint are, nor of what they say.
"""

import msgspec
from attrs import frozen
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.daemon.status import ComponentStatus
from bridge.listener.monitor.view import DaemonView, JournalProbe

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Reason(Struct, frozen=True, omit_defaults=True):
    """Why it is not ready; without `component` it is for all of them."""

    problem: str
    detail: str
    component: str = ""


class Readiness(Struct, frozen=True):
    """The answer of `/readyz`."""

    ready: bool
    reasons: tuple[Reason, ...] = ()
    journal: str = "off"


@frozen
class HealthRoutes:
    """`/healthz` and `/readyz`."""

    view: DaemonView
    probe: JournalProbe | None

    @property
    def routes(self) -> list[Route]:
        return [Route("/healthz", self.healthz), Route("/readyz", self.readyz)]

    async def healthz(self, _: Request) -> Response:
        """Tell that the daemon is alive: 200 with `{"status": "alive"}`. No token."""
        return _response({"status": "alive"}, 200)

    async def readyz(self, _: Request) -> Response:
        """Tell whether all is ready: 200, or 503 with the reasons. No token.

        Ready is: each component is attached, no endpoint is plainly down, the journal can be
        written (it is tried, every 5 s at most), and the daemon does not stop. `journal` is
        `ok`, `failing`, or `off` where the configuration has none.
        """
        reasons = [one for snapshot in self.view.snapshots() for one in reasons_of(snapshot.status)]
        journal = "off"
        if self.probe is not None:
            journal = "ok" if await self.probe.works() else "failing"
        if journal == "failing":
            reasons.append(Reason("journal_failing", "the journal cannot be written"))
        if self.view.stopping():
            reasons.append(Reason("stopping", "the daemon is stopping"))
        ready = Readiness(not reasons, tuple(reasons), journal)
        return _response(ready, 200 if ready.ready else 503)


def reasons_of(status: ComponentStatus) -> list[Reason]:
    """Say what of a component is not ready."""
    reasons = []
    if status.link.state == "refused":
        detail = "the server refuses the component"
        reasons.append(Reason("refused", detail, status.domain))
    elif status.link.state != "attached":
        reasons.append(Reason("not_attached", "it is not attached to its server", status.domain))
    if status.endpoint.state != "up":
        reasons.append(Reason("endpoint_down", "its endpoint does not answer", status.domain))
    return reasons


def _response(value: object, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, _HEADERS, "application/json")
