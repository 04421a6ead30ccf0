"""Which commands a component has: those of the configuration, and those that were set while the
bridge runs, which the small state keeps.
"""

from typing import Any, Final, Literal

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.config.command import (
    COMMANDS_LIMIT,
    CommandSet,
    CommandSettings,
    RegisterSettings,
    read_command,
)
from bridge.config.settings import ConfigFault
from bridge.config.value import BadValue
from bridge.xmpp.state import StateStore

KIND: Final = "command"
Origin = Literal["configuration", "api"]


class BadCommand(ValueError):
    """A command is not valid; the message says why, in the words of the configuration's faults."""


class TooManyCommands(ValueError):
    """The component has `COMMANDS_LIMIT` commands already."""


class CommandRegistry:
    """The commands of one component, by node. Letter case does not matter in a node: telephones
    begin a sentence with a capital.
    """

    def __init__(self, settings: CommandSet, state: StateStore) -> None:
        self.settings = settings
        self.is_loaded = False
        self._state = state
        self._set: dict[str, CommandSettings] = {}
        self._all: dict[str, CommandSettings] = {}
        self._join()

    def load(self, log: FilteringBoundLogger) -> None:
        """Read the commands that were set before. The state must be loaded."""
        self.is_loaded = True
        for key, value in self._state.entries(KIND).items():
            try:
                self._set[key] = command_of(msgspec.json.decode(value))
            except ValueError as error:  # another version has written it
                log.warning("a command cannot be read", node=key, why=str(error))
        self._join()

    def change(self, settings: CommandSet) -> None:
        """Use another configuration from now on."""
        self.settings = settings
        self._join()

    @property
    def register(self) -> RegisterSettings | None:
        """The form of a registration."""
        return self.settings.register

    def __len__(self) -> int:
        return len(self._all)

    def get(self, node: str) -> CommandSettings | None:
        """Return a command."""
        return self._all.get(node.casefold())

    def origin(self, command: CommandSettings) -> Origin:
        """Return where a command comes from."""
        is_set = self._set.get(command.node.casefold()) is command
        return "api" if is_set else "configuration"

    def all(self) -> list[CommandSettings]:
        """Return all commands, those of the configuration first."""
        return list(self._all.values())

    def for_(self, address: str) -> list[CommandSettings]:
        """Return the commands that somebody may use."""
        return [one for one in self._all.values() if one.allows(address)]

    def put(self, command: CommandSettings) -> bool:
        """Set a command; return whether it is new.

        Raises:
            TooManyCommands: if it is new, and there are too many.
            StateTooLarge: if it is too large to be kept; nothing was changed.
        """
        key = command.node.casefold()
        is_new = key not in self._all
        if is_new and len(self._all) >= COMMANDS_LIMIT:
            raise TooManyCommands(f"there are {COMMANDS_LIMIT} commands already")
        self._state.put(KIND, key, msgspec.json.encode(command.to_json()))
        self._set[key] = command
        self._join()
        return is_new

    def delete(self, node: str) -> None:
        """Forget a command that was set."""
        self._state.delete(KIND, node.casefold())
        self._set.pop(node.casefold(), None)
        self._join()

    def _join(self) -> None:
        """The configuration wins: it was changed by hand."""
        own = {one.node.casefold(): one for one in self.settings.commands}
        self._all = {**self._set, **own}


def command_of(value: Any, node: str | None = None) -> CommandSettings:
    """Return the command of an object of the HTTP API; `node` is given if its path names it.

    Raises:
        BadCommand: if it is not valid.
    """
    faults: list[str] = []

    def fault(key: str, error: BadValue) -> None:
        faults.append(str(ConfigFault(key, error.problem, error.remedy)))

    command = read_command(value, fault, node)
    if command is None:
        raise BadCommand(" ".join(faults))
    return command
