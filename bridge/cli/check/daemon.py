"""What a running daemon says about itself and its components."""

import time

from bridge.cli.check.report import Report
from bridge.cli.check.room import report_rooms
from bridge.cli.queue_table import amounts
from bridge.config.settings import Component, Settings
from bridge.daemon.control import AskStatus, ControlError, NobodyListens
from bridge.daemon.control import connect as connect_to_daemon
from bridge.daemon.daemon import ExitCode
from bridge.daemon.status import ComponentStatus, DaemonStatus, EndpointStatus, LinkStatus
from bridge.journal.directory import StateDirectory
from bridge.journal.request import CommandError
from bridge.telemetry.text import age, when
from bridge.xmpp.link import SHARED, SHARED_REMEDY


async def ask_daemon(
    directory: StateDirectory | None, report: Report
) -> tuple[DaemonStatus | None, bool]:
    """Return the status of a running daemon, and False if a daemon runs but does not answer."""
    if directory is None:
        return None, True
    try:
        client = await connect_to_daemon(directory.control_socket)
        try:
            return await client.ask(AskStatus(), DaemonStatus), True
        finally:
            await client.aclose()
    except NobodyListens:
        return None, True
    except (ControlError, CommandError) as error:
        report.bad("", "daemon", f"{error}.")
        return None, False


def report_daemon(daemon: DaemonStatus, settings: Settings, report: Report) -> None:
    details = f"process {daemon.pid}, version {daemon.version}, since {when(daemon.started)}"
    if daemon.stopping:
        report.warn("", "daemon", f"{details}; it is stopping")
    else:
        report.good("", "daemon", details)
    journal = daemon.journal
    if journal.failure is not None or journal.totals is None:
        report.bad("", f"journal {journal.file}", journal.failure or "no answer")
    else:
        kept = amounts(journal.totals, time.time())
        details = f"durability {journal.durability!r}; {kept}"
        report.good("", f"journal {journal.file}", details)
    _report_nodes(daemon, report)
    for domain, kept_of in daemon.orphaned.items():
        details = f"{amounts(kept_of, time.time())}; the daemon has no such component"
        report.warn(domain, "orphaned", f"{details}: configure it again, or see xmpp-bridge queue")
    ours = {one.domain for one in settings.components}
    theirs = {one.domain for one in daemon.components}
    for domain in sorted(ours - theirs):
        report.warn(domain, "configuration", "the daemon has not loaded it yet: send SIGHUP")
    for domain in sorted(theirs - ours):
        report.warn(domain, "configuration", "the daemon has this component, but the file does not")


def _report_nodes(daemon: DaemonStatus, report: Report) -> None:
    for node in daemon.nodes:
        what = f"node {node.label}{' (this one)' if node.is_self else ''}"
        attaches = f"attaches as {', '.join(node.gateways)}" if node.gateways else "stand-by"
        details = f"version {node.version}; {attaches}; {node.partitions} partitions"
        if not node.is_live:
            report.warn("", what, f"gone, others take over; {details}")
        elif node.differs:
            report.warn("", what, f"{details}; its configuration differs from this daemon's")
        else:
            report.good("", what, details)


def report_component(status: ComponentStatus, component: Component, report: Report) -> None:
    domain = component.domain
    for running, ours in (
        (status.link.server, str(component.server)),
        (status.endpoint.url, str(component.post_url)),
    ):
        if running != ours:
            details = f"the daemon uses {running}, the file says {ours}: send SIGHUP"
            report.warn(domain, "configuration", details)
    _report_link(domain, status.link, report)
    _report_endpoint(domain, status.endpoint, report)
    report_rooms(status, report)
    busy = f"{status.in_flight} being POSTed, {status.waiting} waiting in memory"
    kept = status.kept
    if kept is None:
        report.warn(domain, "daemon: queue", busy)
    elif kept.dead:
        details = f"{busy}; {amounts(kept, time.time())}: see xmpp-bridge queue"
        report.warn(domain, "daemon: queue", details)
    else:
        report.good(domain, "daemon: queue", f"{busy}; {amounts(kept, time.time())}")


def _report_link(domain: str, link: LinkStatus, report: Report) -> None:
    what = f"daemon: attached to {link.server}"
    since = "" if link.since is None else f"since {when(link.since)}"
    if link.state == "attached" and link.shared is not None:
        report.warn(domain, what, f"{since}; {SHARED}: {SHARED_REMEDY}")
    elif link.state == "attached":
        report.good(domain, what, since)
    elif link.state == "standby":
        report.good(domain, what, "no: this node is a stand-by, another one attaches")
    elif link.state == "refused":
        report.bad(domain, what, f"no, refused: {link.why}{_next_attempt(link)}", ExitCode.REFUSED)
    else:
        details = f"not attached {since}".rstrip() + (f": {link.why}" if link.why else "")
        report.bad(domain, what, f"{details}{_next_attempt(link)}")


def _next_attempt(link: LinkStatus) -> str:
    if link.next_attempt is None:
        return ""
    return f"; next attempt in {age(link.next_attempt - time.time())}"


def _report_endpoint(domain: str, endpoint: EndpointStatus, report: Report) -> None:
    what = f"daemon: endpoint {endpoint.url}"
    if endpoint.pollers:
        count = endpoint.pollers
        report.good(domain, what, f"{count} request{'s' * (count > 1)} wait{'s' * (count == 1)}")
        return
    if endpoint.pollers is not None and endpoint.state != "up":
        report.bad(domain, what, "nobody polls: start your service, or xmpp-bridge forward")
        return
    if endpoint.state == "up":
        report.good(domain, what, "up, as far as known")
        return
    details = "down"
    if endpoint.state == "probing":
        details += "; a POST is testing it now"
    elif endpoint.next_probe is not None:
        details += f"; the next POST will test it in {age(endpoint.next_probe - time.time())}"
    report.bad(domain, what, details)
