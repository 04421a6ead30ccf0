"""Collects the messages that answer our own queries of archives (XEP-0313).

An archive answers an iq with any number of messages, and then with the iq's result. They are known
by the query's id, by the archive's address and by ours: from anybody else they are not taken, so
nobody can put words into an archive's mouth. A page is bounded by the number of messages that were
asked for and by its size, and so is the number of pages at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import define, field

from bridge.payload import namespace as ns
from xmppstream import Stanza
from xmppstream.jid import fold
from xmppstream.names import expanded

PAGE_BYTES: Final = 4 * 1024 * 1024
"""The messages of one page, at most, as they arrive."""
PAGES_LIMIT: Final = 16
"""The pages that one component collects at a time."""
RESULT: Final = expanded(ns.MAM, "result")
_Name = tuple[str, str, str]
"""The addresses of an archive and of ours, folded, and the id of a query."""


class TooManyQueries(Exception):
    """`PAGES_LIMIT` pages are being collected."""


class DuplicateQuery(Exception):
    """A query with this id and these addresses is being answered."""


@define(eq=False)
class ArchivePage:
    """The messages that have arrived for one query, in their order."""

    max_count: int
    messages: list[Stanza] = field(factory=list)
    size_bytes: int = 0
    is_exceeded: bool = False
    """Whether more has arrived than was asked for; the rest was dropped."""

    def add(self, message: Stanza, weight_bytes: int) -> None:
        """Keep a message, unless the page is full."""
        self.size_bytes += weight_bytes
        if len(self.messages) >= self.max_count or self.size_bytes > PAGE_BYTES:
            self.is_exceeded = True
        else:
            self.messages.append(message)


class ArchiveQueries:
    """The queries of one component that are being answered."""

    def __init__(self) -> None:
        self._pages: dict[_Name, ArchivePage] = {}

    @property
    def is_any(self) -> bool:
        """Whether any query is being answered; asked for each message."""
        return bool(self._pages)

    @contextmanager
    def collecting(self, query: Stanza, queryid: str, max_count: int) -> Iterator[ArchivePage]:
        """Collect the answer to a query until the end of the block.

        Raises:
            DuplicateQuery: if one with this id and these addresses is being answered.
            TooManyQueries: if there are `PAGES_LIMIT` already.
        """
        name = (fold(query.to or ""), fold(query.from_ or ""), queryid)
        if name in self._pages:
            raise DuplicateQuery
        if len(self._pages) >= PAGES_LIMIT:
            raise TooManyQueries
        page = self._pages[name] = ArchivePage(max_count)
        try:
            yield page
        finally:
            del self._pages[name]

    def take(self, message: Stanza, weight_bytes: int) -> bool:
        """Return whether a message belongs to a page, which then has it."""
        result = message.element.find(RESULT) if message.kind == "message" else None
        if result is None:
            return False
        queryid = result.get("queryid") or ""
        page = self._pages.get((fold(message.from_ or ""), fold(message.to or ""), queryid))
        if page is None:
            return False
        page.add(message, weight_bytes)
        return True


def is_archived(message: Stanza) -> bool:
    """Return whether a message is part of an archive's answer."""
    return message.element.find(RESULT) is not None
