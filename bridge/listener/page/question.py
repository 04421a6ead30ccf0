"""The questions before an action that takes many dead letters, or deletes one."""

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from bridge.journal.request import Item
from bridge.listener.page.action import ALL_LIMIT, Many
from bridge.listener.page.dead_letter import TEXT_LIMIT, died, marks, told_reason, told_text
from bridge.listener.page.html import ago, hidden, join, parties, question, tag
from bridge.listener.page.selection import Selection
from bridge.listener.page.session import Session

_SHOWN: Final = 20
_REASONS: Final = 5
_TEXT_LIMIT: Final = 4000  # of the only one


def drop_question(
    session: Session,
    items: Sequence[Item],
    texts: Mapping[int, str],
    selection: Selection,
    now: float,
) -> Markup:
    """Return the page that asks whether these are to be dropped."""
    one = len(items) == 1
    title = f"Drop {'this dead letter' if one else f'{len(items):,} dead letters'}?"
    fields = [hidden("uid", item.uid) for item in items]
    warning = f"{'It' if one else 'They'} will be deleted and never delivered."
    listed = _listed(items, texts, now)
    form = _form(session, selection, "drop", "selected", "Drop permanently", *fields)
    return question(session, title, listed, tag("p", warning), form)


def all_question(
    session: Session, verb: str, selection: Selection, many: Many, now: float
) -> Markup:
    """Return the page that asks whether all that match are to be retried or dropped."""
    count = f"{'the oldest ' if many.has_more else ''}{many.count:,}"
    noun = "dead letter" if many.count == 1 else "dead letters"
    which = f" {selection}" if selection.is_filter else ""
    back = tag("a", "Back", href=selection.address(), class_="button")
    if not many.count:
        left = _left_out(many)
        title = f"Nothing to {verb}"
        return question(session, title, tag("p", left or "No dead letter matches."), back)
    notes = [
        "Each is delivered again, with a new budget."
        if verb == "retry"
        else "They will be deleted and never delivered.",
        _left_out(many),
        f"One step takes at most {ALL_LIMIT:,}: repeat it for the rest." if many.has_more else "",
        "Those that are given up from now on are not among them.",
    ]
    fields = [hidden("until", f"{many.until:.6f}")]
    if many.since is not None:
        fields.append(hidden("since", f"{many.since:.6f}"))
    label = f"Retry {count}" if verb == "retry" else f"Drop {count} permanently"
    form = _form(session, selection, verb, "all", label, *fields)
    return question(
        session,
        f"{verb.capitalize()} {count} {noun}{which}?",
        _reasons(many),
        tag("h3", "The oldest of them"),
        _listed(many.first, many.texts, now),
        [tag("p", note) for note in notes if note],
        form,
    )


def _left_out(many: Many) -> str:
    if not many.left_out:
        return ""
    verb = "is" if many.left_out == 1 else "are"
    return (
        f"{many.left_out:,} {verb} left out: an iq or a stanza of ours cannot be retried, only"
        " dropped."
    )


def _reasons(many: Many) -> Markup:
    """Return the commonest reasons, with their counts."""
    common = many.reasons.most_common(_REASONS)
    rows = [tag("li", tag("b", f"{count:,}"), " ", reason) for reason, count in common]
    rest = len(many.reasons) - len(rows)
    if rest > 0:
        rows.append(tag("li", f"… and {rest:,} other {'reason' if rest == 1 else 'reasons'}"))
    return tag("ul", rows, class_="reasons")


def _listed(items: Sequence[Item], texts: Mapping[int, str], now: float) -> Markup:
    limit = _TEXT_LIMIT if len(items) == 1 else TEXT_LIMIT
    rows = [_row(one, texts.get(place), now, limit) for place, one in enumerate(items[:_SHOWN])]
    more = len(items) - len(rows)
    note = tag("p", f"… and {more:,} more.", class_="dim") if more > 0 else None
    return join(tag("ul", rows, class_="rows"), note)


def _row(item: Item, text: str | None, now: float, limit: int) -> Markup:
    return tag(
        "li",
        tag("div", parties(item.from_, item.to, item.component), class_="who"),
        tag("div", marks(item), " ", told_reason(item), class_="why"),
        None if text is None else tag("div", told_text(text, limit), class_="said"),
        tag("div", item.uid, class_="mono dim"),
        tag("div", ago(now - died(item)), class_="age"),
    )


def _form(
    session: Session, selection: Selection, verb: str, what: str, label: str, *fields: Markup
) -> Markup:
    return tag(
        "form",
        hidden("csrf", session.csrf),
        hidden("after", str(selection.after)),
        hidden("confirmed", "yes"),
        *(hidden(name, value) for name, value in selection.fields.items()),
        *fields,
        tag(
            "button",
            label,
            name=verb,
            value=what,
            class_="danger main" if verb == "drop" else "main",
        ),
        tag("a", "Cancel", href=selection.address(), class_="button"),
        method="post",
        action="letters",
        class_="buttons",
    )
