"""Decides whether an incoming stanza is POSTed.

A reply to a pending iq goes to its waiter and nowhere else, and so does a message out of an archive
that answers a query. Any other stanza is refused if it is
for another domain (S34). Then it updates the rooms, and is refused (S29, the limits of its sender,
`allow_from`, an address that does not exist), answered by the bridge (H6), ignored (our own
groupchat messages and the history of rooms, S36), or POSTed if its event is one of
`component_post_events`.
"""

from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from bridge.config.event import EventName
from bridge.config.settings import Component
from bridge.dispatch.ratelimit import UNBOUNDED, Excess, SenderLimiter
from bridge.payload.error import EXCESSIVE
from bridge.payload.event import event_of
from bridge.telemetry.meter import limit_of
from bridge.xmpp.archive import ArchiveQueries, is_archived
from bridge.xmpp.autoresponder import UNAVAILABLE, Autoresponder
from bridge.xmpp.bounce import Bouncer
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.command.step import Step
from bridge.xmpp.iq import PendingIqs
from bridge.xmpp.notice import EncryptedNotice
from bridge.xmpp.room.invitation import Invitations
from bridge.xmpp.room.rooms import Inbound, Rooms, Verdict
from bridge.xmpp.typing import Typing
from xmppstream import (
    ElementIgnored,
    ErrorType,
    Event,
    Stanza,
    StanzaCondition,
    StanzaError,
    StanzaReceived,
    StanzaRefused,
)
from xmppstream.jid import bare, domain_of, fold, same_domain
from xmppstream.stanza import TYPES

_BAD_REQUEST: Final = StanzaError(StanzaCondition.BAD_REQUEST, ErrorType.MODIFY)
_NOT_HERE: Final = StanzaError(StanzaCondition.ITEM_NOT_FOUND, ErrorType.CANCEL)
_MADE: Final[dict[str, EventName]] = {"joined": "room_joined", "left": "room_left"}
_FORBIDDEN: Final = StanzaError(StanzaCondition.FORBIDDEN, ErrorType.AUTH)


class Admission:
    """Checks the incoming stanzas of one component."""

    def __init__(
        self,
        component: Component,
        autoresponder: Autoresponder,
        rooms: Rooms,
        bouncer: Bouncer,
        log: FilteringBoundLogger,
        *,
        pending_iqs: PendingIqs | None = None,
        limiter: SenderLimiter | None = None,
        typing: Typing | None = None,
        archives: ArchiveQueries | None = None,
        commands: Commands | None = None,
    ) -> None:
        """Without `limiter`, senders are not limited; without `typing`, nobody learns whose client
        shows typing notices; without `archives`, no answer of an archive is taken; without
        `commands`, there are none.
        """
        self._archives = archives or ArchiveQueries()
        self._typing = typing
        self._commands = commands
        self.made: EventName | None = None
        self.limiter = limiter or SenderLimiter(UNBOUNDED)
        self.domain = component.domain
        self._component = component
        self._autoresponder = autoresponder
        self._rooms = rooms
        self._bouncer = bouncer
        self._meter = bouncer.meter
        self._pending_iqs = PendingIqs() if pending_iqs is None else pending_iqs
        self._log = log
        self._warned = False
        self._notice = EncryptedNotice()
        self._invitations = Invitations(rooms, log)

    def change(self, component: Component) -> None:
        """Use another configuration of the same domain from now on."""
        self._component = component

    def admit(self, event: Event) -> Stanza | None:
        """Handle a stream event; return its stanza if it is to be POSTed."""
        match event:
            case StanzaReceived(stanza=stanza, weight_bytes=weight):
                self._count(stanza)
                self._log.debug("stanza in", stanza=stanza)
                if stanza.kind == "iq" and self._is_answer(stanza):
                    self._meter.end(stanza.kind, "taken")
                    return None
                if self._archives.is_any and self._archives.take(stanza, weight):
                    self._meter.end(stanza.kind, "taken")
                    return None
                ours = self._if_for_us(stanza)
                return None if ours is None else self._if_for_endpoint(ours, weight)
            case StanzaRefused(stanza=stanza, limit=limit, weight_bytes=weight):
                self._count(stanza)
                self._refuse_stub(stanza, limit, weight)
            case ElementIgnored(name=name):
                self._log.warning("unknown element ignored", name=name)
        return None

    def _is_answer(self, iq: Stanza) -> bool:
        """Return whether an iq answers a question of a client or of the rooms, who now have it."""
        return self._pending_iqs.take(iq) or (not iq.is_request and self._rooms.take(iq))

    def posts(self, event: EventName) -> bool:
        """Return whether an event is POSTed."""
        return event in self._component.post_events

    def admits(self, one: Inbound) -> bool:
        """Return whether to POST what a room has released, or the bridge has made."""
        if not one.is_counted:
            self._count(one.stanza)
        is_listed = one.event in self._component.post_events
        if not is_listed:
            self._meter.end(one.stanza.kind, "ignored")
        return is_listed

    def _count(self, stanza: Stanza) -> None:
        self._meter.counts.received += 1
        self._meter.received[stanza.kind] += 1

    def _refuse_stub(self, stanza: Stanza, limit: str, weight_bytes: int) -> None:
        """Refuse a stanza that the stream refused; it counts towards the rate of its sender."""
        excess = self.limiter.over_rate(stanza, weight_bytes)
        if excess is None:
            self.refuse(stanza, limit)
        elif (ours := self._if_for_us(stanza)) is not None:
            self._refuse_excess(ours, excess)

    def refuse(self, stanza: Stanza, limit: str) -> None:
        """Refuse a stanza over `limit`; its sender gets an error if it is for our domain."""
        self._log.warning("stanza refused", limit=limit, sender=stanza.from_, id=stanza.id)
        self._meter.refuse(limit_of(limit))
        self._pending_iqs.refuse(stanza, f"the answer is over the limit of {limit}")
        ours = self._if_for_us(stanza)
        if ours is not None:
            self._meter.end(ours.kind, "refused")
            text = f"This is over the limit of {limit}."
            error = StanzaError(StanzaCondition.POLICY_VIOLATION, ErrorType.MODIFY, text)
            self._bouncer.tell(ours, error)

    def _if_for_us(self, stanza: Stanza) -> Stanza | None:
        """Return a stanza for our domain, spelled as configured, since replies come from it (S28).

        Return None if an address is missing, or if the stanza is for another domain (S34).
        """
        if not stanza.from_ or not stanza.to:
            self._log.warning("stanza without address dropped", kind=stanza.kind, id=stanza.id)
            self._meter.end(stanza.kind, "invalid")
            return None
        ours, domain = self._component.domain, domain_of(stanza.to)
        if domain == ours:
            return stanza
        if same_domain(domain, ours):
            local, at, _ = bare(stanza.to).rpartition("@")
            _, slash, resource = stanza.to.partition("/")
            spelt = f"{local}{at}{ours}{slash}{resource}"
            return Stanza(stanza.element.with_attributes(to=spelt), stanza.lang)
        self._meter.end(stanza.kind, "misdirected")
        if not self._warned:
            self._warned = True
            self._log.warning(
                "stanza for another domain",
                hint="on ejabberd, set global_routes: false for this listener",
                to_domain=domain,
            )
        if stanza.is_request:
            # The error cannot come from the requested address: it is not ours to use.
            self._bouncer.tell(Stanza(stanza.element.with_attributes(to=ours)), _NOT_HERE)
        return None

    def _if_for_endpoint(self, stanza: Stanza, weight_bytes: int) -> Stanza | None:
        component, kind, limiter = self._component, stanza.kind, self.limiter
        commands = self._commands
        is_of_room = stanza.type == "groupchat"
        verdict: Verdict = "live"
        if is_of_room or kind == "presence" or (kind == "message" and stanza.type == "error"):
            verdict = self._rooms.receive(stanza)
            if verdict != "live" and self._is_done(stanza, verdict):
                return None
        if kind == "iq":
            if not self._is_valid_iq(stanza):
                self._meter.end(kind, "invalid")
                return None
            if stanza.is_request and self._rooms.is_reflected(stanza):
                self._meter.end(kind, "answered")
                self._bouncer.send([self._autoresponder.answer_request(stanza)])
                return None
        sender = limiter.sender_of(stanza)
        excess = limiter.over_rate(stanza, weight_bytes, sender)
        if excess is not None:
            self._refuse_excess(stanza, excess)
            return None
        if limiter.refused_count:
            limiter.calm(self._log)
        typing = self._typing
        if typing is not None and typing.after_s and kind == "message" and stanza.type == "chat":
            typing.observe(stanza)
        if component.allow_from and not self._is_allowed(stanza):
            self._meter.end(kind, "forbidden")
            self._bouncer.tell(stanza, _FORBIDDEN)
        elif component.local_parts is not None and not self._exists(stanza):
            self._meter.end(kind, "answered")
            self._log.debug("no such address", to=stanza.to, id=stanza.id)
            self._answer_nobody(stanza)
        elif commands is not None and commands.is_any and (step := self._step(commands, stanza)):
            return self._asked(stanza, step)
        elif kind not in component.post_stanzas:
            self._answer(stanza)
        elif not self._is_listed(event := event_of(stanza), stanza):
            self._log.debug("event not posted", event_name=event, id=stanza.id)
            self._answer_event(stanza, event)
        else:
            excess = limiter.over_waiting(stanza, sender)
            if excess is not None:
                self._refuse_excess(stanza, excess)
            elif verdict == "unclear" and not component.post_own:
                self._rooms.hold(stanza, event, weight_bytes)
            else:
                return stanza
        return None

    def _step(self, commands: Commands, stanza: Stanza) -> Step | None:
        """Return the step of a dialog that a stanza takes; None if it takes none. While too many
        stanzas of its sender wait, no dialog goes on.
        """
        if stanza.kind == "presence":
            return None
        excess = self.limiter.over_waiting(stanza)
        if excess is None:
            return commands.receive(stanza)
        if not commands.concerns(stanza):
            return None
        self._refuse_excess(stanza, excess)
        return Step()

    def _asked(self, stanza: Stanza, step: Step) -> Stanza | None:
        """Send the answers of a step, or return the stanza that asks the service."""
        if step.asks is not None:
            self.made = step.event
            return step.asks
        if not step.answers:
            return None
        size = sum(len(one.encode()) for one in step.answers)
        excess = self.limiter.over_answer(stanza, size)
        if excess is not None:
            self._refuse_excess(stanza, excess)
            return None
        self._meter.end(stanza.kind, "answered")
        self._bouncer.send(list(step.answers))
        return None

    def _is_listed(self, event: EventName, stanza: Stanza) -> bool:
        """Return whether an event is POSTed. Accept an invitation if that is configured."""
        if event == "invite":
            policy = self._component.invitations
            if policy in ("post", "ignore"):
                return policy == "post"
            if policy == "accept":
                self._invitations.accept(stanza)
        if event == "other" and is_archived(stanza):
            return False  # it comes too late, or nobody has asked for it (XEP-0313)
        return event in self._component.post_events

    def _is_done(self, stanza: Stanza, verdict: Verdict) -> bool:
        """Return whether a stanza of a room needs no more than what `rooms` has done with it."""
        component = self._component
        for _ in range(self._rooms.take_dropped()):
            self._meter.end("message", "ignored")
        if verdict in ("joined", "left"):
            if _MADE[verdict] in component.post_events:
                self._rooms.inbound.append(Inbound(stanza, _MADE[verdict]))
                return True
            if not self._rooms.keeps(stanza):  # the service that joined waits for it
                return False
        elif verdict == "unclear" or (verdict != "state" and component.post_own):
            return False
        self._meter.end(stanza.kind, "ignored")
        self._log.debug("for the bridge only", verdict=verdict, id=stanza.id)
        return True

    def _refuse_excess(self, stanza: Stanza, excess: Excess) -> None:
        """Refuse a stanza of a sender over a limit, with an error if one may be sent."""
        self._meter.refuse(excess.limit)
        self._meter.end(stanza.kind, "refused")
        self.limiter.refused(stanza, excess, self._log)
        self._bouncer.tell(stanza, EXCESSIVE, quiet=True)

    def _is_valid_iq(self, stanza: Stanza) -> bool:
        """Return whether an iq is valid (S29); if not, send an error if one may be sent."""
        if not stanza.id:
            self._log.warning("iq without id dropped", sender=stanza.from_)
            return False
        if stanza.type in ("result", "error"):
            return True
        if stanza.type in TYPES["iq"] and len(stanza.element.elements) == 1:
            return True
        # An iq of unknown type does not count as a request, but is answered like one.
        self._bouncer.send([stanza.error_reply(_BAD_REQUEST)])
        return False

    def _is_allowed(self, stanza: Stanza) -> bool:
        sender = fold(stanza.from_ or "").lower()
        names = (sender, bare(sender), domain_of(sender))
        return any(name in self._component.allow_from for name in names)

    def _answer_event(self, stanza: Stanza, event: str) -> None:
        """Answer a stanza whose event is not POSTed. An error for a receipt or a reaction would be
        forbidden or harmful (XEP-0184 §7), so most messages get nothing.
        """
        if stanza.kind == "message":
            self._meter.end(stanza.kind, "ignored")
        if event == "encrypted":
            in_room = self._rooms.occupancy.has_occupant(stanza.from_ or "")
            text = self._component.encrypted_notice
            self._bouncer.send(self._notice.answer(stanza, text, in_room=in_room))
        elif stanza.kind != "message":
            self._answer(stanza)
        elif event in ("message", "edit"):
            self._refuse_message(stanza)

    def _exists(self, stanza: Stanza) -> bool:
        return self._autoresponder.book.exists(stanza.to or "")

    def _answer_nobody(self, stanza: Stanza) -> None:
        """Answer a stanza for an address that does not exist (RFC 6121 §8.5.1)."""
        if stanza.kind == "message":
            self._refuse_message(stanza)
        else:
            self._bouncer.send(self._autoresponder.answer_nobody(stanza))

    def _answer(self, stanza: Stanza) -> None:
        """Answer a stanza that is not POSTed (H6). A large answer counts like a stanza of its size:
        a vCard is many times its question.
        """
        if stanza.kind == "message":
            self._meter.end(stanza.kind, "answered")
            self._refuse_message(stanza)
            return
        answers = self._autoresponder.answer(stanza)
        size = sum(len(one.encode()) for one in answers)
        excess = self.limiter.over_answer(stanza, size)
        if excess is not None:
            self._refuse_excess(stanza, excess)
            return
        self._meter.end(stanza.kind, "answered")
        contacts = self._autoresponder.contacts
        if stanza.kind == "presence" and contacts is not None:
            # A subscription that was accepted must outlive a crash.
            contacts.when_kept(partial(self._bouncer.send, answers))
        else:
            self._bouncer.send(answers)

    def _refuse_message(self, stanza: Stanza) -> None:
        """Send the error that Prosody would send for a message that nobody takes."""
        if stanza.type in (None, "chat", "normal"):
            self._bouncer.tell(stanza, UNAVAILABLE)
