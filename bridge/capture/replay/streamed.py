"""Streamed replies, as a replay compares them: by the last text of each message.

How often a message is shown while it comes, and with which text, follows from the moments at which
its pieces came; a capture has only the whole body. So corrections on the way are left out, and the
last one counts as if it had been sent at once, in the place of the first text.
"""

import re
from typing import Final

from bridge.capture.replay.unmatched import Unmatched
from bridge.payload.namespace import CORRECT, HINTS
from xmppstream import Element, Stanza
from xmppstream.names import expanded

_CORRECTION: Final = re.compile(r"(msg_[0-9a-z]+-[0-9]+)\.[0-9]+\.[0-9]+")
_REPLACE: Final = expanded(CORRECT, "replace")
_NO_STORE: Final = expanded(HINTS, "no-store")


def as_compared(stanza: Stanza, side: Unmatched) -> Stanza | None:
    """Return a stanza as it is compared; None if it is a correction on the way. `side` is where it
    was sent: the first text that it completes is removed there.
    """
    found = _CORRECTION.fullmatch(stanza.id or "") if stanza.kind == "message" else None
    replace = None if found is None else stanza.element.find(_REPLACE)
    if found is None or replace is None:
        return stanza
    if stanza.element.find(_NO_STORE) is not None:
        return None
    id = found[1]
    element = stanza.element.with_attributes(id=id)
    if replace.get("id") == id:
        children = tuple(one for one in element.children if one is not replace)
        element = Element(element.name, element.attributes, children)
    whole = Stanza(element, stanza.lang)
    side.take_same_id(whole)
    return whole
