"""The status page of a real daemon, in a real browser."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from tests.servers.chromium import Window, browse
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Answer, Endpoint, always, echo, open_endpoint
from tests.servers.process import LOOPBACK, reserve_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.chromium

BOT: Final = "bot.localhost"
TOKEN: Final = "page-0123456789abcdef"
PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 900}
FAILING: Final = Answer(500, media=None)
HOSTILE: Final = "<b onclick=alert(1)>" + "w" * 200
SHOTS: Final = os.environ.get("XMPP_BRIDGE_SHOTS")
"""A directory that gets screenshots, to be looked at."""


@dataclass
class Scene:
    """A daemon that listens, and what is around it."""

    url: str
    daemon: Daemon
    endpoint: Endpoint
    session: Session
    count: int = 0

    async def say(self, count: int = 1, from_: str = "bob@localhost/phone") -> None:
        """Have messages come to the bot."""
        for _ in range(count):
            self.count += 1
            one = stanza(f"<message to='echo@{BOT}' type='chat'><body>hello</body></message>")
            attributes = {"from": from_, "id": f"m{self.count}"}
            element = one.element.with_attributes(**attributes)
            await self.session.send(type(one)(element))

    async def die(self, count: int = 1, from_: str = "bob@localhost/phone") -> None:
        """Have messages become dead letters."""
        self.endpoint.react = always(FAILING)
        before = len(self.session.stanzas)
        await self.say(count, from_)
        await self.session.receive(before + count)  # each has its error: it is done with

    # --- from the browser's thread

    def call(self, method: Any, *arguments: object) -> None:
        trio.from_thread.run(method, *arguments)

    def login(self, window: Window) -> None:
        page = window.page
        page.goto(self.url)
        page.fill("#token", TOKEN)
        page.click("text=Log in")
        page.wait_for_selector("#summary")


@asynccontextmanager
async def open_scene(directory: Path, state_dir: Path | None = None) -> AsyncIterator[Scene]:
    """Open one. `state_dir` may hold dead letters already."""
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        token = {"name": "page", "secret": TOKEN, "scopes": ["watch", "manage"]}
        async with trio.open_nursery() as nursery, open_endpoint(echo) as endpoint:
            server = await XmppServer.start(nursery)
            table = {"component_secret": SECRET, "component_post_url": endpoint.url}
            settings = settings_for(
                server.port,
                {BOT: table},
                retry={"budget_s": 0},
                http={"timeout_s": 600},
                listen={"address": f"{LOOPBACK}:{port}", "token": [token]},
            )
            async with run_daemon(directory, settings, state_dir=state_dir) as daemon:
                session = await server.attached(BOT)
                yield Scene(f"http://{LOOPBACK}:{port}/", daemon, endpoint, session)
            nursery.cancel_scope.cancel()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as opened:
        yield opened


def shoot(window: Window, name: str) -> None:
    if SHOTS is not None:
        window.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def check_manners(window: Window, scene: Scene) -> None:
    """No complaint, and nothing asked of anybody else."""
    assert window.complaints == []
    assert window.requests
    assert {url for url in window.requests if not url.startswith(scene.url)} == set()


async def test_it_shows_what_happens_while_it_happens(scene: Scene) -> None:
    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        assert "No problems" in page.inner_text("#summary")
        assert page.inner_text(".head h2") == BOT
        before = page.inner_html(".plots")
        assert "echo@bot.localhost" not in page.inner_text("main")
        scene.call(scene.say, 30)
        page.wait_for_selector(".plots .bar")
        window.until(lambda: "30 in" in page.inner_text(".plots"))
        assert page.inner_html(".plots") != before
        scene.endpoint.react = always(FAILING)
        scene.call(scene.say, 5)
        page.wait_for_selector(".plots .bar.bad")
        window.until(lambda: page.locator("#letters .rows > li").count() == 5)
        assert "5 dead letters wait for a decision." in page.inner_text("#summary")
        assert len([url for url in window.requests if url.endswith("/")]) < 5, "it never reloads"
        check_manners(window, scene)
        shoot(window, "desk")

    await browse(use, viewport=DESK)


async def test_conversations_wait_and_errors_are_told(scene: Scene) -> None:
    scene.endpoint.hold()
    await scene.say(3, "carol@localhost/home")
    await scene.endpoint.wait_requests(1)

    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        assert "carol@localhost/home" in page.inner_text("#waiting")
        assert "3 stanzas, the first is being POSTed" in page.inner_text("#waiting")
        scene.call(scene.endpoint.stop)
        window.until(lambda: "The endpoint does not answer" in page.inner_text("#errors"))
        assert "carol" not in page.inner_text("#errors")
        check_manners(window, scene)

    await browse(use, viewport=DESK)


async def test_retry_and_drop(scene: Scene) -> None:
    await scene.die(3)

    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        assert page.locator("#letters .rows > li").count() == 3
        assert "status 500" in page.inner_text("#letters")
        scene.endpoint.react = echo
        posted = len(scene.endpoint.requests)
        page.locator("#letters .rows > li").first.get_by_role("button", name="Retry").click()
        page.wait_for_selector(".notice")
        assert page.inner_text(".notice") == "1 stanza is pending again."
        scene.call(scene.endpoint.wait_requests, posted + 1)
        assert page.locator("#letters .rows > li").count() == 2

        page.locator("#letters .rows > li").first.get_by_role("button", name="Drop").click()
        page.wait_for_selector("text=Drop this dead letter?")
        shoot(window, "drop")
        page.click("text=Cancel")
        page.wait_for_selector("#letters")
        assert page.locator("#letters .rows > li").count() == 2

        page.check("[data-all]")
        page.click("text=Drop selected")
        page.click("text=Drop permanently")
        page.wait_for_selector(".notice")
        assert page.inner_text(".notice") == "2 stanzas are dropped."
        assert "No dead letters." in page.inner_text("#letters")
        assert "No problems" in page.inner_text("#summary")
        check_manners(window, scene)

    await browse(use, viewport=DESK)


async def test_a_half_made_action_is_not_lost(scene: Scene) -> None:
    await scene.die(2)

    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        page.locator("#letters input[name=uid]").nth(1).check()
        page.evaluate("document.activeElement.blur()")
        scene.call(scene.die, 1)
        window.until(lambda: "3 dead letters" in page.inner_text("#summary"))
        assert page.locator("#letters .rows > li").count() == 2
        assert page.locator("#letters input[name=uid]").nth(1).is_checked()
        page.locator("#letters input[name=uid]").nth(1).uncheck()
        page.evaluate("document.activeElement.blur()")
        window.until(lambda: page.locator("#letters .rows > li").count() == 3)
        page.locator("#letters summary").first.click()
        page.evaluate("document.activeElement.blur()")
        scene.call(scene.die, 1)
        window.until(lambda: "4 dead letters" in page.inner_text("#summary"))
        assert page.locator("#letters details[open]").count() == 1
        page.locator("#letters summary").first.click()
        page.fill("#letters input[name=reason]", "status 5")
        page.evaluate("document.activeElement.blur()")
        scene.call(scene.die, 1)
        window.until(lambda: "5 dead letters" in page.inner_text("#summary"))
        assert page.input_value("#letters input[name=reason]") == "status 5"
        check_manners(window, scene)

    await browse(use, viewport=DESK)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_on_a_phone(scene: Scene, scheme: str) -> None:
    await scene.die(1, f"{HOSTILE}@{'long.' * 12}example.org/{'r' * 300}")
    await scene.die(2)
    scene.endpoint.hold()
    await scene.say(4, f"{'v' * 200}@example.org")
    await scene.endpoint.wait_requests(4)

    def use(window: Window) -> None:
        page = window.page
        page.goto(scene.url)
        assert window.width <= PHONE["width"]
        scene.login(window)
        assert window.width <= PHONE["width"]
        assert page.locator("b[onclick]").count() == 0
        shoot(window, f"phone-{scheme}")
        button = page.locator("#letters .rows > li").first.get_by_role("button", name="Drop")
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert box["height"] >= 32, "a finger can hit it"
        button.click()
        page.wait_for_selector("text=Drop this dead letter?")
        assert window.width <= PHONE["width"]
        check_manners(window, scene)

    await browse(use, viewport=PHONE, color_scheme=scheme, device_scale_factor=2)


async def test_without_scripts_and_out_again(scene: Scene) -> None:
    await scene.die(1)
    scene.endpoint.react = echo

    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        assert not page.locator("[data-all]").is_visible()
        posted = len(scene.endpoint.requests)
        page.check("input[name=uid]")
        page.click("text=Retry selected")
        page.wait_for_selector(".notice")
        assert page.inner_text(".notice") == "1 stanza is pending again."
        scene.call(scene.endpoint.wait_requests, posted + 1)
        page.click("text=Log out")
        page.wait_for_selector("#token")
        page.goto(scene.url)
        page.wait_for_selector("#token")
        check_manners(window, scene)

    await browse(use, viewport=DESK, java_script_enabled=False)


async def test_another_site_can_do_nothing(scene: Scene) -> None:
    """Not even one on another port of the same host, to which the browser gives the cookie."""
    await scene.die(1)
    seen: list[int] = []

    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        csrf = page.locator("#letters input[name=csrf]").get_attribute("value")
        id = page.locator("#letters input[name=uid]").get_attribute("value")
        form = (
            f"<form method=post action='{scene.url}letters'><input name=csrf value='{csrf}'>"
            f"<input name=retry value='{id}'><button>go</button></form>"
        )
        for site in ("http://127.0.0.1:9/", "http://elsewhere.example/"):
            page.route(site, lambda route: route.fulfill(body=form, content_type="text/html"))
            page.goto(site)
            with page.expect_response("**/letters") as answered:
                page.click("text=go")
            seen.append(answered.value.status)
            assert page.locator(".notice").count() == 0
        page.goto(scene.url)
        assert page.locator("#letters .rows > li").count() == 1
        frame = f"<iframe src='{scene.url}'></iframe>"
        page.route("http://127.0.0.1:9/", lambda r: r.fulfill(body=frame, content_type="text/html"))
        page.goto("http://127.0.0.1:9/")
        page.wait_for_timeout(300)
        assert "xmpp-bridge" not in page.frames[1].content()

    await browse(use, viewport=DESK)
    assert seen[0] == 403  # with the session's cookie, and its secret
    assert seen[1] in (303, 403)  # without the cookie there is only the login


async def test_the_policy_holds_in_the_browser(scene: Scene) -> None:
    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        page.evaluate(
            """() => {
              const one = document.createElement("script");
              one.textContent = "window.pwned = 1";
              document.body.append(one);
              new Image().src = "http://127.0.0.1:9/beacon";
              fetch("http://127.0.0.1:9/beacon").catch(() => 0);
            }"""
        )
        page.wait_for_timeout(200)
        assert page.evaluate("window.pwned") is None
        assert len(window.complaints) >= 3
        assert all("Content Security Policy" in one for one in window.complaints)

    await browse(use, viewport=DESK)


async def test_a_login_that_has_ended_is_told_of(scene: Scene) -> None:
    """As after a restart, perhaps with another version: the page then open is of the old one."""
    await scene.die(1)

    def use(window: Window) -> None:
        scene.login(window)
        page = window.page
        page.context.clear_cookies()
        page.wait_for_selector("#token")
        assert "Your login has ended" in page.inner_text(".problem")
        scene.login(window)
        assert page.locator("#letters .rows > li").count() == 1
        page.context.clear_cookies()
        page.click("text=Retry selected")
        page.wait_for_selector("#token")
        assert "Nothing was changed" in page.inner_text(".problem")

    await browse(use, viewport=PHONE)


async def test_a_daemon_that_is_gone_is_told_of(scene: Scene) -> None:
    def use(window: Window) -> None:
        scene.login(window)
        window.page.wait_for_selector("html.scripted")
        scene.call(scene.daemon.terminate)
        window.page.wait_for_selector("body.lost")
        assert BOT in window.page.inner_text("main")

    await browse(use, viewport=DESK)
