"""The state of the components, as parts of the page: the problems, and a card for each."""

from collections.abc import Iterable
from typing import Final

from markupsafe import Markup

from bridge.daemon.status import ComponentSnapshot, ComponentStatus, RoomStatus
from bridge.dispatch.conversation import Conversation, Phase
from bridge.journal.request import Holding, NodeStatus
from bridge.listener.page.chart import charts
from bridge.listener.page.html import Child, ago, card, facts, join, nothing, parties, pill, tag
from bridge.listener.page.snapshot import PageSnapshot
from bridge.telemetry.log import RecentError
from bridge.telemetry.text import age, size, when
from bridge.xmpp.link import SHARED, SHARED_REMEDY

_ROOMS: Final = 20
ERRORS: Final = 5
"""The number of recent errors on the page; another page has all of them."""


def summary(page: PageSnapshot) -> Markup:
    """Return the problems, or that there are none."""
    problems = problems_of(page)
    up = f"Up for {age(page.now - page.started)}"
    if not problems:
        return _part(
            "summary", tag("p", pill("good", "No problems"), " ", tag("span", up, class_="dim"))
        )
    count = f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}"
    rows = [tag("li", text, class_=kind) for kind, text in problems]
    worst = "bad" if any(kind == "bad" for kind, _ in problems) else "warn"
    top = tag("p", pill(worst, count), " ", tag("span", up, class_="dim"))
    return _part("summary", top, tag("ul", rows, class_="problems"))


def problems_of(page: PageSnapshot) -> list[tuple[str, str]]:
    """Return each problem as a kind, `bad` or `warn`, and a sentence."""
    problems: list[tuple[str, str]] = []
    if page.stopping:
        problems.append(("warn", "The daemon is stopping."))
    if page.failure is not None:
        problems.append(("bad", f"The journal fails: {page.failure}."))
    for snapshot in page.snapshots:
        status = snapshot.status
        link = status.link
        if link.state not in ("attached", "standby"):
            why = f": {link.why}" if link.why else ""
            problems.append(("bad", f"{status.domain} is not attached to {link.server}{why}."))
        if link.shared is not None:
            last = f"last noticed {age(page.now - link.shared)} ago"
            problems.append(("bad", f"{status.domain}: {SHARED}: {SHARED_REMEDY} ({last})."))
        if status.endpoint.state != "up":
            pulled = status.endpoint.pollers is not None
            text = (
                f"Nobody polls for {status.domain}"
                if pulled
                else f"The endpoint of {status.domain} is down: {status.endpoint.url}"
            )
            problems.append(("bad", text))
        out = [one for one in status.rooms if one.state == "out"]
        problems += [("warn", f"{one.local} stays out of {one.jid}: {one.why}.") for one in out]
    problems += _problems_of_nodes(page)
    if page.dead:
        noun = "dead letter waits" if page.dead == 1 else "dead letters wait"
        problems.append(("warn", f"{page.dead:,} {noun} for a decision."))
    return problems


def _problems_of_nodes(page: PageSnapshot) -> list[tuple[str, str]]:
    if not page.nodes:
        return []
    attached_by = {name for one in page.nodes for name in one.gateways if one.is_live}
    own = (one.status.domain for one in page.snapshots)
    problems = [("bad", f"No node attaches as {name}.") for name in own if name not in attached_by]
    problems += [
        ("warn", f"The node {one.label} has another configuration.")
        for one in page.nodes
        if one.differs and one.is_live
    ]
    return problems


def nodes(page: PageSnapshot) -> Markup | None:
    """Return the nodes that share the journal; None if it is this daemon's own."""
    if not page.nodes:
        return None
    rows = [_node(one) for one in page.nodes]
    return card("nodes", "Nodes", len(rows), tag("ul", rows, class_="rows"))


def _node(node: NodeStatus) -> Markup:
    kind, state = ("good", "") if node.is_live else ("bad", "gone; others take over. ")
    attaches = f"attaches as {', '.join(node.gateways)}" if node.gateways else "stand-by"
    noun = "partition" if node.partitions == 1 else "partitions"
    this = " (this one)" if node.is_self else ""
    return tag(
        "li",
        tag("div", tag("i", class_=f"dot {kind}"), f"{node.label}{this}", class_="who"),
        tag("div", f"{state}{attaches}, {node.partitions:,} {noun}", class_="dim"),
        tag("div", node.version, class_="age"),
    )


def jumps(page: PageSnapshot) -> Markup:
    """Return the links to the parts, for screens on which they stand far below each other."""
    links = (
        ("components", "Components", None),
        ("letters", "Dead letters", page.dead),
        ("waiting", "Waiting", page.waiting.count),
        ("errors", "Errors", len(page.incidents)),
    )
    shown = [
        tag(
            "a",
            label,
            None if count is None else (" ", tag("span", f"{count:,}", class_="dim")),
            href=f"#{name}",
        )
        for name, label, count in links
    ]
    return tag("nav", shown, class_="jumps", id="jumps", data_part="jumps", aria_label="Parts")


def components(page: PageSnapshot) -> Markup:
    """Return a card for each component."""
    cards = [_card(page, one) for one in page.snapshots]
    if not cards:
        cards = [tag("p", "This token sees no component. Check it in [listen].", class_="dim")]
    return _part("components", *cards)


def _card(page: PageSnapshot, snapshot: ComponentSnapshot) -> Markup:
    status = snapshot.status
    head = tag(
        "div",
        tag("h2", status.domain),
        tag("div", _link_pill(page, status), _endpoint_pill(status), class_="pills"),
        class_="head",
    )
    places = tag("p", f"{status.link.server} → {status.endpoint.url}", class_="dim place")
    kept = None if page.kept is None else page.kept.get(status.domain, Holding())
    return tag(
        "article",
        head,
        places,
        _numbers(page, snapshot, kept),
        _rooms(page, status),
        charts(page.minutes[status.domain], page.now - page.started),
        _totals(snapshot),
        class_="card",
    )


def _link_pill(page: PageSnapshot, status: ComponentStatus) -> Markup:
    link = status.link
    match link.state:
        case "attached":
            since = "" if link.since is None else f" for {age(page.now - link.since)}"
            return pill("good", f"attached{since}")
        case "attaching":
            return pill("warn", "attaching")
        case "standby":
            return pill("good", "stand-by: another node attaches")
        case "waiting":
            return pill("bad", "not attached")
    return pill("bad", "refused by the server")


def _endpoint_pill(status: ComponentStatus) -> Markup:
    endpoint = status.endpoint
    if endpoint.pollers:
        return pill("good", f"{endpoint.pollers:,} polling")
    if endpoint.state != "up":
        return pill("bad", "nobody polls" if endpoint.pollers is not None else "endpoint down")
    return pill("good", "endpoint up")


def _numbers(page: PageSnapshot, snapshot: ComponentSnapshot, kept: Holding | None) -> Markup:
    status = snapshot.status
    olds = [one for one in (snapshot.oldest, kept.oldest if kept else None) if one is not None]
    pairs = [("in flight", f"{status.in_flight:,}"), ("waiting", f"{status.waiting:,}")]
    if kept is not None:
        pairs.append(("in journal", f"{kept.pending:,}"))
    pairs.append(("oldest", age(page.now - min(olds)) if olds else "—"))
    if kept is not None:
        pairs.append(("dead letters", f"{kept.dead:,}"))
    tiles = [tag("div", tag("dd", value), tag("dt", name)) for name, value in pairs]
    return tag("dl", tiles, class_="numbers")


def _rooms(page: PageSnapshot, status: ComponentStatus) -> Markup | None:
    """Return the rooms: how many are joined, and those that are not, with the reason."""
    if not status.rooms:
        return None
    others = [one for one in status.rooms if one.state != "joined" or one.why]
    joined = sum(one.state == "joined" for one in status.rooms)
    people = sum(one.occupants for one in status.rooms if one.state == "joined")
    text = f"{joined:,} of {len(status.rooms):,} joined, {people:,} occupants"
    rows = [_room(page, one) for one in others[:_ROOMS]]
    more = len(others) - len(rows)
    return tag(
        "div",
        tag("h3", "Rooms"),
        tag("p", text, class_="dim"),
        tag("ul", rows, class_="rows") if rows else None,
        tag("p", f"… and {more:,} more.", class_="dim") if more > 0 else None,
        class_="rooms",
    )


def _room(page: PageSnapshot, room: RoomStatus) -> Markup:
    kind = "bad" if room.state == "out" else "warn"
    state = {"out": "stays out", "joined": "joined"}.get(room.state, room.state)
    if room.next_attempt is not None:
        state = f"next attempt in {age(max(room.next_attempt - page.now, 0))}"
    why = f"{state}: {room.why}" if room.why else state
    since = None if room.since is None else ago(page.now - room.since)
    return tag(
        "li",
        tag("div", tag("i", class_=f"dot {kind}"), parties(room.local, room.jid, ""), class_="who"),
        tag("div", why, class_="dim"),
        tag("div", since or "", class_="age"),
    )


# --- totals


def _totals(snapshot: ComponentSnapshot) -> Markup:
    counts, meter = snapshot.status.counts, snapshot.meter
    pairs = [
        ("received", f"{counts.received:,}"),
        ("POSTed", f"{counts.posted:,} ({meter.retries:,} retries)"),
        ("replies", f"{counts.replied:,}"),
        ("answered by the bridge", f"{counts.answered_by_bridge:,}"),
        ("errors sent", f"{counts.errors_sent:,}"),
        ("senders not told", f"{counts.untold:,}"),
        ("refused", f"{sum(meter.refused.values()):,}"),
        ("reconnects", f"{max(meter.streams - 1, 0):,}"),
        ("stream", f"{size(snapshot.read_bytes)} in, {size(snapshot.written_bytes)} out"),
    ]
    return tag("div", tag("h3", "Since the start"), facts(*pairs), class_="totals")


def _part(name: str, *body: Markup) -> Markup:
    return tag("section", *body, class_=name, id=name, data_part=name)


def conversations(page: PageSnapshot) -> Markup:
    """Return the conversations that wait, the longest wait first."""
    waiting = page.waiting
    rows = [_conversation(page, domain, one) for domain, one in waiting.longest]
    shown: Child = tag("ul", rows, class_="rows") if rows else nothing("No conversation waits.")
    if waiting.count > len(rows):
        more = f"… and {waiting.count - len(rows):,} more."
        shown = join(shown, tag("p", more, class_="dim"))
    return card("waiting", "Waiting conversations", waiting.count, shown)


def _conversation(page: PageSnapshot, domain: str, one: Conversation) -> Markup:
    head = one.head
    count = len(one)
    noun = "stanza" if count == 1 else "stanzas"
    state = _state(page, one)
    tries = len(head.attempts)
    if tries:
        state += f", after {tries} {'attempt' if tries == 1 else 'attempts'}"
    return tag(
        "li",
        tag("div", parties(head.stanza.from_, head.stanza.to, domain), class_="who"),
        tag("div", f"{count:,} {noun}, {state}", class_="dim"),
        tag("div", ago(page.now - head.received), class_="age", title=when(head.received)),
    )


def _state(page: PageSnapshot, one: Conversation) -> str:
    match one.phase:
        case Phase.WAITING:
            return f"next attempt in {age(max(one.due - page.clock, 0))}"
        case Phase.AT_WORK:
            return "the first is being POSTed"
    return "waiting for their turn" if len(one) > 1 else "waiting for its turn"


def incidents(page: PageSnapshot) -> Markup:
    """Return the latest errors, the last one first, with a link to the rest."""
    some = page.incidents[:ERRORS]
    shown: Child = _incidents(page, some) if some else nothing("No recent errors.")
    if len(page.incidents) > len(some):
        rest = tag("a", f"All {len(page.incidents)} recent errors", href="errors")
        shown = join(shown, tag("p", rest, class_="pager"))
    return card("errors", "Recent errors", None, shown)


def all_incidents(page: PageSnapshot) -> Markup:
    """Return all recent errors, the last one first."""
    shown = _incidents(page, page.incidents) if page.incidents else nothing("No recent errors.")
    text = f"The last warnings and errors of the log, at {when(page.now)}."
    back = tag("a", "← status page", href="./#errors")
    parts = (tag("p", text, class_="dim"), shown, tag("p", back, class_="pager"))
    return card("errors", "Recent errors", len(page.incidents), *parts)


def _incidents(page: PageSnapshot, some: Iterable[RecentError]) -> Markup:
    return tag("ul", [_incident(page, one) for one in some], class_="rows")


def _incident(page: PageSnapshot, one: RecentError) -> Markup:
    kind = "warn" if one.level == "warning" else "bad"
    return tag(
        "li",
        tag("div", tag("i", class_=f"dot {kind}", title=one.level), one.sentence, class_="who"),
        tag("div", one.component, class_="dim") if one.component else None,
        tag("div", ago(page.now - one.at), class_="age", title=when(one.at)),
    )
