"""The status page on a phone, a tablet and a desk, in light and dark, with no, few and many dead
letters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import pytest

from bridge.config.settings import JournalSettings
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import open_journal
from bridge.journal.store import Attempted, Settle
from tests.servers.chromium import Window, browse
from tests.servers.endpoint import always, echo
from tests.servers.test_page import BOT, FAILING, Scene, check_manners, open_scene, shoot

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.chromium

WIDTHS: Final = (360, 768, 1280)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
NOW: Final = 1_795_000_000.0
PAGE_LIMIT_BYTES: Final = 64 * 1024
SENDERS: Final = (
    ("juliet@capulet.example/balcony", "O Romeo, Romeo, wherefore art thou Romeo?"),
    ("nurse@capulet.example/hall", "Madam! Your lady mother is coming to your chamber."),
    ("mercutio@verona.example/phone", "help"),
    ("<script>alert(1)</script>@evil.example/\u202e", "<img src=x onerror=alert(1)>\n</li></ul>"),
    (f"friar.{'laurence.' * 15}@cell.verona.example/{'r' * 100}", "wisely and slow; " * 60),
)
REASONS: Final = ("status 500", "status 503", "no answer in time", "the reply is not valid JSON")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def fill(path: Path, count: int) -> None:
    """Put dead letters into a journal that no daemon has open."""
    directory = StateDirectory(path)
    path.mkdir(mode=0o700)
    journal = open_journal(directory, JournalSettings())
    for start in range(0, count, 500):
        operations: list[Delivery | Attempted | Settle] = []
        for number in range(start, min(start + 500, count)):
            from_, text = SENDERS[number % len(SENDERS)]
            reason, at = REASONS[number % 7 % len(REASONS)], NOW + number
            xml = f"<message type='chat' id='q'><body>{escaped(text)}</body></message>"
            entry = Delivery.stored(
                f"msg_{number:024x}", BOT, "message", from_, f"echo@{BOT}", "q", None, xml, at
            )
            operations += [entry, Attempted(entry.uid, Attempt(at, reason))]
            operations.append(Settle(entry.uid, (), at + 1, reason))
        journal.commit(operations)
    journal.close()


async def enliven(scene: Scene) -> None:
    """Have some traffic, errors, and a conversation that waits."""
    await scene.say(40)
    await scene.endpoint.wait_requests(40)
    scene.endpoint.hold()
    await scene.say(3, "carol@localhost/home")


@pytest.mark.parametrize("count", [0, 10, 10_000])
async def test_it_fits_every_screen(tmp_path: Path, count: int) -> None:
    state_dir = tmp_path / "state"
    fill(state_dir, count)
    async with open_scene(tmp_path, state_dir) as scene:
        scene.endpoint.react = echo
        if count:
            await enliven(scene)

        def use(window: Window) -> None:
            scene.login(window)
            for width in WIDTHS:
                window.page.set_viewport_size({"width": width, "height": 900})
                for scheme in SCHEMES:
                    window.page.emulate_media(color_scheme=scheme)
                    name = f"{count}-{width}-{scheme}"
                    check_page(window, scene, width, name)
                    if count:
                        check_question(window, count, width, name)
            check_manners(window, scene)

        await browse(use)


def check_page(window: Window, scene: Scene, width: int, name: str) -> None:
    page = window.page
    answered = page.goto(scene.url)
    assert answered is not None
    assert len(answered.body()) < PAGE_LIMIT_BYTES
    page.wait_for_selector("html.scripted")
    assert window.width <= width
    shoot(window, name)
    headings = page.locator("main .card > h2, main article h2").all_inner_texts()
    found = [one.split("\n")[0].rstrip(" 0123456789,") for one in headings]
    assert found == [BOT, "Dead letters", "Waiting conversations", "Recent errors"]
    jumps = page.locator("#jumps")
    assert jumps.is_visible() == (width < 1000)
    if width < 1000:
        jumps.get_by_role("link", name="Errors").click()
        box = page.locator("#errors").bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 900, "it is in sight"


def check_question(window: Window, count: int, width: int, name: str) -> None:
    window.page.click(f"text=Drop all {count:,} …")
    window.page.wait_for_selector("text=permanently")
    assert window.width <= width
    shoot(window, f"{name}-ask")


async def test_all_that_match_without_scripts(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    fill(state_dir, 700)
    async with open_scene(tmp_path, state_dir) as scene:
        scene.endpoint.react = always(FAILING)

        def use(window: Window) -> None:
            scene.login(window)
            page = window.page
            page.fill("input[name=reason]", "STATUS 503")
            page.click("text=Filter")
            page.wait_for_selector("text=Retry all that match")
            page.click("text=Drop all that match")
            page.wait_for_selector("text=Drop 200 permanently")
            assert "Drop 200 dead letters whose reason contains" in page.inner_text("h2")
            page.click("text=Drop 200 permanently")
            page.wait_for_selector(".notice")
            assert page.inner_text(".notice") == "200 stanzas are dropped."
            assert "No dead letter matches." in page.inner_text("#letters")
            assert "500 dead letters wait" in page.inner_text("#summary")
            check_manners(window, scene)

        await browse(use, viewport={"width": 1280, "height": 900}, java_script_enabled=False)
