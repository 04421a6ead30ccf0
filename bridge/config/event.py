"""The names of events, of which `component_post_events` lists those to be POSTed.

`bridge.payload.event` decides which one a stanza is.
"""

from typing import Final, Literal, NewType, get_args

EventName = Literal[
    "message",
    "edit",
    "retraction",
    "reaction",
    "encrypted",
    "error",
    "invite",
    "subject",
    "form",
    "action",
    "receipt",
    "displayed",
    "typing",
    "other",
    "subscription",
    "presence",
    "iq",
    "command",
    "register",
    "room_joined",
    "room_left",
]
EVENTS: Final[tuple[EventName, ...]] = get_args(EventName)
ALL_EVENTS: Final = frozenset(EVENTS)
DEFAULT_EVENTS: Final[frozenset[EventName]] = frozenset(
    {
        *("message", "edit", "presence", "subscription", "iq"),
        *("command", "register", "form", "action"),
    }
)
"""The events that are POSTed by default: those that a service which reads `body` can answer."""
MADE_EVENTS: Final[frozenset[EventName]] = frozenset({"room_joined", "room_left"})
"""The events that no stanza says of itself: the bridge decides when one is."""
PostEvents = NewType("PostEvents", tuple[str, ...])
"""The value of `component_post_events`; `"all"` is read as all of them."""
