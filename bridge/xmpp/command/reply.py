"""What a service says in its reply: the next step of a command, a result, or a refusal."""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from bridge.config.form import read_fields
from bridge.config.value import BadValue
from bridge.payload.body import ReplyObject, RichObject
from bridge.payload.content import checked
from bridge.payload.error import UnusableReply
from bridge.payload.extension.form import with_form
from bridge.payload.shape import Command, Form, FormField, Note
from bridge.xmpp.command.session import Stage

_ACTIONS: Final = ("next", "complete")


def split_reply(
    objects: list[ReplyObject], *, takes_body: bool
) -> tuple[Command | None, list[ReplyObject]]:
    """Return what a reply says about the command, and its other objects. If it `takes_body`, an
    object with nothing but a body is a note: for who replies alike to a command and to a message.

    Raises:
        UnusableReply: if it says several things, or one of a wrong shape.
    """
    said: Command | None = None
    others: list[ReplyObject] = []
    for one in objects:
        found = _command_of(one)
        if found is None and takes_body and _is_body_only(one):
            found = Command(note=Note(str(one.body)))
        if found is None:
            others.append(one)
        elif said is not None:
            raise UnusableReply("the reply has more than one command")
        else:
            said = found
    return said, others


def answers_by_itself(objects: list[ReplyObject]) -> bool:
    """Return whether objects hold an answer to an iq, or may hold one: an error, or XML."""
    return any(
        bool(one.stanza)
        or one.type in ("error", "result")
        or (isinstance(one, RichObject) and "error" in one.fields)
        for one in objects
    )


def next_stage(command: Command, title: str) -> Stage | None:
    """Return the step that a reply goes on with; None if it ends the command.

    Raises:
        UnusableReply: if its form cannot be shown.
    """
    form = command.form
    if form is None or form.type not in (None, "form") or command.status not in (None, "executing"):
        return None
    faults: list[str] = []

    def fault(key: str, error: BadValue) -> None:
        faults.append(f"command.fields{key}: {error.problem}")

    fields = read_fields([_plain(one) for one in form.fields or ()], fault)
    if faults:
        raise UnusableReply("; ".join(faults[:5]))
    stage = Stage([one.to_json() for one in fields], form.title or title, form.instructions or "")
    given = command.actions
    if given is not None:
        allowed = [name for name in _ACTIONS if getattr(given, name)]
        stage.allowed = allowed or ["complete"]
        default = given.execute if given.execute in stage.allowed else None
        stage.default = default or stage.allowed[0]
    return stage


def note_of(command: Command | None) -> Note | None:
    """Return the note of a reply."""
    note = None if command is None else command.note
    note = Note(note) if isinstance(note, str) else note
    return note if note is not None and note.text else None


def in_words(command: Command) -> str:
    """Return a result as text, for a chat: its note, and the lines of its form or table."""
    note, form = note_of(command), command.form
    lines = [] if note is None else [note.text]
    if form is not None:
        lines += _form_in_words(form)
    return "\n".join(lines)


def _form_in_words(form: Form) -> list[str]:
    lines = [line for line in (form.title, form.instructions) if line]
    for one in form.fields or ():
        value = _value_in_words(one)
        label = one.label or one.var
        if one.type != "hidden" and value:
            lines.append(f"{label}: {value}" if label and one.type != "fixed" else value)
    for var, given in (form.data or {}).items():
        lines.append(f"{var}: {_value_in_words(FormField(var, value=given))}")
    heads = {one.var: one.label or one.var or "" for one in form.reported or ()}
    if heads:
        lines.append(" | ".join(heads.values()))
    lines += (" | ".join(map(_value_in_words, item)) for item in form.items or ())
    return lines


def _value_in_words(field: FormField) -> str:
    given: Any = field.value if field.values is None else field.values
    if given is None:
        return ""
    return ", ".join(map(str, given)) if isinstance(given, list) else str(given)


def _command_of(one: ReplyObject) -> Command | None:
    if not isinstance(one, RichObject) or "command" not in one.fields or one.stanza:
        return None
    if isinstance(one.fields["command"], str):
        raise UnusableReply('command is a string; write {"command": {"note": …}}')
    if one.to or one.kind not in (None, "", "iq", "message"):
        return None  # a command of somebody else, to be run
    command: Command = checked("command", one.fields["command"], Command)
    others = one.fields.keys() - {"command"}
    if others:
        raise UnusableReply(f"command and {min(others)} exclude each other: send two objects")
    return with_form(command)


def _is_body_only(one: ReplyObject) -> bool:
    is_plain = not (one.kind or one.to or one.type or one.stanza)
    has_fields = isinstance(one, RichObject) and bool(one.fields)
    return is_plain and not has_fields and one.body not in (None, "")


def _plain(field: FormField) -> dict[str, Any]:
    """Return a field as `read_fields` takes it."""
    value = field.value if field.values is None else field.values
    plain: dict[str, Any] = msgspec.to_builtins(replace(field, value=value, values=None))
    return plain
