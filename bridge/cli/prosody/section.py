"""A section of Prosody's configuration: its options as plain values."""

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import field, frozen

Value = str | float | bool | list["Value"] | dict[str, "Value"] | None
UNREAD: Final = "\0"
"""Begins a value that the file takes from elsewhere; the rest of it says from where."""
GLOBAL: Final = "*"


@frozen
class Section:
    """The global section (`*`), a VirtualHost (`module` is None) or a Component."""

    name: str
    module: str | None = None
    options: Mapping[str, Value] = field(factory=dict)

    def texts(self, key: str) -> list[str]:
        """Return an option that is a list or a set of strings, or a single one."""
        value = self.options.get(key)
        return list(_texts(value if isinstance(value, list) else [value]))


def _texts(values: list[Value]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, float):
            yield f"{value:g}"
