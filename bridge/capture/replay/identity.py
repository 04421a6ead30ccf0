"""Which component a story is replayed as: today's, of a configuration file; or one that POSTs what
was POSTed then.
"""

import re
from typing import Final

from attrs import define, evolve

from bridge.capture.file import open_source
from bridge.capture.replay.story import Story
from bridge.config.settings import Component, RetrySettings, Settings
from bridge.config.value import PostUrl, Secret
from xmppstream import Server
from xmppstream.jid import same_domain
from xmppstream.stanza import KINDS

_LINE: Final = re.compile(rb"[0-9.]+ http \{")
_REQUEST: Final = re.compile(rb'"request" *: *[{](.*?), *"stanza" *: *"', re.DOTALL)
_KIND: Final = re.compile(rb'(?:\A|,) *"kind" *: *"([a-z]{1,10})"')
_BODY: Final = re.compile(rb', *"body" *: *"')
_BUDGET_S: Final = 86_400.0
_LIVE_BUDGET_S: Final = 10.0
NOWHERE: Final = PostUrl("http://captured.invalid/", "the captured answers")


class NoComponent(Exception):
    """The configuration has no component for a story; the message says what to do."""


@define
class Seen:
    """What was POSTed: which kinds, and whether also messages without a body."""

    kinds: set[str]
    without_body: bool = False
    exchanges: int = 0

    @property
    def is_all(self) -> bool:
        return self.without_body and len(self.kinds) == len(KINDS)


def seen_in(story: Story) -> Seen:
    """Look through a story for what was POSTed. Fast: lines are searched, not read."""
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
    # Quotes inside of values are escaped, so that none of these can be part of one.
    request = _REQUEST.search(line)
    match = _KIND.search(request[1]) if request is not None else None
    if request is None or match is None:
        return
    kind = match[1].decode()
    if kind in KINDS:
        seen.kinds.add(kind)
    if kind == "message" and not _BODY.search(request[1]):
        seen.without_body = True


def component_of(settings: Settings, domain: str) -> Component:
    """Give the configured component that is meant.

    Raises:
        NoComponent: there is none.
    """
    for component in settings.components:
        if same_domain(component.domain, domain):
            return evolve(component, domain=domain)
    if len(settings.components) == 1:  # at home it may have another name
        return evolve(settings.components[0], domain=domain)
    names = ", ".join(one.domain for one in settings.components)
    raise NoComponent(f"it has no component {domain}, which the capture is of, but {names}")


def has_endpoint(story: Story, seen: Seen) -> bool:
    """Tell whether a capture is one of a bridge, so that what is not in it was not POSTed."""
    return seen.exchanges > 0 or bool(story.header.get("endpoint"))


def component_for(story: Story, seen: Seen, *, captured: bool) -> Component:
    """Make a component that POSTs what was POSTed. Where nothing was, a live endpoint gets all."""
    kinds = seen.kinds if seen.kinds or captured else set(KINDS)
    domain = story.header.domain
    return Component(
        domain,
        Secret("none"),
        NOWHERE,
        Server("captured", 1),
        frozenset(kinds),
        "all" if seen.without_body or not seen.kinds else "body",
        name=domain,
    )


def with_budget(settings: Settings, *, captured: bool) -> Settings:
    """Give settings for where no configuration has any: with captured answers budgets end nothing,
    since what was given up then is known; who sits before a live endpoint does not wait a minute.
    """
    budget_s = _BUDGET_S if captured else _LIVE_BUDGET_S
    return evolve(settings, retry=RetrySettings(budget_s, budget_s))
