"""The component that a story is replayed as: a configured one, or one that POSTs the same kinds of
stanzas as then.
"""

import re
from typing import Final

from attrs import define, evolve, field

from bridge.capture.file import open_source
from bridge.capture.replay.story import Story
from bridge.config.event import ALL_EVENTS
from bridge.config.settings import Component, RetrySettings, Settings
from bridge.config.value import PostUrl, Secret
from xmppstream import Server
from xmppstream.jid import same_domain
from xmppstream.stanza import KINDS

_LINE: Final = re.compile(rb"[0-9.]+ http \{")
_REQUEST: Final = re.compile(rb'"request" *: *[{](.*?), *"stanza" *: *"', re.DOTALL)
_KIND: Final = re.compile(rb'(?:\A|,) *"kind" *: *"([a-z]{1,10})"')
_BODY: Final = re.compile(rb', *"body" *: *"')
_EVENT: Final = re.compile(rb'"received" *: *"[^"]*" *, *"event" *: *"([a-z_]{1,20})"')
_WITHOUT_BODY: Final = frozenset({"typing", "receipt", "displayed", "subject", "other"})
_BUDGET_S: Final = 86_400.0
_LIVE_BUDGET_S: Final = 10.0
NOWHERE: Final = PostUrl("http://captured.invalid/", "the captured answers")


class NoComponent(Exception):
    """The configuration has no component for a story; the message names those that it has."""


@define
class Seen:
    """The stanzas that were POSTed: their kinds and events. Older captures do not tell events, so
    there it counts whether messages without a body were POSTed, too.
    """

    kinds: set[str]
    without_body: bool = False
    events: set[str] = field(factory=set)
    exchanges: int = 0

    @property
    def is_all(self) -> bool:
        return not self.events and self.without_body and len(self.kinds) == len(KINDS)

    @property
    def post_events(self) -> frozenset[str]:
        """The events that are POSTed again."""
        if self.events:
            return frozenset(self.events)
        return ALL_EVENTS if self.without_body or not self.kinds else ALL_EVENTS - _WITHOUT_BODY


def seen_in(story: Story) -> Seen:
    """Return the stanzas that were POSTed in a story. Fast: lines are searched, not decoded."""
    seen = Seen(set())
    for part in story.parts:
        if part.is_plain:
            continue
        with open_source(part.file.path) as source:
            for line in source.lines():
                if _LINE.match(line):
                    seen.exchanges += 1
                    _look(line, seen)
                    if seen.is_all:
                        return seen
    return seen


def _look(line: bytes, seen: Seen) -> None:
    # Quotes inside values are escaped, so these patterns cannot match within a value.
    request = _REQUEST.search(line)
    match = _KIND.search(request[1]) if request is not None else None
    if request is None or match is None:
        return
    kind = match[1].decode()
    if kind in KINDS:
        seen.kinds.add(kind)
    event = _EVENT.search(line)
    if event is not None:
        seen.events.add(event[1].decode())
    if kind == "message" and not _BODY.search(request[1]):
        seen.without_body = True


def component_of(settings: Settings, domain: str) -> Component:
    """Return the configured component for a domain, with that domain.

    Raises:
        NoComponent: if there is none.
    """
    for component in settings.components:
        if same_domain(component.domain, domain):
            return evolve(component, domain=domain)
    if len(settings.components) == 1:  # in a test setup its name may differ
        return evolve(settings.components[0], domain=domain)
    names = ", ".join(one.domain for one in settings.components)
    raise NoComponent(f"it has no component {domain}, which the capture is from; it has {names}")


def has_endpoint(story: Story, seen: Seen) -> bool:
    """Return whether a bridge made the capture: then, POSTs that are not in it were not made."""
    return seen.exchanges > 0 or bool(story.header.get("endpoint"))


def component_for(story: Story, seen: Seen, *, captured: bool) -> Component:
    """Return a component that POSTs the same kinds of stanzas as then. If there were none, a live
    endpoint gets every kind.
    """
    kinds = seen.kinds if seen.kinds or captured else set(KINDS)
    domain = story.header.domain
    return Component(
        domain,
        Secret("none"),
        NOWHERE,
        Server("captured", 1),
        frozenset(kinds),
        seen.post_events,
        name=domain,
    )


def with_budget(settings: Settings, *, captured: bool) -> Settings:
    """Return settings for a replay without a configuration file. With captured answers, budgets end
    nothing, since the capture shows which stanzas were given up. With a live endpoint they are
    short, since a person is waiting.
    """
    budget_s = _BUDGET_S if captured else _LIVE_BUDGET_S
    return evolve(settings, retry=RetrySettings(budget_s, budget_s))
