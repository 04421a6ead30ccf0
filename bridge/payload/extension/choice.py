"""Answers and actions to choose from (XEP-0439), as elements and as a numbered list in the body.

Whoever has no buttons answers by a number of that list. `_numbers` decides the numbers for both:
for the list that is written, and for what a number means that somebody sends.
"""

from collections.abc import Sequence
from html import escape
from itertools import count
from typing import Final, Literal

import msgspec

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply, quote
from bridge.payload.extension.common import Asked, Elements, Written, element
from bridge.payload.shape import QuickAction, QuickAnswer
from xmppstream import Element, Stanza
from xmppstream.names import COMPONENT, expanded

COUNT_LIMIT: Final = 20
"""The answers of one message, at most; likewise its actions."""
LENGTH_LIMIT: Final = 200
"""The characters of a value, an id or a label, at most."""
SELECTED: Final = expanded(ns.ACTION, "action-selected")
_RESPONSE: Final = expanded(ns.ACTION, "response")
_ACTION: Final = expanded(ns.ACTION, "action")
_BODY: Final = expanded(COMPONENT, "body")


class Choice(msgspec.Struct, frozen=True):
    """What was chosen: the value of an answer, or the id of an action."""

    key: Literal["answer", "action"]
    value: str


class Offer(msgspec.Struct, frozen=True):
    """What can be chosen after a message. `is_listed`: whether its body has the numbered list, so
    that numbers mean something.
    """

    answers: tuple[QuickAnswer, ...] = ()
    actions: tuple[QuickAction, ...] = ()
    is_listed: bool = True

    def choice_of(self, body: str) -> Choice | None:
        """Return what a body chooses: by its value, by its number, or by its label. The action of a
        button has no body; only a number or a label can name it.
        """
        said = body.strip()
        choices = [
            *(Choice("answer", one.value) for one in self.answers),
            *(Choice("action", one.id) for one in self.actions),
        ]
        for one, choice in zip(self.answers, choices, strict=False):
            if one.value.strip() == said:
                return choice
        if self.is_listed:
            number = said.rstrip(".)")
            for one_number, choice in zip(
                _numbers(self.answers, self.actions), choices, strict=True
            ):
                if one_number == number:
                    return choice
        folded = said.casefold()
        for label, choice in zip(_labels(self.answers, self.actions), choices, strict=True):
            if label.strip().casefold() == folded:
                return choice
        return None


def offer_of(message: Stanza) -> Offer | None:
    """Return what a message offers, if anything; what is over the limits is left out."""
    found: dict[str, list[Element]] = {_RESPONSE: [], _ACTION: []}
    body = ""
    for child in message.element.elements:
        if child.name in found:
            found[child.name].append(child)
        elif child.name == _BODY:
            body = child.text
    answers = tuple((read_answers(found[_RESPONSE], message) or ())[:COUNT_LIMIT])
    actions = tuple((read_actions(found[_ACTION], message) or ())[:COUNT_LIMIT])
    texts = [*(one.value for one in answers), *(one.id for one in actions)]
    texts += _labels(answers, actions)
    if not texts or any(len(one) > LENGTH_LIMIT for one in texts):
        return None
    return Offer(answers, actions, body.endswith(_listing(answers, actions)))


def _numbers(answers: Sequence[QuickAnswer], actions: Sequence[QuickAction]) -> list[str]:
    """Return the number of each answer, then of each action. An answer whose value is a number has
    that one, so that a number never means two things.
    """
    taken = {one.value for one in answers if one.value.isascii() and one.value.isdigit()}
    free = (str(number) for number in count(1) if str(number) not in taken)
    of_answers = [one.value if one.value in taken else next(free) for one in answers]
    return [*of_answers, *(next(free) for _ in actions)]


def _labels(answers: Sequence[QuickAnswer], actions: Sequence[QuickAction]) -> list[str]:
    return [*(one.label or one.value for one in answers), *(one.label for one in actions)]


def _listing(answers: Sequence[QuickAnswer], actions: Sequence[QuickAction]) -> str:
    pairs = zip(_numbers(answers, actions), _labels(answers, actions), strict=True)
    return "\n".join(label if label == number else f"{number}. {label}" for number, label in pairs)


def listing(answers: list[QuickAnswer | str], actions: list[QuickAction]) -> str:
    """Return the numbered list for the body: XEP-0439 §6 wants it for clients without buttons."""
    return _listing(_answers(answers), _checked(actions))


def listing_html(answers: list[QuickAnswer | str], actions: list[QuickAction]) -> str:
    """Return the same list for a formatted body."""
    return f"<p>{escape(listing(answers, actions)).replace(chr(10), '<br/>')}</p>"


def read_answers(elements: Elements, _: Stanza) -> list[QuickAnswer] | None:
    pairs = [(one.get("value"), one.get("label") or None) for one in elements]
    return [QuickAnswer(value, label) for value, label in pairs if value] or None


def read_actions(elements: Elements, _: Stanza) -> list[QuickAction] | None:
    pairs = [(one.get("id"), one.get("label")) for one in elements]
    return [QuickAction(id, label or id) for id, label in pairs if id] or None


def write_answers(value: list[QuickAnswer | str], _: Asked) -> Written:
    return tuple(
        element(_RESPONSE, {"value": one.value, "label": one.label or None})
        for one in _answers(value)
    )


def write_actions(value: list[QuickAction], _: Asked) -> Written:
    return tuple(element(_ACTION, {"id": one.id, "label": one.label}) for one in _checked(value))


def write_action(value: str, _: Asked) -> Written:
    _check_text("action", value)
    return (Element(SELECTED, (("id", value),)),)


def _answers(given: list[QuickAnswer | str]) -> list[QuickAnswer]:
    answers = [QuickAnswer(one) if isinstance(one, str) else one for one in given]
    _check("answers", "value", [(one.value, one.label) for one in answers])
    return answers


def _checked(actions: list[QuickAction]) -> list[QuickAction]:
    _check("actions", "id", [(one.id, one.label) for one in actions])
    return actions


def _check(key: str, name: str, pairs: list[tuple[str, str | None]]) -> None:
    """Refuse what no list of buttons can show (XEP-0439 §5.1, §5.3)."""
    if len(pairs) > COUNT_LIMIT:
        raise UnusableReply(f"{key}: more than {COUNT_LIMIT}")
    for value, label in pairs:
        _check_text(f"{key}.{name}", value)
        if label is not None and (label or key == "actions"):
            _check_text(f"{key}.label", label)
    _check_distinct(f"{key}.{name}", [value for value, _ in pairs])
    _check_distinct(f"{key}.label", [label or value for value, label in pairs])


def _check_text(place: str, text: str) -> None:
    if not text.strip():
        raise UnusableReply(f"{place} is empty")
    if len(text) > LENGTH_LIMIT:
        raise UnusableReply(f"{place} is longer than {LENGTH_LIMIT} characters")
    if len(text.splitlines()) > 1 or "\t" in text:
        raise UnusableReply(f"{place}: {quote(text)} is not one line of text")


def _check_distinct(place: str, texts: list[str]) -> None:
    seen: set[str] = set()
    for one in texts:
        if one in seen:
            raise UnusableReply(f"{place}: {quote(one)} is there twice")
        seen.add(one)
