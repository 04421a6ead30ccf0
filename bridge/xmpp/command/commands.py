"""The machine: requests of people in, answers of the bridge or events for the service out; and the
replies of the service in, answers out.
"""

import time
from collections.abc import Callable
from secrets import token_hex
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.config.command import CommandSettings
from bridge.config.settings import Component
from bridge.payload import namespace as ns
from bridge.payload.body import ReplyObject, RichObject
from bridge.payload.extension.common import element
from bridge.payload.shape import Command, Note
from bridge.xmpp.command.form import TooManyFields, X, submitted_values
from bridge.xmpp.command.registration import REGISTER, Registration
from bridge.xmpp.command.registry import CommandRegistry
from bridge.xmpp.command.reply import answers_by_itself, next_stage, note_of, split_reply
from bridge.xmpp.command.session import (
    BUSY_S,
    Session,
    Sessions,
    SessionTooLarge,
    Stage,
    TooManySessions,
)
from bridge.xmpp.command.step import (
    BUSY,
    COMMAND,
    FULL,
    TOO_LARGE,
    Step,
    Turn,
    answer,
    asking,
    bad_request,
    refusal,
    shown,
)
from bridge.xmpp.command.text import TextCommands
from bridge.xmpp.command.value import checked_form
from bridge.xmpp.state import MemoryState, StateStore, kept
from xmppstream import Element, ErrorType, Stanza, StanzaCondition, StanzaError
from xmppstream.names import DISCO_INFO, DISCO_ITEMS, expanded

ACTIONS: Final = ("execute", "next", "complete", "prev", "cancel")
_INFO: Final = expanded(DISCO_INFO, "query")
_ITEMS: Final = expanded(DISCO_ITEMS, "query")
_NOTES_SHOWN: Final = 5
_FILLED_LIMIT: Final = 16_000
"""The characters that a form shows again, at most, after a wrong value."""
_FORBIDDEN: Final = StanzaError(
    StanzaCondition.FORBIDDEN, ErrorType.AUTH, "You may not use this command."
)

_EXPIRED: Final = StanzaError(
    StanzaCondition.NOT_ALLOWED, ErrorType.CANCEL, "This command has ended; begin it again."
)


class Commands:
    """The commands of one component, and its registration. Before `load`, nothing is kept."""

    def __init__(
        self,
        component: Component,
        state: StateStore | None = None,
        now: Callable[[], float] = time.time,
        token: Callable[[], str] = lambda: token_hex(12),
        is_room: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """`now` is Unix time in s; `is_room` tells whether an address is that of an occupant of a
        room. Set `changed` to be told of the features that every address has by now.
        """
        state = MemoryState() if state is None else state
        self.registry = CommandRegistry(component.commands, state)
        self.sessions = Sessions(state, now, token)
        self.changed: Callable[[tuple[str, ...]], None] = lambda features: None
        self.is_any = bool(self.features)
        """Whether there is anything to ask for; looked at for each stanza."""
        self._state = state
        self._now = now
        self._text = TextCommands(self.registry, self.sessions, is_room)
        self._registration = Registration(self.registry, state, token)

    def load(self, log: FilteringBoundLogger) -> None:
        """Read what is kept from before. The state must be loaded."""
        self.registry.load(log)
        self.sessions.load(log)
        self._note_change()

    def change(self, component: Component) -> None:
        """Use another configuration from now on. Sessions go on with the forms they began with."""
        self.registry.change(component.commands)
        self._note_change()

    def put(self, command: CommandSettings) -> bool:
        """Set a command; see `CommandRegistry.put`."""
        is_new = self.registry.put(command)
        self._note_change()
        return is_new

    def delete(self, node: str) -> None:
        """Forget a command that was set."""
        self.registry.delete(node)
        self._note_change()

    def _note_change(self) -> None:
        self.is_any = bool(self.features)
        self.changed(self.features)

    async def kept(self) -> None:
        """Wait until all changes up to now are kept; see `StateStore.when_kept`."""
        await kept(self._state)

    @property
    def features(self) -> tuple[str, ...]:
        """What service discovery says of every address."""
        commands = (ns.COMMANDS, ns.DATA) if self.registry else ()
        return (*commands, *((ns.REGISTER,) if self.registry.register else ()))

    # --- what people ask

    def concerns(self, stanza: Stanza) -> bool:
        """Return whether a stanza would take a step, as an iq that asks the service."""
        payload = stanza.payload if stanza.type == "set" else None
        if payload is None:
            return False
        if payload.name == REGISTER:
            return self.registry.register is not None
        node = payload.get("node") or ""
        return payload.name == COMMAND and self.registry.get(node) is not None

    def receive(self, stanza: Stanza) -> Step | None:
        """Handle a stanza that has both addresses; None if it is not about commands."""
        if stanza.kind == "iq":
            return self._receive_iq(stanza) if stanza.is_request else None
        if stanza.kind == "message" and self.registry:
            return self._text.receive(stanza)
        return None

    def _receive_iq(self, stanza: Stanza) -> Step | None:
        payload = stanza.payload
        if payload is None:
            return None
        match payload.name:
            case _ if payload.name == COMMAND and stanza.type == "set":
                return self._receive_command(stanza, payload)
            case _ if payload.name == _ITEMS and payload.get("node") == ns.COMMANDS:
                return self._list(stanza) if self.registry else None
            case _ if payload.name == _INFO and payload.get("node"):
                return self._describe(stanza, payload.get("node") or "")
            case _ if payload.name == REGISTER:
                return self._registration.receive(stanza, payload)
        return None

    def _list(self, stanza: Stanza) -> Step:
        """Answer with the commands that the asker may use (XEP-0050 §2.2)."""
        items = tuple(
            element(
                expanded(DISCO_ITEMS, "item"),
                {"jid": stanza.to, "node": one.node, "name": one.name},
            )
            for one in self.registry.for_(stanza.from_ or "")
        )
        return Step((stanza.reply(Element(_ITEMS, (("node", ns.COMMANDS),), items)),))

    def _describe(self, stanza: Stanza, node: str) -> Step | None:
        """Answer what a node is (XEP-0050 §2.1, §2.3)."""
        if not self.registry:
            return None
        if node == ns.COMMANDS:
            type, name = "command-list", "Commands"
        else:
            command = self.registry.get(node)
            if command is None or not command.allows(stanza.from_ or ""):
                return None
            type, name = "command-node", command.name
        about = {"category": "automation", "type": type, "name": name}
        children = (
            element(expanded(DISCO_INFO, "identity"), about),
            *(
                element(expanded(DISCO_INFO, "feature"), {"var": var})
                for var in (ns.COMMANDS, ns.DATA)
            ),
        )
        return Step((stanza.reply(Element(_INFO, (("node", node),), children)),))

    def _receive_command(self, stanza: Stanza, payload: Element) -> Step | None:
        command = self.registry.get(payload.get("node") or "")
        if command is None:
            return None
        if not command.allows(stanza.from_ or ""):
            return Step((refusal(stanza, _FORBIDDEN),))
        id, action = payload.get("sessionid"), payload.get("action") or "execute"
        if action not in ACTIONS:
            return Step((bad_request(stanza, "malformed-action", "There is no such action."),))
        if not id:
            if action != "execute":
                why = "A command begins with the action execute."
                return Step((bad_request(stanza, "bad-sessionid", why),))
            return self._begin(stanza, command)
        session = self.sessions.get(id, stanza.from_ or "", stanza.to or "")
        if session is None or session.is_text or session.node != command.node:
            return Step((self._unknown(stanza, id),))
        try:
            return self._go_on(stanza, payload, session, action)
        except SessionTooLarge:
            return Step((bad_request(stanza, "bad-payload", TOO_LARGE),))

    def _unknown(self, stanza: Stanza, id: str) -> Stanza:
        """Return the error for a session that there is not."""
        if self.sessions.was_ours(id):
            return refusal(stanza, _EXPIRED, "session-expired")
        return bad_request(stanza, "bad-sessionid", "There is no such session.")

    def _begin(self, stanza: Stanza, command: CommandSettings) -> Step:
        stage = first_stage(command)
        try:
            session = self.sessions.begin(
                command.node, stanza.from_ or "", stanza.to or "", stage, is_text=False
            )
            if all(one.type == "hidden" for one in command.fields):
                stage.values, _ = checked_form(stage.form, {})
                return self._ask(stanza, session, "execute")
            self.sessions.keep(session)
        except (TooManySessions, SessionTooLarge):
            return Step((refusal(stanza, FULL),))
        return Step((answer(stanza, shown(session)),))

    def _go_on(self, stanza: Stanza, payload: Element, session: Session, action: str) -> Step:
        """Take a step in a session (XEP-0050 §3.4).

        Raises:
            SessionTooLarge: if it has grown too much by that.
        """
        form = payload.find(X)
        if action == "cancel" or (form is not None and form.get("type") == "cancel"):
            return self._cancel(stanza, session)
        if session.busy_until > self._now():
            return Step((refusal(stanza, BUSY),))
        if action == "prev":
            if not session.place:
                return Step((bad_request(stanza, "bad-action", "This is the first step."),))
            session.place -= 1
            self.sessions.keep(session)
            return Step((answer(stanza, shown(session)),))
        if action not in session.stage.allowed:
            action = session.stage.default
        try:
            given = {} if form is None else submitted_values(form)
        except TooManyFields:
            return Step((bad_request(stanza, "bad-payload", TOO_LARGE),))
        values, wrong = checked_form(session.stage.form, given)
        if wrong:
            self.sessions.keep(session)
            note = Note("\n".join(wrong[:_NOTES_SHOWN]), "error")
            known = {one.var: given[one.var] for one in session.stage.form if one.var in given}
            is_small = sum(len(text) for some in known.values() for text in some) <= _FILLED_LIMIT
            return Step((answer(stanza, shown(session, note, known if is_small else {})),))
        session.stage.values = values
        del session.stages[session.place + 1 :]
        return self._ask(stanza, session, action)

    def _cancel(self, stanza: Stanza, session: Session) -> Step:
        """End a session; a service that knows of it is told."""
        self.sessions.end(session)
        if session.is_posted:
            return Step(asks=_asking(stanza, session, "cancel"))
        return Step((answer(stanza, Command(session.node, session.id, status="canceled")),))

    def _ask(self, stanza: Stanza, session: Session, action: str) -> Step:
        session.is_posted, session.busy_until = True, self._now() + BUSY_S
        self.sessions.keep(session)
        return Step(asks=_asking(stanza, session, action))

    # --- what the service replies

    def turn(self, request: Stanza, event: str, objects: list[ReplyObject]) -> Turn:
        """Return the turn that a reply to an event takes; an empty list completes the command.

        Raises:
            UnusableReply: if the reply cannot be used; then nothing has changed.
        """
        said, others = split_reply(objects, takes_body=request.kind == "iq")
        if event == "register":
            return self._registration.turn(request, said, others)
        asked = request.element.find(COMMAND)
        assert asked is not None
        node, id = asked.get("node") or "", asked.get("sessionid") or ""
        session = self.sessions.get(id, request.from_ or "", request.to or "")
        if request.kind == "message":
            return self._text.turn(session, said, others)
        if said is None and answers_by_itself(others):
            return Turn(others, lambda: self.sessions.end(session))
        said = said or Command()
        command = self.registry.get(node)
        stage = next_stage(said, node if command is None else command.name)
        if stage is None or session is None or asked.get("action") == "cancel":
            canceled = asked.get("action") == "cancel" or stage is not None
            given = said.status if said.status in ("completed", "canceled") else None
            status = "canceled" if canceled else given or "completed"
            form = None if stage is not None else said.form
            ended = Command(node, id, status=status, note=note_of(said), form=form)
            return Turn([_object(ended), *others], lambda: self.sessions.end(session))
        stages = [*session.stages[: session.place + 1], stage]
        following = Session(
            session.id, node, session.sender, session.to, stages=stages, place=len(stages) - 1
        )

        def go_on() -> None:
            session.stages, session.place, session.busy_until = stages, following.place, 0.0
            self.sessions.keep(session)

        self.sessions.check(following)
        return Turn([_object(shown(following, note_of(said))), *others], go_on)

    def fail(self, request: Stanza, event: str | None, error: StanzaError) -> Stanza | None:
        """End a command that the service could not handle; return the answer (XEP-0050 §3.6), or
        None if the error itself is the answer.
        """
        asked = request.element.find(COMMAND) if event == "command" else None
        if asked is None:
            return None
        node, id = asked.get("node") or "", asked.get("sessionid") or ""
        self.sessions.end(self.sessions.get(id, request.from_ or "", request.to or ""))
        if request.kind != "iq":
            return None
        note = Note(error.text or "The service has failed.", "error")
        return answer(request, Command(node, id, status="completed", note=note))


def first_stage(command: CommandSettings) -> Stage:
    """Return the step that a command of the configuration begins with."""
    stage = Stage([one.to_json() for one in command.fields], command.name)
    if command.more:
        stage.allowed, stage.default = ["next"], "next"
    return stage


def _asking(stanza: Stanza, session: Session, action: str) -> Stanza:
    return asking(stanza, session.node, session.id, action, session.values, session.fields)


def _object(command: Command) -> RichObject:
    return RichObject(kind="iq", fields={"command": msgspec.to_builtins(command)})
