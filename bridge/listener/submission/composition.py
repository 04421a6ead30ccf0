"""Makes the stanzas of a request, each checked like that of a reply (H2, S27 to S31).

A request is a whole: if one of its stanzas may not be sent, the request is refused, and the refusal
names the object. Nothing is stored or sent here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec
from attrs import frozen

from bridge.dispatch.submission import Submitter
from bridge.journal.delivery import fresh_uid
from bridge.listener.submission.iq import NOT_RUNNING
from bridge.listener.submission.singleflight import NotConfigured, NotRunning, SendRefused
from bridge.payload.body import (
    BLANK,
    Reading,
    ReplyBody,
    ReplyObject,
    read_reply,
    refuse_key,
)
from bridge.payload.error import UnusableReply
from bridge.payload.reply import Draft, ReplyComposer, one_file_each
from xmppstream import Stanza
from xmppstream.jid import InvalidJid, domain_of, same_domain, split

BATCH_LIMIT: Final = 100
"""The stanzas of one request, at most."""
_TOO_MANY: Final = f"more than {BATCH_LIMIT} stanzas; split them into several requests"
_NOTHING: Final = "no body, stanza, type or kind"

Submitters = Callable[[], Mapping[str, Submitter]]
"""Returns the submitters of all configured components, by domain, whether they run or not."""


class NoSender(UnusableReply):
    """A stanza lacks `from`, and the token names no single address to use."""


@frozen
class Batch:
    """The stanzas of one request: all are sent, or none. Those of an array, or of an object that
    becomes several, are a list, and so is their answer. `places` has a prefix for what is said
    about each: `object 2: `, or an empty string.
    """

    stanzas: tuple[Stanza, ...]
    places: tuple[str, ...] = ("",)
    is_list: bool = False

    def uids(self, uid: str) -> list[str]:
        """Return the UIDs of the stanzas of a request with this UID."""
        if not self.is_list:
            return [uid]
        return [f"{uid}-{number}" for number in range(1, len(self.stanzas) + 1)]


def submitter_of(submitters: Submitters, address: str) -> Submitter | None:
    """Return the submitter for the domain of an address, or None."""
    domain = domain_of(address)
    for name, submitter in submitters().items():
        if same_domain(name, domain):
            return submitter
    return None


@frozen
class Objects:
    """The objects of a request, read and not yet checked."""

    reading: Reading
    is_array: bool = False

    def with_objects(self, objects: list[ReplyObject]) -> "Objects":
        """Return this with other objects in the place of each."""
        return Objects(msgspec.structs.replace(self.reading, objects=objects), self.is_array)


def read_objects(content: ReplyBody) -> Objects:
    """Read the body of a request.

    Raises:
        NotJson: if it should be JSON, and is not.
        UnusableReply: if it is JSON of another form.
    """
    is_array = is_list(content)
    return Objects(read_reply(content), is_array)


Content = ReplyBody | Objects | Stanza


@frozen
class RequestComposer:
    """Makes stanzas of requests, for all components."""

    _submitters: Submitters

    async def compose(self, content: Content, default_from: str | None) -> Batch:
        """Return the stanzas of a request; see `Sender.compose_all`."""
        if isinstance(content, Stanza):
            return Batch((self._checked(Draft(ReplyObject(), content), default_from),))
        given = read_objects(content) if isinstance(content, ReplyBody) else content
        parts = parts_of(given.reading, is_array=given.is_array)
        stanzas: list[Stanza] = []
        for place, one in parts:
            with _named(place):
                draft = await self._composer_for(one).draft(one)
                stanza = self._checked(draft, default_from)
                _check_company(stanza, stanzas, len(parts))
            stanzas.append(stanza)
        places = tuple([place for place, _ in parts])
        return Batch(tuple(stanzas), places, given.is_array or len(stanzas) > 1)

    def _composer_for(self, one: ReplyObject) -> ReplyComposer:
        """Return a composer for the draft of an object; they differ only after that."""
        submitters = self._submitters()
        if not submitters:
            raise NotConfigured("from: there is no component here")
        for submitter in submitters.values():
            if not one.stanza or submitter.takes("draft"):  # one that has ended has no parser
                return submitter.composer
        raise NotRunning(f"{next(iter(submitters))} {NOT_RUNNING}")

    def _checked(self, draft: Draft, default_from: str | None) -> Stanza:
        sender = default_from if draft.from_ is None else draft.from_
        if sender is None:
            raise NoSender("from is missing")
        submitter = submitter_of(self._submitters, sender)
        if submitter is None:
            try:
                split(sender)
            except InvalidJid as error:
                raise UnusableReply(f"from: not a valid address: {error}") from None
            raise NotConfigured(f"from: {domain_of(sender)[:60]!r} is not a component here")
        return submitter.composer.compose_unasked(draft, default_from, fresh_uid())


def is_list(content: ReplyBody) -> bool:
    """Return whether a body is an array of objects."""
    return content.media == "json" and content.content.lstrip(BLANK)[:1] == b"["


def parts_of(reading: Reading, *, is_array: bool) -> list[tuple[str, ReplyObject]]:
    """Return the objects of a body, with at most one file each, and the place of each.

    Raises:
        UnusableReply: if there is none, there are too many, one says nothing, or has a key that a
            send does not have.
    """
    objects = reading.objects
    if not objects:
        why = "the array is empty; send at least one object"
        raise UnusableReply(why if is_array else "the body is not a JSON object")
    if len(objects) > BATCH_LIMIT:
        raise UnusableReply(_TOO_MANY)
    places = [
        f"object {number}: " if len(objects) > 1 else "" for number in range(1, len(objects) + 1)
    ]
    if reading.unknown:
        key = reading.unknown[0]
        with _named(places[reading.unknown_in[0]]):
            raise refuse_key(key)
    parts: list[tuple[str, ReplyObject]] = []
    for index, one in enumerate(objects):
        with _named(places[index]):
            if one.says_nothing:
                why = reading.whys[index] if reading.whys else ""
                raise UnusableReply(f"there is nothing to send: {why or _NOTHING}")
            parts += [(places[index], part) for part in one_file_each([one])]
    if len(parts) > BATCH_LIMIT:
        raise UnusableReply(_TOO_MANY)
    return parts


def _check_company(stanza: Stanza, before: list[Stanza], count: int) -> None:
    """Check that a stanza can be in one request with the others, `count` in all.

    Raises:
        UnusableReply: if it is an iq, or of another component.
    """
    if count > 1 and stanza.kind == "iq":
        raise UnusableReply("an iq waits for its answer; send it alone, in a request of its own")
    domain = domain_of(stanza.from_ or "")
    if before and domain != (other := domain_of(before[0].from_ or "")):
        why = f"from: {domain} and {other} are two components; send one array for each"
        raise UnusableReply(why)


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Put the place of an object before whatever refuses it."""
    try:
        yield
    except (UnusableReply, SendRefused) as error:
        raise type(error)(f"{place}{error}") from None
