"""`/metrics`: what it says, to whom; that Prometheus' own linter likes it; and the dashboard."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
from click.testing import CliRunner
from msgspec.structs import replace
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send
from trio.testing import MockClock

from bridge.cli.main import main
from bridge.config.settings import ListenSettings, TcpAddress
from bridge.journal.store import JournalError
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app, routes
from bridge.listener.middleware import RequestLog
from bridge.telemetry.log import logger
from bridge.telemetry.meter import BOUNDS_S, Meter, StreamFault
from tests.bridge.listener.fake_sender import FakeSender
from tests.bridge.listener.page.browser import Browser, bearer, open_browser, token
from tests.bridge.listener.stage import NOW, Actor, Stage, journal_at

BOT: Final = "bot.example"
OTHER: Final = "other.example"
TOKENS: Final = (
    token("prometheus", "watch", components=(BOT, OTHER)),
    token("half", "watch", components=(BOT,)),
    token("sender", "send", "manage", components=(BOT, OTHER)),
)
ROOT: Final = Path(__file__).parents[4]
PROMTOOL: Final = shutil.which("promtool")
DASHBOARD: Final = ROOT / "bridge" / "listener" / "monitor" / "dashboard.json"

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage([Actor(BOT), Actor(OTHER)], journal_at(tmp_path))


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[Browser]:
    async with open_browser(stage, *TOKENS) as opened:
        yield opened


def use(meter: Meter) -> None:
    """Count something of everything."""
    meter.counts.received, meter.counts.posted = 11, 12
    meter.counts.answered_by_bridge, meter.counts.errors_sent, meter.counts.untold = 13, 14, 15
    meter.received.update(message=5, iq=6)
    meter.written.update({b"m": 7, b"i": 8, b"<": 9})
    meter.end("message", "replied")
    meter.end("iq", "taken")
    meter.posts.update({"replied": 3, "timed_out": 2})
    meter.retries = 4
    for seconds in (0.001, 0.2, 0.2, 100.0):
        meter.latency.add(seconds)
    meter.posted_bytes, meter.replied_bytes, meter.replaced = 1000, 2000, 16
    meter.receipts = 17
    meter.deferred, meter.deferred_replies = 25, 26
    meter.streamed["broken"] = 18
    meter.refuse("size")
    meter.streams, meter.attempts_failed = 3, 6
    meter.stops.update({"lost": 1, "fault": 1})
    meter.fault(StreamFault(True, "system-shutdown"))


async def scrape(browser: Browser, name: str = "prometheus", **headers: str) -> str:
    response = await browser.client.get("/metrics", headers={**bearer(name), **headers})
    assert response.status_code == 200
    return response.text


async def samples(browser: Browser, name: str = "prometheus") -> Samples:
    """Give the values by name and labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(await scrape(browser, name)):
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(sorted(one.labels.items()))] = one.value
    return found


def of(component: str, **labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"component": component, **labels}.items()))


# --- who may


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong-0123456789abcdef"}, 401),
        (bearer("sender"), 403),
        (bearer("prometheus"), 200),
    ],
)
async def test_who_may(browser: Browser, headers: dict[str, str], status: int) -> None:
    response = await browser.client.get("/metrics", headers=headers)
    assert response.status_code == status
    assert ("xmpp_bridge" in response.text) == (status == 200)


async def test_a_token_sees_its_own_components_only(browser: Browser, stage: Stage) -> None:
    stage.die(component=OTHER)
    stage.die(component="gone.example")
    text = await scrape(browser, "half")
    assert OTHER not in text
    assert "gone.example" not in text
    assert f'xmpp_bridge_stream_attached{{component="{BOT}"}} 1.0' in text
    text = await scrape(browser)
    assert 'xmpp_bridge_dead_letters{component="gone.example"} 1.0' in text


# --- what


async def test_each_number_is_where_it_belongs(browser: Browser, stage: Stage) -> None:
    actor = stage.actors[0]
    use(actor.meter)
    actor.in_flight, actor.read_bytes, actor.written_bytes = 21, 22, 23
    actor.subscribers, actor.streaming = 24, 26
    stage.actors[1].endpoint = replace(stage.actors[1].endpoint, url="pull:", pollers=25)
    actor.wait("bob@example.org")
    actor.detach()
    actor.fail()
    actor.keep_room("a@muc.example")
    actor.keep_room("b@muc.example", "out", "kicked")
    stage.die()
    found = await samples(browser)
    bot = of(BOT)
    expected: dict[str, dict[tuple[tuple[str, str], ...], float]] = {
        "stanzas_received_total": {of(BOT, kind="message"): 5, of(BOT, kind="iq"): 6},
        "stanzas_sent_total": {of(BOT, kind="message"): 7, of(BOT, kind="iq"): 8},
        "stanzas_ended_total": {
            of(BOT, kind="message", outcome="replied"): 1,
            of(BOT, kind="iq", outcome="taken"): 1,
        },
        "stanzas_refused_total": {of(BOT, limit="size"): 1},
        "own_answers_total": {bot: 13},
        "errors_sent_total": {bot: 14},
        "senders_untold_total": {bot: 15},
        "posts_total": {of(BOT, outcome="replied"): 3, of(BOT, outcome="timed_out"): 2},
        "post_retries_total": {bot: 4},
        "characters_replaced_total": {bot: 16},
        "receipts_sent_total": {bot: 17},
        "replies_promised_total": {bot: 25},
        "deferred_replies_total": {bot: 26},
        "subscribers": {bot: 24, of(OTHER): 0},
        "replies_streaming": {bot: 26, of(OTHER): 0},
        "replies_streamed_total": {of(BOT, outcome="broken"): 18, of(BOT, outcome="whole"): 0},
        "post_duration_seconds_count": {bot: 4},
        "post_duration_seconds_sum": {bot: 100.401},
        "post_duration_seconds_bucket": {
            of(BOT, le="0.005"): 1,
            of(BOT, le="0.1"): 1,
            of(BOT, le="0.25"): 3,
            of(BOT, le="60.0"): 3,
            of(BOT, le="+Inf"): 4,
        },
        "post_sent_bytes_total": {bot: 1000},
        "post_received_bytes_total": {bot: 2000},
        "posts_in_flight": {bot: 21},
        "endpoint_up": {bot: 0, of(OTHER): 1},
        "pollers_idle": {of(OTHER): 25},
        "stream_attached": {bot: 0, of(OTHER): 1},
        "stream_attachments_total": {bot: 3, of(OTHER): 0},
        "stream_reconnects_total": {bot: 2, of(OTHER): 0},
        "stream_attachments_failed_total": {bot: 6},
        "stream_ends_total": {of(BOT, end="lost"): 1, of(BOT, end="closed"): 0},
        "stream_faults_total": {of(BOT, condition="system-shutdown", origin="server"): 1},
        "stream_received_bytes_total": {bot: 22},
        "stream_sent_bytes_total": {bot: 23},
        "stanzas_waiting": {bot: 1},
        "rooms": {
            of(BOT, state="joined"): 1,
            of(BOT, state="out"): 1,
            of(BOT, state="waiting"): 0,
            of(OTHER, state="joined"): 0,
        },
        "journal_up": {(): 1},
        "dead_letters": {bot: 1},
    }
    for name, rows in expected.items():
        for labels, value in rows.items():
            assert found[f"xmpp_bridge_{name}"][labels] == pytest.approx(value), (name, labels)
    assert len(found["xmpp_bridge_post_duration_seconds_bucket"]) == 2 * (len(BOUNDS_S) + 1)
    assert found["process_resident_memory_bytes"][()] > 1e6
    assert "python_info" in found


async def test_requests_are_counted_by_route_and_status(stage: Stage) -> None:
    requests = "xmpp_bridge_listener_requests_total"
    listen = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS)
    access, view = TokenAuth(TOKENS), stage.view
    app = make_app(
        FakeSender(), access, listen, watching=routes(view, access), requests=view.requests
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://listener") as client:
        for stranger in ("a@b", "c@d", "%3Cscript%3E"):
            await client.get(f"/v1/version/{stranger}?secret=1")
            await client.get(f"/nothing/{stranger}")
        await client.get("/v1/stanzas")
        for _ in range(2):
            scraped = await client.get("/metrics", headers=bearer("prometheus"))
        half = await client.get("/metrics", headers=bearer("half"))
    found = {
        (one.labels["route"], one.labels["status"]): one.value
        for family in text_string_to_metric_families(scraped.text)
        for one in family.samples
        if one.name == requests
    }
    assert found == {
        ("/v1/version/{jid}", "401"): 3,
        ("(none)", "404"): 3,
        ("/v1/stanzas", "405"): 1,
        ("/metrics", "200"): 1,
    }
    assert f"{requests}{{" not in half.text, "it counts the requests of others, too"


async def test_a_request_whose_client_left_is_counted_as_such() -> None:
    counts: Counter[tuple[str, int]] = Counter()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async def never() -> Message:
        raise AssertionError

    async def nothing(message: Message) -> None:
        raise AssertionError

    scope: Scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    with trio.CancelScope() as left:
        left.cancel()
        await RequestLog(app, logger(), counts)(scope, never, nothing)
    assert counts == {("(none)", 499): 1}


async def test_the_age_of_the_oldest_is_of_memory_or_of_the_journal(
    browser: Browser, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.listener.monitor.metrics.time.time", lambda: NOW + 100)
    age = "xmpp_bridge_stanzas_oldest_age_seconds"
    assert (await samples(browser))[age] == {of(BOT): 0, of(OTHER): 0}
    stage.actors[0].oldest = NOW + 90
    assert (await samples(browser))[age][of(BOT)] == 10
    stage.revive(stage.die(received=NOW))
    found = await samples(browser)
    assert found[age][of(BOT)] == 100
    assert found["xmpp_bridge_journal_pending_stanzas"] == {of(BOT): 1}
    assert found["xmpp_bridge_journal_pending_bytes"][of(BOT)] > 10


async def test_without_a_journal_there_is_nothing_of_one() -> None:
    stage = Stage([Actor(BOT)])
    async with open_browser(stage, *TOKENS) as browser:
        assert "journal" not in "".join(await samples(browser))


async def test_with_a_journal_that_fails(browser: Browser, stage: Stage) -> None:
    stage.failure = JournalError("disk I/O error")
    found = await samples(browser)
    assert found["xmpp_bridge_journal_up"] == {(): 0}
    assert "xmpp_bridge_journal_pending_stanzas" not in found
    assert found["xmpp_bridge_stream_attached"][of(BOT)] == 1


async def test_the_leases_of_a_node(browser: Browser, stage: Stage) -> None:
    found = await samples(browser)
    assert found["xmpp_bridge_node_leases"] == {of(BOT): 1, of(OTHER): 1}, "it is alone"
    assert found["xmpp_bridge_partitions_owned"] == {of(BOT): 256, of(OTHER): 256}
    stage.actors[0].partitions = 192
    stage.actors[1].stand_by()
    found = await samples(browser)
    assert found["xmpp_bridge_node_leases"] == {of(BOT): 1, of(OTHER): 0}
    assert found["xmpp_bridge_partitions_owned"] == {of(BOT): 192, of(OTHER): 64}


async def test_the_commits_of_the_journal(browser: Browser, stage: Stage) -> None:
    for seconds in (0.0004, 0.003, 0.003, 7.0):
        stage.commits.add(seconds)
    found = await samples(browser)
    commits = "xmpp_bridge_journal_commit_seconds"
    assert (found[f"{commits}_count"], found[f"{commits}_sum"]) == ({(): 4}, {(): 7.0064})
    buckets = {dict(labels)["le"]: count for labels, count in found[f"{commits}_bucket"].items()}
    assert [buckets[bound] for bound in ("0.0005", "0.0025", "0.005", "5.0", "+Inf")] == [
        *(1, 1, 3, 3, 4)
    ]


async def test_with_a_disk_that_hangs(stage: Stage, autojump_clock: MockClock) -> None:
    stage.hangs = True
    async with open_browser(stage, *TOKENS) as browser:
        assert (await samples(browser))["xmpp_bridge_journal_up"] == {(): 0}


async def test_no_label_is_of_a_strangers_making(browser: Browser, stage: Stage) -> None:
    use(stage.actors[0].meter)
    before = {name: set(rows) for name, rows in (await samples(browser)).items()}
    for number in range(50):
        stage.actors[0].wait(f"stranger{number}@example.org", f"id{number}")
        stage.die(from_=f"stranger{number}@example.org", result=f"reason {number}")
    after = {name: set(rows) for name, rows in (await samples(browser)).items()}
    assert {name: rows for name, rows in after.items() if name.startswith("xmpp")} == {
        name: rows for name, rows in before.items() if name.startswith("xmpp")
    } | {
        f"xmpp_bridge_{name}": {of(BOT)}
        for name in (
            "journal_pending_stanzas",
            "journal_pending_bytes",
            "journal_unconfirmed_replies",
            "dead_letters",
        )
    }


# --- forms


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics"),
        ("application/openmetrics-text", "application/openmetrics"),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain"),
        ("application/openmetrics-text; version=no", "application/openmetrics"),
        ("text/plain; version=9.9.x", "text/plain"),
        (";;;=,,", "text/plain"),
    ],
)
async def test_the_form_is_as_asked_for(
    browser: Browser, stage: Stage, accept: str, media: str
) -> None:
    use(stage.actors[0].meter)
    headers = {**bearer("prometheus"), "Accept": accept}
    response = await browser.client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media)
    assert response.headers["cache-control"] == "no-store"
    if media.startswith("application"):
        families = openmetrics.text_string_to_metric_families(response.text)  # type: ignore[no-untyped-call]  # it has no types
        assert "xmpp_bridge_posts" in {one.name for one in families}


@pytest.mark.promtool
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
async def test_promtool_finds_nothing(browser: Browser, stage: Stage) -> None:
    use(stage.actors[0].meter)
    stage.die()
    stage.requests["/metrics", 200] += 1
    text = await scrape(browser)
    assert linted(text) == (0, "", "")
    bad = text.replace("xmpp_bridge_posts_total", "xmpp_bridge_posts")
    assert linted(bad)[0] == 3


def linted(text: str) -> tuple[int, str, str]:
    command = [str(PROMTOOL), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


# --- what it costs


def test_nothing_of_it_is_imported_without_a_listener() -> None:
    code = "import sys, bridge.cli.main, bridge.daemon.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "bridge.telemetry.meter" in loaded
    assert not {one for one in loaded if one.startswith(("prometheus_client", "starlette"))}
    assert not {one for one in loaded if one.startswith("bridge.listener.")}


# --- the dashboard


def queries(value: Any) -> Iterator[str]:
    """Give all queries of a dashboard: of its panels, and of its variables."""
    match value:
        case dict():
            if isinstance(value.get("expr"), str):
                yield value["expr"]
            if value.get("type") == "query" and isinstance(value.get("query"), str):
                yield value["query"]
            for one in value.values():
                yield from queries(one)
        case list():
            for one in value:
                yield from queries(one)


_WORDS: Final = {"sum", "by", "rate", "increase", "histogram_quantile", "label_values", "le"} | {
    "and",
    "on",
}
_SCRAPED: Final = frozenset({"job", "instance"})  # by Prometheus itself


def faults(query: str, known: Samples) -> list[str]:
    """Give what a query names that there is not."""
    bare = re.sub(r'"[^"]*"', '""', query)
    labels = {
        name: {label for row in rows for label, _ in row} | _SCRAPED for name, rows in known.items()
    }
    found = re.findall(r"[a-z_]\w+", re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare))
    names = [one for one in found if one.startswith(("xmpp_", "process_", "python_"))]
    unknown = [f"no metric {name}" for name in names if name not in known]
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", bare):
        for label in re.findall(r"(\w+)\s*[=!]~?", matchers):
            if label not in labels.get(name, ()):
                unknown.append(f"{name} has no label {label}")
    used = {label for name in names for label in labels.get(name, ())}
    for group in re.findall(r"by \(([^)]*)\)", bare):
        unknown += [f"no label {one}" for one in re.findall(r"\w+", group) if one not in used]
    if (asked := re.search(r"label_values\([^,]*, (\w+)\)", bare)) and asked[1] not in used:
        unknown.append(f"no label {asked[1]}")
    others = {one for one in found if one not in names} - _WORDS - used
    return [*unknown, *(f"what is {one}?" for one in sorted(others))] if names else ["no metric"]


async def test_the_dashboard_names_only_what_there_is(browser: Browser, stage: Stage) -> None:
    use(stage.actors[0].meter)
    stage.actors[0].endpoint = replace(stage.actors[0].endpoint, pollers=0)
    stage.die()
    stage.requests["/metrics", 200] += 1
    known = await samples(browser)
    asked = list(queries(json.loads(DASHBOARD.read_text())))
    assert len(asked) > 30
    assert {one: faults(one, known) for one in asked if faults(one, known)} == {}
    shown = "\n".join(asked)
    counted = {name for name in known if name.startswith("xmpp_") and not name.endswith("_info")}
    unseen = {one for one in counted if one not in shown} - {"xmpp_bridge_stream_attachments_total"}
    assert not unseen, "what is counted is shown"


@pytest.mark.parametrize(
    "query",
    [
        "rate(xmpp_bridge_post_total[5m])",
        'xmpp_bridge_posts_total{kind="iq"}',
        "sum by (limit) (xmpp_bridge_posts_total)",
        "label_values(xmpp_bridge_posts_total, kind)",
        "rates(xmpp_bridge_posts_total)",
        "1 + 1",
    ],
)
async def test_a_query_that_is_wrong_is_found(browser: Browser, query: str) -> None:
    assert faults(query, await samples(browser))


async def test_its_legends_name_labels_that_there_are(browser: Browser, stage: Stage) -> None:
    use(stage.actors[0].meter)
    stage.actors[0].endpoint = replace(stage.actors[0].endpoint, pollers=0)
    stage.die()
    stage.requests["/metrics", 200] += 1
    known = await samples(browser)
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            names = re.findall(r"(?:xmpp|process)_\w+", target["expr"])
            labels = {label for name in names for row in known[name] for label, _ in row}
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= labels | _SCRAPED, panel["title"]


def panel_expressions() -> list[tuple[str, str]]:
    """Give each expression of the panels, with the title of its panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(one["title"], target["expr"]) for one in panels for target in one.get("targets", ())]


@pytest.mark.parametrize(("title", "expression"), panel_expressions())
def test_each_variable_filters_each_panel(title: str, expression: str) -> None:
    """Of every metric in it, only series of the chosen jobs and components are left."""
    for match in re.finditer(r"((?:xmpp_bridge|process)_\w+)(\{[^}]*\})?", expression):
        assert 'job=~"$job"' in (match[2] or ""), match[0]
        rest = expression[match.end() :]
        by_daemon = re.match(
            r"(?:\[\$__rate_interval\]\))? and on \(job, instance\) "
            r'xmpp_bridge_stream_attached\{job=~"\$job", component=~"\$component"\}',
            rest,
        )
        assert by_daemon or 'component=~"$component"' in match[2], match[0]


@pytest.mark.promtool
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_prometheus_takes_each_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel_{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(panel_expressions())
    ]
    file = tmp_path / "rules.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    command = [str(PROMTOOL), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_it_can_be_printed() -> None:
    result = CliRunner().invoke(main, ["print-dashboard"])
    assert result.exit_code == 0
    assert result.stdout == DASHBOARD.read_text()
