"""One room that the bridge keeps an occupant in: a state machine without clock and socket.

    WAITING ── join ──▶ JOINING ── self-presence (110) ──▶ JOINED
       ▲                   │ error, none in time               │ removed, or a self-ping fails
       ├── again ◀─────────┴───────────────────────────────────┤
       └── command, new settings ── OUT ◀── final reason ──────┘

`outcome` says which reasons are final. All times are by one clock of the caller's, in s. Whoever
drives a room calls `join` at `due` or later (`rooms` spaces the joins of a server), and `advance`.
"""

import math
from collections.abc import Callable
from enum import Enum
from secrets import token_hex
from typing import Final, Literal, Protocol

from structlog.typing import FilteringBoundLogger

from bridge.config.settings import RoomSettings
from bridge.payload.namespace import SID
from bridge.xmpp.backoff import Backoff
from bridge.xmpp.muc import statuses_of
from bridge.xmpp.room import outcome, request
from bridge.xmpp.room.occupant import OCCUPANT_ID, Occupants, item_of, occupant_id_of
from bridge.xmpp.room.outcome import Ending
from bridge.xmpp.room.selfping import Answer, SelfPing, read_answer
from xmppstream import Element, Stanza, make
from xmppstream.names import DISCO_INFO, MUC_USER, expanded

JOIN_TIMEOUT_S: Final = 30.0
GOOD_S: Final = 60.0
"""A stay of this length makes the next wait short again."""
RESOURCE: Final = "default"
KNOWN: Final = frozenset({OCCUPANT_ID, SID})
"""The features of rooms that matter here: without one, its ids may be anybody's invention."""
_NICKS: Final = 9
_QUESTIONS: Final = 16
_AGAIN: Final = Backoff(5.0, 600.0)

Verdict = Literal["event", "state"]
"""Whether a presence is an event for the service, or only changes what is known of the room."""


class Phase(Enum):
    """Whether we are in a room."""

    WAITING = "waiting"
    JOINING = "joining"
    JOINED = "joined"
    OUT = "out"


class RoomHost(Protocol):
    """What a room needs from `rooms`."""

    def send(self, stanza: Stanza) -> None:
        """Send a stanza, once, on the present stream."""
        ...

    def lost(self, room: "Room", presence: Stanza, ending: Ending) -> None:
        """Note that we are out of a room, by a presence that does not say so itself."""
        ...

    def settled(self, room: "Room") -> None:
        """Note that a room has sent everything that a join brings."""
        ...


class Room:
    """One room. The attributes are read-only."""

    def __init__(
        self,
        settings: RoomSettings,
        domain: str,
        host: RoomHost,
        log: FilteringBoundLogger,
        *,
        token: Callable[[], str] = lambda: token_hex(8),
        again: Backoff = _AGAIN,
    ) -> None:
        self.settings = settings
        self.jid = settings.jid
        self.address = f"{settings.local}@{domain}/{RESOURCE}"
        self.phase = Phase.WAITING
        self.why = outcome.DETACHED
        """Why we are not joined; while joined, what is wrong, or `""`."""
        self.since = -math.inf
        """When the phase began."""
        self.due = math.inf
        """When the next step is to be taken."""
        self.occupant: str | None = None
        self.occupants = Occupants()
        self.subject: str | None = None
        self.subject_by: str | None = None
        self.features: frozenset[str] | None = None
        """Which of `KNOWN` the room announces; None until it has answered."""
        self._host = host
        self._log = log.bind(room=settings.jid)
        self._token = token
        self._again = again
        self._attempts = 0
        self._number = 1  # of the nick: nick, nick2, …
        self._requested = ""  # the occupant that was asked for
        self._ping = SelfPing()
        self._questions: dict[str, str] = {}  # what our last iqs were for, by id
        self._told = ""

    @property
    def nick(self) -> str:
        """Our nick in the room, or the one that is asked for next."""
        if self.occupant is not None:
            return self.occupant.partition("/")[2]
        return self.settings.nick + ("" if self._number == 1 else str(self._number))

    # --- the stream

    def attached(self, now: float) -> None:
        """Join again, whatever the server knows of us: a stream has begun."""
        if self.phase is not Phase.OUT:
            self._attempts, self._number = 0, 1
            self._wait(now, now, "")

    def detached(self, now: float) -> None:
        """Wait for the next stream."""
        if self.phase is not Phase.OUT:
            self._wait(now, math.inf, outcome.DETACHED)

    # --- what we do

    def join(self, now: float) -> None:
        """Ask to join. Call it while WAITING."""
        self.occupant = None
        self._requested = f"{self.jid}/{self.nick}"
        self.occupants.clear()
        self.features = None
        self._enter(Phase.JOINING, now, self.why)
        self.due = now + JOIN_TIMEOUT_S
        password = self.settings.password
        self._host.send(
            request.join(
                self._requested,
                self.address,
                self._token(),
                None if password is None else password.value,
            )
        )

    def leave(self, now: float, why: str = outcome.LEFT) -> None:
        """Leave, and stay out."""
        if self.phase in (Phase.JOINING, Phase.JOINED):
            self._host.send(request.leave(self.occupant or self._requested, self.address))
        self._enter(Phase.OUT, now, why)
        self.due = math.inf

    def retry(self, now: float) -> None:
        """Join now, although it stays out or waits. While joined, this does nothing."""
        if self.phase in (Phase.WAITING, Phase.OUT):
            self._attempts, self._number, self._told = 0, 1, ""
            self._wait(now, now, "")

    def advance(self, now: float) -> None:
        """Take the step that is due while JOINING or JOINED."""
        if now < self.due:
            return
        if self.phase is Phase.JOINING:
            self._try_again(now, outcome.NO_ANSWER)
        elif self.phase is Phase.JOINED:
            if now < self._ping.due:  # the room has been heard meanwhile
                self.due = self._ping.due
            elif self._ping.id is not None:
                self._unanswered(now)
            else:
                self._ask_ourselves(now)

    # --- what the room says

    def heard(self, now: float) -> None:
        """Note that a stanza has come from the room: it is alive, and we are in it."""
        self._ping.heard(now)
        if self.phase is Phase.JOINED:
            self.why = ""

    def errored(self, now: float) -> None:
        """Note that a stanza of ours was returned by the room: we may not be in it any more."""
        if self.phase is Phase.JOINED:
            self._ping.suspect(now)
            self.due = self._ping.due

    def note_subject(self, message: Stanza, subject: str) -> None:
        """Remember the room's subject."""
        self.subject = subject
        self.subject_by = (message.from_ or "").partition("/")[2] or None

    def sender_of(self, stanza: Stanza) -> str | None:
        """Return the id of the occupant that a stanza comes from, which a new nick does not change;
        None where the room does not announce ids. Until it has answered they are taken as they
        come: another sender in the middle of a conversation would break its order.
        """
        if self.features is not None and OCCUPANT_ID not in self.features:
            return None
        known = self.occupants.get((stanza.from_ or "").partition("/")[2])
        return occupant_id_of(stanza) or (None if known is None else known.occupant_id)

    def presence(self, stanza: Stanza, now: float) -> Verdict:
        """Handle a presence from the room or from an occupant."""
        if stanza.type == "error":
            self._refused(stanza, now)
            return "state"
        if stanza.type not in (None, "unavailable"):
            return "event"
        self.heard(now)
        statuses = statuses_of(stanza)
        self.occupants.observe(stanza, (stanza.from_ or "").partition("/")[2])
        if "110" not in statuses and stanza.from_ != self.occupant:
            return "state" if self.phase is Phase.JOINING else "event"
        if stanza.type is None:
            self._seen(stanza, statuses, now)
        elif "303" in statuses:
            self._renamed(stanza)
        elif self.phase in (Phase.JOINING, Phase.JOINED):
            self._removed(stanza, statuses, now)
        return "state"

    def take(self, stanza: Stanza, now: float) -> bool:
        """Return whether an iq result or error is the answer to a question of ours."""
        what = self._questions.pop(stanza.id or "", None)
        if what is None:
            return False
        if stanza.type == "result":
            self.heard(now)
        if what == "ping":
            if stanza.id == self._ping.id:
                self._pong(stanza, now)
        elif what == "features":
            if stanza.type == "result":
                self._note_features(stanza)
            self._host.settled(self)
        elif stanza.type == "error":
            condition, _, text = outcome.error_of(stanza)
            self._log.warning("the room refuses a request", what=what, why=text or condition)
        return True

    # --- joining and leaving

    def _seen(self, presence: Stanza, statuses: frozenset[str], now: float) -> None:
        if self.phase is Phase.OUT:
            return
        if self.phase is Phase.JOINED:  # our role or our nick has changed
            self.occupant = presence.from_
            return
        if "201" in statuses and not self.settings.create:
            self._host.send(request.destroy(self.jid, self.address, self._ask("destroy")))
            self._try_again(now, outcome.NOT_THERE)
            ending = Ending("error", outcome.NOT_THERE, again=True)
            self._host.lost(self, presence, ending)
            return
        self.occupant = presence.from_
        if "201" in statuses:
            self._host.send(request.unlock(self.jid, self.address, self._ask("configure")))
        self._host.send(request.ask_features(self.jid, self.address, self._ask("features")))
        self._enter(Phase.JOINED, now, "")
        self._number, self._told = 1, ""
        self._ping.begin()
        self.due = self._ping.due
        self._log.info("room joined", nick=self.nick, occupants=len(self.occupants))

    def _renamed(self, presence: Stanza) -> None:
        nick = item_of(presence, "nick")
        if nick and self.phase is Phase.JOINED:
            self.occupant = f"{self.jid}/{nick}"
            self._log.info("nick changed", nick=nick)

    def _removed(self, presence: Stanza, statuses: frozenset[str], now: float) -> None:
        self._end(outcome.ending_of(presence, statuses), now)

    def _refused(self, presence: Stanza, now: float) -> None:
        if self.phase is Phase.JOINED:
            self.errored(now)
            return
        if self.phase is not Phase.JOINING:
            return
        ending = outcome.refusal_of(presence)
        if ending.next_nick and self._number < _NICKS:
            self._number += 1
            self._wait(now, now, ending.text)  # `rooms` spaces the joins
            return
        self._number = 1
        self._host.lost(self, presence, ending)
        self._end(ending, now)

    def _end(self, ending: Ending, now: float) -> None:
        if self.phase is Phase.JOINED and now - self.since >= GOOD_S:
            self._attempts = 0
        if ending.again:
            self._try_again(now, ending.text)
            return
        self._enter(Phase.OUT, now, ending.text)
        self.due = math.inf
        hint = "PUT /v1/rooms/{jid} or a restart joins it again"
        self._log.warning("room left for good", why=ending.text, hint=hint)

    def _try_again(self, now: float, why: str) -> None:
        self._attempts += 1
        wait_s = self._again.wait_s(self._attempts)
        self._wait(now, now + wait_s, why)
        if why != self._told:
            self._told = why
            self._log.info("room not joined", why=why, retry_in_s=round(wait_s, 1))

    def _wait(self, now: float, due: float, why: str) -> None:
        self._enter(Phase.WAITING, now, why)
        self.due = due

    def _enter(self, phase: Phase, now: float, why: str) -> None:
        if phase is not self.phase or self.since == -math.inf:
            self.since = now
        self.phase, self.why = phase, why
        if phase is not Phase.JOINED:
            self.occupant = self._ping.id = None

    def _ask(self, what: str) -> str:
        """Return the id of a new question."""
        id = self._token()
        self._questions[id] = what
        if len(self._questions) > _QUESTIONS:
            del self._questions[next(iter(self._questions))]
        return id

    # --- self-ping

    def _ask_ourselves(self, now: float) -> None:
        assert self.occupant is not None
        id = self._ask("ping")
        self._ping.sent(id, now)
        self.due = self._ping.due
        self._host.send(request.ping(self.occupant, self.address, id))

    def _pong(self, stanza: Stanza, now: float) -> None:
        match read_answer(stanza):
            case Answer.THERE:
                self._ping.answered(now)
                self.heard(now)
                self.due = self._ping.due
            case Answer.UNDECIDED:
                self._unanswered(now)
            case Answer.OUTSIDE:
                condition, _, text = outcome.error_of(stanza)
                ending = Ending("disconnected", outcome.LOST, again=True)
                self._host.lost(self, self._absence(), ending)
                self._log.info("a self-ping found us outside", why=text or condition)
                self._end(ending, now)

    def _unanswered(self, now: float) -> None:
        self._ping.unanswered(now)
        self.due = self._ping.due
        if not self.why:
            self._log.warning("room does not answer", why=outcome.SILENT)
        self.why = outcome.SILENT

    def _absence(self) -> Stanza:
        """Return the presence that the room should have sent."""
        item = Element(expanded(MUC_USER, "item"), (("affiliation", "none"), ("role", "none")))
        codes = (
            Element(expanded(MUC_USER, "status"), (("code", code),)) for code in ("110", "333")
        )
        x = Element(expanded(MUC_USER, "x"), (), (item, *codes))
        return make("presence", self.address, self.occupant, type="unavailable", children=(x,))

    def _note_features(self, stanza: Stanza) -> None:
        query = stanza.element.find(expanded(DISCO_INFO, "query"))
        features = [] if query is None else query.find_all(expanded(DISCO_INFO, "feature"))
        self.features = KNOWN.intersection(one.get("var") or "" for one in features)
