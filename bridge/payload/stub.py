"""What a reply needs of the stanza that it replies to, and no more: small enough for a URL.

The defaults of H2 are made of addresses, id and type, of the thread, and of the ids that `reply`,
`reactions`, `displayed` and a correction refer to. An iq's answer may also need the attributes of
its payload. Texts are left out, so `quote` finds nothing to quote.
"""

from typing import Final, Self

import msgspec

from bridge.payload import namespace as ns
from xmppstream import Element, Stanza
from xmppstream.jid import bare
from xmppstream.names import COMPONENT, MUC_USER, expanded
from xmppstream.stanza import Kind

_THREAD: Final = expanded(COMPONENT, "thread")
_STANZA_ID: Final = expanded(ns.SID, "stanza-id")
_MUC_USER: Final = expanded(MUC_USER, "x")
_KEPT: Final = frozenset(
    {_THREAD, _STANZA_ID, _MUC_USER}
    | {expanded(ns.CORRECT, "replace"), expanded(ns.SID, "origin-id")}
)
# A correction is told by what it has besides its body (`ReplyComposer.compose`).
_BODY: Final = Element(expanded(COMPONENT, "body"))

_Child = tuple[str, tuple[tuple[str, str], ...], str]


class Stub(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The head of a stanza, and a part of its children: name, attributes, text."""

    kind: Kind
    type: str | None
    from_: str | None
    to: str | None
    id: str | None
    children: tuple[_Child, ...] = ()

    @classmethod
    def of(cls, stanza: Stanza) -> Self:
        """Return the stub of a stanza."""
        children: tuple[_Child, ...] = ()
        if stanza.kind == "iq":
            payload = stanza.payload
            if payload is not None:
                children = ((payload.name, payload.attributes, ""),)
        elif len(stanza.element.children) > 1:
            children = tuple(
                (one.name, one.attributes, one.text if one.name == _THREAD else "")
                for one in stanza.element.elements
                if one.name in _KEPT and (one.name != _STANZA_ID or _is_of_room(one, stanza))
            )
        return cls(stanza.kind, stanza.type, stanza.from_, stanza.to, stanza.id, children)

    @property
    def without_thread(self) -> Self:
        """The stub without the only part of unbounded length that replies can do without."""
        rest = tuple(one for one in self.children if one[0] != _THREAD)
        return msgspec.structs.replace(self, children=rest)

    def stanza(self) -> Stanza:
        """Return a stanza that has what the stub has."""
        pairs = (("to", self.to), ("from", self.from_), ("type", self.type), ("id", self.id))
        head = tuple((name, value) for name, value in pairs if value is not None)
        inner = tuple(
            Element(name, attributes, (text,) if text else ())
            for name, attributes, text in self.children
        )
        body = (_BODY,) if inner and self.kind == "message" else ()
        return Stanza(Element(expanded(COMPONENT, self.kind), head, (*body, *inner)))


def _is_of_room(stanza_id: Element, stanza: Stanza) -> bool:
    """Whether an id was given by the room that a message comes from: other ids refer to nothing."""
    return stanza.type == "groupchat" and stanza_id.get("by") == bare(stanza.from_ or "")
