"""Liveness and readiness of the daemon, for load balancers, container runtimes and other clients
without a token. A stranger learns which component has which kind of problem, but not where its
server and endpoint are, or what they say.
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
    """A reason why the daemon is not ready. Without `component` it concerns all of them."""

    problem: str
    detail: str
    component: str = ""


class Readiness(Struct, frozen=True):
    """The body of the response to `/readyz`."""

    ready: bool
    reasons: tuple[Reason, ...] = ()
    journal: str = "off"


@frozen
class HealthRoutes:
    """The routes `/healthz` and `/readyz`."""

    view: DaemonView
    probe: JournalProbe | None

    @property
    def routes(self) -> list[Route]:
        return [Route("/healthz", self.healthz), Route("/readyz", self.readyz)]

    async def healthz(self, _: Request) -> Response:
        """Return 200 with `{"status": "alive"}`. Needs no token."""
        return _response({"status": "alive"}, 200)

    async def readyz(self, _: Request) -> Response:
        """Return 200 if the daemon is ready, otherwise 503 with the reasons. Needs no token.

        Ready means that each component is attached, or another node attaches as it, no endpoint
        counts as down, the journal can be written (it is tried at most every 5 s), and the daemon
        is not stopping. `journal` is `ok`,
        `failing`, or `off` if the configuration has none.
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
    """Return the reasons why a component is not ready."""
    reasons = []
    if status.link.state == "refused":
        detail = "the server refuses the component"
        reasons.append(Reason("refused", detail, status.domain))
    elif status.link.state not in ("attached", "standby"):
        reasons.append(Reason("not_attached", "not attached to its server", status.domain))
    if status.endpoint.state != "up":
        reasons.append(Reason("endpoint_down", "the endpoint is down", status.domain))
    return reasons


def _response(value: object, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, _HEADERS, "application/json")
