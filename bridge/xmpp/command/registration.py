"""Registration (XEP-0077) as one more form: the bridge shows and checks it, the service is asked to
`register`, `change` or `remove`, and answers as it answers a command.

The small state has who is registered, so that `change` can be told from `register`; what was filled
in is not kept.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from bridge.config.command import RegisterSettings, allows
from bridge.config.form import CommandField
from bridge.payload import namespace as ns
from bridge.payload.body import ReplyObject, RichObject
from bridge.payload.error import UnusableReply
from bridge.payload.extension.form import FORM_TYPE, form_element
from bridge.payload.shape import Command, FormField
from bridge.xmpp.command.form import TooManyFields, X, form_of, submitted_values
from bridge.xmpp.command.registry import CommandRegistry
from bridge.xmpp.command.reply import answers_by_itself, next_stage, note_of
from bridge.xmpp.command.step import COMMAND, TOO_LARGE, Step, Turn, asking
from bridge.xmpp.command.value import checked_form
from bridge.xmpp.state import StateStore
from xmppstream import Element, ErrorType, Stanza, StanzaCondition, StanzaError
from xmppstream.jid import bare
from xmppstream.names import expanded

KIND: Final = "registered"
NODE: Final = "register"
LIMIT: Final = 100_000
"""The people that are known to be registered, at most."""
REGISTER: Final = expanded(ns.REGISTER, "query")
_REMOVE: Final = expanded(ns.REGISTER, "remove")
_FORBIDDEN: Final = StanzaError(
    StanzaCondition.FORBIDDEN, ErrorType.AUTH, "You may not register here."
)
_LEGACY: Final = frozenset(
    {"username", "nick", "password", "name", "first", "last", "email", "address", "city", "state"}
    | {"zip", "phone", "url", "date"}
)
"""Fields that clients without data forms know (XEP-0077 §14.1)."""


class Registration:
    """The registration of one component."""

    def __init__(
        self, registry: CommandRegistry, state: StateStore, token: Callable[[], str]
    ) -> None:
        self._registry = registry
        self._state = state
        self._token = token
        self._count = 0

    def receive(self, stanza: Stanza, query: Element) -> Step | None:
        """Handle a request for a registration; None if there is no form for it."""
        settings = self._registry.register
        if settings is None:
            return None
        if not allows(settings.allowed, stanza.from_ or ""):
            return Step((stanza.error_reply(_FORBIDDEN),))
        if stanza.type == "get":
            return Step((stanza.reply(self._form(settings, stanza.from_ or "")),))
        if query.find(_REMOVE) is not None:
            return self._ask(stanza, "remove", settings, {})
        form = query.find(X)
        if form is not None and form.get("type") == "cancel":
            return Step((stanza.reply(),))
        try:
            given = _legacy_values(query) if form is None else submitted_values(form)
        except TooManyFields:
            return Step((stanza.error_reply(_unacceptable(TOO_LARGE)),))
        values, wrong = checked_form(settings.fields, given)
        if wrong:
            return Step((stanza.error_reply(_unacceptable("\n".join(wrong[:5]))),))
        is_known = self._state.get(KIND, bare(stanza.from_ or "")) is not None
        return self._ask(stanza, "change" if is_known else "register", settings, values)

    def turn(self, request: Stanza, said: Command | None, others: list[ReplyObject]) -> Turn:
        """Return the turn that a reply takes: an error note refuses, anything else agrees."""
        asked = request.element.find(COMMAND)
        action = None if asked is None else asked.get("action")
        if said is None and answers_by_itself(others):
            is_error = any(one.type == "error" or not one.type for one in others)
            return Turn(others) if is_error else Turn(others, lambda: self._note(request, action))
        if said is not None and next_stage(said, "") is not None:
            raise UnusableReply("a registration has no further step")
        note = note_of(said)
        if note is not None and note.type == "error":
            error = {"condition": "not-acceptable", "type": "modify", "text": note.text}
            return Turn([RichObject(kind="iq", fields={"error": error}), *others])
        told = [] if note is None else [ReplyObject(kind="message", body=note.text)]
        agreed = ReplyObject(kind="iq", type="result")
        return Turn([agreed, *told, *others], lambda: self._note(request, action))

    def _note(self, request: Stanza, action: str | None) -> None:
        """Note who is registered now."""
        sender = bare(request.from_ or "")
        if action == "remove":
            self._state.delete(KIND, sender)
        elif self._state.get(KIND, sender) is None and self._has_room():
            self._state.put(KIND, sender, b"{}")

    def _has_room(self) -> bool:
        """Count one more person who is registered; return whether there is room. To count all of
        them takes long, so it is done only at first, and where there seems to be no room.
        """
        if not self._count or self._count >= LIMIT:
            self._count = len(self._state.entries(KIND))
        self._count += 1
        return self._count <= LIMIT

    def _ask(
        self,
        stanza: Stanza,
        action: str,
        settings: RegisterSettings,
        values: dict[str, list[str]],
    ) -> Step:
        id = f"r{self._token()}"
        asks = asking(stanza, NODE, id, action, values, settings.fields)
        return Step(asks=asks, event="register")

    def _form(self, settings: RegisterSettings, sender: str) -> Element:
        """Return the form, as a data form and for clients that do not know those (§3.1, §4)."""
        form = form_of("", settings.instructions, settings.fields, {})
        hidden = FormField(FORM_TYPE, "hidden", value=ns.REGISTER)
        form = replace(form, fields=[hidden, *(form.fields or ())])
        texts = [("instructions", settings.instructions or _labels(settings.fields))]
        is_known = self._state.get(KIND, bare(sender)) is not None
        children = (
            *((Element(expanded(ns.REGISTER, "registered")),) if is_known else ()),
            *(Element(expanded(ns.REGISTER, name), (), (text,)) for name, text in texts),
            *(
                Element(expanded(ns.REGISTER, one.var))
                for one in settings.fields
                if one.var in _LEGACY
            ),
            form_element("register", form),
        )
        return Element(REGISTER, (), children)


def _labels(fields: tuple[CommandField, ...]) -> str:
    return "Please fill in: " + ", ".join(one.shown for one in fields if one.is_asked)


def _legacy_values(query: Element) -> dict[str, list[str]]:
    return {one.local: [one.text] for one in query.elements if one.local in _LEGACY}


def _unacceptable(text: str) -> StanzaError:
    return StanzaError(StanzaCondition.NOT_ACCEPTABLE, ErrorType.MODIFY, text)
