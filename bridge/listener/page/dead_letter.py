"""The dead letters, as a part of the page. Addresses, reasons and results contain text that was
written by strangers.
"""

from collections.abc import Collection, Sequence
from typing import Final

from markupsafe import Markup

from bridge.journal.request import Item
from bridge.listener.page.html import (
    Child,
    card,
    hidden,
    join,
    nothing,
    parties,
    pill,
    question,
    tag,
)
from bridge.listener.page.session import Session
from bridge.listener.page.snapshot import Letters, PageSnapshot
from bridge.telemetry.text import age, when

_ATTEMPTS: Final = 20


# --- dead letters


def letters(page: PageSnapshot, session: Session) -> Markup:
    """Return a page of dead letters, with buttons if the token may manage them."""
    found = page.letters
    body: Child
    if not page.has_journal:
        body = nothing("There is no journal (durability is off), so nothing is kept.")
    elif page.failure is not None:
        body = tag("p", f"The journal cannot be read: {page.failure}.", class_="problem")
    elif not found.items:
        body = nothing("No dead letters." if not found.after else "No more dead letters.")
        body = join(body, _pager(found))
    else:
        rows = tag("ul", [_letter(page, one, session) for one in found.items], class_="rows")
        body = join(_form(session, found, rows), _pager(found))
    return card("letters", "Dead letters", found.total if found.total else None, body)


def _form(session: Session, found: Letters, rows: Markup) -> Markup:
    if not session.may_manage:
        note = "To retry or drop them, log in with a token that has the scope manage."
        return join(rows, tag("p", note, class_="dim"))
    some = tag(
        "div",
        tag("label", tag("input", type="checkbox", data_all=True), "select all on this page"),
        tag("button", "Retry selected", name="retry", value="selected"),
        tag("button", "Drop selected", name="drop", value="selected", class_="danger"),
        class_="some",
    )
    fields = [hidden("csrf", session.csrf), hidden("after", str(found.after))]
    return tag("form", *fields, some, rows, method="post", action="letters")


def _letter(page: PageSnapshot, item: Item, session: Session) -> Markup:
    box = tag("input", type="checkbox", name="uid", value=item.uid, aria_label="select")
    died = item.received if item.died is None else item.died
    kind = f"reply to {item.kind}" if item.is_reply and item.kind else item.kind
    marks = [pill("dim", kind or "reply")]
    if item.orphaned:
        marks.append(pill("warn", "orphaned"))
    return tag(
        "li",
        tag(
            "div",
            box if session.may_manage else None,
            parties(item.from_, item.to, item.component),
            class_="who",
        ),
        tag("div", marks, " ", item.reason or "", class_="why"),
        _attempts(item),
        tag("div", age(page.now - died), class_="age", title=f"given up {when(died)}"),
        _buttons(item) if session.may_manage else None,
    )


def _attempts(item: Item) -> Markup:
    shown = item.attempts[-_ATTEMPTS:]
    rows = [tag("li", f"{when(one.at)}: {one.result}") for one in shown]
    noun = "attempt" if len(item.attempts) == 1 else "attempts"
    head = tag("summary", f"{len(item.attempts)} {noun}, received {when(item.received)}")
    return tag("details", head, tag("p", item.uid, class_="mono"), tag("ol", rows), class_="dim")


def _buttons(item: Item) -> Markup:
    can = item.kind != "iq" and not item.is_reply
    retry = tag("button", "Retry", name="retry", value=item.uid) if can else None
    drop = tag("button", "Drop", name="drop", value=item.uid, class_="danger")
    return tag("div", retry, drop, class_="buttons")


def _pager(found: Letters) -> Markup | None:
    links = []
    if found.after:
        links.append(tag("a", "← first", href="./#letters"))
    if found.next is not None:
        links.append(tag("a", "next →", href=f"./?after={found.next}#letters"))
    return tag("nav", links, class_="pager") if links else None


def drop_question(session: Session, uids: Collection[str], after: int) -> Markup:
    """Return the page that asks for confirmation before letters are dropped."""
    one = len(uids) == 1
    text = "It will be" if one else "They will be"
    fields = [
        hidden("csrf", session.csrf),
        hidden("after", str(after)),
        hidden("confirmed", "yes"),
        *(hidden("uid", uid) for uid in uids),
    ]
    form = tag(
        "form",
        *fields,
        tag("button", "Drop permanently", name="drop", value="selected", class_="danger main"),
        tag("a", "Cancel", href=address(after), class_="button"),
        method="post",
        action="letters",
        class_="buttons",
    )
    title = f"Drop {'this dead letter' if one else f'{len(uids)} dead letters'}?"
    listed = tag("ul", [tag("li", uid, class_="mono") for uid in uids])
    return question(session, title, listed, tag("p", f"{text} deleted and never delivered."), form)


def address(after: int) -> str:
    """Return the address of the page that shows the letters after `after`."""
    return f"./?after={after}#letters" if after else "./"


# --- shared by them


def told(done: Sequence[str], failed: Collection[str], verb: str) -> str:
    """Return the result of an action, for the notice on the next page."""
    parts = []
    if done:
        parts.append(f"{len(done)} {'stanza is' if len(done) == 1 else 'stanzas are'} {verb}.")
    parts += sorted(set(failed))
    return " ".join(parts) or "Nothing was selected."
