"""Shows people that their message is being worked on: chat states (XEP-0085).

Whoever waits longer than `component_typing_after_s` for an answer sees `<composing/>`, once. The
answer carries `<active/>`; if there is none, `<paused/>` says so. Only people whose client shows
such states get them (§5.1): their latest message with a body carried one, or one came after it by
itself. In rooms, where everybody would see it, and for private messages of occupants, there are
none.

None of these stanzas is kept: whoever comes back after a crash has nothing to wait for.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from bridge.config.settings import Component
from bridge.payload import namespace as ns
from bridge.payload.extension.chat import STATES
from bridge.xmpp.muc import MucOccupancy
from xmppstream import Element, Stanza, make
from xmppstream.jid import bare
from xmppstream.names import COMPONENT, MUC_USER, expanded

SENDER_LIMIT: Final = 10_000
"""The most senders whose client is known to show states; beyond it, the oldest are forgotten."""
PROMISE_LIMIT: Final = 10_000
"""The most answers that are waited for after their exchange has ended."""
_STATES: Final = frozenset(expanded(ns.CHAT_STATES, state) for state in STATES)
_BODY: Final = expanded(COMPONENT, "body")
_THREAD: Final = expanded(COMPONENT, "thread")
_OCCUPANT: Final = expanded(MUC_USER, "x")
_NO_STORE: Final = Element(expanded(ns.HINTS, "no-store"))
_ACTIVE: Final = Element(expanded(ns.CHAT_STATES, "active"))


class Typing:
    """The typing notices of one component. `run` is its task.

    A message is known by its uid, from `begin` to `end`. It may be begun again (a retry): the
    notice is sent once.
    """

    def __init__(
        self,
        component: Component,
        occupancy: MucOccupancy,
        send: Callable[[list[Stanza]], None],
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """`send` takes stanzas of the bridge's own, at once; `now` is trio's clock."""
        self.after_s = component.typing_after_s
        self._occupancy = occupancy
        self._send = send
        self._now = now
        self._senders: OrderedDict[str, None] = OrderedDict()
        self._begun: dict[str, tuple[Stanza, float]] = {}  # by uid: when its notice is due
        self._shown: dict[str, Stanza] = {}
        self._promised: OrderedDict[str, float] = OrderedDict()  # by uid: when it is given up
        self._next = math.inf  # when `run` wakes by itself
        self._wake = trio.Event()

    def change(self, component: Component) -> None:
        """Use another configuration for what begins from now on."""
        self.after_s = component.typing_after_s
        if not self.after_s:
            self._senders.clear()

    def observe(self, stanza: Stanza) -> None:
        """Learn from a chat message whether its sender's client shows states."""
        sender, has_body = stanza.from_ or "", False
        for child in stanza.element.children:
            if isinstance(child, str):
                continue
            if child.name in _STATES:
                self._senders[sender] = None
                self._senders.move_to_end(sender)
                if len(self._senders) > SENDER_LIMIT:
                    self._senders.popitem(last=False)
                return
            has_body = has_body or child.name == _BODY
        if has_body:
            self._senders.pop(sender, None)

    # --- one message

    def begin(self, uid: str, stanza: Stanza, now: float) -> None:
        """Show the sender of a message that it is being worked on, `after_s` from `now` (trio's
        clock). Whether its client shows such a thing is decided then.
        """
        if self.after_s and stanza.type == "chat" and uid not in self._shown:
            due = now + self.after_s
            self._begun[uid] = stanza, due
            if due < self._next:
                self._wake.set()

    def interrupt(self, uid: str) -> None:
        """Do not begin to show it: nobody works on the message now."""
        self._begun.pop(uid, None)

    def show(self, uid: str, stanza: Stanza) -> None:
        """Show it now, once."""
        self._begun.pop(uid, None)
        if uid not in self._shown and self.may_see(stanza):
            self._shown[uid] = stanza
            self._send([_state(stanza, "composing")])

    def promise(self, uid: str, until: float) -> None:
        """Go on after `settle`, until `end` or `until` (trio's clock): an answer is promised."""
        if (uid in self._begun or uid in self._shown) and len(self._promised) < PROMISE_LIMIT:
            self._promised[uid] = until
            if until < self._next:
                self._wake.set()

    def settle(self, uid: str, replies: list[Stanza]) -> list[Stanza]:
        """Like `end`, unless an answer is promised."""
        if self._promised and uid in self._promised:
            return replies
        return self.end(uid, replies)

    def end(self, uid: str, replies: list[Stanza]) -> list[Stanza]:
        """End it, and return the replies with what ends it for the sender. If none of them does,
        the sender is told at once.
        """
        self._begun.pop(uid, None)
        if not self._shown and not self._promised:  # nearly always
            return replies
        self._promised.pop(uid, None)
        stanza = self._shown.pop(uid, None)
        if stanza is None:
            return replies
        told = _with_state(stanza, replies)
        if told is None:
            self._send([_state(stanza, "paused")])
            return replies
        return told

    def end_all(self) -> None:
        """End everything: the bridge stops."""
        self._send([_state(stanza, "paused") for stanza in self._shown.values()])
        self._begun.clear()
        self._shown.clear()
        self._promised.clear()

    def may_see(self, stanza: Stanza) -> bool:
        """Return whether the sender of a message may get typing notices."""
        sender = stanza.from_ or ""
        return (
            sender in self._senders
            and stanza.type == "chat"
            and not self._occupancy.has_occupant(sender)
            and stanza.element.find(_OCCUPANT) is None
        )

    async def run(self) -> None:
        """Send what is due. Ends only by cancellation."""
        while True:
            self._next = self._show_due(self._now())
            self._wake = trio.Event()
            with trio.move_on_at(self._next):
                await self._wake.wait()

    def _show_due(self, now: float) -> float:
        """Do what is due; return when the next is. The first one begun is the first one due."""
        while self._begun:
            uid, (stanza, due) = next(iter(self._begun.items()))
            if due > now:
                break
            self.show(uid, stanza)
        while self._promised:
            uid, until = next(iter(self._promised.items()))
            if until > now:
                break
            self.end(uid, [])
        dues = (due for _, due in self._begun.values())
        return min(next(dues, math.inf), next(iter(self._promised.values()), math.inf))


def _state(stanza: Stanza, state: str) -> Stanza:
    """Return a notice for the sender of a message (XEP-0085 §5.2, XEP-0334 §4.2)."""
    children = [Element(expanded(ns.CHAT_STATES, state)), _NO_STORE]
    thread = stanza.element.find(_THREAD)
    if thread is not None:
        children.append(thread)
    return make("message", stanza.from_, stanza.to, type="chat", children=tuple(children))


def _with_state(stanza: Stanza, replies: list[Stanza]) -> list[Stanza] | None:
    """Return the replies with `<active/>` in the first message that says something to the sender;
    as they are if one of them has a state already. None: there is no such message.
    """
    sender, first = bare(stanza.from_ or ""), None
    for place, one in enumerate(replies):
        if one.kind != "message" or one.type != "chat" or bare(one.to or "") != sender:
            continue
        names = {child.name for child in one.element.elements}
        if names & _STATES:
            return replies
        if first is None and _BODY in names:
            first = place
    if first is None:
        return None
    element = replies[first].element
    changed = Element(element.name, element.attributes, (*element.children, _ACTIVE))
    return [*replies[:first], Stanza(changed, replies[first].lang), *replies[first + 1 :]]
