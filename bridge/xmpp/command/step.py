"""What the machine returns: a step of a dialog, and the turn that a reply of the service takes."""

from collections.abc import Callable, Iterable
from typing import Final

from attrs import field, frozen

from bridge.config.event import EventName
from bridge.config.form import CommandField
from bridge.payload import namespace as ns
from bridge.payload.body import ReplyObject
from bridge.payload.extension.common import Asked, element
from bridge.payload.extension.form import form_element, write_command
from bridge.payload.shape import Actions, Command, Note
from bridge.xmpp.command.form import form_of, submitted_form
from bridge.xmpp.command.session import Session
from bridge.xmpp.command.value import Values
from xmppstream import Element, ErrorType, Stanza, StanzaCondition, StanzaError
from xmppstream.names import expanded

COMMAND: Final = expanded(ns.COMMANDS, "command")
BUSY: Final = StanzaError(
    StanzaCondition.RESOURCE_CONSTRAINT,
    ErrorType.WAIT,
    "The last step has not been answered yet.",
)
FULL: Final = StanzaError(
    StanzaCondition.RESOURCE_CONSTRAINT,
    ErrorType.WAIT,
    "Too many commands are under way here; try again later.",
)
TOO_LARGE: Final = "This is more than is taken here."


@frozen
class Step:
    """What a stanza leads to: answers of the bridge, or a stanza to POST as an event."""

    answers: tuple[Stanza, ...] = ()
    asks: Stanza | None = None
    event: EventName = "command"


def _nothing() -> None:
    pass


@frozen
class Turn:
    """The objects of a reply as they are composed, and what to do once they may be sent."""

    objects: list[ReplyObject]
    apply: Callable[[], None] = field(default=_nothing)


def answer(stanza: Stanza, command: Command) -> Stanza:
    """Return the answer to a request for a command."""
    return stanza.reply(*write_command(command, Asked(stanza, "iq", None)))


def refusal(stanza: Stanza, error: StanzaError, specific: str = "") -> Stanza:
    """Return an error with a condition of XEP-0050 §4.4 in it. It names the session: slixmpp finds
    by it which of its commands is refused.
    """
    reply = stanza.error_reply(error)
    one = error.to_element()
    if specific:
        more = Element(expanded(ns.COMMANDS, specific))
        one = Element(one.name, one.attributes, (*one.children, more))
    asked = stanza.element.find(COMMAND)
    named = () if asked is None else (_head(asked),)
    whole = reply.element
    return Stanza(Element(whole.name, whole.attributes, (*named, one)))


def bad_request(stanza: Stanza, specific: str, text: str) -> Stanza:
    error = StanzaError(StanzaCondition.BAD_REQUEST, ErrorType.MODIFY, text)
    return refusal(stanza, error, specific)


def _head(command: Element) -> Element:
    pairs = {name: command.get(name) for name in ("node", "sessionid")}
    return element(COMMAND, pairs)


def shown(
    session: Session, note: Note | None = None, filled: dict[str, list[str]] | None = None
) -> Command:
    """Return the present step of a session, with its form and the allowed actions. A note of type
    `error` is in the instructions, too: profanity 0.13 shows notes at the end of a command only.
    """
    stage = session.stage
    values = stage.values if filled is None else filled
    actions = Actions(
        stage.default, session.place > 0, "next" in stage.allowed, "complete" in stage.allowed
    )
    instructions = stage.instructions
    if note is not None and note.type == "error":
        instructions = f"{note.text}\n{instructions}".strip()
    form = form_of(stage.title, instructions, stage.form, values)
    return Command(session.node, session.id, None, "executing", actions, note, form)


def asking(
    stanza: Stanza,
    node: str,
    sessionid: str,
    action: str,
    values: Values,
    fields: Iterable[CommandField],
) -> Stanza:
    """Return a stanza that asks the service: the person's, with the command as the bridge has
    understood it in place of any other.
    """
    form = form_element("command", submitted_form(values, fields))
    pairs = {"node": node, "sessionid": sessionid, "action": action}
    command = element(COMMAND, pairs, (form,))
    one = stanza.element
    kept = () if stanza.kind == "iq" else tuple(c for c in one.children if not _is_command(c))
    return Stanza(Element(one.name, one.attributes, (*kept, command)), stanza.lang)


def _is_command(child: Element | str) -> bool:
    return not isinstance(child, str) and child.name == COMMAND
