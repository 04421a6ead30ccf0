"""Checks what people fill in, field by field; problems are told in words for them."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from bridge.config.form import TEXT_LIMIT, CommandField, Rule, compiled
from bridge.config.value import BadValue
from xmppstream import InvalidJid, split

Values = dict[str, list[str]]
"""The values of fields by name; a field without any is absent."""

VALUES_LIMIT: Final = 200
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TRUE: Final = frozenset({"1", "true", "yes", "y"})
_FALSE: Final = frozenset({"0", "false", "no", "n"})


class WrongValue(ValueError):
    """A value is not valid; the message says why, to the person."""


def checked_form(
    fields: Sequence[CommandField], given: Mapping[str, Sequence[str]]
) -> tuple[Values, list[str]]:
    """Return the valid values of a form, and a sentence for each other one. What no person fills in
    has the value that the form gives it, whatever was sent.
    """
    values: Values = {}
    wrong: list[str] = []
    for field in fields:
        if field.type == "fixed":
            continue
        if field.type == "hidden":
            found = list(field.values)
        else:
            try:
                found = checked(field, given.get(field.var, ()))
            except WrongValue as error:
                wrong.append(f"{field.shown}: {error}")
                continue
        if found:
            values[field.var] = found
    return values, wrong


def checked(field: CommandField, given: Sequence[str]) -> list[str]:
    """Return the values of one field.

    Raises:
        WrongValue: if they are not valid.
    """
    if len(given) > VALUES_LIMIT or sum(map(len, given)) > TEXT_LIMIT:
        raise WrongValue("this is too long.")
    if field.type == "text-multi":
        lines = [line for one in given for line in one.splitlines() or [""]]
        texts = lines if any(line.strip() for line in lines) else []
    else:
        texts = [one.strip() for one in given if one.strip()]
    if not texts:
        if field.required:
            raise WrongValue("this is required.")
        return []
    if len(texts) > 1 and not field.is_multi:
        raise WrongValue("give one value only.")
    if field.rule is not None:
        whole = "\n".join(texts)
        _check_rule(field.rule, whole)
    return [_checked_text(field, text) for text in texts]


def _checked_text(field: CommandField, text: str) -> str:
    match field.type:
        case "boolean":
            word = text.lower()
            if word not in _TRUE | _FALSE:
                raise WrongValue("answer yes or no.")
            return "true" if word in _TRUE else "false"
        case "jid-single" | "jid-multi":
            try:
                return str(split(text))
            except InvalidJid:
                raise WrongValue("this is not an address such as name@example.com.") from None
        case "list-single" | "list-multi":
            if all(text != one.value for one in field.options):
                raise WrongValue("choose one of the options.")
    return text


def _check_rule(rule: Rule, text: str) -> None:
    if rule.kind == "integer":
        if _WHOLE.fullmatch(text) is None:
            raise WrongValue("this is not a whole number.")
        if rule.least is not None and int(text) < rule.least:
            raise WrongValue(f"this is less than {rule.least}.")
        if rule.most is not None and int(text) > rule.most:
            raise WrongValue(f"this is more than {rule.most}.")
    elif rule.kind == "date":
        try:
            if _DATE.fullmatch(text) is None:
                raise ValueError
            date.fromisoformat(text)
        except ValueError:
            raise WrongValue("this is not a date such as 2026-06-30.") from None
    elif not _matches(rule.regex, text):
        raise WrongValue("this does not have the right form.")


def _matches(regex: str, text: str) -> bool:
    try:
        return compiled(regex).fullmatch(text) is not None
    except BadValue:  # RE2 was removed since the pattern was checked
        return False
