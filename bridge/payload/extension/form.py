"""Data forms (XEP-0004), and what is made of them: commands (XEP-0050), registration (XEP-0077)."""

from typing import Any, Final

from msgspec.structs import replace

from bridge.config.form import FIELD_TYPES
from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply, quote
from bridge.payload.extension.common import (
    Asked,
    Elements,
    Written,
    child,
    child_text,
    element,
)
from bridge.payload.shape import (
    Actions,
    Command,
    Form,
    FormField,
    Note,
    Option,
    Register,
    Table,
    Validate,
    Values,
)
from xmppstream import Element, Stanza
from xmppstream.names import expanded

TYPES: Final = ("form", "submit", "cancel", "result")
FIELDS_LIMIT: Final = 500
"""The fields of a form that is written, at most: nobody can fill in more."""
FORM_TYPE: Final = "FORM_TYPE"
"""The field that says what the others mean; it is hidden (XEP-0068)."""
_X: Final = expanded(ns.DATA, "x")
_FIELD: Final = expanded(ns.DATA, "field")
_VALUE: Final = expanded(ns.DATA, "value")
_DATATYPES: Final = {"integer": "xs:integer", "date": "xs:date", "regex": "xs:string"}
_STATUSES: Final = ("executing", "completed", "canceled")
_REGISTER_TEXTS: Final = (
    *("instructions", "username", "nick", "password", "name", "first", "last", "email", "address"),
    *("city", "state", "zip", "phone", "url", "date", "misc", "text", "key"),
)


def form_of(element: Element) -> Form:
    """Return a data form. What was filled in is also in `data`, by name."""
    instructions = "\n".join(one.text.strip() for one in _named(element, "instructions"))
    reported = element.find(expanded(ns.DATA, "reported"))
    type = element.get("type")
    items = [[_field_of(one) for one in item.find_all(_FIELD)] for item in _named(element, "item")]
    return Form(
        type,
        child_text(element, ns.DATA, "title"),
        instructions or None,
        [_field_of(one) for one in element.find_all(_FIELD)] or None,
        items or None,
        values_of(element) if type == "submit" else None,
        None if reported is None else [_field_of(one) for one in reported.find_all(_FIELD)] or None,
    )


def values_of(form: Element) -> Values:
    """Return the values of a form by the names of its fields, of those that have one."""
    found: Values = {}
    for one in map(_field_of, form.find_all(_FIELD)):
        value = one.value if one.values is None else one.values
        if one.var and value is not None:
            found[one.var] = value
    return found


def _named(element: Element, local: str) -> list[Element]:
    return list(element.find_all(expanded(ns.DATA, local)))


def _field_of(element: Element) -> FormField:
    values = [one.text for one in element.find_all(_VALUE)]
    options: list[Option | str] = [
        Option(next((value.text for value in one.find_all(_VALUE)), ""), one.get("label"))
        for one in _named(element, "option")
    ]
    is_many = len(values) > 1 or (element.get("type") or "").endswith("-multi")
    return FormField(
        element.get("var"),
        element.get("type"),
        element.get("label"),
        next((one.text for one in _named(element, "desc")), None),
        element.find(expanded(ns.DATA, "required")) is not None,
        values[0] if values and not is_many else None,
        values if is_many else None,
        options or None,
    )


def read_dataform(elements: Elements, _: Stanza) -> Form:
    return form_of(elements[0])


def write_dataform(value: Form, _: Asked) -> Written:
    return (form_element("dataform", value),)


def form_element(key: str, form: Form) -> Element:
    """Return the element of a form. Raises `UnusableReply` if it is not a form of XEP-0004."""
    type = form.type or ("submit" if form.data is not None and form.fields is None else None)
    if type not in TYPES:
        known = ", ".join(TYPES)
        why = f"{key}.type is not" if type else f"{key} has no type; use"
        raise UnusableReply(f"{why} one of {known}")
    fields = _filled(type, form.fields or [], form.data or {})
    if len(fields) > FIELDS_LIMIT:
        raise UnusableReply(f"{key}.fields: more than {FIELDS_LIMIT}")
    seen: set[str] = set()
    for one in fields:
        if one.var in seen:
            raise UnusableReply(f"{key}.fields: {quote(one.var)} is there twice")
        seen |= {one.var} if one.var else set()
    reported = form.reported or (form.items[0] if form.items else [])
    inner = (
        *child(ns.DATA, "title", form.title),
        *(
            Element(expanded(ns.DATA, "instructions"), (), (line,))
            for line in (form.instructions or "").splitlines()
            if line.strip()
        ),
        *(_field_element(key, one) for one in fields),
        *((_reported(reported),) if reported else ()),
        *(
            Element(
                expanded(ns.DATA, "item"),
                (),
                tuple(element(_FIELD, {"var": one.var}, _values(one)) for one in item),
            )
            for item in form.items or ()
        ),
    )
    return Element(_X, (("type", type),), inner)


def _reported(item: list[FormField]) -> Element:
    """The heads of a table's columns."""
    heads = (element(_FIELD, {"var": o.var, "type": o.type, "label": o.label}) for o in item)
    return Element(expanded(ns.DATA, "reported"), (), tuple(heads))


def _filled(type: str | None, fields: list[FormField], data: Values) -> list[FormField]:
    """Return fields with the values of `data`, and a field for each other one of these."""
    known = {one.var for one in fields}
    hidden = None if type == "submit" else "hidden"  # who fills a form in names no types
    more = [FormField(v, hidden if v == FORM_TYPE else None) for v in data if v not in known]
    return [
        replace(one, value=data[one.var], values=None) if one.var in data else one
        for one in (*fields, *more)
    ]


def _field_element(key: str, field: FormField) -> Element:
    if field.type is not None and field.type not in FIELD_TYPES:
        known = ", ".join(FIELD_TYPES)
        raise UnusableReply(f"{key}.fields.type: {quote(field.type)} is not one of {known}")
    if not field.var and field.type != "fixed":
        raise UnusableReply(f"{key}.fields has no var")
    if field.options and field.type not in ("list-single", "list-multi"):
        raise UnusableReply(f"{key}.fields.options needs the type list-single or list-multi")
    choices = (Option(one) if isinstance(one, str) else one for one in field.options or ())
    options = (
        element(expanded(ns.DATA, "option"), {"label": one.label}, (_value(one.value),))
        for one in choices
    )
    inner = (
        *child(ns.DATA, "desc", field.desc),
        *((Element(expanded(ns.DATA, "required")),) if field.required else ()),
        *_values(field),
        *options,
        *_validate(key, field.validate),
    )
    return element(_FIELD, {"var": field.var, "type": field.type, "label": field.label}, inner)


def _validate(key: str, given: str | Validate | None) -> Written:
    """Return the rule of a field (XEP-0122 §3)."""
    if given is None:
        return ()
    rule = Validate(given) if isinstance(given, str) else given
    bounds = {"min": rule.min, "max": rule.max}
    has_bounds = rule.min is not None or rule.max is not None
    kind = rule.type or ("regex" if rule.regex else "integer" if has_bounds else None)
    if kind not in _DATATYPES or (kind == "regex") != bool(rule.regex):
        rules = "integer, date, {min, max} or {regex}"
        raise UnusableReply(f"{key}.fields.validate is not {rules}")
    inner = element(expanded(ns.VALIDATE, "basic"), {})
    if rule.regex:
        inner = Element(expanded(ns.VALIDATE, "regex"), (), (rule.regex,))
    elif has_bounds:
        texts = {name: None if one is None else str(one) for name, one in bounds.items()}
        inner = element(expanded(ns.VALIDATE, "range"), texts)
    datatype = {"datatype": _DATATYPES[kind]}
    return (element(expanded(ns.VALIDATE, "validate"), datatype, (inner,)),)


def _values(field: FormField) -> Written:
    given = [field.value] if field.values is None else field.values
    if isinstance(field.value, list):
        given = field.value
    said = [_text(one) for one in given if one is not None]
    if field.type == "text-multi":
        said = [line for one in said for line in one.splitlines() or [""]]
    return tuple(map(_value, said))


def _value(text: str) -> Element:
    return Element(_VALUE, (), (text,) if text else ())


def _text(value: Any) -> str:
    """Return a value as text; XEP-0004 §3.3 has 1 and 0 for a boolean."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def read_command(elements: Elements, _: Stanza) -> Command:
    one = elements[0]
    actions = one.find(expanded(ns.COMMANDS, "actions"))
    note = one.find(expanded(ns.COMMANDS, "note"))
    form = one.find(_X)
    return Command(
        one.get("node"),
        one.get("sessionid"),
        one.get("action"),
        one.get("status"),
        None if actions is None else _actions_of(actions),
        None if note is None else Note(note.text, note.get("type")),
        None if form is None else form_of(form),
        values_of(form) if form is not None and form.get("type") == "submit" else None,
    )


def with_asked(stanza: Stanza, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a stanza by which the bridge asks for a command: with `command`, also in
    a message, and without the form, whose values are its `data`.
    """
    found = stanza.element.find(expanded(ns.COMMANDS, "command"))
    if found is None:
        return fields
    return {**fields, "command": replace(read_command([found], stanza), form=None)}


def _actions_of(element: Element) -> Actions:
    named = {one.local for one in element.elements}
    return Actions(
        element.get("execute"), *(name in named for name in ("prev", "next", "complete"))
    )


def write_command(value: Command | str, asked: Asked) -> Written:
    """An answer takes node and session from the request. A form to fill in goes on with it."""
    command = with_form(Command(value) if isinstance(value, str) else value)
    request = asked.request.element.find(expanded(ns.COMMANDS, "command"))
    is_answer = asked.request.is_request and request is not None
    node = command.node or (request.get("node") if request is not None else None)
    if not node:
        raise UnusableReply("command has no node")
    session, status = command.sessionid, command.status
    if is_answer and request is not None:
        session = session or request.get("sessionid") or asked.request.id
        is_form = command.form is not None and command.form.type == "form"
        if is_form and command.actions is None and status is None:
            command = replace(command, actions=Actions("complete", complete=True))
        status = status or ("completed" if command.actions is None else "executing")
    if status is not None and status not in _STATUSES:
        raise UnusableReply(f"command.status is not one of {', '.join(_STATUSES)}")
    attributes = {"node": node, "sessionid": session, "status": status, "action": command.action}
    inner = (*_actions(command.actions), *_form(command), *_note(command.note))
    return (element(expanded(ns.COMMANDS, "command"), attributes, inner),)


def with_form(command: Command) -> Command:
    """Return a command whose `fields` or `table` is its form.

    Raises:
        UnusableReply: if it has more than one of them.
    """
    given = [name for name in ("fields", "table", "form") if getattr(command, name) is not None]
    if len(given) > 1:
        raise UnusableReply(f"command.{given[0]} and command.{given[1]} exclude each other")
    if command.fields is not None:
        return replace(command, fields=None, form=Form("form", fields=command.fields))
    if command.table is not None:
        return replace(command, table=None, form=_form_of_table(command.table))
    return command


def _form_of_table(table: Table) -> Form:
    """Return the form of a table (XEP-0004 §3.4)."""
    if not table.columns:
        raise UnusableReply("command.table.columns is empty")
    heads = [FormField(one, label=one) if isinstance(one, str) else one for one in table.columns]
    if any(not one.var for one in heads):
        raise UnusableReply("command.table.columns: a column has no var")
    items = []
    for number, row in enumerate(table.rows, 1):
        if len(row) != len(heads):
            why = f"row {number} has {len(row)} values, not {len(heads)}"
            raise UnusableReply(f"command.table.rows: {why}")
        items.append(
            [
                FormField(head.var, value="" if one is None else _cell(one))
                for head, one in zip(heads, row, strict=True)
            ]
        )
    return Form("result", reported=heads, items=items)


def _cell(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _actions(actions: Actions | None) -> Written:
    if actions is None:
        return ()
    allowed = {"prev": actions.prev, "next": actions.next, "complete": actions.complete}
    if actions.execute is not None and not allowed.get(actions.execute):
        raise UnusableReply("command.actions.execute names none of the allowed actions")
    inner = tuple(Element(expanded(ns.COMMANDS, name)) for name, is_on in allowed.items() if is_on)
    return (element(expanded(ns.COMMANDS, "actions"), {"execute": actions.execute}, inner),)


def _form(command: Command) -> Written:
    if command.form is not None:
        return (form_element("command.form", command.form),)
    if command.data is not None:
        return (form_element("command.data", Form("submit", data=command.data)),)
    return ()


def _note(note: Note | str | None) -> Written:
    if note is None:
        return ()
    one = Note(note) if isinstance(note, str) else note
    if one.type not in (None, "info", "warn", "error"):
        raise UnusableReply("command.note.type is not one of info, warn, error")
    pairs = {"type": one.type or "info"}
    return (element(expanded(ns.COMMANDS, "note"), pairs, (one.text,)),) if one.text else ()


def read_register(elements: Elements, _: Stanza) -> Register | bool:
    one = elements[0]
    form = one.find(_X)
    found: dict[str, Any] = {
        name: field.text.strip()
        for name in _REGISTER_TEXTS
        if (field := one.find(expanded(ns.REGISTER, name))) is not None
    }
    for local in ("registered", "remove"):
        if one.find(expanded(ns.REGISTER, local)) is not None:
            found[local] = True
    if form is not None:
        found["form"] = form_of(form)
    return Register(**found) if found else True


def write_register(value: Register | bool, _: Asked) -> Written:
    """An empty text is a field that is to be filled in (XEP-0077 §3.1)."""
    inner: list[Element] = []
    if isinstance(value, Register):
        for name in _REGISTER_TEXTS:
            text = getattr(value, name)
            if text is not None:
                inner.append(Element(expanded(ns.REGISTER, name), (), (text,) if text else ()))
        for name in ("registered", "remove"):
            if getattr(value, name):
                inner.append(Element(expanded(ns.REGISTER, name)))
        if value.form is not None:
            inner.append(form_element("register.form", value.form))
    return (Element(expanded(ns.REGISTER, "query"), (), tuple(inner)),)
