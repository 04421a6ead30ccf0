"""Forms of commands as data forms (XEP-0004, XEP-0122), and what was submitted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bridge.config.form import CommandField
from bridge.payload import namespace as ns
from bridge.payload.shape import Form, FormField, Option, Validate
from bridge.xmpp.command.value import VALUES_LIMIT, Values
from xmppstream import Element
from xmppstream.names import expanded

SUBMITTED_LIMIT: Final = 500
"""The fields of a submitted form, at most; clients also send those that they do not know."""
X: Final = expanded(ns.DATA, "x")
_FIELD: Final = expanded(ns.DATA, "field")
_VALUE: Final = expanded(ns.DATA, "value")


class TooManyFields(ValueError):
    """A form has more fields than any that the bridge shows."""


def form_of(
    title: str, instructions: str, fields: Sequence[CommandField], filled: Mapping[str, list[str]]
) -> Form:
    """Return a form to fill in. `filled` are the values that it had before."""
    shown = [_shown(one, filled.get(one.var, list(one.values))) for one in fields]
    return Form("form", title or None, instructions or None, shown)


def submitted_form(values: Values, fields: Iterable[CommandField]) -> Form:
    """Return checked values as a form that was submitted."""
    multi = {one.var for one in fields if one.is_multi}
    said = [
        FormField(var, "list-multi", values=some) if var in multi else FormField(var, value=some[0])
        for var, some in values.items()
    ]
    return Form("submit", fields=said)


def submitted_values(form: Element) -> dict[str, list[str]]:
    """Return what a submitted form says, by the names of its fields; the first of a name counts.

    Raises:
        TooManyFields: if it has more than `SUBMITTED_LIMIT`, or one more than `VALUES_LIMIT` values
            by far.
    """
    found: dict[str, list[str]] = {}
    for count, field in enumerate(form.find_all(_FIELD)):
        if count == SUBMITTED_LIMIT:
            raise TooManyFields
        values = []
        for one in field.find_all(_VALUE):
            values.append(one.text)
            if len(values) > VALUES_LIMIT:  # refused later, with the name of the field
                break
        found.setdefault(field.get("var") or "", values)
    return found


def _shown(field: CommandField, values: list[str]) -> FormField:
    """Return a field with all labels: without them, profanity 0.13 shows `(null)`."""
    options: list[Option | str] = [
        Option(one.value, one.label or one.value) for one in field.options
    ]
    rule = field.rule
    return FormField(
        field.var or None,
        field.type,
        field.shown if field.is_asked else field.label or None,
        field.desc or None,
        field.required,
        None if field.is_multi else "".join(values) or None,
        values if field.is_multi and values else None,
        options or None,
        None if rule is None else Validate(rule.kind, rule.least, rule.most, rule.regex or None),
    )
