"""Commands as text, for clients that know none: `/order 42` instead of a form.

Arguments fill the fields in order, or by name (`id=42`). What is required and missing is asked for
in words; the next message that is no command is the answer. Only chats with one person have
commands: not rooms, nor private messages in them. A word that is no command is a message, and so is
`/me` (XEP-0245).
"""

import re
from collections.abc import Callable
from typing import Final

from bridge.config.command import CommandSettings
from bridge.config.form import CommandField
from bridge.payload.body import ReplyObject
from bridge.payload.event import event_of
from bridge.payload.request import body_of
from bridge.payload.shape import Command
from bridge.xmpp.command.registry import CommandRegistry
from bridge.xmpp.command.reply import in_words, next_stage, note_of
from bridge.xmpp.command.session import (
    Session,
    Sessions,
    SessionTooLarge,
    Stage,
    TooManySessions,
)
from bridge.xmpp.command.step import FULL, TOO_LARGE, Step, Turn, asking
from bridge.xmpp.command.value import WrongValue, checked, checked_form
from xmppstream import Element, Stanza, make
from xmppstream.names import COMPONENT, MUC_USER, expanded

HELP: Final = "help"
CANCEL: Final = "cancel"
ACTION: Final = "me"
TEXT_LIMIT: Final = 8_000
"""A longer text is neither a command nor the answer to a question."""
WORDS_LIMIT: Final = 500
_BODY: Final = expanded(COMPONENT, "body")
_THREAD: Final = expanded(COMPONENT, "thread")
_OCCUPANT: Final = expanded(MUC_USER, "x")
_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_TEXTS: Final = ("text-single", "text-multi", "text-private")


class TextCommands:
    """Leads dialogs in words."""

    def __init__(
        self, registry: CommandRegistry, sessions: Sessions, is_room: Callable[[str], bool]
    ) -> None:
        self._registry = registry
        self._sessions = sessions
        self._is_room = is_room

    def receive(self, stanza: Stanza) -> Step | None:
        """Handle a message; None if it is no command and no answer to a question."""
        settings = self._registry.settings
        if not settings.text or stanza.type not in (None, "chat", "normal"):
            return None
        text = (body_of(stanza) or "").strip()
        if not text or len(text) > TEXT_LIMIT:
            return None
        is_command = text.startswith(settings.prefix)
        if not is_command and not self._sessions.are_texts:
            return None
        sender, to = stanza.from_ or "", stanza.to or ""
        if self._is_room(sender) or stanza.element.find(_OCCUPANT) is not None:
            return None
        if event_of(stanza) != "message":
            return None
        session = self._sessions.asked(sender, to)
        if is_command:
            word, _, rest = text[len(settings.prefix) :].partition(" ")
            word, *more = word.split(maxsplit=1)[:2] or [""]
            step = self._command(stanza, word, " ".join((*more, rest)), session)
            if step is not None:
                return step
        if session is None:
            return None
        return self._answered(stanza, session, text)

    def _command(self, stanza: Stanza, word: str, rest: str, asked: Session | None) -> Step | None:
        """Handle a text that begins like a command; None if it is none."""
        name = word.casefold()
        if name == ACTION:
            return None
        command = self._registry.get(word)
        if command is not None and command.allows(stanza.from_ or ""):
            self._sessions.end(asked)
            return self._begin(stanza, command, rest)
        if name == HELP and command is None:
            self._sessions.end(asked)
            return _say(stanza, self._help(stanza.from_ or ""))
        if name == CANCEL and command is None and asked is not None:
            self._sessions.end(asked)
            return _say(stanza, "Canceled.")
        return None

    def _help(self, sender: str) -> str:
        prefix, lines = self._registry.settings.prefix, []
        for one in self._registry.for_(sender):
            shown = [_shown(field) for field in one.fields if field.is_asked]
            name = "" if one.name == one.node else f": {one.name}"
            lines.append(f"{' '.join((prefix + one.node, *shown))}{name}")
        return "\n".join(lines) or "There are no commands for you."

    def _begin(self, stanza: Stanza, command: CommandSettings, rest: str) -> Step:
        words = _words(rest)
        if len(words) > WORDS_LIMIT:
            return _say(stanza, TOO_LARGE)
        given, too_many = _arguments(command, words)
        if too_many:
            return _say(stanza, f"These are too many words. {self._usage(command)}")
        stage = Stage([one.to_json() for one in command.fields], command.name)
        try:
            session = self._sessions.begin(
                command.node, stanza.from_ or "", stanza.to or "", stage, is_text=True
            )
            return self._fill(stanza, session, given)
        except TooManySessions:
            return _say(stanza, FULL.text)
        except SessionTooLarge:
            return _say(stanza, TOO_LARGE)

    def _usage(self, command: CommandSettings) -> str:
        shown = [_shown(field) for field in command.fields if field.is_asked]
        return f"Write: {' '.join((self._registry.settings.prefix + command.node, *shown))}"

    def _answered(self, stanza: Stanza, session: Session, text: str) -> Step:
        """Handle the answer to a question."""
        command = self._registry.get(session.node)
        if command is None or not command.allows(stanza.from_ or ""):
            self._sessions.end(session)
            return _say(stanza, "This command does not exist any more.")
        field = next((one for one in session.stage.form if one.var == session.asked), None)
        if field is None:  # another version has kept it
            self._sessions.end(session)
            return _say(stanza, "This command has ended; begin it again.")
        try:
            return self._fill(stanza, session, {field.var: [text]})
        except SessionTooLarge:
            return _say(stanza, TOO_LARGE)

    def _fill(self, stanza: Stanza, session: Session, given: dict[str, list[str]]) -> Step:
        """Fill in values; ask for the next one, or ask the service."""
        values = session.stage.values
        for field in session.stage.form:
            if field.var not in given:
                continue
            try:
                values[field.var] = checked(field, _meant(field, given[field.var]))
            except WrongValue as error:
                session.asked = field.var
                self._sessions.keep(session)
                return _say(stanza, f"{field.shown}: {error}\n{question(field)}")
        for field in session.stage.form:
            if field.is_asked and field.var not in values and field.values:
                values[field.var] = list(field.values)
            if field.is_asked and field.required and not values.get(field.var):
                session.asked = field.var
                self._sessions.keep(session)
                return _say(stanza, question(field))
        session.stage.values, _ = checked_form(session.stage.form, values)
        session.asked, session.is_posted = "", True
        self._sessions.keep(session)
        action = session.stage.default if session.fields else "execute"
        return Step(
            asks=asking(stanza, session.node, session.id, action, session.values, session.fields)
        )

    def turn(
        self, session: Session | None, said: Command | None, others: list[ReplyObject]
    ) -> Turn:
        """Return the turn that a reply to a command takes."""
        if said is None:
            return Turn(others, lambda: self._sessions.end(session))
        stage = next_stage(said, "")
        asked = None if stage is None else _first_asked(stage)
        if stage is None or session is None or asked is None:
            text = in_words(said)
            return Turn([*_message(text), *others], lambda: self._sessions.end(session))
        stages = [*session.stages[: session.place + 1], stage]
        following = Session(session.id, session.node, session.sender, session.to, stages=stages)
        self._sessions.check(following)

        def go_on() -> None:
            self._sessions.end(self._sessions.asked(session.sender, session.to))
            session.stages, session.place, session.asked = stages, len(stages) - 1, asked.var
            self._sessions.keep(session)

        note = note_of(said)
        lines = ["" if note is None else note.text, stage.instructions, question(asked)]
        return Turn([*_message("\n".join(filter(None, lines))), *others], go_on)


def question(field: CommandField) -> str:
    """Return a question for the value of a field."""
    lines = [f"{field.shown}?"]
    if field.desc:
        lines.append(field.desc)
    if field.type == "boolean":
        lines.append("Answer yes or no.")
    for number, one in enumerate(field.options, 1):
        lines.append(f"{number}. {one.label or one.value}")
    return "\n".join(lines)


def _first_asked(stage: Stage) -> CommandField | None:
    """Return the field to ask for first: a required one, else any."""
    fields = [one for one in stage.form if one.is_asked and not one.values]
    required = [one for one in fields if one.required]
    return next(iter(required or fields), None)


def _meant(field: CommandField, given: list[str]) -> list[str]:
    """Return values as the form has them: an option may also be named by its number or label."""
    if field.type == "list-multi":
        given = [one.strip() for text in given for one in text.split(",")]
    elif field.type == "jid-multi":
        given = [one for text in given for one in re.split(r"[\s,]+", text)]
    return [_option(field, one) for one in given] if field.options else given


def _option(field: CommandField, text: str) -> str:
    word = text.strip().casefold()
    for one in field.options:
        if word in (one.value.casefold(), one.label.casefold()) and word:
            return one.value
    if word.isascii() and word.isdigit() and 0 < int(word[:9]) <= len(field.options):
        return field.options[int(word[:9]) - 1].value
    return text


def _words(text: str) -> list[str]:
    """Return the words of a text; a part in quotation marks is one."""
    found = []
    for one in _WORD.finditer(text):
        found.append(one[0].replace('"', ""))
        if len(found) > WORDS_LIMIT:
            break
    return found


def _arguments(command: CommandSettings, words: list[str]) -> tuple[dict[str, list[str]], bool]:
    """Return the values that words give to fields, and whether there are too many words. A last
    field of text takes all that is left.
    """
    fields = [one for one in command.fields if one.is_asked]
    by_name = {one.var.casefold(): one for one in fields}
    given: dict[str, list[str]] = {}
    rest: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        field = by_name.get(name.casefold()) if equals else None
        if field is not None and field.var not in given:
            given[field.var] = [value]
        else:
            rest.append(word)
    open_fields = [one for one in fields if one.var not in given]
    for number, field in enumerate(open_fields, 1):
        if not rest:
            break
        is_last = number == len(open_fields)
        takes_rest = field.is_multi or (field.type in _TEXTS and field.rule is None)
        if is_last and takes_rest:
            given[field.var], rest = [" ".join(rest)], []
        else:
            given[field.var] = [rest.pop(0)]
    return given, bool(rest)


def _shown(field: CommandField) -> str:
    return f"<{field.var}>" if field.required else f"[{field.var}]"


def _say(stanza: Stanza, text: str) -> Step:
    """Answer a message by a text, in its thread."""
    children = [Element(_BODY, (), (text,))]
    thread = stanza.element.find(_THREAD)
    if thread is not None:
        children.append(thread)
    return Step((make("message", stanza.from_, stanza.to, type="chat", children=tuple(children)),))


def _message(text: str) -> list[ReplyObject]:
    return [ReplyObject(kind="message", body=text)] if text else []
