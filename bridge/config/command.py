"""`[[component."DOMAIN".command]]` and `[component."DOMAIN".register]`: what can be asked of a bot.

The same functions read the tables of the file and the bodies of the HTTP API, so a fault is
described in the same words in both.
"""

from typing import Any, Final, NewType

import msgspec
from attrs import field, frozen

from bridge.config.form import NAME_LIMIT, WORD, CommandField, Fault, Reading, folded, read_fields
from bridge.config.value import BadValue, check_text
from xmppstream.jid import bare, domain_of

COMMANDS_LIMIT: Final = 100
FORM_LIMIT_BYTES: Final = 48 * 1024
"""The size of a form as JSON, at most: a session keeps it with what was filled in."""
PREFIX: Final = "/"
_PREFIX_LIMIT: Final = 10

RawTable = NewType("RawTable", dict[str, Any])
RawTables = NewType("RawTables", list[dict[str, Any]])
"""Tables that this module reads by itself."""


@frozen
class CommandSettings:
    """A command. `allowed` are the folded addresses and domains of those who may use it; empty for
    everyone. With `more`, its form announces that another step follows.
    """

    node: str
    name: str
    fields: tuple[CommandField, ...] = ()
    allowed: tuple[str, ...] = ()
    more: bool = False

    def allows(self, address: str) -> bool:
        """Return whether an address may use the command."""
        return allows(self.allowed, address)

    def to_json(self) -> dict[str, Any]:
        """Return the command as an object of the HTTP API."""
        keys: dict[str, Any] = {
            "name": self.name,
            "for": list(self.allowed),
            "fields": [one.to_json() for one in self.fields],
            "more": self.more,
        }
        return {"node": self.node, **{key: value for key, value in keys.items() if value}}


@frozen
class RegisterSettings:
    """The form by which people register."""

    fields: tuple[CommandField, ...]
    instructions: str = ""
    allowed: tuple[str, ...] = ()


@frozen
class CommandSet:
    """The commands of one component in the configuration, and how they are written as text."""

    commands: tuple[CommandSettings, ...] = ()
    register: RegisterSettings | None = None
    text: bool = True
    prefix: str = field(default=PREFIX)


def allows(allowed: tuple[str, ...], address: str) -> bool:
    """Return whether an address, its bare form or its domain is allowed; everyone is, if empty."""
    if not allowed:
        return True
    sender = folded(address)
    return any(name in allowed for name in (sender, bare(sender), domain_of(sender)))


def read_command(value: object, fault: Fault, node: str | None = None) -> CommandSettings | None:
    """Return a command; None with a fault. `node` is given if it stands somewhere else."""
    keys = ("node", "name", "for", "fields", "more")
    reading = Reading(value, keys if node is None else keys[1:], fault)
    if node is None:
        node = reading.text("node", required=True)
    if node:
        reading.check("node", lambda: check_node(node))
    name = reading.text("name") or node
    fields = _form(reading)
    allowed = reading.addresses("for")
    more = reading.flag("more")
    if reading.is_faulty:
        return None
    return CommandSettings(node, name, fields, allowed, more)


def read_register(value: object, fault: Fault) -> RegisterSettings | None:
    """Return the form of a registration; None with a fault."""
    reading = Reading(value, ("instructions", "for", "fields"), fault)
    fields = _form(reading)
    if not fields and not reading.is_faulty:
        reading.fault("fields", "there are no fields", "List what people fill in")
    instructions, allowed = reading.text("instructions"), reading.addresses("for")
    return None if reading.is_faulty else RegisterSettings(fields, instructions, allowed)


def check_node(node: str) -> None:
    """Refuse a node that cannot be typed as a word.

    Raises:
        BadValue: if it is not one word of visible characters.
    """
    if WORD.fullmatch(node) is None or len(node) > NAME_LIMIT or {"=", "/"} & set(node):
        problem = (
            f"{node[:60]!r} is not one word of at most {NAME_LIMIT} visible characters without"
            " = and /"
        )
        raise BadValue(problem, 'Use a name such as "order"')
    check_text(node)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix of text commands that cannot be typed.

    Raises:
        BadValue: if it is empty, long, or has white space.
    """
    if WORD.fullmatch(prefix) is None or len(prefix) > _PREFIX_LIMIT:
        problem = f"{prefix[:60]!r} is not 1 to {_PREFIX_LIMIT} visible characters"
        raise BadValue(problem, 'Use a prefix such as "/" or "!"')
    check_text(prefix)


def _form(reading: Reading) -> tuple[CommandField, ...]:
    fields = read_fields(reading.get("fields", []), reading.under("fields"))
    size = len(msgspec.json.encode([one.to_json() for one in fields]))
    if size > FORM_LIMIT_BYTES:
        problem = f"the form has {size} bytes, more than {FORM_LIMIT_BYTES}"
        reading.fault("fields", problem, "Ask for less at a time")
    return fields
