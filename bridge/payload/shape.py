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


class Thread(Shape, frozen=True, omit_defaults=True, gc=False):
    """The id of a thread, and of the thread that it has branched from (XEP-0201)."""

    id: str
    parent: str | None = None


class Moderate(Shape, frozen=True, omit_defaults=True, gc=False):
    """A message of a room to remove, by the room's id, and why (XEP-0425)."""

    id: str
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


class FileToSend(Shape, frozen=True, omit_defaults=True, gc=False):
    """A file to share: its `url`, or its content as base64, which the bridge uploads."""

    url: str | None = None
    name: str | None = None
    media_type: str | None = None
    size: int | None = None
    desc: str | None = None
    data_base64: str | None = None


class StanzaId(Shape, frozen=True, omit_defaults=True, gc=False):
    """An id that an archive gave to the message (XEP-0359)."""

    by: str
    id: str


class Invite(
    Shape,
    frozen=True,
    omit_defaults=True,
    gc=False,
    rename={"from_": "from", "continue_": "continue"},
):
    """An invitation to the room `jid`. `direct`: from a person (XEP-0249), else by the room, which
    is asked to invite `to` (XEP-0045).
    """

    jid: str | None = None
    from_: str | None = None
    reason: str | None = None
    password: str | None = None
    thread: str | None = None
    direct: bool = False
    to: str | None = None
    continue_: bool = False


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


class QuickAnswer(Shape, frozen=True, omit_defaults=True, gc=False):
    """An answer to choose (XEP-0439): `value` is sent, `label` is shown."""

    value: str
    label: str | None = None


class QuickAction(Shape, frozen=True, omit_defaults=True, gc=False):
    """An action to choose (XEP-0439): `id` names it, `label` is shown."""

    id: str
    label: str


class Option(Shape, frozen=True, omit_defaults=True, gc=False):
    """A choice of a form's field."""

    value: str
    label: str | None = None


Value = str | int | bool | list[str]
"""What a field of a form has: a text, or several. As XML, numbers and booleans are texts too."""
Values = dict[str, Value]


class Validate(Shape, frozen=True, omit_defaults=True, gc=False):
    """What the value of a field must be (XEP-0122): a whole number from `min` to `max`, a `date`,
    or what `regex` matches.
    """

    type: str | None = None
    min: int | None = None
    max: int | None = None
    regex: str | None = None


class FormField(Shape, frozen=True, omit_defaults=True, gc=False):
    """A field of a form. `values` if there are several values or none, else `value`. An option
    may be its value alone.
    """

    var: str | None = None
    type: str | None = None
    label: str | None = None
    desc: str | None = None
    required: bool = False
    value: Value | None = None
    values: list[str] | None = None
    options: list[Option | str] | None = None
    validate: str | Validate | None = None


class Form(Shape, frozen=True, omit_defaults=True, gc=False):
    """A data form (XEP-0004). `data`: the values of its fields, by name. A table has `items`, one
    for each row, and its columns in `reported`.
    """

    type: str | None = None
    title: str | None = None
    instructions: str | None = None
    fields: list[FormField] | None = None
    items: list[list[FormField]] | None = None
    data: Values | None = None
    reported: list[FormField] | None = None


class Forwarded(Shape, frozen=True, omit_defaults=True, gc=False):
    """A forwarded message (XEP-0297): its JSON, with no forwarded messages of its own."""

    delay: Delay | str | None = None
    message: dict[str, Any] | None = None


class Caps(Shape, frozen=True, omit_defaults=True, gc=False):
    """What a client can do, as a hash (XEP-0115)."""

    node: str | None = None
    ver: str | None = None
    hash: str | None = None
    ext: str | None = None


class Photo(Shape, frozen=True, omit_defaults=True, gc=False):
    """The hash of an avatar (XEP-0153)."""

    photo: str = ""


class History(Shape, frozen=True, omit_defaults=True, gc=False):
    """How much of its history a room should send (XEP-0045 §7.2.14)."""

    maxchars: int | None = None
    maxstanzas: int | None = None
    seconds: int | None = None
    since: str | None = None


class Muc(Shape, frozen=True, omit_defaults=True, gc=False):
    """The wish to enter a room (XEP-0045 §7.2)."""

    password: str | None = None
    history: History | None = None


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
    extensions: dict[str, Values] | None = None


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


class Actions(Shape, frozen=True, omit_defaults=True, gc=False):
    """The actions that a command allows next (XEP-0050 §3.4); `execute`: the default one."""

    execute: str | None = None
    prev: bool = False
    next: bool = False
    complete: bool = False


class Note(Shape, frozen=True, omit_defaults=True, gc=False):
    """A remark on a command; `type` is `info`, `warn` or `error`."""

    text: str
    type: str | None = None


class Table(Shape, frozen=True, omit_defaults=True, gc=False):
    """The rows of a result. A column is a name, or a field of a form with its label."""

    columns: list[FormField | str]
    rows: list[list[str | int | float | bool | None]]


class Command(Shape, frozen=True, omit_defaults=True, gc=False):
    """An ad-hoc command (XEP-0050), or an answer to it. In a reply, `fields` are a form to fill in,
    and `table` is a result.
    """

    node: str | None = None
    sessionid: str | None = None
    action: str | None = None
    status: str | None = None
    actions: Actions | None = None
    note: Note | str | None = None
    form: Form | None = None
    data: Values | None = None
    fields: list[FormField] | None = None
    table: Table | None = None


class Register(Shape, frozen=True, omit_defaults=True, gc=False):
    """A registration with a service (XEP-0077)."""

    instructions: str | None = None
    username: str | None = None
    nick: str | None = None
    password: str | None = None
    name: str | None = None
    first: str | None = None
    last: str | None = None
    email: str | None = None
    address: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    phone: str | None = None
    url: str | None = None
    date: str | None = None
    misc: str | None = None
    text: str | None = None
    key: str | None = None
    registered: bool = False
    remove: bool = False
    form: Form | None = None


class LastActivity(Shape, frozen=True, omit_defaults=True, gc=False):
    """How long ago somebody was active, in seconds (XEP-0012)."""

    seconds: int
    status: str | None = None


class Time(Shape, frozen=True, omit_defaults=True, gc=False):
    """The time of an entity, in UTC, and its offset (XEP-0202)."""

    utc: str | None = None
    tzo: str | None = None


class VCardPhoto(Shape, frozen=True, omit_defaults=True, gc=False):
    """An avatar: media type, and base64 data or a URL."""

    type: str | None = None
    binval: str | None = None
    extval: str | None = None


class VCard(Shape, frozen=True, omit_defaults=True, gc=False):
    """A vCard (XEP-0054): those parts that have one value."""

    fn: str | None = None
    family: str | None = None
    given: str | None = None
    nickname: str | None = None
    email: str | None = None
    tel: str | None = None
    url: str | None = None
    bday: str | None = None
    title: str | None = None
    role: str | None = None
    org: str | None = None
    desc: str | None = None
    photo: VCardPhoto | None = None


class UploadRequest(
    Shape, frozen=True, omit_defaults=True, gc=False, rename={"media_type": "content-type"}
):
    """A file to upload (XEP-0363). `size` is in bytes."""

    filename: str
    size: int
    media_type: str | None = None


class Header(Shape, frozen=True, omit_defaults=True, gc=False):
    """A header of HTTP."""

    name: str
    value: str


class UploadPut(Shape, frozen=True, omit_defaults=True, gc=False):
    """Where a file is uploaded to."""

    url: str
    headers: list[Header] = []


class UploadGet(Shape, frozen=True, omit_defaults=True, gc=False):
    """Where an uploaded file is found."""

    url: str


class Slot(Shape, frozen=True, omit_defaults=True, gc=False):
    """A place for an upload (XEP-0363)."""

    put: UploadPut
    get: UploadGet


class Service(Shape, frozen=True, omit_defaults=True, gc=False):
    """A service outside of XMPP, such as STUN."""

    type: str
    host: str
    port: int | None = None
    transport: str | None = None
    username: str | None = None
    password: str | None = None
    expires: str | None = None
    restricted: bool = False
    name: str | None = None
    action: str | None = None


class Extdisco(Shape, frozen=True, omit_defaults=True, gc=False):
    """External services (XEP-0215); a question may name their type."""

    type: str | None = None
    services: list[Service] | None = None


class Gateway(Shape, frozen=True, omit_defaults=True, gc=False):
    """How a gateway turns a foreign address, the prompt, into a JID (XEP-0100)."""

    desc: str | None = None
    prompt: str | None = None
    jid: str | None = None


class Stat(Shape, frozen=True, omit_defaults=True, gc=False):
    """A figure (XEP-0039)."""

    name: str
    value: int | float | None = None
    unit: str | None = None


class Page(Shape, frozen=True, omit_defaults=True, gc=False):
    """A page of a long result (XEP-0059)."""

    after: str | None = None
    before: str | None = None
    first: str | None = None
    last: str | None = None
    index: int | None = None
    count: int | None = None
    max: int | None = None


class Archive(
    Shape,
    frozen=True,
    omit_defaults=True,
    gc=False,
    rename={"with_": "with", "before_id": "before-id", "after_id": "after-id"},
):
    """A query of an archive (XEP-0313)."""

    queryid: str | None = None
    node: str | None = None
    form: Form | None = None
    page: Page | None = None
    with_: str | None = None
    start: str | None = None
    end: str | None = None
    before_id: str | None = None
    after_id: str | None = None
    ids: list[str] | None = None
    after: str | None = None
    before: str | None = None
    max: int | None = None


class ArchiveResult(Shape, frozen=True, omit_defaults=True, gc=False):
    """The end of an archive's answer (XEP-0313)."""

    page: Page | None = None
    complete: bool = False
