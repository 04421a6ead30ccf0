"""The dead letters, as a part of the page. Addresses, reasons, results and texts were written by
strangers.
"""

from typing import Final

from markupsafe import Markup

from bridge.journal.request import Item
from bridge.listener.page.html import (
    Child,
    ago,
    card,
    hidden,
    join,
    nothing,
    parties,
    pill,
    tag,
)
from bridge.listener.page.selection import HOURS, Selection
from bridge.listener.page.session import Session
from bridge.listener.page.snapshot import Letters, PageSnapshot
from bridge.telemetry.text import when

_ATTEMPTS: Final = 20
TEXT_LIMIT: Final = 280
"""The characters of a text in a list."""
_REASON_LIMIT: Final = 300


def letters(page: PageSnapshot, session: Session) -> Markup:
    """Return a page of dead letters, with buttons if the token may manage them."""
    found = page.letters
    selection = found.selection
    body: Child
    if not page.has_journal:
        body = nothing("There is no journal (durability is off), so nothing is kept.")
    elif page.failure is not None:
        body = tag("p", f"The journal cannot be read: {page.failure}.", class_="problem")
    elif not page.dead and not selection.is_filter:
        body = nothing("No dead letters.")
    else:
        rows: Child = tag(
            "ul",
            [_letter(page, place, one, session) for place, one in enumerate(found.items)],
            class_="rows",
        )
        if not found.items:
            rows = nothing(_none(found))
        shown = rows
        if session.may_manage:
            shown = _form(session, page, rows)
        elif found.items:
            note = "To read, retry or drop them, log in with a token that has the scope manage."
            shown = join(rows, tag("p", note, class_="dim"))
        body = join(_filter(page, selection), shown, _pager(found))
    return card("letters", "Dead letters", page.dead or None, body)


def can_be_retried(item: Item) -> bool:
    """Return whether the journal would make a dead letter pending again."""
    return item.kind != "iq" and not item.is_reply


def told_text(text: str, limit: int = TEXT_LIMIT) -> Markup:
    """Return what somebody wrote, cut if it is long. A line of it stays a line."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    *lines, last = cut.split("\n")
    return tag("q", [join(line, tag("br")) for line in lines], last, class_="text")


def told_reason(item: Item) -> str:
    """Return the reason of a dead letter, cut if it is long."""
    reason = item.reason or ""
    return reason if len(reason) <= _REASON_LIMIT else f"{reason[: _REASON_LIMIT - 1]}…"


def died(item: Item) -> float:
    """Return the Unix time at which a stanza was given up."""
    return item.received if item.died is None else item.died


def _none(found: Letters) -> str:
    if found.next is not None:
        return "None so far; there are more dead letters to look through."
    if found.selection.is_filter:
        return "No more dead letters match." if found.selection.after else "No dead letter matches."
    return "No more dead letters."


# --- the filter, and the actions on several


def _filter(page: PageSnapshot, selection: Selection) -> Markup | None:
    """Return the form by which dead letters are looked for."""
    domains = {name for name, one in (page.kept or {}).items() if one.dead}
    domains |= {selection.component} - {""}
    choice = None
    if len(domains) > 1 or selection.component:
        choices = [tag("option", "all components", value="", selected=not selection.component)]
        choices += [
            tag("option", name, value=name, selected=name == selection.component)
            for name in sorted(domains)
        ]
        choice = tag("select", choices, name="component", aria_label="Component")
    times = [
        tag("option", label, value=hours, selected=hours == selection.hours)
        for hours, label in HOURS.items()
    ]
    reason = tag(
        "input",
        type="search",
        name="reason",
        value=selection.reason,
        placeholder="the reason contains …",
        maxlength=200,
        aria_label="The reason contains",
    )
    clear = tag("a", "Show all", href="./#letters") if selection.is_filter else None
    return tag(
        "form",
        choice,
        reason,
        tag("select", times, name="hours", aria_label="Given up"),
        tag("button", "Filter"),
        clear,
        method="get",
        action="./#letters",
        class_="filter",
    )


def _form(session: Session, page: PageSnapshot, rows: Child) -> Markup:
    selection = page.letters.selection
    every = "all that match" if selection.is_filter else f"all {page.dead:,}"
    some = (
        tag(
            "label",
            tag("input", type="checkbox", data_all=True),
            "select all on this page",
            class_="scripts",
        ),
        tag("button", "Retry selected", name="retry", value="selected"),
        tag("button", "Drop selected", name="drop", value="selected", class_="danger"),
    )
    actions = tag(
        "div",
        some if page.letters.items else None,
        tag(
            "span",
            tag("button", f"Retry {every} …", name="retry", value="all"),
            tag("button", f"Drop {every} …", name="drop", value="all", class_="danger"),
            class_="every",
        ),
        class_="some",
    )
    fields = [hidden("csrf", session.csrf), hidden("after", str(selection.after))]
    fields += [hidden(name, value) for name, value in selection.fields.items()]
    still = "Without scripts this page does not refresh itself while you can select something."
    noscript = tag("noscript", tag("p", still, class_="dim"))
    return tag("form", *fields, actions, noscript, rows, method="post", action="letters")


# --- one of them


def _letter(page: PageSnapshot, place: int, item: Item, session: Session) -> Markup:
    name = f"select the one of {item.from_ or 'nobody'}"
    box = tag("input", type="checkbox", name="uid", value=item.uid, aria_label=name[:100])
    given_up = f"given up {when(died(item))}"
    text = page.letters.texts.get(place)
    return tag(
        "li",
        tag(
            "div",
            tag("label", box, class_="box") if session.may_manage else None,
            tag("span", parties(item.from_, item.to, item.component)),
            class_="who",
        ),
        tag("div", marks(item), " ", told_reason(item), class_="why"),
        None if text is None else tag("div", told_text(text), class_="said"),
        _attempts(item),
        tag("div", ago(page.now - died(item)), class_="age", title=given_up),
        _buttons(item) if session.may_manage else None,
    )


def marks(item: Item) -> Markup:
    """Return the kind of a dead letter, and whether it is orphaned."""
    kind = f"reply to {item.kind}" if item.is_reply and item.kind else item.kind
    orphaned = pill("warn", "orphaned") if item.orphaned else None
    return join(pill("dim", kind or "reply"), " " if orphaned else None, orphaned)


def _attempts(item: Item) -> Markup:
    shown = item.attempts[-_ATTEMPTS:]
    rows = [tag("li", f"{when(one.at)}: {one.result[:_REASON_LIMIT]}") for one in shown]
    noun = "attempt" if len(item.attempts) == 1 else "attempts"
    head = tag("summary", f"{len(item.attempts)} {noun}, received {when(item.received)}")
    return tag("details", head, tag("p", item.uid, class_="mono"), tag("ol", rows), class_="dim")


def _buttons(item: Item) -> Markup:
    can = can_be_retried(item)
    retry = tag("button", "Retry", name="retry", value=item.uid) if can else None
    drop = tag("button", "Drop", name="drop", value=item.uid, class_="danger")
    return tag("div", retry, drop, class_="buttons")


def _pager(found: Letters) -> Markup | None:
    selection = found.selection
    links = []
    if selection.after:
        links.append(tag("a", "← first", href=selection.address(after=0)))
    if found.next is not None:
        links.append(tag("a", "next →", href=selection.address(after=found.next)))
    return tag("nav", links, class_="pager") if links else None
