"""The contents of libxml2's dictionary: each distinct name, for as long as its thread lives.

Element names, attribute names, prefixes and namespaces go in there; values and texts do not (all
measured). If a parser ends within an element, or with a fault, its input may contain names that it
never reported: all bytes since the last boundary are charged. `skimmer` reports none at all.
"""

import math
import re
from collections.abc import Iterable
from typing import Final

_NAME_WEIGHT_BYTES: Final = 100  # the cost of a name besides its bytes, there and here
_BUDGET_BYTES: Final = 2 * 1024 * 1024
# In a tag behind its `<`: a namespace declaration, the name of the element, that of an attribute.
_NAMES: Final = re.compile(
    rb"""xmlns[^\s=]*+\s*=\s*(?:'[^']*'|"[^"]*")|^/?[^\s/>]++|[^\s=/>'"]++(?=\s*=)"""
)
_TAG_END: Final = re.compile(rb"""(?:[^'">]|'[^']*'|"[^"]*")*+>""")


class Dictionary:
    """The names met so far, and the memory that they take.

    Without a budget it is never full. Beyond `_BUDGET_BYTES` names are counted, but not remembered.
    """

    def __init__(self, budget_bytes: float = math.inf) -> None:
        self.full = False
        self._budget_bytes = budget_bytes
        self._taken_bytes = 0
        self._known: dict[int, set[str]] = {}

    def known(self, max_name_bytes: int) -> set[str]:
        """Return the names that were added with this limit and are within it. The set grows."""
        return self._known.setdefault(max_name_bytes, set())

    def add(self, names: Iterable[str], max_name_bytes: int) -> bool:
        """Add the new ones of these names; return whether all are within the limit."""
        known, within = self.known(max_name_bytes), True
        for name in names:
            if name not in known:
                size = len(name.encode())
                self.charge(_NAME_WEIGHT_BYTES + size)
                if size > max_name_bytes:
                    within = False
                elif self._taken_bytes <= _BUDGET_BYTES:
                    known.add(name)
        return within

    def add_markup(self, data: bytes, max_name_bytes: int, *, within_tag: bool) -> bool:
        """Add the names in markup that no parser reports, rather too many than too few. It begins
        `within_tag` or not; return whether it may end within one.
        """
        if self.full or self._budget_bytes == math.inf:
            return True
        first, *tags = data.split(b"<")
        if within_tag:
            self.charge(len(first))
        if not tags:
            return within_tag
        cut = _TAG_END.match(tags[-1]) is None
        if cut:
            self.charge(len(tags.pop()))
        names: set[bytes] = set()
        for tag in set(tags):
            names.update(_NAMES.findall(tag.rpartition(b">")[0] or tag))
        self.add((name.decode(errors="replace") for name in names), max_name_bytes)
        return cut

    def charge(self, size_bytes: int) -> None:
        """Count bytes that may be names which were never reported."""
        self._taken_bytes += size_bytes
        self.full = self._taken_bytes > self._budget_bytes


PROCESS: Final = Dictionary(_BUDGET_BYTES)
"""The dictionary of the thread that trio runs in. Once full, it stays full."""
