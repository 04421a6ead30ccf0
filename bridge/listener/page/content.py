"""The texts of dead letters. They were written by strangers, and only those who may act on a dead
letter see them.
"""

from collections.abc import Iterable
from contextlib import closing

from bridge.journal.request import Item
from bridge.payload.request import body_of
from xmppstream import Limits, RemoteError, Stanza, rehome
from xmppstream.names import COMPONENT
from xmppstream.parser_thread import ElementParserThread


async def texts_of(items: Iterable[Item]) -> dict[int, str]:
    """Return the text of each message that was listed with its XML, by its place in `items`."""
    found: dict[int, str] = {}
    with closing(ElementParserThread(Limits())) as parser:
        for place, item in enumerate(items):
            xml = item.reply if item.xml is None else item.xml
            if xml is None:
                continue
            try:
                stanza = Stanza.of(rehome(await parser.parse(xml.encode()), COMPONENT))
            except RemoteError:  # an entry of the journal that is damaged
                continue
            body = None if stanza is None else body_of(stanza)
            if body is not None:
                found[place] = body
    return found
