"""Wires the parts of a component, for the daemon and for a replay.

A stanza passes through `admission`, `queue`, `dispatcher` (its conversation's turn), `worker` (the
POST), `settlement` and `outbox`, which `Link` empties into the stream.
"""

import time
from collections.abc import Callable
from typing import Self

import trio
from attrs import field, frozen
from structlog.typing import FilteringBoundLogger

from bridge.cluster.ownership import Ownership
from bridge.config.settings import WRITTEN_FACTOR, Component, Settings, http_of, retry_of
from bridge.dispatch.admission import Admission
from bridge.dispatch.attachment import ReplyUploads
from bridge.dispatch.conversation import Conversations
from bridge.dispatch.deferred import DeferredReplies
from bridge.dispatch.dispatcher import Dispatcher
from bridge.dispatch.promise import Promises
from bridge.dispatch.ratelimit import SenderLimiter
from bridge.dispatch.remote_iq import RemoteIqs
from bridge.dispatch.streaming import Streams
from bridge.dispatch.submission import Submission, Submitter
from bridge.dispatch.upload import Uploader
from bridge.dispatch.worker import DeliveryWorker, FileUploads, Poster
from bridge.journal.queue import DeliveryQueue
from bridge.payload.reply import ReplyComposer
from bridge.telemetry.meter import Meter
from bridge.telemetry.tracing import Spans
from bridge.webhook.retry import CircuitBreaker, RetryPolicy
from bridge.xmpp.announcer import Announcer
from bridge.xmpp.archive import ArchiveQueries
from bridge.xmpp.autoresponder import Autoresponder
from bridge.xmpp.bounce import Bouncer
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.contact import Contacts
from bridge.xmpp.identity.book import IdentityBook
from bridge.xmpp.iq import PendingIqs
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.offer import Offers
from bridge.xmpp.outbox import Outbox, Outgoing
from bridge.xmpp.receipt import Receipts
from bridge.xmpp.room.rooms import Rooms
from bridge.xmpp.room.runner import RoomRunner
from bridge.xmpp.state import MemoryState, StateStore
from bridge.xmpp.typing import Typing
from xmppstream import Stanza
from xmppstream.parser_thread import ParseElement


@frozen
class Surroundings:
    """The values that differ between a daemon and a replay; the defaults are a daemon's.

    `now` is Unix time in s, `iq_now` the clock of iq deadlines. Use `state` only once the component
    runs: it is loaded then. There is an `ownership` if other nodes share the journal, and there are
    `remote_iqs` if one of them may be the gateway.
    """

    limiter: SenderLimiter | None = None
    rooms: MucOccupancy = field(factory=MucOccupancy)
    meter: Meter = field(factory=Meter)
    state: StateStore = field(factory=MemoryState)
    spans: Spans | None = None
    submitted: Callable[[str, bytes], None] = lambda uid, data: None
    takes: Callable[[Submission], bool] = lambda submission: True
    policy: RetryPolicy | None = None
    breaker: CircuitBreaker | None = None
    max_in_flight: int | None = None
    is_replay: bool = False
    now: Callable[[], float] = time.time
    iq_now: Callable[[], float] = trio.current_time
    reply_uploads: FileUploads | None = None
    ownership: Ownership | None = None
    remote_iqs: RemoteIqs | None = None


@frozen
class Pipeline:
    """The parts of one component."""

    admission: Admission
    worker: DeliveryWorker
    dispatcher: Dispatcher
    outbox: Outbox
    bouncer: Bouncer
    pending_iqs: PendingIqs
    submitter: Submitter
    uploader: Uploader
    rooms: Rooms
    room_runner: RoomRunner
    receipts: Receipts
    typing: Typing
    promises: Promises
    deferred: DeferredReplies
    streams: Streams
    commands: Commands
    contacts: Contacts
    announcer: Announcer
    offers: Offers

    @classmethod
    def build(
        cls,
        component: Component,
        settings: Settings,
        queue: DeliveryQueue,
        endpoint: Poster,
        parse: ParseElement,
        log: FilteringBoundLogger,
        surroundings: Surroundings,
    ) -> Self:
        """Wire the parts. `parse` parses the XML of replies."""
        around, http, stream = surroundings, http_of(component, settings), settings.stream
        occupancy = around.rooms
        rooms = Rooms(component.domain, occupancy, log, now=around.iq_now)
        book = IdentityBook(component, around.state)
        rooms.configure(component.rooms, component.max_rooms, book.exists)
        contacts = Contacts(book, around.state, log, is_room=occupancy.has_occupant)
        autoresponder = Autoresponder(contacts.book, around.now, contacts)
        outbox = Outbox(component.domain, store=queue, now=around.now)
        max_xml_length = WRITTEN_FACTOR * stream.max_stanza_bytes
        pending_iqs = PendingIqs(now=around.iq_now, max_xml_length=max_xml_length)
        bouncer = Bouncer(outbox, occupancy, log, around.now, meter=around.meter)

        def replaced(uid: str, count: int) -> None:
            bouncer.meter.replaced += count
            log.debug("characters replaced", count=count, **({"uid": uid} if uid else {}))

        composer = ReplyComposer(
            component.domain, stream.max_send_bytes, parse, replaced, rooms.outgoing
        )
        receipts = Receipts(component, rooms)

        def send_notices(notices: list[Stanza]) -> None:
            made = around.now()
            outbox.put([Outgoing(one.encode(), made, is_answer=True) for one in notices])

        typing = Typing(component, occupancy, send_notices)
        promises = Promises(component.domain, around.state, log, settings.listen, around.now)
        given = promises if promises.is_on else None
        offers = Offers(around.state, occupancy.has_occupant, around.now)
        archives = ArchiveQueries()
        commands = Commands(component, around.state, around.now, is_room=occupancy.has_occupant)
        admission = Admission(
            component,
            autoresponder,
            rooms,
            bouncer,
            log,
            pending_iqs=pending_iqs,
            limiter=around.limiter,
            typing=typing,
            archives=archives,
            commands=commands,
        )
        submitter = Submitter(
            *(composer, queue, outbox, pending_iqs, rooms),
            *(around.submitted, around.takes, contacts, offers, archives),
            remote_iqs=around.remote_iqs,
        )
        uploader = Uploader(component, settings, submitter, log, around.now)
        uploads = around.reply_uploads or ReplyUploads(uploader)
        streams = Streams(
            *(component, composer, queue, outbox, around.state, rooms, typing, log),
            bouncer.meter,
            around.now,
            offers,
        )
        worker = DeliveryWorker(
            *(endpoint, composer, autoresponder, rooms, log, bouncer.meter),
            receipts,
            typing,
            given,
            uploads,
            offers,
            commands,
            streams,
            is_replay=around.is_replay,
        )
        dispatcher = Dispatcher(
            admission,
            worker,
            queue,
            outbox,
            bouncer,
            rooms,
            log,
            conversations=Conversations(component.order),
            policy=around.policy or RetryPolicy.of(retry_of(component, settings)),
            breaker=around.breaker,
            max_in_flight=around.max_in_flight or http.max_in_flight,
            max_xml_length=max_xml_length,
            now=around.now,
            spans=around.spans,
            receipts=receipts,
            contacts=contacts,
            typing=typing,
            promises=given,
            offers=offers,
            streams=streams,
            max_streams=http.max_streams,
            ownership=around.ownership,
        )
        admission.limiter.sender_of = rooms.sender_of
        announcer = Announcer(contacts, outbox, around.now)
        announcer.offer(commands.features)
        commands.changed = announcer.offer
        return cls(
            *(admission, worker, dispatcher, outbox, bouncer, pending_iqs, submitter, uploader),
            rooms,
            RoomRunner(rooms, outbox, dispatcher.handle_inbound, around.now),
            receipts,
            typing,
            promises,
            DeferredReplies(
                *(promises, submitter, dispatcher, typing, occupancy, bouncer.meter, uploads)
            ),
            streams,
            commands,
            contacts,
            announcer,
            offers,
        )

    def change(
        self, component: Component, settings: Settings, endpoint: Poster, *, moved: bool
    ) -> None:
        """Use another configuration of the same domain from now on; waiting stanzas keep their
        budget. `moved`: the endpoint has another address.
        """
        http = http_of(component, settings)
        self.announcer.change(component)
        self.commands.change(component)
        self.receipts.change(component)
        self.typing.change(component)
        self.streams.change(component)
        self.admission.limiter.change(settings.limits)
        self.rooms.configure(component.rooms, component.max_rooms, self.contacts.book.exists)
        self.admission.change(component)
        self.worker.change(endpoint)
        self.uploader.change(component, settings)
        policy = RetryPolicy.of(retry_of(component, settings))
        self.dispatcher.change(policy, http.max_in_flight, http.max_streams, moved=moved)
