"""Dead letters on the page: who may read them, how they are found, and actions on many."""

import time
from typing import Final

import pytest

from bridge.journal.request import UIDS_LIMIT, Forget, ListQueue, Retry
from bridge.journal.store import JournalError
from bridge.listener.page import action
from bridge.listener.page.dead_letter import TEXT_LIMIT
from bridge.listener.page.snapshot import PAGE
from tests.bridge.listener.page.browser import OTHER, Browser, Page, dead, pending
from tests.bridge.listener.stage import NOW, Stage

HOSTILE: Final = "<script>alert('1')</script>\"'&</q></li>\u202eevil"


def message(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<message type='chat'><body>{escaped}</body></message>"


async def ask_all(browser: Browser, verb: str, **selection: str) -> Page:
    """Press "Retry all" or "Drop all", and give the question."""
    response = await browser.act(**{verb: "all"}, **selection)
    assert response.status_code == 200
    return Page.of(response.text)


async def confirm(browser: Browser, question: Page) -> str:
    """Answer a question with yes, and give the notice."""
    names = ("csrf", "confirmed", "component", "reason", "hours", "since", "until", "uid")
    fields = {name: question.values(name) for name in (*names, "after", "retry", "drop")}
    response = await browser.submit("/letters", {k: v for k, v in fields.items() if v})
    assert response.status_code == 303
    return await browser.notice()


# --- what is shown


async def test_a_dead_letter_has_sender_reason_age_and_text(browser: Browser, stage: Stage) -> None:
    stage.die(xml=message("two\nlines"), died=time.time() - 8)
    stage.die(xml="<message/>", died=time.time() - 7300)
    await browser.login()
    page = await browser.page()
    assert page.of_class("who").count("bob@example.org/phone") == 2
    assert page.of_class("why").count("status 500") == 2
    assert page.of_class("text").split() == ["two", "lines"]
    assert "two<br>lines" in page.html
    assert page.of_class("age") in ("8 s ago 2 h ago", "9 s ago 2 h ago")


async def test_the_text_of_a_reply_that_was_given_up(browser: Browser, stage: Stage) -> None:
    stage.abandon("our answer")
    await browser.login()
    assert (await browser.page()).of_class("text") == "our answer"


async def test_without_manage_no_text_leaves_the_journal(browser: Browser, stage: Stage) -> None:
    stage.die(xml=message("a secret"))
    await browser.login("guest")
    for path in ("/", "/part", "/?reason=status"):
        page = await browser.page(path)
        assert "bob@example.org/phone" in page.text
        assert "a secret" not in page.html
        assert "log in with a token that has the scope manage" in page.text
    lists = [one for one in stage.asked if isinstance(one, ListQueue)]
    assert lists
    assert not any(one.xml for one in lists)


@pytest.mark.parametrize("path", ["/", "/part", "drop", "all"])
async def test_no_text_is_markup(browser: Browser, stage: Stage, path: str) -> None:
    stage.die(xml=message(HOSTILE), from_=HOSTILE, result=HOSTILE)
    await browser.login()
    if path == "drop":
        page = Page.of((await browser.act(drop="msg_0001")).text)
    elif path == "all":
        page = await ask_all(browser, "drop", reason=HOSTILE)
        assert HOSTILE.replace("\u202e", r"\u202e") in page.text
    else:
        page = await browser.page(path)
    assert "alert('1')" in page.of_class("text")
    scripts = [one for name, one in page.tags if name == "script"]
    assert scripts in ([], [{"src": "status.js", "defer": None}])
    assert "\u202e" not in page.html


async def test_a_filter_is_text_too(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    response = await browser.client.get("/", params={"reason": HOSTILE, "component": HOSTILE})
    page = Page.of(response.text)
    assert "No dead letter matches." in page.text
    assert page.values("reason")[0] == HOSTILE.replace("\u202e", r"\u202e")
    assert [one for name, one in page.tags if name == "script"] == [
        {"src": "status.js", "defer": None}
    ]


async def test_a_long_text_is_cut(browser: Browser, stage: Stage) -> None:
    stage.die(xml=message("x" * 100_000))
    await browser.login()
    page = await browser.page()
    assert page.of_class("text") == "x" * (TEXT_LIMIT - 1) + "…"
    question = Page.of((await browser.act(drop="msg_0001")).text)
    assert len(question.of_class("text")) == 4000


@pytest.mark.parametrize("xml", ["<message><body>x", "", "<body/>", "<message>&nbsp;</message>"])
async def test_a_damaged_entry_has_no_text(browser: Browser, stage: Stage, xml: str) -> None:
    stage.die(xml=xml)
    stage.die(xml=message("whole"))
    await browser.login()
    page = await browser.page()
    assert page.values("uid") == ["msg_0001", "msg_0002"]
    assert page.of_class("text") == "whole"


# --- looking for some


async def test_a_filter(browser: Browser, stage: Stage) -> None:
    stage.die(result="status 503: Service Unavailable")
    stage.die(result="no answer in time")
    stage.die(component=OTHER, result="status 503", died=time.time())
    await browser.login()

    async def found(query: str) -> list[str]:
        return (await browser.page(f"/?{query}")).values("uid")

    assert await found("reason=STATUS+503") == ["msg_0001", "msg_0003"]
    assert await found(f"component={OTHER}") == ["msg_0003"]
    assert await found("hours=1") == ["msg_0003"]
    assert await found("hours=1&reason=time") == []
    assert await found("hours=nonsense") == ["msg_0001", "msg_0002", "msg_0003"]
    page = await browser.page(f"/?component={OTHER}&reason=503")
    assert page.values("reason") == ["503", "503"], "the filter, and the form of the actions"
    assert "Retry all that match" in page.text


async def test_a_filter_finds_what_is_far_away(browser: Browser, stage: Stage) -> None:
    for number in range(300):
        stage.die(result="rare" if number % 10 == 0 else "common")
    await browser.login()
    page = await browser.page("/?reason=rare")
    assert len(page.values("uid")) == PAGE
    [address] = [one for one in page.addresses if "after=" in one]
    assert "reason=rare" in address
    rest = await browser.page("/" + address.removeprefix("./").partition("#")[0])
    assert len(rest.values("uid")) == 30 - PAGE
    assert page.values("uid") + rest.values("uid") == [f"msg_{n:04}" for n in range(1, 300, 10)]


async def test_a_filtered_list_is_not_searched_again_and_again(
    browser: Browser, stage: Stage
) -> None:
    stage.die()
    await browser.login()
    stage.asked.clear()
    page = await browser.page("/part?reason=status")
    assert 'id="letters"' not in page.html
    assert "1 dead letter waits" in page.text
    assert 'href="#letters">Dead letters <span class="dim">1</span>' in page.html
    assert not any(isinstance(one, ListQueue) for one in stage.asked)


# --- a drop is asked about


async def test_the_question_says_what_is_dropped(browser: Browser, stage: Stage) -> None:
    stage.die(xml=message("hello, Romeo"), died=time.time() - 10 * 86_400)
    await browser.login()
    question = Page.of((await browser.act(drop="msg_0001")).text)
    assert "Drop this dead letter?" in question.text
    assert "bob@example.org/phone" in question.of_class("who")
    assert "status 500" in question.of_class("why")
    assert question.of_class("text") == "hello, Romeo"
    assert question.of_class("age") == "10 d ago"
    assert await confirm(browser, question) == "1 stanza is dropped."


async def test_a_question_about_what_is_gone(browser: Browser, stage: Stage) -> None:
    await browser.login()
    response = await browser.client.get("/")
    page = Page.of(response.text)
    csrf = next(iter(page.values("csrf")))
    fields = {"csrf": csrf, "drop": "msg_0009"}
    assert (await browser.submit("/letters", fields)).status_code == 303
    assert await browser.notice() == "msg_0009 no longer exists."


# --- all that match


async def test_retry_all_that_match(browser: Browser, stage: Stage) -> None:
    stage.die(result="status 503")
    stage.die(result="no answer in time")
    stage.die(result="status 503", kind="iq")
    stage.die(result="status 503", component=OTHER)
    await browser.login()
    question = await ask_all(browser, "retry", reason="status 503")
    assert "Retry 2 dead letters whose reason contains “status 503”?" in question.text
    assert "1 is left out: an iq or a stanza of ours cannot be retried" in question.text
    assert question.of_class("reasons").split() == ["2", "status", "503"]
    await browser.act(retry="all", until=str(time.time()))  # without `confirmed`
    assert not pending(stage), "nothing happens before the answer"
    notice = await confirm(browser, question)
    assert notice == "2 stanzas are pending again. 1 left out, because they cannot be retried."
    assert pending(stage) == ["msg_0001", "msg_0004"]


async def test_drop_all(browser: Browser, stage: Stage) -> None:
    for _ in range(3):
        stage.die()
    stage.die(kind="iq")
    stage.abandon()
    await browser.login()
    page = await browser.page()
    assert "Drop all 5 …" in page.text
    question = await ask_all(browser, "drop")
    assert "Drop 5 dead letters?" in question.text
    assert "They will be deleted and never delivered." in question.text
    assert await confirm(browser, question) == "5 stanzas are dropped."
    assert dead(stage) == []


async def test_all_that_match_keeps_the_filter(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    response = await browser.act(retry="all", reason="500", hours="24")
    fields = Page.of(response.text)
    assert "Nothing to retry" in fields.text  # it died in 2023
    question = await ask_all(browser, "drop", reason="500")
    names = {name: question.values(name) for name in ("csrf", "confirmed", "reason", "until")}
    response = await browser.submit("/letters", {**names, "drop": "all"})
    assert response.headers["location"] == "./?reason=500#letters"


async def test_nothing_matches(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    question = await ask_all(browser, "drop", reason="other")
    assert "No dead letter matches." in question.text
    assert question.values("confirmed") == []


async def test_many_are_acted_on_in_bounded_batches(browser: Browser, stage: Stage) -> None:
    for _ in range(UIDS_LIMIT + 7):
        stage.die()
    await browser.login()
    question = await ask_all(browser, "retry")
    stage.asked.clear()
    notice = await confirm(browser, question)
    assert notice == f"{UIDS_LIMIT + 7} stanzas are pending again."
    assert [len(one.uids) for one in stage.asked if isinstance(one, Retry)] == [UIDS_LIMIT, 7]
    assert dead(stage) == []


async def test_one_step_is_bounded(
    browser: Browser, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action, "ALL_LIMIT", 3)
    for _ in range(5):
        stage.die()
    await browser.login()
    question = await ask_all(browser, "drop")
    assert "Drop the oldest 3 dead letters?" in question.text
    notice = await confirm(browser, question)
    assert notice == "3 stanzas are dropped. There are more: repeat it for the rest."
    assert dead(stage) == ["msg_0004", "msg_0005"]
    stage.die()
    question = await ask_all(browser, "drop")
    assert "Drop 3 dead letters?" in question.text, "exactly so many are not more"


async def test_what_dies_after_the_question_is_not_taken(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    question = await ask_all(browser, "drop")
    stage.die(died=time.time() + 60)
    assert await confirm(browser, question) == "1 stanza is dropped."
    assert dead(stage) == ["msg_0002"]


@pytest.mark.parametrize("verb", ["retry", "drop"])
async def test_all_is_all_that_the_token_may_see(browser: Browser, stage: Stage, verb: str) -> None:
    stage.die()
    hidden = [stage.die(component=OTHER), stage.die(component="gone.example")]
    await browser.login("half")
    question = await ask_all(browser, verb)
    assert "1 dead letter?" in question.text
    assert OTHER not in question.html
    await confirm(browser, question)
    assert dead(stage) == hidden
    question = await ask_all(browser, verb, component=OTHER)
    assert "No dead letter matches." in question.text


@pytest.mark.parametrize("verb", ["retry", "drop"])
async def test_a_guest_cannot_act_on_all(browser: Browser, stage: Stage, verb: str) -> None:
    stage.die()
    await browser.login("guest")
    fields = {verb: "all", "confirmed": "yes", "until": str(NOW + 1)}
    assert (await browser.act(**fields)).status_code == 403
    assert dead(stage) == ["msg_0001"]
    assert not any(isinstance(one, Retry | Forget) for one in stage.asked)


@pytest.mark.parametrize("until", ["", "x", "nan", "inf", "-1", "1e999"])
async def test_an_answer_without_a_question_does_nothing_or_asks(
    browser: Browser, stage: Stage, until: str
) -> None:
    stage.die()
    await browser.login()
    response = await browser.act(drop="all", confirmed="yes", until=until)
    assert response.status_code in (200, 303)
    taken = until in ("inf", "1e999")  # no end: all that there are
    assert dead(stage) == ([] if taken else ["msg_0001"])


async def test_a_journal_that_fails_half_way(
    browser: Browser, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action, "UIDS_LIMIT", 2)
    for _ in range(4):
        stage.die()
    await browser.login()
    question = await ask_all(browser, "drop")
    stage.failure, stage.survives = JournalError("disk I/O error"), 2
    names = ("csrf", "confirmed", "until", "drop")
    fields = {name: question.values(name) for name in names}
    assert (await browser.submit("/letters", fields)).status_code == 303
    assert await browser.notice() == ("2 stanzas are dropped. Then this failed: disk I/O error.")
    assert len(dead(stage)) == 2


async def test_a_journal_that_fails_before_the_question(browser: Browser, stage: Stage) -> None:
    stage.die()
    await browser.login()
    csrf = (await browser.page()).csrf
    stage.failure = JournalError("disk I/O error")
    response = await browser.submit("/letters", {"csrf": csrf, "drop": "all"})
    assert response.status_code == 303
    assert await browser.notice() == "This failed: disk I/O error."


# --- the page around them


async def test_the_page_is_bounded(browser: Browser, stage: Stage) -> None:
    for _ in range(PAGE):
        stage.die(
            xml=message("x" * 100_000),
            from_="ü" * 3000,
            to="ü" * 3000,
            result="y" * 10_000,
        )
    await browser.login()
    page = await browser.page()
    assert page.values("uid") == dead(stage)
    assert len(page.html.encode()) < PAGE * 16_000


@pytest.mark.parametrize(("name", "refreshes"), [("boss", False), ("guest", True)])
async def test_without_scripts_a_selection_is_not_refreshed_away(
    browser: Browser, stage: Stage, name: str, refreshes: bool
) -> None:
    await browser.login(name)
    assert "http-equiv" in (await browser.page()).html
    stage.die()
    page = await browser.page()
    assert ("http-equiv" in page.html) == refreshes
    assert ("does not refresh itself" in page.text) == (not refreshes)
    assert bool(page.values("uid")) == (not refreshes)
