"""The contents of a configuration file, and the settings of a daemon, as frozen values.

`schema.structure` makes the former from TOML, `loader` the latter; they also check the values.
"""

from typing import Final, Literal, NewType

from attrs import evolve, field, frozen

from bridge.config.command import PREFIX, CommandSet, RawTable, RawTables
from bridge.config.event import DEFAULT_EVENTS, PostEvents
from bridge.config.profile import Profile, ProfileTable
from bridge.config.token import Token
from bridge.config.value import DatabaseUrl, PostUrl, Secret
from xmppstream import Limits, Server

Durability = Literal["power", "process", "off"]


WRITTEN_FACTOR: Final = 4
"""How much a stanza may grow when written: characters are escaped, prefixes are spelt out."""
_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

ENCRYPTED_NOTICE: Final = (
    "I cannot read encrypted messages. Please turn off encryption for this chat."
)

Seconds = NewType("Seconds", float)
Count = NewType("Count", int)
Depth = NewType("Depth", int)
Budget = NewType("Budget", float)
Age = NewType("Age", float)
Rate = NewType("Rate", float)
Ratio = NewType("Ratio", float)
Ordering = Literal["bare", "full", "none"]
Invitations = Literal["accept", "post", "ignore"]
SubscribeBack = Literal["never", "back"]
ReceiptMoment = Literal["handled", "accepted", "off"]
Streaming = Literal["edits", "final"]
LogLevel = Literal["debug", "info", "warning", "error"]


@frozen
class ConfigFault:
    """One fault: its key, the problem, and the remedy."""

    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.key}: " if self.key else ""
        return f"{place}{self.problem}. {self.remedy}."


class ConfigError(Exception):
    """The configuration has faults; the message lists all of them, one per line."""

    def __init__(self, source: str, faults: list[ConfigFault]) -> None:
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))
        self.source = source
        self.faults = faults


@frozen
class HttpTable:
    """`[http]` or `[component."DOMAIN".http]`, as written in the file."""

    timeout_s: Seconds | None = None
    connect_timeout_s: Seconds | None = None
    max_in_flight: Count | None = None
    max_reply_bytes: Count | None = None
    stream_idle_s: Seconds | None = None
    stream_max_s: Seconds | None = None
    max_streams: Count | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    http2: bool | None = None
    proxy_from_env: bool | None = None
    headers: dict[str, str] = field(factory=dict, repr=False)


@frozen
class HttpSettings:
    """`[http]`, validated: requests to the endpoint."""

    timeout_s: Seconds = Seconds(30.0)
    connect_timeout_s: Seconds = Seconds(10.0)
    max_in_flight: Count = Count(256)
    max_reply_bytes: Count = Count(1024 * _KIB)
    stream_idle_s: Seconds = Seconds(60.0)
    stream_max_s: Seconds = Seconds(600.0)
    max_streams: Count = Count(256)
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    http2: bool = False
    proxy_from_env: bool = False
    headers: dict[str, str] = field(factory=dict, repr=False)


@frozen
class StreamSettings:
    """`[stream]`: limits and time-outs of the stream to the XMPP server."""

    max_stanza_bytes: Count = Count(512 * _KIB)
    max_depth: Depth = Depth(128)
    max_elements: Count = Count(10_000)
    max_attributes: Count = Count(256)
    max_name_bytes: Count = Count(1 * _KIB)
    max_header_bytes: Count = Count(16 * _KIB)
    max_send_bytes: Count = Count(500 * _KIB)
    keepalive_s: Seconds = Seconds(60.0)
    handshake_timeout_s: Seconds = Seconds(20.0)
    grace_s: Seconds = Seconds(5.0)
    exit_on_refusal: bool = False


@frozen
class RetryTable:
    """`[retry]` or `[component."DOMAIN".retry]`, as written in the file; `budget_s` sets both other
    budgets.
    """

    budget_s: Budget | None = None
    message_budget_s: Budget | None = None
    iq_budget_s: Budget | None = None
    retry_timeouts: bool | None = None


@frozen
class RetrySettings:
    """`[retry]`, validated: budgets in seconds since a stanza was accepted; 0 is one attempt.
    Without `retry_timeouts`, a POST that timed out is not repeated.
    """

    message_budget_s: float = 60
    iq_budget_s: float = 10
    retry_timeouts: bool = True


@frozen
class JournalTable:
    """`[journal]`, as written in the file."""

    url: str | None = field(default=None, repr=False)
    url_file: str | None = None
    durability: Durability | None = None
    max_stanzas: Count = Count(1_000_000)
    max_bytes: Count = Count(1024 * _MIB)
    dead_max_stanzas: Count = Count(10_000)
    dead_max_bytes: Count = Count(64 * _MIB)
    dead_max_age_s: Age = Age(30 * 86_400.0)


@frozen
class JournalSettings:
    """`[journal]`, validated: where it is, which failures stanzas survive, and how many are kept.
    Without `url`, it is a file in the state directory.
    """

    durability: Durability = "process"
    max_stanzas: Count = Count(1_000_000)
    max_bytes: Count = Count(1024 * _MIB)
    dead_max_stanzas: Count = Count(10_000)
    dead_max_bytes: Count = Count(64 * _MIB)
    dead_max_age_s: Age = Age(30 * 86_400.0)
    url: DatabaseUrl | None = None


@frozen
class NodeTable:
    """`[node]`, as written in the file."""

    cluster: str = "xmpp_bridge"
    label: str | None = None
    spread: bool = False


@frozen
class NodeSettings:
    """`[node]`, validated: this process among those that share a journal. `cluster` is the schema
    of their tables. Without a label, the state directory keeps one. `spread`: whether all nodes
    POST the stanzas of a component, or only the one that is attached as it.
    """

    cluster: str = "xmpp_bridge"
    label: str | None = None
    spread: bool = False


@frozen
class SenderLimits:
    """`[limits]`: limits per sender (bare JID); with `stanzas_per_s` 0, there is no rate limit."""

    stanzas_per_s: Rate = Rate(100.0)
    burst: Count = Count(100_000)
    max_waiting: Count = Count(5_000)
    max_conversations: Count = Count(100_000)


@frozen
class TracingSettings:
    """`[tracing]`: span export; without `endpoint`, the environment names the address."""

    endpoint: str | None = field(default=None, repr=False)
    ratio: Ratio = Ratio(1.0)


@frozen
class LogSettings:
    """`[log]`."""

    level: LogLevel | None = None


@frozen
class RoomTable:
    """`[[component."DOMAIN".room]]`, as written in the file; `as_` is the key `as`."""

    jid: str | None = None
    as_: str | None = None
    nick: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    create: bool = False


@frozen
class RoomSettings:
    """A room that the bridge joins, validated, as `local` of the component's domain."""

    jid: str
    local: str
    nick: str
    password: Secret | None = None
    create: bool = False


@frozen
class ComponentTable:
    """`[component."DOMAIN"]`, as written in the file."""

    component_secret: str | None = field(default=None, repr=False)
    component_secret_file: str | None = None
    component_post_url: str | None = field(default=None, repr=False)
    component_post_stanzas: list[str] | None = None
    post_stanza_types: list[str] | None = None
    component_post_events: PostEvents | None = None
    component_encrypted_notice: str | None = None
    component_post_own: bool = False
    component_text_replies: bool = False
    component_receipts: ReceiptMoment = "handled"
    component_markers: bool = False
    component_typing_after_s: Budget = Budget(2.0)
    component_stream: Streaming = "edits"
    component_stream_broken: str = ""
    component_presence: bool = True
    component_subscribe: SubscribeBack = "never"
    component_order: Ordering = "bare"
    webhook_secrets: list[str] | None = field(default=None, repr=False)
    webhook_secrets_file: str | None = None
    allow_from: list[str] = field(factory=list)
    name: str | None = None
    profile: dict[str, ProfileTable] = field(factory=dict)
    local_parts: list[str] | None = None
    server: str | None = None
    tls: bool | None = None
    ca_file: str | None = None
    tls_name: str | None = None
    http: HttpTable | None = None
    retry: RetryTable | None = None
    component_invitations: Invitations | None = None
    max_rooms: Count = Count(100)
    upload: str | None = None
    room: list[RoomTable] = field(factory=list)
    component_text_commands: bool = True
    component_text_prefix: str = PREFIX
    command: RawTables = field(factory=lambda: RawTables([]))
    register: RawTable | None = None


@frozen
class TokenTable:
    """`[[listen.token]]`, as written in the file."""

    name: str | None = None
    secret: str | None = field(default=None, repr=False)
    secret_file: str | None = None
    secret_env: str | None = None
    secret_hash: str | None = field(default=None, repr=False)
    components: list[str] | None = None
    local_parts: list[str] | None = None
    scopes: list[str] | None = None


@frozen
class ListenTable:
    """`[listen]`, as written in the file."""

    address: str | None = None
    default_host: str | None = None
    max_body_bytes: Count = Count(512 * _KIB)
    max_connections: Count = Count(512)
    public_url: str | None = field(default=None, repr=False)
    reply_ttl_s: Seconds = Seconds(900.0)
    token: list[TokenTable] = field(factory=list)


@frozen
class TcpAddress:
    """The IP address and port of the listener; port 0 is any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class UnixAddress:
    """The path of the listener's Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@frozen
class ListenSettings:
    """`[listen]`, validated."""

    place: TcpAddress | UnixAddress
    tokens: tuple[Token, ...]
    default_host: str | None = None
    max_body_bytes: Count = Count(512 * _KIB)
    max_connections: Count = Count(512)
    public_url: str | None = None
    """Where endpoints reach the listener, without a slash at the end; None: they get no
    `reply_url`.
    """
    reply_ttl_s: Seconds = Seconds(900.0)


@frozen
class ConfigFile:
    """The whole file, as written."""

    server: str = "127.0.0.1:5347"
    tls: bool = False
    ca_file: str | None = None
    tls_name: str | None = None
    component: dict[str, ComponentTable] = field(factory=dict)
    http: HttpTable = field(factory=HttpTable)
    stream: StreamSettings = field(factory=StreamSettings)
    retry: RetryTable = field(factory=RetryTable)
    journal: JournalTable = field(factory=JournalTable)
    node: NodeTable = field(factory=NodeTable)
    listen: ListenTable | None = None
    limits: SenderLimits = field(factory=SenderLimits)
    tracing: TracingSettings | None = None
    log: LogSettings = field(factory=LogSettings)


@frozen
class Component:
    """The settings of one component, validated. Without `http` or `retry`, those of `Settings`
    hold; `http_of` and `retry_of` choose.
    """

    domain: str
    secret: Secret
    post_url: PostUrl
    server: Server
    post_stanzas: frozenset[str] = frozenset({"message"})
    post_events: frozenset[str] = DEFAULT_EVENTS
    post_own: bool = False
    order: Ordering = "bare"
    allow_from: frozenset[str] = frozenset()
    name: str = ""
    webhook_secrets: tuple[Secret, ...] = ()
    http: HttpSettings | None = None
    retry: RetrySettings | None = None
    text_replies: bool = False
    encrypted_notice: str = ENCRYPTED_NOTICE
    invitations: Invitations | None = None
    """None: invitations are POSTed if their event is."""
    max_rooms: int = 100
    rooms: tuple[RoomSettings, ...] = ()
    profiles: dict[str, Profile] = field(factory=dict)
    local_parts: frozenset[str] | None = None
    """The local parts that exist, folded; None if all do. The domain itself always exists."""
    receipts: ReceiptMoment = "handled"
    markers: bool = False
    typing_after_s: float = 2.0
    stream: Streaming = "edits"
    stream_broken: str = ""
    presence: bool = True
    subscribe: SubscribeBack = "never"
    upload: str | None = None
    """The upload service; None: the bridge looks for it."""
    commands: CommandSet = field(factory=CommandSet)

    @property
    def posts_iqs(self) -> bool:
        """Whether the endpoint is asked what ordinary iqs ask."""
        return "iq" in self.post_stanzas and "iq" in self.post_events

    @property
    def takes_invitations(self) -> bool:
        """Whether an invitation to a room is POSTed or accepted."""
        policy = self.invitations or ("post" if "invite" in self.post_events else "ignore")
        return policy != "ignore" and "message" in self.post_stanzas

    @property
    def posts_presence(self) -> bool:
        """Whether the endpoint provides the presence of the component's addresses."""
        events = {"presence", "subscription"}
        return "presence" in self.post_stanzas and not events.isdisjoint(self.post_events)


@frozen
class Settings:
    """All settings of a daemon; `warnings` are sentences for the operator."""

    components: tuple[Component, ...]
    http: HttpSettings = field(factory=HttpSettings)
    stream: StreamSettings = field(factory=StreamSettings)
    retry: RetrySettings = field(factory=RetrySettings)
    journal: JournalSettings = field(factory=JournalSettings)
    warnings: tuple[str, ...] = ()
    listen: ListenSettings | None = None
    limits: SenderLimits = field(factory=SenderLimits)
    tracing: TracingSettings | None = None
    log: LogSettings = field(factory=LogSettings)
    node: NodeSettings = field(factory=NodeSettings)


def http_of(component: Component, settings: Settings) -> HttpSettings:
    """Return the settings for requests to a component's endpoint."""
    return settings.http if component.http is None else component.http


def retry_of(component: Component, settings: Settings) -> RetrySettings:
    """Return the budgets of a component's stanzas."""
    return settings.retry if component.retry is None else component.retry


def limits_of(settings: Settings) -> Limits:
    """Return the limits of a stream."""
    stream = settings.stream
    return Limits(
        max_stanza_bytes=stream.max_stanza_bytes,
        max_depth=stream.max_depth,
        max_elements=stream.max_elements,
        max_attributes=stream.max_attributes,
        max_name_bytes=stream.max_name_bytes,
        max_header_bytes=stream.max_header_bytes,
    )


def limits_written(settings: Settings) -> Limits:
    """Return the limits for reading back stanzas that a stream accepted and the bridge has written:
    with other escapes, and with a namespace declaration for each name. Its elements were counted.
    """
    limits = limits_of(settings)
    return evolve(
        limits,
        max_stanza_bytes=2 * WRITTEN_FACTOR * limits.max_stanza_bytes,
        max_attributes=3 * limits.max_attributes + 1,
        max_elements=limits.max_stanza_bytes,
    )
