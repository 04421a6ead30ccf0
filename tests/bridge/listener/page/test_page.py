"""The status page: who gets in, what is shown of what strangers say, and what a form may do."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx
import msgspec
import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from bridge.journal.delivery import Attempt
from bridge.journal.request import Forget, Retry
from bridge.journal.store import JournalError
from bridge.listener.page import session as session_module
from bridge.listener.page.session import (
    FAILURE_S,
    FAILURES,
    SESSION_S,
    SESSIONS,
    Guesses,
    TooManyFailures,
)
from bridge.listener.page.snapshot import PAGE
from tests.bridge.journal.shared_store import OURS, SharedStore
from tests.bridge.listener.page.browser import (
    BOT,
    HOST,
    OTHER,
    SAME_ORIGIN,
    TOKENS,
    Browser,
    Page,
    dead,
    open_browser,
    pending,
    secret_of,
    token,
)
from tests.bridge.listener.stage import NOW, Actor, Stage

HOSTILE: Final = "<script>alert('1')</script>\"'&<b>@x/\u202eevil\n"


# --- who gets in


@pytest.mark.parametrize("method", ["get", "head"])
async def test_without_a_session_there_is_only_the_login(browser: Browser, method: str) -> None:
    response = await browser.client.request(method, "/")
    assert (response.status_code, response.headers["location"]) == (303, "login")
    assert (await browser.client.request(method, "/part")).status_code == 401
    assert (await browser.client.get("/login")).status_code == 200


async def test_a_token_gets_in_by_a_cookie_that_says_nothing(browser: Browser) -> None:
    response = await browser.submit("/login", {"token": f" {secret_of('boss')} "})
    cookie = response.headers["set-cookie"]
    name, _, value = cookie.partition(";")[0].partition("=")
    assert name.startswith("xmpp_bridge_session_")
    assert len(value) >= 40
    words = {word.strip().lower() for word in cookie.split(";")[1:]}
    assert words == {"httponly", "samesite=strict"}
    assert "boss" not in cookie
    page = await browser.page()
    assert page.of_class("token") == "boss"
    assert secret_of("boss") not in page.html


@pytest.mark.parametrize(
    "origin", ["https://bridge.example:5280", "https://elsewhere.example", "http://x"]
)
async def test_over_tls_the_cookie_stays_there(browser: Browser, origin: str) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    response = await browser.submit("/login", {"token": secret_of("boss")}, headers)
    assert ("secure" in response.headers["set-cookie"].lower()) == origin.startswith("https")


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("wrong-0123456789abcdef", "This token is unknown."),
        ("", "This token is unknown."),
        (secret_of("sender"), "This token lacks the scope"),
        ("\ud800", "This token is unknown."),
    ],
)
async def test_who_does_not_get_in(browser: Browser, secret: str, said: str) -> None:
    data = b"token=" + secret.encode("utf-8", "surrogatepass")
    response = await browser.client.post("/login", content=data, headers=SAME_ORIGIN)
    assert response.status_code == 403
    assert said in Page.of(response.text).of_class("problem")
    assert "set-cookie" not in response.headers
    if secret:
        assert secret not in response.text


async def test_guessing_is_slow_and_then_goes_on(stage: Stage, autojump_clock: MockClock) -> None:
    async with open_browser(stage, *TOKENS) as browser:
        for _ in range(FAILURES):
            response = await browser.submit("/login", {"token": "guess"})
            assert response.status_code == 403
        response = await browser.submit("/login", {"token": "guess"})
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) == FAILURE_S + 1
        await browser.login()  # another secret: nobody is locked out by guesses of others
        await browser.submit("/logout", {})
        await trio.sleep(FAILURE_S + 1)
        response = await browser.submit("/login", {"token": "guess"})
        assert response.status_code == 403


async def test_guesses_from_elsewhere_lock_nobody_out(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with open_browser(stage, *TOKENS) as browser:

        def elsewhere() -> httpx.AsyncClient:
            transport = httpx.ASGITransport(browser.app, client=("192.0.2.66", 4711))
            return httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")

        begins_alike = {"token": secret_of("boss")[:4] + "-guess"}
        async with elsewhere() as client:
            for status in [403] * FAILURES + [429]:
                answer = await client.post("/login", data=begins_alike, headers=SAME_ORIGIN)
                assert answer.status_code == status
        await browser.login()


GUESSERS = [
    ("192.0.2.1", "abcd-1", False),  # the same
    ("192.0.2.1", "abcd-2", False),  # another guess at that secret
    ("192.0.2.1", "zzzz-1", True),
    ("192.0.2.2", "abcd-1", True),
    ("", "abcd-1", True),
]


@pytest.mark.parametrize(("address", "secret", "is_checked"), GUESSERS)
def test_whom_guesses_count_for(address: str, secret: str, is_checked: bool) -> None:
    guesses = Guesses(lambda: 0.0)
    for _ in range(FAILURES):
        guesses.check("192.0.2.1", "abcd-1")
        guesses.failed("192.0.2.1", "abcd-1")
    if is_checked:
        guesses.check(address, secret)
    else:
        with pytest.raises(TooManyFailures):
            guesses.check(address, secret)


def test_a_host_with_many_ipv6_addresses_is_one() -> None:
    guesses = Guesses(lambda: 0.0)
    for number in range(FAILURES):
        guesses.failed(f"2001:db8::{number:x}", "abcd")
    with pytest.raises(TooManyFailures):
        guesses.check("2001:db8::ffff:1", "abcd")
    guesses.check("2001:db8:0:1::1", "abcd")


def test_ipv4_clients_of_an_ipv6_socket_are_told_apart() -> None:
    guesses = Guesses(lambda: 0.0)
    for _ in range(FAILURES):
        guesses.failed("::ffff:192.0.2.1", "abcd")
    for address in ("::ffff:192.0.2.1", "192.0.2.1"):
        with pytest.raises(TooManyFailures):
            guesses.check(address, "abcd")
    guesses.check("::ffff:192.0.2.2", "abcd")


def test_guessers_are_bounded_and_forgiven() -> None:
    now = [0.0]
    guesses = Guesses(lambda: now[0], limit=3)
    for number in range(50):
        guesses.failed(f"192.0.2.{number}", "abcd")
    assert len(guesses) == 3
    for _ in range(2 * FAILURES):
        guesses.failed("192.0.2.49", "abcd")
    now[0] = (FAILURES + 2) * FAILURE_S
    guesses.check("192.0.2.49", "abcd")


async def test_a_session_ends(stage: Stage, autojump_clock: MockClock) -> None:
    async with open_browser(stage, *TOKENS) as browser:
        await browser.login()
        await trio.sleep(SESSION_S - 1)
        await browser.page()
        await trio.sleep(1)
        assert (await browser.client.get("/")).status_code == 303


async def test_a_session_ends_with_its_token(browser: Browser) -> None:
    await browser.login()
    browser.access.replace(TOKENS[1:])
    assert (await browser.client.get("/")).status_code == 303
    weaker = token("boss", "watch", components=(BOT, OTHER))
    browser.access.replace((weaker,))
    assert (await browser.client.get("/")).status_code == 303


async def test_sessions_are_bounded(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "SESSIONS", 3)
    assert SESSIONS > 3
    cookies = []
    for _ in range(4):
        browser.client.cookies.clear()
        await browser.login()
        cookies.append(dict(browser.client.cookies))
    found = []
    for one in cookies:
        browser.client.cookies.clear()
        browser.client.cookies.update(one)
        found.append((await browser.client.get("/")).status_code)
    assert found == [303, 200, 200, 200]


async def test_log_out(browser: Browser) -> None:
    await browser.login()
    cookies = dict(browser.client.cookies)
    page = await browser.page()
    assert (await browser.submit("/logout", {"csrf": "other"})).status_code == 403
    await browser.page()
    response = await browser.submit("/logout", {"csrf": page.csrf})
    assert (response.status_code, response.headers["location"]) == (303, "login")
    browser.client.cookies.update(cookies)
    assert (await browser.client.get("/")).status_code == 303


# --- what is around every page


async def test_every_page_has_a_strict_policy(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    responses = [
        await browser.client.get(path)
        for path in ("/", "/part", "/errors", "/login", "/status.css", "/status.js", "/status.svg")
    ]
    responses += [
        await browser.submit("/login", {"token": "x"}),
        await browser.act(drop="msg_0001"),
        await browser.act(drop="all"),
        await browser.submit("/letters", {}),
    ]
    for response in responses:
        headers = response.headers
        policy = dict(
            part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


async def test_all_that_a_page_refers_to_is_ours_and_there(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    pages = [await browser.page(), await browser.page("/part"), await browser.page("/?after=3")]
    pages.append(Page.of((await browser.act(drop="msg_0001")).text))
    pages.append(Page.of((await browser.act(retry="all")).text))
    pages.append(await browser.page("/errors"))
    pages.append(await browser.page("/?reason=x&after=1"))
    for page in pages:
        for address in page.addresses:
            url = httpx.URL(f"http://{HOST}/").join(address)
            assert url.netloc == HOST.encode(), address
            assert not address.startswith("/"), "a proxy may put us below another path"
        assert not any(
            "style" in one or any(key.startswith("on") for key in one) for _, one in page.tags
        )
    for name in ("status.css", "status.js", "status.svg"):
        assert (await browser.client.get(f"/{name}")).status_code == 200


async def test_without_scripts_it_refreshes_itself(browser: Browser) -> None:
    await browser.login()
    page = await browser.page()
    assert ("meta", {"http-equiv": "refresh", "content": "30"}) in page.tags
    assert "<noscript><meta" in page.html


# --- what is shown


async def test_a_component_and_its_numbers(browser: Browser, stage: Stage) -> None:
    actor = stage.actors[0]
    actor.meter.counts.received = 12_345
    actor.in_flight = 3
    actor.read_bytes = 5 * 1024 * 1024
    for number in range(4):
        actor.wait("bob@example.org", str(number))
    await browser.login()
    page = await browser.page()
    assert "attached" in page.text
    assert "12,345" in page.text
    assert "5.0 MiB" in page.text
    assert page.of_class("count") == "1"
    assert "4 stanzas, waiting for their turn" in page.text
    assert "No problems" in page.text


async def test_a_pulled_component_shows_whether_somebody_polls(
    browser: Browser, stage: Stage
) -> None:
    polled, other = stage.actors
    for one, pollers in ((polled, 3), (other, 0)):
        one.endpoint = replace(one.endpoint, url="pull:", pollers=pollers)
    other.fail()
    await browser.login()
    page = await browser.page()
    assert "3 polling" in page.text
    assert "nobody polls" in page.text
    assert "Nobody polls for other.example" in page.of_class("problems")
    assert "endpoint" not in page.of_class("pills")


async def test_what_needs_a_look_comes_first(browser: Browser, stage: Stage) -> None:
    stage.actors[0].detach("connection refused")
    stage.actors[1].fail()
    stage.die()
    stage.stopping = True
    await browser.login()
    page = await browser.page()
    problems = page.of_class("problems")
    assert "bot.example is not attached to 127.0.0.1:5347: connection refused." in problems
    assert "The endpoint of other.example is down" in problems
    assert "1 dead letter waits for a decision." in problems
    assert "The daemon is stopping." in problems
    assert "4 problems" in page.text


async def test_a_shared_domain_is_a_problem(browser: Browser, stage: Stage) -> None:
    actor = stage.actors[0]
    actor.link = msgspec.structs.replace(actor.link, shared=NOW)
    await browser.login()
    page = await browser.page()
    problems = page.of_class("problems")
    assert f"{actor.domain}: another instance is attached as this component" in problems
    assert "stop one of them (last noticed" in problems
    assert "1 problem" in page.text


async def test_rooms_and_why_they_are_not_joined(browser: Browser, stage: Stage) -> None:
    actor = stage.actors[0]
    await browser.login()
    assert "Rooms" not in (await browser.page()).text
    actor.keep_room("well@muc.example")
    actor.keep_room("full@muc.example", "waiting", "the room is full")
    actor.keep_room("ban@muc.example", "out", "banned: <b>spam</b>")
    page = await browser.page()
    assert "1 of 3 joined, 7 occupants" in page.text
    assert "well@muc.example" not in page.text
    assert "full@muc.example" in page.text
    assert ": the room is full" in page.text
    assert "stays out: banned: <b>spam</b>" in page.text
    assert "echo stays out of ban@muc.example: banned" in page.of_class("problems")
    for number in range(30):
        actor.keep_room(f"r{number}@muc.example", "waiting", "the room is full")
    assert "… and 12 more." in (await browser.page()).text


@pytest.fixture
def shared(stage: Stage, tmp_path: Path) -> Iterator[SharedStore]:
    """A journal that three nodes share; this one is a stand-by."""
    with closing(SharedStore(tmp_path / "shared.db")) as store:
        store.add(1, "a", gateways=(BOT, OTHER), parts=192)
        store.add(OURS, "b", parts=1)
        stage.journal = store
        yield store


async def test_without_a_cluster_there_are_no_nodes(browser: Browser) -> None:
    await browser.login()
    assert "Nodes" not in (await browser.page()).text


async def test_the_nodes_of_a_cluster(browser: Browser, stage: Stage, shared: SharedStore) -> None:
    for actor in stage.actors:
        actor.stand_by()
    await browser.login()
    page = await browser.page()
    assert "No problems" in page.text
    assert "stand-by: another node attaches" in page.text
    assert f"attaches as {BOT}, {OTHER}, 192 partitions" in page.text
    assert "b (this one)" in page.text
    assert "stand-by, 1 partition" in page.text


async def test_what_is_wrong_with_the_nodes(browser: Browser, shared: SharedStore) -> None:
    shared.rows.clear()
    shared.add(1, "a", is_live=False)
    shared.add(OURS, "b", gateways=(OTHER,))
    shared.add(3, "<c>", digest="another")
    await browser.login()
    page = await browser.page()
    problems = page.of_class("problems")
    assert f"No node attaches as {BOT}." in problems
    assert f"No node attaches as {OTHER}." not in problems
    assert "The node <c> has another configuration." in problems
    assert "gone; others take over. attaches as" in page.text


async def test_a_token_sees_its_own_components_of_a_node(
    browser: Browser, shared: SharedStore
) -> None:
    shared.add(3, "c", gateways=("secret.example",))
    await browser.login("half")
    page = await browser.page()
    assert f"attaches as {BOT}, 192 partitions" in page.text
    assert "secret.example" not in page.html


async def test_conversations_that_wait(browser: Browser, stage: Stage) -> None:
    bot, other = stage.actors
    for number in range(12):
        bot.wait(f"u{number}@example.org", received=NOW - number)
    delivery = other.wait("carol@example.org", received=NOW - 1000)
    delivery.attempts = (Attempt(NOW, "status 500"),)
    taken = other.conversations.take()
    assert taken is not None
    other.conversations.wait(taken, trio.current_time() + 100)
    working = other.wait("dave@example.org", received=NOW - 2000)
    other.conversations.take()
    await browser.login()
    page = await browser.page()
    shown = page.html[page.html.index('id="waiting"') : page.html.index('id="errors"')]
    assert ">13<" in shown  # dave's only stanza is being POSTed
    assert "dave@example.org" not in shown
    assert "after 1 attempt" in shown
    assert shown.index("carol@example.org") < shown.index("u11@example.org")
    assert "u2@example.org" not in shown
    assert "… and 3 more." in shown
    other.wait("dave@example.org")
    page = await browser.page()
    assert "2 stanzas, the first is being POSTed" in page.text
    assert working.stanza.from_ == "dave@example.org"


async def test_recent_errors_in_plain_words(browser: Browser, stage: Stage) -> None:
    line = {"level": "error", "event": "endpoint fails", "component": BOT, "why": HOSTILE}
    stage.incidents(None, "", line)
    await browser.login()
    assert "The endpoint does not answer: <script>" in (await browser.page()).text


async def test_five_errors_and_a_link_to_the_rest(browser: Browser, stage: Stage) -> None:
    def fail(count: int) -> None:
        for number in range(count):
            line = {"level": "error", "event": "endpoint fails", "component": BOT}
            stage.incidents(None, "", line | {"why": f"{HOSTILE} {number}"})

    await browser.login()
    assert (await browser.page()).text.count("does not answer") == 0
    fail(5)
    page = await browser.page()
    assert page.text.count("The endpoint does not answer") == 5
    assert "errors" not in page.addresses
    fail(3)
    page = await browser.page()
    assert page.text.count("The endpoint does not answer") == 5
    assert "All 8 recent errors" in page.text
    assert "errors" in page.addresses
    rest = await browser.page("/errors")
    assert rest.text.count("The endpoint does not answer: <script>alert('1')") == 8
    assert "script" not in {name for name, _ in rest.tags}
    assert "./#errors" in rest.addresses


async def test_the_errors_need_a_session_and_are_those_of_the_token(
    browser: Browser, stage: Stage
) -> None:
    stage.incidents(None, "", {"level": "error", "event": "x", "component": OTHER})
    response = await browser.client.get("/errors")
    assert (response.status_code, response.headers["location"]) == (303, "login")
    await browser.login("half")
    assert OTHER not in (await browser.page("/errors")).html


async def test_the_order_of_the_parts_and_links_to_them(browser: Browser, stage: Stage) -> None:
    for number in range(3):
        stage.die()
        stage.actors[0].wait(f"u{number}@example.org", received=time.time() - 8)
    await browser.login()
    page = await browser.page()
    parts = [one["data-part"] for _, one in page.tags if "data-part" in one]
    assert parts == ["jumps", "summary", "components", "letters", "waiting", "errors"]
    ids = {one["id"] for _, one in page.tags if "id" in one}
    assert {one.removeprefix("#") for one in page.addresses if one.startswith("#")} < ids
    jumps = page.of_class("jumps") + page.of_class("dim")
    assert "Dead letters" in jumps
    assert "8 s ago" in page.of_class("age")


async def test_the_login_says_where_the_secret_is_made(browser: Browser) -> None:
    page = await browser.page("/login")
    for words in ("[[listen.token]]", "secret_file", "openssl rand -hex 32 > operator.token"):
        assert words in page.text
    assert "boss" not in page.html
    assert page.of_class("problem") == ""


async def test_nothing_of_strangers_is_markup(browser: Browser, stage: Stage) -> None:
    actor = stage.actors[0]
    actor.detach(HOSTILE)
    stage.die(from_=HOSTILE, to=HOSTILE, kind="message", result=HOSTILE)
    stage.incidents(None, "", {"level": "error", "event": HOSTILE, "component": BOT})
    await browser.login()
    for page in (await browser.page(), await browser.page("/part")):
        assert page.text.count("<script>alert('1')</script>") == 6
        scripts = [one for name, one in page.tags if name == "script"]
        assert scripts in ([], [{"src": "status.js", "defer": None}])
        assert "\u202e" not in page.html
        assert "b" not in {name for name, one in page.tags if one.get("class") == "evil"}


async def test_a_token_sees_its_own_components_only(browser: Browser, stage: Stage) -> None:
    stage.die()
    stage.die(component=OTHER, from_="secret@elsewhere")
    stage.die(component="gone.example", from_="orphan@elsewhere")
    stage.actors[1].wait("hidden@elsewhere")
    stage.incidents(None, "", {"level": "error", "event": "x", "component": OTHER})
    stage.incidents(None, "", {"level": "error", "event": "config of all"})
    await browser.login("half")
    page = await browser.page()
    assert "bob@example.org" in page.text
    for hidden in (OTHER, "elsewhere", "gone.example", "Config of all"):
        assert hidden not in page.html
    assert page.values("uid") == ["msg_0001"]
    await browser.act(drop=["msg_0002"], confirmed="yes")
    await browser.act(retry="selected", uid=["msg_0002", "msg_0003"])
    assert dead(stage) == ["msg_0001", "msg_0002", "msg_0003"]
    browser.client.cookies.clear()
    await browser.login("boss")
    page = await browser.page()
    assert page.values("uid") == ["msg_0001", "msg_0002", "msg_0003"]
    assert "orphaned" in page.text


async def test_without_a_journal_the_page_says_so(tmp_path: Path) -> None:
    stage = Stage([Actor(BOT)], None)
    async with open_browser(stage, *TOKENS) as browser:
        await browser.login("half")
        page = await browser.page()
        assert "There is no journal (durability is off), so nothing is kept." in page.text
        assert "in journal" not in page.text
        await browser.act(drop="x", confirmed="yes")
        text = "There is no journal (durability is off), so nothing is kept."
        assert await browser.notice() == text


async def test_with_a_journal_that_fails_the_page_is_there(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    page = await browser.page()
    stage.failure = JournalError("disk I/O error")
    failing = await browser.page()
    assert "The journal fails: disk I/O error." in failing.of_class("problems")
    response = await browser.submit(
        "/letters", {"csrf": page.csrf, "retry": "selected", "uid": "msg_0001"}
    )
    assert response.status_code == 303
    assert await browser.notice() == "This failed: disk I/O error."


async def test_a_disk_that_hangs_is_told_of(stage: Stage, autojump_clock: MockClock) -> None:
    stage.hangs = True
    async with open_browser(stage, *TOKENS) as browser:
        await browser.login()
        assert "the journal does not answer" in (await browser.page()).of_class("problems")


# --- dead letters


async def test_retry_one(browser: Browser, stage: Stage) -> None:
    stage.die()
    stage.die()
    await browser.login()
    page = await browser.page()
    assert page.values("retry") == ["selected", "all", "msg_0001", "msg_0002"]
    response = await browser.act(retry="msg_0002", uid="msg_0001")
    assert (response.status_code, response.headers["location"]) == (303, "./")
    assert (dead(stage), pending(stage)) == (["msg_0001"], ["msg_0002"])
    assert await browser.notice() == "1 stanza is pending again."
    assert await browser.notice() == ""


async def test_retry_several(browser: Browser, stage: Stage) -> None:
    for _ in range(3):
        stage.die()
    await browser.login()
    await browser.act(retry="selected", uid=["msg_0001", "msg_0003"])
    assert (dead(stage), pending(stage)) == (["msg_0002"], ["msg_0001", "msg_0003"])
    assert await browser.notice() == "2 stanzas are pending again."


async def test_a_drop_is_asked_about(browser: Browser, stage: Stage) -> None:
    stage.die()
    stage.die()
    await browser.login()
    response = await browser.act(drop="selected", uid=["msg_0001", "msg_0002"], after="0")
    question = Page.of(response.text)
    assert "Drop 2 dead letters?" in question.text
    assert "http-equiv" not in question.html
    assert dead(stage) == ["msg_0001", "msg_0002"]
    fields = {name: question.values(name) for name in ("csrf", "uid", "confirmed", "after", "drop")}
    assert (await browser.submit("/letters", fields)).status_code == 303
    assert dead(stage) == []
    assert await browser.notice() == "2 stanzas are dropped."


async def test_what_cannot_be_retried_can_be_dropped(browser: Browser, stage: Stage) -> None:
    stage.die(kind="iq")
    stage.abandon()
    await browser.login()
    page = await browser.page()
    assert page.values("retry") == ["selected", "all"]
    assert page.values("drop") == ["selected", "all", "msg_0001", "msg_0002"]
    await browser.act(retry="selected", uid=["msg_0001"])
    assert "an iq is never retried" in await browser.notice()
    await browser.act(drop="msg_0002", confirmed="yes")
    assert dead(stage) == ["msg_0001"]


async def test_what_is_gone_is_told(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    await browser.act(retry="selected", uid=["msg_0001", "msg_9999"])
    assert await browser.notice() == "1 stanza is pending again. msg_9999 no longer exists."
    for nothing in ({"retry": "selected"}, {"drop": "selected"}, {"retry": ""}, {}):
        await browser.act(**nothing)
        assert await browser.notice() == "Nothing was selected."


async def test_pages(browser: Browser, stage: Stage) -> None:
    for _ in range(2 * PAGE + 5):
        stage.die()
    await browser.login()
    page = await browser.page()
    found = page.values("uid")
    seen = [len(found)]
    while next_page := [one for one in page.addresses if "after=" in one]:
        [address] = next_page
        page = await browser.page("/" + address.removeprefix("./").partition("#")[0])
        seen.append(len(page.values("uid")))
        found += page.values("uid")
    assert seen == [PAGE, PAGE, 5]
    assert found == dead(stage)
    after = page.values("after")[0]
    response = await browser.act(retry="selected", uid=found[-1], after=after)
    assert response.headers["location"] == f"./?after={after}#letters"


@pytest.mark.parametrize("after", ["-1", "x", "1e9", "99999999999999999999999", "٣", "0", ""])
async def test_a_page_that_is_none_is_the_first_or_empty(
    browser: Browser, stage: Stage, after: str
) -> None:
    stage.die()
    await browser.login()
    response = await browser.client.get("/", params={"after": after})
    assert response.status_code == 200
    assert Page.of(response.text).values("uid") == ["msg_0001"]


# --- what a form must prove


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        (SAME_ORIGIN, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, True),
        ({"Sec-Fetch-Site": "cross-site", **SAME_ORIGIN}, False),
        ({"Sec-Fetch-Site": "same-site", **SAME_ORIGIN}, False),
        ({"Sec-Fetch-Site": "none", **SAME_ORIGIN}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": f"http://{HOST}.evil.example"}, False),
        ({"Origin": "http://bridge.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({}, False),
        ({"Host": "", "Origin": "http://"}, False),
    ],
)
async def test_it_comes_from_a_page_of_ours(
    browser: Browser, stage: Stage, headers: dict[str, str], allowed: bool
) -> None:
    stage.die()
    await browser.login()
    csrf = (await browser.page()).csrf
    response = await browser.submit("/letters", {"csrf": csrf, "retry": "msg_0001"}, headers)
    assert response.status_code == (303 if allowed else 403)
    assert bool(pending(stage)) == allowed
    response = await browser.submit("/logout", {"csrf": csrf}, headers)
    assert response.status_code == (303 if allowed else 403)
    response = await browser.submit("/login", {"token": secret_of("boss")}, headers)
    assert response.status_code == (303 if allowed else 403)


@pytest.mark.parametrize("csrf", ["", "x", "ä", "\ud800"])
async def test_it_is_of_this_session(browser: Browser, stage: Stage, csrf: str) -> None:
    stage.die()
    await browser.login()
    data = b"retry=msg_0001&csrf=" + csrf.encode("utf-8", "surrogatepass")
    response = await browser.client.post("/letters", content=data, headers=SAME_ORIGIN)
    assert response.status_code == 403
    assert not pending(stage)


async def test_not_of_another_session(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    csrf = (await browser.page()).csrf
    browser.client.cookies.clear()
    fields = {"csrf": csrf, "retry": "msg_0001"}
    response = await browser.submit("/letters", fields)
    assert (response.status_code, response.headers["location"]) == (303, "login?ended")
    login = await browser.page("/login?ended")
    assert "Nothing was changed" in login.of_class("problem")
    await browser.login()
    assert (await browser.submit("/letters", fields)).status_code == 403
    assert not pending(stage)


async def test_a_guest_may_only_look(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login("guest")
    page = await browser.page()
    assert "bob@example.org" in page.text
    assert page.values("retry") == page.values("drop") == page.values("uid") == []
    assert (await browser.act(retry="msg_0001")).status_code == 403
    assert (await browser.act(drop="msg_0001", confirmed="yes")).status_code == 403
    assert not any(isinstance(one, Retry | Forget) for one in stage.asked)


async def test_nothing_is_done_by_a_get(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    csrf = (await browser.page()).csrf
    query = f"?csrf={csrf}&retry=msg_0001"
    assert (await browser.client.get(f"/letters{query}", headers=SAME_ORIGIN)).status_code == 405
    assert (await browser.client.get(f"/logout{query}", headers=SAME_ORIGIN)).status_code == 405
    assert not pending(stage)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"&".join([b"uid=1"] * 1000), b"retry=msg_0001&csrf=%ff%fe", b"=", b"%"]
)
async def test_a_form_that_is_none_does_nothing(
    browser: Browser, stage: Stage, body: bytes
) -> None:
    stage.die()
    await browser.login()
    for path in ("/letters", "/logout", "/login"):
        response = await browser.client.post(path, content=body, headers=SAME_ORIGIN)
        assert response.status_code == 403
    assert not pending(stage)


async def test_a_form_that_is_too_long(browser: Browser) -> None:
    response = await browser.submit("/login", {"token": "x" * 70_000})
    assert response.status_code == 413
