"""The shapes of JSON values that stand for elements: objects, and what their keys mean.

None means absent. They are msgspec structs, because msgspec writes, checks and describes them
(JSON Schema) from one definition.
"""

from typing import Any

import msgspec


class Shape(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """An object whose absent keys are left out."""


class Delay(Shape, frozen=True, omit_defaults=True, gc=False):
    """When and by whom a stanza was held back (XEP-0203). The stamp may be forged."""

    stamp: str | None = None
    from_: str | None = None
    reason: str | None = None


class Moderated(Shape, frozen=True, omit_defaults=True, gc=False):
    """Who removed a message of a room, and why (XEP-0425)."""

    by: str | None = None
    occupant_id: str | None = None
    reason: str | None = None


class ReplyTo(Shape, frozen=True, omit_defaults=True, gc=False):
    """The message that this one replies to (XEP-0461)."""

    id: str
    to: str | None = None


class Reactions(Shape, frozen=True, omit_defaults=True, gc=False):
    """All reactions of the sender to one message (XEP-0444); an empty list takes them back."""

    id: str
    reactions: list[str]


class Oob(Shape, frozen=True, omit_defaults=True, gc=False):
    """A URL (XEP-0066)."""

    url: str
    desc: str | None = None


class File(Shape, frozen=True, omit_defaults=True, gc=False):
    """A shared file (XEP-0447, XEP-0385, XEP-0066). `size` is in bytes."""

    url: str
    name: str | None = None
    media_type: str | None = None
    size: int | None = None
    desc: str | None = None


class StanzaId(Shape, frozen=True, omit_defaults=True, gc=False):
    """An id that an archive gave to the message (XEP-0359)."""

    by: str
    id: str


class Invite(Shape, frozen=True, omit_defaults=True, gc=False):
    """An invitation to a room. `direct`: from a person (XEP-0249), else by the room."""

    jid: str
    from_: str | None = None
    reason: str | None = None
    password: str | None = None
    thread: str | None = None
    direct: bool = False


class ErrorObject(Shape, frozen=True, omit_defaults=True, gc=False):
    """A stanza error (RFC 6120 §8.3). `application` is a condition of an application."""

    type: str | None = None
    condition: str | None = None
    text: str | None = None
    by: str | None = None
    application: str | None = None


class Reference(Shape, frozen=True, omit_defaults=True, gc=False):
    """A reference to a URI, such as a mention (XEP-0372); code points `begin` to `end` of body."""

    type: str | None = None
    uri: str | None = None
    begin: int | None = None
    end: int | None = None


class Payload(Shape, frozen=True, omit_defaults=True, gc=False):
    """A JSON payload (XEP-0432, XEP-0335)."""

    datatype: str | None = None
    data: Any = None


class Option(Shape, frozen=True, omit_defaults=True, gc=False):
    """A choice of a form's field."""

    value: str
    label: str | None = None


class FormField(Shape, frozen=True, omit_defaults=True, gc=False):
    """A field of a form. `values` if there are several values or none, else `value`."""

    var: str | None = None
    type: str | None = None
    label: str | None = None
    desc: str | None = None
    required: bool = False
    value: str | None = None
    values: list[str] | None = None
    options: list[Option] | None = None


class Form(Shape, frozen=True, omit_defaults=True, gc=False):
    """A data form (XEP-0004)."""

    type: str | None = None
    title: str | None = None
    instructions: str | None = None
    fields: list[FormField] | None = None
    items: list[list[FormField]] | None = None


class Forwarded(Shape, frozen=True, omit_defaults=True, gc=False):
    """A forwarded message (XEP-0297): its JSON, with no forwarded messages of its own."""

    delay: Delay | None = None
    message: dict[str, Any] | None = None


class Caps(Shape, frozen=True, omit_defaults=True, gc=False):
    """What a client can do, as a hash (XEP-0115)."""

    node: str | None = None
    ver: str | None = None
    hash: str | None = None


class Occupant(Shape, frozen=True, omit_defaults=True, gc=False):
    """An occupant of a room (XEP-0045)."""

    affiliation: str | None = None
    role: str | None = None
    jid: str | None = None
    nick: str | None = None
    statuses: list[int] | None = None
    reason: str | None = None
    actor: str | None = None


class Identity(Shape, frozen=True, omit_defaults=True, gc=False):
    """What an entity is (XEP-0030)."""

    category: str
    type: str
    name: str | None = None


class Disco(Shape, frozen=True, omit_defaults=True, gc=False):
    """Identities and features of an entity (XEP-0030)."""

    identities: list[Identity] = []
    features: list[str] = []
    node: str | None = None


class Item(Shape, frozen=True, omit_defaults=True, gc=False):
    """An item of an entity (XEP-0030)."""

    jid: str
    name: str | None = None
    node: str | None = None


class Version(Shape, frozen=True, omit_defaults=True, gc=False):
    """A software version (XEP-0092)."""

    name: str | None = None
    version: str | None = None
    os: str | None = None


class Command(Shape, frozen=True, omit_defaults=True, gc=False):
    """A request for an ad-hoc command (XEP-0050)."""

    node: str | None = None
    sessionid: str | None = None
    action: str | None = None
