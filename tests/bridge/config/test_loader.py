"""The configuration: each key with its default, and each fault with its key and remedy.

Bad files in `fixtures/config/bad` name their faults themselves, in lines that begin with `#!`:
these and no others must be reported, each as a fault begins ("{here}" is the directory).
"""

import base64
import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import evolve, fields

from bridge.config.event import ALL_EVENTS, DEFAULT_EVENTS
from bridge.config.loader import from_table, load
from bridge.config.profile import AVATAR_LARGE_BYTES, AVATAR_LIMIT_BYTES, Avatar, Profile
from bridge.config.settings import (
    Age,
    Component,
    ConfigError,
    Count,
    Depth,
    HttpSettings,
    JournalSettings,
    LogSettings,
    Rate,
    Ratio,
    RetrySettings,
    Seconds,
    SenderLimits,
    Settings,
    StreamSettings,
    TracingSettings,
    http_of,
    retry_of,
)
from bridge.config.value import Secret, parse_post_url
from xmppstream import Server

FIXTURES = Path(__file__).parents[3] / "fixtures" / "config"
BAD_FILES = sorted((FIXTURES / "bad").glob("*.toml"))
DOMAIN = "bot.example.com"
KEY = f'component."{DOMAIN}"'
TOP = f"""\
[{KEY}]
component_secret = "s3cret"
component_post_url = "https://example.com/api"
"""
WITHOUT_SECRET = f"""\
[{KEY}]
component_post_url = "https://example.com/api"
"""
WITHOUT_URL = f"""\
[{KEY}]
component_secret = "s3cret"
"""
COMPONENT = Component(
    DOMAIN,
    Secret("s3cret"),
    parse_post_url("https://example.com/api"),
    Server("127.0.0.1", 5347),
    name=DOMAIN,
)


def settings_of(
    text: str, directory: Path = Path("/nowhere"), environment: dict[str, str] | None = None
) -> Settings:
    table = tomllib.loads(text)
    return from_table(table, "test", directory=directory, environment=environment or {})


def faults_of(
    text: str, directory: Path = Path("/nowhere"), environment: dict[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(text, directory, environment)
    return [str(fault) for fault in caught.value.faults]


# --- what is accepted


def test_all_defaults() -> None:
    assert settings_of(TOP) == Settings(
        components=(
            Component(
                domain=DOMAIN,
                secret=Secret("s3cret"),
                post_url=parse_post_url("https://example.com/api"),
                server=Server("127.0.0.1", 5347, tls=False, ca_file=None, tls_name=None),
                post_stanzas=frozenset({"message"}),
                post_events=DEFAULT_EVENTS,
                post_own=False,
                order="bare",
                allow_from=frozenset(),
                name=DOMAIN,
                webhook_secrets=(),
            ),
        ),
        http=HttpSettings(
            timeout_s=Seconds(30),
            connect_timeout_s=Seconds(10),
            max_in_flight=Count(256),
            max_reply_bytes=Count(1024 * 1024),
            ca_file=None,
            client_cert_file=None,
            client_key_file=None,
            http2=False,
            proxy_from_env=False,
            headers={},
        ),
        stream=StreamSettings(
            max_stanza_bytes=Count(512 * 1024),
            max_depth=Depth(128),
            max_elements=Count(10_000),
            max_attributes=Count(256),
            max_name_bytes=Count(1024),
            max_header_bytes=Count(16 * 1024),
            max_send_bytes=Count(500 * 1024),
            keepalive_s=Seconds(60),
            handshake_timeout_s=Seconds(20),
            grace_s=Seconds(5),
            exit_on_refusal=False,
        ),
        retry=RetrySettings(message_budget_s=60, iq_budget_s=10),
        journal=JournalSettings(
            durability="process",
            max_stanzas=Count(1_000_000),
            max_bytes=Count(1024 * 1024 * 1024),
            dead_max_stanzas=Count(10_000),
            dead_max_bytes=Count(64 * 1024 * 1024),
            dead_max_age_s=Age(30 * 86_400),
        ),
        warnings=(),
        listen=None,
        limits=SenderLimits(
            stanzas_per_s=Rate(100),
            burst=Count(100_000),
            max_waiting=Count(5_000),
            max_conversations=Count(100_000),
        ),
        tracing=None,
        log=LogSettings(level=None),
    )


def test_the_other_tables() -> None:
    text = f"""{TOP}
    [limits]
    stanzas_per_s = 0
    burst = 1
    max_waiting = 2
    max_conversations = 3
    [tracing]
    endpoint = "http://127.0.0.1:4318"
    ratio = 0.25
    [log]
    level = "debug"
    """
    settings = settings_of(text)
    assert settings.limits == SenderLimits(Rate(0.0), Count(1), Count(2), Count(3))
    assert settings.tracing == TracingSettings("http://127.0.0.1:4318", Ratio(0.25))
    assert settings.log == LogSettings("debug")


def test_the_environment_asks_for_traces() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert settings_of(TOP, environment=environment).tracing == TracingSettings()


COMPONENT_KEYS: list[tuple[str, str, Any]] = [
    ('component_post_stanzas = ["iq", "presence"]', "post_stanzas", frozenset({"iq", "presence"})),
    ('post_stanza_types = ["iq", "presence"]', "post_stanzas", frozenset({"iq", "presence"})),
    ("component_post_stanzas = []", "post_stanzas", frozenset()),
    ('component_post_events = "all"', "post_events", ALL_EVENTS),
    ("component_post_events = []", "post_events", frozenset()),
    ('component_post_events = ["message", "error"]', "post_events", {"message", "error"}),
    ('component_encrypted_notice = ""', "encrypted_notice", ""),
    ("component_post_own = true", "post_own", True),
    ("component_post_own = false", "post_own", False),
    ("component_text_replies = true", "text_replies", True),
    ('component_order = "bare"', "order", "bare"),
    ('component_order = "full"', "order", "full"),
    ('component_order = "none"', "order", "none"),
    ('allow_from = ["a@b.example", "c"]', "allow_from", frozenset({"a@b.example", "c"})),
    ('allow_from = ["A@B.example"]', "allow_from", frozenset({"a@b.example"})),
    ('allow_from = ["Straße@Faß.de"]', "allow_from", frozenset({"straße@xn--fa-hia.de"})),
    ('name = "Echo"', "name", "Echo"),
    ('server = "xmpp.example.com:1"', "server", Server("xmpp.example.com", 1)),
    ("tls = true", "server", Server("127.0.0.1", 5347, True)),
    ('tls = true\ntls_name = "x.y"', "server", Server("127.0.0.1", 5347, True, None, "x.y")),
]


@pytest.mark.parametrize(("line", "name", "value"), COMPONENT_KEYS)
def test_key_of_a_component(line: str, name: str, value: object) -> None:
    (component,) = settings_of(TOP + line).components
    assert getattr(component, name) == value


TOP_KEYS: list[tuple[str, Server]] = [
    ('server = "xmpp.example.com"', Server("xmpp.example.com", 5347)),
    ("tls = true", Server("127.0.0.1", 5347, True)),
    ('tls = true\ntls_name = "x.y"', Server("127.0.0.1", 5347, True, None, "x.y")),
]


@pytest.mark.parametrize(("lines", "server"), TOP_KEYS)
def test_key_at_the_top_is_for_all_components(lines: str, server: Server) -> None:
    other = TOP.replace("bot", "two")
    found = [one.server for one in settings_of(f"{lines}\n{TOP}{other}").components]
    assert found == [server, server]


OVERRIDES: list[tuple[str, str, Server]] = [
    ('server = "a:1"', 'server = "b:2"', Server("b", 2)),
    ("tls = true", "tls = false", Server("127.0.0.1", 5347, False)),
    ("tls = false", "tls = true", Server("127.0.0.1", 5347, True)),
    (
        'tls = true\ntls_name = "a"',
        'tls_name = "b"',
        Server("127.0.0.1", 5347, True, None, "b"),
    ),
]


@pytest.mark.parametrize(("top", "own", "server"), OVERRIDES)
def test_a_component_overrides_the_top(top: str, own: str, server: Server) -> None:
    (component,) = settings_of(f"{top}\n{TOP}{own}").components
    assert component.server == server


TABLE_KEYS: list[tuple[str, str, str, Any]] = [
    ("http", "timeout_s", "10", 10.0),
    ("http", "timeout_s", "0.25", 0.25),
    ("http", "timeout_s", "86400", 86400.0),
    ("http", "connect_timeout_s", "0.5", 0.5),
    ("http", "proxy_from_env", "true", True),
    ("http", "max_in_flight", "1", 1),
    ("http", "max_reply_bytes", "4096", 4096),
    ("http", "stream_idle_s", "5", 5.0),
    ("http", "stream_max_s", "50", 50.0),
    ("http", "max_streams", "8", 8),
    ("http", "headers", '{ X-Y = "z" }', {"X-Y": "z"}),
    ("stream", "max_stanza_bytes", "20000", 20000),
    ("stream", "max_send_bytes", "10000", 10000),
    ("stream", "max_depth", "10", 10),
    ("stream", "max_elements", "1000", 1000),
    ("stream", "max_attributes", "10", 10),
    ("stream", "max_name_bytes", "100", 100),
    ("stream", "max_header_bytes", "4096", 4096),
    ("stream", "keepalive_s", "90", 90.0),
    ("stream", "handshake_timeout_s", "3", 3.0),
    ("stream", "grace_s", "0.5", 0.5),
    ("stream", "exit_on_refusal", "true", True),
    ("journal", "durability", '"off"', "off"),
    ("journal", "durability", '"process"', "process"),
    ("journal", "durability", '"power"', "power"),
    ("journal", "max_stanzas", "1", 1),
    ("journal", "max_bytes", "100", 100),
    ("journal", "dead_max_stanzas", "5", 5),
    ("journal", "dead_max_bytes", "100", 100),
    ("journal", "dead_max_age_s", "0.5", 0.5),
    ("journal", "dead_max_age_s", "315360000", 315360000.0),
]


@pytest.mark.parametrize(("table", "name", "text", "value"), TABLE_KEYS)
def test_key_of_a_table(table: str, name: str, text: str, value: object) -> None:
    settings = settings_of(f"{TOP}[{table}]\n{name} = {text}")
    assert getattr(getattr(settings, table), name) == value


BUDGETS = [
    ("", RetrySettings(60, 10)),
    ("budget_s = 0", RetrySettings(0, 0)),
    ("budget_s = 0.0", RetrySettings(0, 0)),
    ("budget_s = 86400", RetrySettings(86400, 86400)),
    ("message_budget_s = 0", RetrySettings(0, 10)),
    ("message_budget_s = 2.5", RetrySettings(2.5, 10)),
    ("iq_budget_s = 0", RetrySettings(60, 0)),
    ("retry_timeouts = false", RetrySettings(60, 10, False)),
    ("budget_s = 5\nretry_timeouts = false", RetrySettings(5, 5, False)),
    ("message_budget_s = 600\niq_budget_s = 30", RetrySettings(600, 30)),
]


@pytest.mark.parametrize(("lines", "policy"), BUDGETS)
def test_budgets_of_retries(lines: str, policy: RetrySettings) -> None:
    assert settings_of(f"{TOP}[retry]\n{lines}").retry == policy


def test_without_a_journal_all_else_is_the_same() -> None:
    settings = settings_of(f'{TOP}[journal]\ndurability = "off"')
    assert evolve(settings, journal=JournalSettings()) == settings_of(TOP)


def test_any_number_of_components_in_their_order() -> None:
    names = [f"c{number}.example.com" for number in range(20)]
    text = "".join(TOP.replace(DOMAIN, name) for name in names)
    assert [one.domain for one in settings_of(text).components] == names


def test_credentials_in_the_url_work() -> None:
    text = TOP.replace("https://", "https://juliet:hunter2@")
    assert settings_of(text).components[0].post_url.authorization == Secret(
        "Basic anVsaWV0Omh1bnRlcjI="
    )


@pytest.mark.parametrize("path", sorted((FIXTURES / "good").glob("*.toml")), ids=lambda p: p.stem)
def test_good_file_is_read(path: Path) -> None:
    assert load(path).components[0].domain == DOMAIN


def test_the_full_file() -> None:
    path = FIXTURES / "good" / "full.toml"
    settings = load(path)
    one, two = settings.components
    assert one == Component(
        DOMAIN,
        Secret("s3cret"),
        parse_post_url("https://juliet:hunter2@example.com/your-api"),
        Server("xmpp.example.com", 5275, True, None, "xmpp.example.com"),
        frozenset({"message", "presence", "iq"}),
        frozenset({"message", "edit"}),
        True,
        "full",
        frozenset({"romeo@example.com", "example.net"}),
        "Bot",
        (Secret("whsec_bm90IGEgc2VjcmV0IGF0IGFsbCwgaXMgaXQ="),),
    )
    assert two.server == Server("::1", 5347, False, None, "xmpp.example.com")
    assert settings.http.headers == {"X-Bridge": "xmpp"}
    assert http_of(two, settings) == evolve(
        settings.http, timeout_s=Seconds(5), headers={"X-Bridge": "xmpp", "X-Api-Key": "k3y"}
    )
    assert retry_of(two, settings) == RetrySettings(30, 0)


# --- secrets


def secret_in(directory: Path, content: bytes) -> Secret:
    path = directory / "secret"
    path.write_bytes(content)
    path.chmod(0o600)
    settings = settings_of(f'{WITHOUT_SECRET}component_secret_file = "secret"', directory)
    return settings.components[0].secret


SECRET_FILES = [
    (b"s3cret", "s3cret"),
    (b"s3cret\n", "s3cret"),
    (b"s3cret\r\n", "s3cret"),
    (b"s3cret\n\n", "s3cret\n"),
    (b" s3 cret ", " s3 cret "),
    ("gehe\u00fcm\n".encode(), "geheüm"),
]


@pytest.mark.parametrize(("content", "secret"), SECRET_FILES)
def test_one_trailing_newline_of_a_secret_file_is_dropped(
    tmp_path: Path, content: bytes, secret: str
) -> None:
    assert secret_in(tmp_path, content) == Secret(secret)


def test_a_secret_file_may_have_an_absolute_path(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret")
    path.chmod(0o600)
    text = f'{WITHOUT_SECRET}component_secret_file = "{path}"'
    assert settings_of(text).components == (COMPONENT,)


BAD_SECRET_FILES = [
    (b"", "is empty. Write the value into it."),
    (b"\n", "is empty. Write the value into it."),
    (b"\r\n", "is empty. Write the value into it."),
    (b"\xff\xfe", "is not UTF-8 text. Save it as UTF-8."),
]


@pytest.mark.parametrize(("content", "problem"), BAD_SECRET_FILES)
def test_bad_secret_file(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    text = f'{WITHOUT_SECRET}component_secret_file = "secret"'
    assert faults_of(text, tmp_path) == [f"{KEY}.component_secret_file: {path} {problem}"]


def test_the_environment_has_the_secret_of_a_single_component() -> None:
    settings = settings_of(WITHOUT_SECRET, environment={"XMPP_BRIDGE_SECRET": "from-env"})
    assert settings.components[0].secret == Secret("from-env")


def test_the_files_secret_comes_before_the_environments() -> None:
    settings = settings_of(TOP, environment={"XMPP_BRIDGE_SECRET": "from-env"})
    assert settings.components[0].secret == Secret("s3cret")


def test_the_environment_is_not_asked_for_several_components() -> None:
    text = WITHOUT_SECRET + TOP.replace("bot", "two")
    faults = faults_of(text, environment={"XMPP_BRIDGE_SECRET": "from-env"})
    remedy = "Set component_secret_file or component_secret."
    assert faults == [f"{KEY}.component_secret: the secret is missing. {remedy}"]


def test_an_empty_secret_in_the_environment() -> None:
    faults = faults_of(WITHOUT_SECRET, environment={"XMPP_BRIDGE_SECRET": ""})
    assert [fault.partition(".component_secret: ")[2][:19] for fault in faults] == [
        "the secret is empty"
    ]


def test_the_remedy_of_a_missing_secret_names_all_ways() -> None:
    (fault,) = faults_of(WITHOUT_SECRET)
    assert fault.endswith("Set component_secret_file, component_secret, or XMPP_BRIDGE_SECRET.")


MODES = [(0o644, 1), (0o604, 1), (0o666, 1), (0o640, 0), (0o600, 0), (0o660, 0)]


@pytest.mark.parametrize(("mode", "count"), MODES)
def test_a_secret_file_that_everyone_reads_is_warned_about(
    tmp_path: Path, mode: int, count: int
) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret")
    path.chmod(mode)
    settings = settings_of(f'{WITHOUT_SECRET}component_secret_file = "secret"', tmp_path)
    warning = f"{path}: everyone on this machine can read the secret in it; run: chmod 640 {path}"
    assert settings.warnings == (warning,) * count


FILES_WITH_SECRETS = [
    ("component_secret", TOP, {}),
    (
        "credentials in the URL",
        WITHOUT_SECRET.replace("https://", "https://u:p@"),
        {"XMPP_BRIDGE_SECRET": "x"},
    ),
    (
        "a secret of POSTs",
        f'{WITHOUT_SECRET}webhook_secrets = ["whsec_{"A" * 32}"]',
        {"XMPP_BRIDGE_SECRET": "x"},
    ),
    (
        "Authorization",
        f'{WITHOUT_SECRET}[http.headers]\nauthorization = "Bearer t0ken"',
        {"XMPP_BRIDGE_SECRET": "x"},
    ),
]


@pytest.mark.parametrize(
    ("text", "environment"),
    [row[1:] for row in FILES_WITH_SECRETS],
    ids=[row[0] for row in FILES_WITH_SECRETS],
)
@pytest.mark.parametrize(("mode", "count"), MODES)
def test_a_configuration_with_a_secret_that_everyone_reads_is_warned_about(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    environment: dict[str, str],
    mode: int,
    count: int,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    path.chmod(mode)
    warning = (
        f"{path}: everyone on this machine can read the configuration file, which holds a secret; "
        f"run: chmod 640 {path}"
    )
    assert load(path).warnings == (warning,) * count


def test_a_configuration_without_secrets_may_be_read_by_everyone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    path = tmp_path / "bridge.toml"
    path.write_text(f'{WITHOUT_SECRET}component_secret_file = "secret"\n[http.headers]\nX = "y"')
    path.chmod(0o644)
    assert load(path).warnings == ()


HIDDEN = ["s3cret", "hunter2", "anVsaWV0Omh1bnRlcjI=", "t0ken", "qu3ry"]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("show", [str, repr])
def test_settings_show_no_secret(show: "type[str]", hidden: str) -> None:
    text = TOP.replace("https://example.com/api", "https://juliet:hunter2@h/?key=qu3ry")
    settings = settings_of(f'{text}[http.headers]\nAuthorization = "Bearer t0ken"')
    assert hidden not in show(settings)


FAULTY_WITH_SECRETS = [
    TOP.replace("https://example.com/api", "https://juliet:hunter2@/"),
    TOP.replace("https://example.com/api", "https://juliet:hunter2@h:99999/"),
    TOP.replace("https://example.com/api", "juliet:hunter2@h/"),
    TOP.replace("https://example.com/api", "https://juliet:hunter2@a..b/"),
    TOP.replace('"s3cret"', '["s3cret"]'),
    f'{TOP}component_secret_file = "x"',
    f'{TOP}nonsense = "s3cret"',
    f'{TOP}[http.headers]\nAuthorization = "Bearer t0ken\\n"',
    f'{TOP}[http.headers]\nAuthorization = ["t0ken"]',
    f'{TOP}[http.headers]\nHost = "t0ken"',
]


@pytest.mark.parametrize("text", FAULTY_WITH_SECRETS)
def test_faults_show_no_secret(text: str) -> None:
    told = "\n".join(faults_of(text))
    assert [hidden for hidden in HIDDEN if hidden in told] == []


# --- the secrets that POSTs are signed with

WEBHOOK_SECRETS = [
    f"whsec_{base64.b64encode(bytes([n]) * size).decode()}" for n, size in ((1, 24), (2, 64))
]
NO_WEBHOOK_SECRET = "must be whsec_ followed by 24 to 64 bytes in base64. Generate one with"


def test_webhook_secrets_in_a_list() -> None:
    (component,) = settings_of(f"{TOP}webhook_secrets = {WEBHOOK_SECRETS}").components
    assert component.webhook_secrets == tuple(Secret(one) for one in WEBHOOK_SECRETS)


@pytest.mark.parametrize("end", ["\n", "\r\n", "", "\n\n"])
def test_webhook_secrets_in_a_file_with_one_in_each_line(tmp_path: Path, end: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes((end or "\n").join(WEBHOOK_SECRETS).encode() + end.encode())
    path.chmod(0o644)
    settings = settings_of(f'{TOP}webhook_secrets_file = "keys"', tmp_path)
    assert settings.components[0].webhook_secrets == tuple(Secret(one) for one in WEBHOOK_SECRETS)
    assert [str(path) in warning for warning in settings.warnings] == [True]


WEBHOOK_FAULTS = [
    ('webhook_secrets = ["t0ken"]', f"webhook_secrets: {NO_WEBHOOK_SECRET}"),
    ('webhook_secrets = [""]', f"webhook_secrets: {NO_WEBHOOK_SECRET}"),
    (
        f"webhook_secrets = ['{WEBHOOK_SECRETS[0]}', 'whsec_t0ken']",
        f"webhook_secrets: {NO_WEBHOOK_SECRET}",
    ),
    (f"webhook_secrets = ['{WEBHOOK_SECRETS[0][6:]}']", f"webhook_secrets: {NO_WEBHOOK_SECRET}"),
    ('webhook_secrets_file = "junk"', f"webhook_secrets_file: {NO_WEBHOOK_SECRET}"),
    ('webhook_secrets_file = "none"', "webhook_secrets_file: {here}/none cannot be read"),
    ('webhook_secrets_file = "empty"', "webhook_secrets_file: {here}/empty is empty"),
    (
        'webhook_secrets = []\nwebhook_secrets_file = "good"',
        "webhook_secrets: webhook_secrets and webhook_secrets_file are both set",
    ),
]


@pytest.mark.parametrize(("lines", "fault"), WEBHOOK_FAULTS)
def test_bad_webhook_secrets(tmp_path: Path, lines: str, fault: str) -> None:
    for name, content in (("junk", "t0ken"), ("empty", ""), ("good", WEBHOOK_SECRETS[0])):
        (tmp_path / name).write_text(content)
    (told,) = faults_of(TOP + lines, tmp_path)
    assert told.startswith(f"{KEY}." + fault.format(here=tmp_path))
    assert "t0ken" not in told


# --- headers


def test_the_three_forms_of_a_header(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("Bearer t0ken\n")
    path.chmod(0o600)
    text = f"""{TOP}
[http.headers]
X-Plain = "plain"
Authorization_file = "token"
X-Env_env = "TOKEN"
"""
    assert settings_of(text, tmp_path, {"TOKEN": "from-env"}).http.headers == {
        "X-Plain": "plain",
        "Authorization": "Bearer t0ken",
        "X-Env": "from-env",
    }


def test_a_headers_file_that_everyone_reads_is_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("t0ken")
    path.chmod(0o644)
    settings = settings_of(f'{TOP}[http.headers]\nX_file = "token"', tmp_path)
    assert [str(path) in warning for warning in settings.warnings] == [True]


HEADER_FAULTS = [
    ('X_file = "none"', "X_file: {here}/none cannot be read (No such file or directory)"),
    ('X_file = "."', "X_file: {here} cannot be read (Is a directory)"),
    ('X_env = "NO_SUCH"', "X_env: the environment variable NO_SUCH is not set"),
    ('X = "a"\nx = "b"', "x: x is set twice"),
    ('X = "a"\nX_env = "TOKEN"', "X_env: X is set twice"),
    ('"X Y" = "a"', "X Y: 'X Y' is not a valid header name"),
    ('"" = "a"', ": '' is not a valid header name"),
    ('_env = "TOKEN"', "_env: '' is not a valid header name"),
    ('Host = "a"', "Host: Host is set by the bridge"),
    ('X = "a\\nb"', "X: the value contains characters that a header cannot"),
    ('X = "é"', "X: the value contains characters that a header cannot"),
    ("X = 1", "X: must be a string, not a number"),
    ("X = true", "X: must be a string, not a boolean"),
    ('X = ["a"]', "X: must be a string, not a list"),
    ('X = { a = "b" }', "X: must be a string, not a table"),
]


@pytest.mark.parametrize(("line", "fault"), HEADER_FAULTS)
def test_bad_header(tmp_path: Path, line: str, fault: str) -> None:
    (told,) = faults_of(f"{TOP}[http.headers]\n{line}", tmp_path, {"TOKEN": "x"})
    assert told.startswith("http.headers." + fault.format(here=tmp_path))


def two(top: str = "", bot: str = "", shop: str = "", shop_url: str = "https://b.example/") -> str:
    """A file with two components; the tables of each below it."""
    return f"""{top}
[component."bot.example.com"]
component_secret = "s3cret"
component_post_url = "https://a.example/bot"
{bot}
[component."shop.example.com"]
component_secret = "s3cret"
component_post_url = "{shop_url}"
{shop}
"""


SECRET_HEADERS = [
    *("Authorization", "authorization", "AUTHORIZATION", "Proxy-Authorization", "Cookie"),
    *("X-Api-Key", "x-API-key", "Ocp-Apim-Subscription-Key", "Key", "Api-Key", "X-ApiKey"),
    *("X-Auth-Token", "Private-Token", "x-gitlab-token", "Token", "X-AccessToken"),
    *("X-Client-Secret", "X-Password", "X_API_KEY"),
]
PLAIN_HEADERS = ["X-Bridge", "Accept-Language", "X-Monkey", "X-Keys-Version", "Tokenizer", "X-Cook"]


@pytest.mark.parametrize("name", SECRET_HEADERS)
@pytest.mark.parametrize("suffix", ["", "_file", "_env"])
def test_a_secret_for_endpoints_of_different_origins_is_refused(
    tmp_path: Path, name: str, suffix: str
) -> None:
    (tmp_path / "t").write_text("hush")
    text = two(f'[http.headers]\n{name}{suffix} = "t"')
    assert faults_of(text, tmp_path, {"t": "hush"}) == [
        f"http.headers.{name}{suffix}: the secret in {name} would be sent to https://a.example and"
        " https://b.example. Move it to the component that it is for:"
        ' [component."bot.example.com".http.headers].'
    ]


@pytest.mark.parametrize("name", PLAIN_HEADERS)
def test_a_header_without_a_secret_is_for_all(name: str) -> None:
    settings = settings_of(two(f'[http.headers]\n{name} = "t"'))
    assert [http_of(one, settings).headers for one in settings.components] == [{name: "t"}] * 2


@pytest.mark.parametrize(
    ("url", "is_other"),
    [
        ("https://a.example/shop", False),
        ("https://A.example:443/shop", False),
        ("https://a.example:8443/bot", True),
        ("http://a.example/bot", True),
        ("https://b.a.example/bot", True),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, is_other: bool) -> None:
    text = two('[http.headers]\nX-Token = "t"', shop_url=url)
    assert bool(faults_of(text) if is_other else settings_of(text).warnings) == is_other


@pytest.mark.parametrize(
    ("shop", "url"),
    [
        (
            '[component."shop.example.com".http.headers]\nauthorization = "own"',
            "https://b.example/",
        ),
        ('[component."shop.example.com".http.headers]\nAUTHORIZATION_env = "t"', "https://b/"),
        ("", "https://me:hush@b.example/"),
    ],
)
def test_a_component_with_a_secret_of_its_own_is_sent_no_other(shop: str, url: str) -> None:
    text = two('[http.headers]\nAuthorization = "t"', shop=shop, shop_url=url)
    settings = settings_of(text, environment={"t": "own"})
    assert http_of(settings.components[0], settings).headers == {"Authorization": "t"}
    sent = http_of(settings.components[1], settings).headers
    assert "own" in sent.values() or settings.components[1].post_url.authorization is not None


# --- what a component says of its own endpoint

HTTP_KEYS = [
    ("timeout_s", "7", 7.0),
    ("connect_timeout_s", "7", 7.0),
    ("max_in_flight", "7", 7),
    ("max_reply_bytes", "7", 7),
    ("stream_idle_s", "7.5", 7.5),
    ("stream_max_s", "7", 7.0),
    ("max_streams", "7", 7),
    ("ca_file", '"ca.pem"', "{here}/ca.pem"),
    ("client_cert_file", '"both.pem"', "{here}/both.pem"),
    ("proxy_from_env", "true", True),
    ("http2", "true", True),
    ("headers", '{ X-A = "b" }', {"X-A": "b"}),
]


def test_every_key_of_http_is_in_the_table() -> None:
    assert {key for key, *_ in HTTP_KEYS} | {"client_key_file"} == {
        one.name for one in fields(HttpSettings)
    }


@pytest.mark.parametrize(("key", "text", "value"), HTTP_KEYS)
def test_a_key_of_http_for_one_component(
    client_files: Path, monkeypatch: pytest.MonkeyPatch, key: str, text: str, value: object
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    trustme.CA().cert_pem.write_to_path(client_files / "ca.pem")
    own = f'[component."shop.example.com".http]\n{key} = {text}'
    settings = settings_of(two("[http]\nmax_in_flight = 3", shop=own), client_files)
    bot, shop = settings.components
    assert http_of(bot, settings) == settings.http == HttpSettings(max_in_flight=Count(3))
    found = getattr(http_of(shop, settings), key)
    assert found == (value.format(here=client_files) if isinstance(value, str) else value)
    assert key == "max_in_flight" or http_of(shop, settings).max_in_flight == 3


def test_headers_are_merged_and_the_components_win() -> None:
    common = '[http.headers]\nX-Common = "1"\nX-Both = "1"\nX-Env_env = "t"'
    own = '[component."shop.example.com".http.headers]\nx-both = "2"\nX-Own = "2"\nx-env = "2"'
    settings = settings_of(two(common, shop=own), environment={"t": "1"})
    bot, shop = settings.components
    assert http_of(bot, settings).headers == {"X-Common": "1", "X-Both": "1", "X-Env": "1"}
    assert http_of(shop, settings).headers == {
        "X-Common": "1",
        "x-both": "2",
        "X-Own": "2",
        "x-env": "2",
    }


def test_a_components_certificate_replaces_the_common_one_and_its_key(client_files: Path) -> None:
    common = '[http]\nclient_cert_file = "cert.pem"\nclient_key_file = "key.pem"'
    own = '[component."shop.example.com".http]\nclient_cert_file = "both.pem"'
    settings = settings_of(two(common, shop=own), client_files)
    http = http_of(settings.components[1], settings)
    assert (http.client_cert_file, http.client_key_file) == (str(client_files / "both.pem"),) * 2


OWN_BUDGETS = [
    ("", "", RetrySettings(60, 10)),
    ("", "budget_s = 5", RetrySettings(5, 5)),
    ("", "iq_budget_s = 5", RetrySettings(60, 5)),
    ("budget_s = 7", "iq_budget_s = 5", RetrySettings(7, 5)),
    ("iq_budget_s = 7", "message_budget_s = 0", RetrySettings(0, 7)),
    ("", "retry_timeouts = false", RetrySettings(60, 10, False)),
    ("retry_timeouts = false", "budget_s = 5", RetrySettings(5, 5, False)),
    ("retry_timeouts = false", "retry_timeouts = true", RetrySettings(60, 10)),
    ("iq_budget_s = 7", "budget_s = 0", RetrySettings(0, 0)),
]


@pytest.mark.parametrize(("common", "own", "expected"), OWN_BUDGETS)
def test_the_budgets_of_one_component(common: str, own: str, expected: RetrySettings) -> None:
    own = f'[component."shop.example.com".retry]\n{own}'
    settings = settings_of(two(f"[retry]\n{common}", shop=own))
    assert retry_of(settings.components[1], settings) == expected
    assert retry_of(settings.components[0], settings) == settings.retry


COMPONENT_FAULTS = [
    ("http]\ntimeout_s = 0", "http.timeout_s: must be above 0"),
    ("http]\ntimeout = 1", "http.timeout: this key is unknown. Perhaps you meant timeout_s"),
    ('http]\nca_file = "none"', "http.ca_file: {here}/none cannot be read"),
    ('http]\nclient_cert_file = "none"', "http.client_cert_file: {here}/none or {here}/none"),
    ('http]\nclient_key_file = "k"', "http.client_key_file: client_key_file is set without"),
    ('http.headers]\nHost = "a"', "http.headers.Host: Host is set by the bridge"),
    ('http.headers]\nX_file = "none"', "http.headers.X_file: {here}/none cannot be read"),
    ('http.headers]\nX_env = "NO"', "http.headers.X_env: the environment variable NO is not set"),
    ("retry]\nbudget_s = 1\niq_budget_s = 1", "retry.iq_budget_s: budget_s and iq_budget_s are"),
    ("retry]\niq_budget_s = -1", "retry.iq_budget_s: must be from 0"),
]


@pytest.mark.parametrize(("lines", "fault"), COMPONENT_FAULTS)
def test_bad_tables_of_a_component(tmp_path: Path, lines: str, fault: str) -> None:
    (told,) = faults_of(f'{TOP}[component."{DOMAIN}".{lines}', tmp_path)
    assert told.startswith(f"{KEY}." + fault.format(here=tmp_path))


@pytest.mark.parametrize("table", ["http", f"{KEY}.http"])
@pytest.mark.parametrize(("name", "is_secret"), [("X-Api-Key", True), ("X-Bridge", False)])
def test_a_file_with_a_header_that_is_a_secret_is_warned_about(
    tmp_path: Path, table: str, name: str, is_secret: bool
) -> None:
    path = tmp_path / "bridge.toml"
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "secret").chmod(0o600)
    text = TOP.replace('component_secret = "s3cret"', 'component_secret_file = "secret"')
    path.write_text(f'{text}[{table}.headers]\n{name} = "t"')
    path.chmod(0o644)
    assert bool(load(path).warnings) == is_secret


# --- certificates


def test_files_of_certificates_are_found_beside_the_configuration(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    text = f'tls = true\nca_file = "ca.pem"\n{TOP}[http]\nca_file = "ca.pem"'
    settings = settings_of(text, tmp_path)
    found = (settings.components[0].server.ca_file, settings.http.ca_file)
    assert found == (str(tmp_path / "ca.pem"),) * 2


def test_a_components_certificates_come_before_the_tops(tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem"):
        trustme.CA().cert_pem.write_to_path(tmp_path / name)
    text = f'tls = true\nca_file = "a.pem"\n{TOP}ca_file = "b.pem"'
    (component,) = settings_of(text, tmp_path).components
    assert component.server.ca_file == str(tmp_path / "b.pem")


CERTIFICATE_FAULTS = [
    (f'tls = true\nca_file = "none"\n{TOP}', "ca_file: {here}/none cannot be read (No such"),
    (f'tls = true\nca_file = "junk"\n{TOP}', "ca_file: {here}/junk contains no certificates"),
    (f'tls = true\nca_file = "."\n{TOP}', "ca_file: {here} "),
    (f'tls = true\nca_file = ""\n{TOP}', "ca_file: {here} "),
    (f'{TOP}tls = true\nca_file = "none"', f"{KEY}.ca_file: {{here}}/none cannot be read"),
    (f'{TOP}[http]\nca_file = "none"', "http.ca_file: {here}/none cannot be read (No such"),
    (f'{TOP}[http]\nca_file = "junk"', "http.ca_file: {here}/junk contains no certificates"),
    (f'{TOP}[http]\nca_file = "empty"', "http.ca_file: {here}/empty contains no certificates"),
    (f'{TOP}ca_file = "junk"\ntls = false', f"{KEY}.tls: ca_file and tls_name have no effect"),
]


@pytest.mark.parametrize(("text", "fault"), CERTIFICATE_FAULTS)
def test_bad_file_of_certificates(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "junk").write_text("no certificate")
    (tmp_path / "empty").write_text("")
    assert faults_of(text, tmp_path)[0].startswith(fault.format(here=tmp_path))


CLIENT = trustme.CA().issue_cert("client.example")
OTHER_CLIENT = trustme.CA().issue_cert("other.example")


@pytest.fixture
def client_files(tmp_path: Path) -> Path:
    """A directory with a client's certificate, keys, and what is none."""
    CLIENT.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    CLIENT.private_key_pem.write_to_path(tmp_path / "key.pem")
    CLIENT.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    OTHER_CLIENT.private_key_pem.write_to_path(tmp_path / "other.pem")
    (tmp_path / "junk").write_text("no certificate")
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "cert", "key"),
    [
        ('client_cert_file = "cert.pem"\nclient_key_file = "key.pem"', "cert.pem", "key.pem"),
        ('client_cert_file = "both.pem"', "both.pem", "both.pem"),
    ],
)
def test_a_certificate_of_ours(client_files: Path, lines: str, cert: str, key: str) -> None:
    settings = settings_of(f"{TOP}[http]\n{lines}", client_files)
    http = settings.http
    assert http.client_cert_file == str(client_files / cert)
    assert http.client_key_file == str(client_files / key)
    assert settings.warnings == ()


def test_a_key_that_everyone_reads_is_warned_about(client_files: Path) -> None:
    path = client_files / "both.pem"
    path.chmod(0o644)
    settings = settings_of(f'{TOP}[http]\nclient_cert_file = "both.pem"', client_files)
    assert settings.warnings == (
        f"{path}: everyone on this machine can read the key in it; run: chmod 640 {path}",
    )


CLIENT_FAULTS = [
    (
        'client_key_file = "key.pem"',
        "client_key_file: client_key_file is set without client_cert_file",
    ),
    (
        'client_cert_file = "cert.pem"',
        "client_cert_file: {here}/cert.pem and {here}/cert.pem do not hold a certificate",
    ),
    (
        'client_cert_file = "cert.pem"\nclient_key_file = "other.pem"',
        "client_cert_file: {here}/cert.pem and {here}/other.pem do not hold a certificate",
    ),
    ('client_cert_file = "junk"', "client_cert_file: {here}/junk and {here}/junk do not hold"),
    ('client_cert_file = "none"', "client_cert_file: {here}/none or {here}/none cannot be read"),
]


@pytest.mark.parametrize(("lines", "fault"), CLIENT_FAULTS)
def test_bad_certificate_of_ours(client_files: Path, lines: str, fault: str) -> None:
    (told,) = faults_of(f"{TOP}[http]\n{lines}", client_files)
    assert told.startswith("http." + fault.format(here=client_files))


@pytest.mark.parametrize("is_installed", [False, True])
def test_http2_needs_its_package(monkeypatch: pytest.MonkeyPatch, is_installed: bool) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if is_installed else None)
    text = f"{TOP}[http]\nhttp2 = true"
    if is_installed:
        assert settings_of(text).http.http2
    else:
        (told,) = faults_of(text)
        assert told.startswith(
            "http.http2: HTTP/2 needs the package h2, which is not installed. Run: pip"
        )


# --- single faults, by key

STRINGS = [
    ("server", ""),
    ("ca_file", ""),
    ("tls_name", ""),
    ("component_secret", KEY),
    ("component_secret_file", KEY),
    ("component_post_url", KEY),
    ("name", KEY),
    ("server", KEY),
    ("ca_file", KEY),
    ("tls_name", KEY),
    ("ca_file", "http"),
    ("client_cert_file", "http"),
    ("client_key_file", "http"),
    ("webhook_secrets_file", KEY),
    ("url", "journal"),
    ("url_file", "journal"),
    ("cluster", "node"),
    ("label", "node"),
]
BOOLEANS = [
    ("tls", ""),
    ("tls", KEY),
    ("component_post_own", KEY),
    ("component_text_replies", KEY),
    ("http2", "http"),
    ("proxy_from_env", "http"),
]
LISTS = [
    ("component_post_stanzas", KEY),
    ("post_stanza_types", KEY),
    ("allow_from", KEY),
    ("webhook_secrets", KEY),
]
CHOICES = [
    ("component_order", KEY),
    ("durability", "journal"),
]
COUNTS = [
    ("max_in_flight", "http"),
    ("max_reply_bytes", "http"),
    ("max_streams", "http"),
    ("max_stanza_bytes", "stream"),
    ("max_depth", "stream"),
    ("max_elements", "stream"),
    ("max_attributes", "stream"),
    ("max_name_bytes", "stream"),
    ("max_header_bytes", "stream"),
    ("max_send_bytes", "stream"),
    ("max_stanzas", "journal"),
    ("max_bytes", "journal"),
    ("dead_max_stanzas", "journal"),
    ("dead_max_bytes", "journal"),
]
BUDGET_KEYS = [("budget_s", "retry"), ("message_budget_s", "retry"), ("iq_budget_s", "retry")]
AGES = [("dead_max_age_s", "journal")]
SECONDS = [
    ("timeout_s", "http"),
    ("connect_timeout_s", "http"),
    ("keepalive_s", "stream"),
    ("handshake_timeout_s", "stream"),
    ("grace_s", "stream"),
]
VALUES = {
    "a string": '"12"',
    "a boolean": "true",
    "a number": "12",
    "a list": "[]",
    "a table": "{}",
    "a date or time": "2024-05-06",
}
WRONG_TYPES = [
    (key, table, text, f"must be {wanted}, not {noun}.")
    for keys, wanted, good in (
        (STRINGS, "a string", {"a string"}),
        (BOOLEANS, "true or false", {"a boolean"}),
        (LISTS, "a list of strings", {"a list"}),
        (COUNTS, "a whole number", {"a number"}),
        (SECONDS + BUDGET_KEYS + AGES, "a number", {"a number"}),
    )
    for key, table in keys
    for noun, text in VALUES.items()
    if noun not in good
]
WRONG_TYPES += [
    (key, table, text, "is not a valid value.")
    for key, table in CHOICES
    for noun, text in VALUES.items()
]
WRONG_TYPES += [
    (key, table, text, "must be a list of strings, not a list of other values.")
    for key, table in LISTS
    for text in ("[1]", '["message", 1]', '[["message"]]')
]
WRONG_TYPES += [
    (key, table, "1.5", "must be a whole number, not a decimal number.") for key, table in COUNTS
]
WRONG_TYPES += [
    (key, table, text, f"must be above 0 and at most {2**31}, not {text}.")
    for key, table in COUNTS
    for text in ("0", "-1", f"{2**31 + 1}")
]
WRONG_TYPES += [
    (key, table, text, f"must be above 0 and at most 86400 seconds, not {text}.")
    for key, table in SECONDS
    for text in ("0", "-1", "86401", "inf", "-inf")
]
WRONG_TYPES += [
    (key, table, text, f"must be from 0 to 86400 seconds, not {text}.")
    for key, table in BUDGET_KEYS
    for text in ("-1", "-0.5", "86401", "inf", "-inf")
]
WRONG_TYPES += [
    (key, table, text, f"must be above 0 and at most 315360000 seconds, not {text}.")
    for key, table in AGES
    for text in ("0", "-1", "315360001", "inf", "-inf")
]
WRONG_TYPES += [
    (key, table, "nan", "must be a number, not nan.") for key, table in SECONDS + BUDGET_KEYS + AGES
]


def placed(table: str, line: str) -> str:
    """A good configuration with a line in a table, in the place of what it had there."""
    key = line.partition(" ")[0]
    lines = [one for one in TOP.splitlines() if not one.startswith(f"{key} ")]
    if table == KEY:
        return "\n".join([*lines, line])
    return "\n".join([line, *lines] if not table else [*lines, f"[{table}]", line])


@pytest.mark.parametrize(("key", "table", "text", "problem"), WRONG_TYPES)
def test_wrong_type(key: str, table: str, text: str, problem: str) -> None:
    place = f"{table}.{key}" if table else key
    told = faults_of(placed(table, f"{key} = {text}"))
    assert [fault.startswith(f"{place}: ") and problem in fault for fault in told] == [True]


NO_TABLES = ["component", "http", "stream", "retry", "journal", "node"]


@pytest.mark.parametrize("text", ['"x"', "1", "true", "[]"])
@pytest.mark.parametrize("name", NO_TABLES)
def test_what_should_be_a_table(name: str, text: str) -> None:
    rest = "" if name == "component" else TOP
    assert faults_of(f"{name} = {text}\n{rest}") == [
        f"{name}: must be a table. Write it as [{name}]."
    ]


def test_a_component_that_is_no_table() -> None:
    told = faults_of(f'component = {{ "{DOMAIN}" = "s3cret" }}')
    assert told == [f"{KEY}: must be a table. Write it as [{KEY}]."]


def test_headers_that_are_no_table() -> None:
    told = faults_of(f"{TOP}[http]\nheaders = 1")
    assert told == ["http.headers: must be a table. Write it as [http.headers]."]


UNKNOWN_KEYS = [
    ("", "serverr", "server"),
    ("", "tlsname", "tls_name"),
    ("", "components", "component"),
    ("", "https", "http"),
    (KEY, "component_secrets", "component_secret"),
    (KEY, "post_stanzas", "post_stanza_types"),
    (KEY, "component_post_stanza", "component_post_stanzas"),
    (KEY, "component_post_uri", "component_post_url"),
    (KEY, "allow", "allow_from"),
    ("http", "timeout", "timeout_s"),
    ("http", "header", "headers"),
    ("stream", "keepalive", "keepalive_s"),
    ("stream", "max_stanza_size", "max_stanza_bytes"),
    ("retry", "budget", "budget_s"),
    ("retry", "iq_budget", "iq_budget_s"),
    ("http", "proxy_from_environment", "proxy_from_env"),
    (KEY, "webhook_secret", "webhook_secrets"),
    (KEY, "local_part", "local_parts"),
    (KEY, "profiles", "profile"),
    ("journal", "durable", "durability"),
    ("limits", "stanza_per_s", "stanzas_per_s"),
    ("log", "levels", "level"),
]


@pytest.mark.parametrize(("table", "key", "near"), UNKNOWN_KEYS)
def test_unknown_key_names_the_nearest(table: str, key: str, near: str) -> None:
    place = f"{table}.{key}" if table else key
    told = faults_of(placed(table, f"{key} = 1"))
    assert told == [f"{place}: this key is unknown. Perhaps you meant {near}."]


KNOWN_KEYS = [
    (
        "",
        "server, tls, ca_file, tls_name, component, http, stream, retry, journal, node, listen,"
        " limits, tracing, log",
    ),
    (
        "http",
        "timeout_s, connect_timeout_s, max_in_flight, max_reply_bytes, "
        "stream_idle_s, stream_max_s, max_streams, ca_file, "
        "client_cert_file, client_key_file, http2, proxy_from_env, headers",
    ),
    (
        "stream",
        "max_stanza_bytes, max_depth, max_elements, max_attributes, max_name_bytes, "
        "max_header_bytes, max_send_bytes, keepalive_s, handshake_timeout_s, grace_s, "
        "exit_on_refusal",
    ),
    ("retry", "budget_s, message_budget_s, iq_budget_s, retry_timeouts"),
    ("limits", "stanzas_per_s, burst, max_waiting, max_conversations"),
    ("tracing", "endpoint, ratio"),
    ("log", "level"),
    (
        "journal",
        "url, url_file, durability, max_stanzas, max_bytes, dead_max_stanzas, dead_max_bytes,"
        " dead_max_age_s",
    ),
    ("node", "cluster, label, spread"),
    (
        KEY,
        "component_secret, component_secret_file, component_post_url, component_post_stanzas, "
        "post_stanza_types, component_post_events, component_encrypted_notice, "
        "component_post_own, component_text_replies, component_receipts, component_markers, "
        "component_typing_after_s, component_stream, component_stream_broken, "
        "component_presence, component_subscribe, component_order, "
        "webhook_secrets, webhook_secrets_file, allow_from, name, profile, local_parts, "
        "server, tls, ca_file, tls_name, http, retry, component_invitations, max_rooms, "
        "upload, room, component_text_commands, component_text_prefix, command, register",
    ),
]


@pytest.mark.parametrize(("table", "known"), KNOWN_KEYS)
def test_unknown_key_far_from_all_lists_them(table: str, known: str) -> None:
    place = f"{table}.zzz" if table else "zzz"
    told = faults_of(placed(table, "zzz = 1"))
    assert told == [f"{place}: this key is unknown. Known keys: {known}."]


SINGLE_FAULTS = [
    (f'{TOP}server = ""', f"{KEY}.server: '' has no valid host"),
    (f'server = "h:0"\n{TOP}', "server: '0' is not a valid port"),
    (f'{TOP}server = "h:70000"', f"{KEY}.server: '70000' is not a valid port"),
    (f'{TOP}tls = true\ntls_name = ""', f"{KEY}.tls_name: '' is not a domain name"),
    (f'{TOP}tls = true\ntls_name = ".x"', f"{KEY}.tls_name: '.x' is not a domain name"),
    (f'tls = true\ntls_name = ".x"\n{TOP}', "tls_name: '.x' is not a domain name"),
    (f'{TOP}tls_name = "x"', f"{KEY}.tls: ca_file and tls_name have no effect without TLS"),
    (f'{TOP}allow_from = ["a@@b"]', f"{KEY}.allow_from: 'a@@b' is not a valid address"),
    (f'{TOP}allow_from = [""]', f"{KEY}.allow_from: '' is not a valid address"),
    (f'{TOP}component_post_stanzas = ["x"]', f"{KEY}.component_post_stanzas: 'x' is not a kind"),
    (f'{TOP}component_post_stanzas = ["Iq"]', f"{KEY}.component_post_stanzas: 'Iq' is not a kind"),
    (f'{TOP}post_stanza_types = ["mesage"]', f"{KEY}.post_stanza_types: 'mesage' is not a kind"),
    (f'{TOP}component_order = "Bare"', f"{KEY}.component_order: 'Bare' is not a valid value"),
    (
        f'{TOP}component_post_messages = "body"',
        f"{KEY}.component_post_messages: this key was replaced by component_post_events",
    ),
    (
        f'{TOP}component_post_events = ["mesage"]',
        f"{KEY}.component_post_events: 'mesage' is not an event. Perhaps you meant \"message\".",
    ),
    (
        f'{TOP}component_post_events = ["zzz"]',
        f"{KEY}.component_post_events: 'zzz' is not an event",
    ),
    (
        f'{TOP}component_post_events = "some"',
        f"{KEY}.component_post_events: must be \"all\" or a list of strings, not 'some'",
    ),
    (
        f"{TOP}component_post_events = [1]",
        f'{KEY}.component_post_events: must be "all" or a list of strings, not a list of other',
    ),
    (f"{TOP}component_post_events = 1", f'{KEY}.component_post_events: must be "all" or a list'),
    (
        f'{TOP}component_encrypted_notice = "\\u0000"',
        f"{KEY}.component_encrypted_notice: contains a NUL character",
    ),
    (f'{TOP}name = "a\\u0000b"', f"{KEY}.name: contains a NUL character"),
    (
        f'{WITHOUT_SECRET}component_secret_file = "a\\u0000b"',
        f"{KEY}.component_secret_file: contains a NUL character",
    ),
    (f'{TOP}[http]\nca_file = "a\\u0000b"', "http.ca_file: contains a NUL character"),
    (f"{TOP}[stream]\nmax_depth = 201", "stream.max_depth: must be at most 200 levels, not"),
    (
        f"{TOP}[retry]\nbudget_s = 5\nmessage_budget_s = 5",
        "retry.message_budget_s: budget_s and message_budget_s are both set. Keep one",
    ),
    (
        f"{TOP}[retry]\nbudget_s = 0\niq_budget_s = 5",
        "retry.iq_budget_s: budget_s and iq_budget_s are both set. Keep one of the two",
    ),
    (f'{TOP}[journal]\ndurability = ""', "journal.durability: '' is not a valid value."),
    (f"{TOP}[limits]\nstanzas_per_s = -1", "limits.stanzas_per_s: must be 0, or from 0.001"),
    (f"{TOP}[limits]\nstanzas_per_s = 1e-9", "limits.stanzas_per_s: must be 0, or from 0.001"),
    (f"{TOP}[limits]\nstanzas_per_s = nan", "limits.stanzas_per_s: must be a number, not nan"),
    (f'{TOP}[limits]\nstanzas_per_s = "5"', "limits.stanzas_per_s: must be a number, not a str"),
    (f"{TOP}[limits]\nburst = 0", "limits.burst: must be above 0"),
    (f"{TOP}[limits]\nmax_waiting = 1.5", "limits.max_waiting: must be a whole number"),
    (f"{TOP}[limits]\nmax_conversations = 0", "limits.max_conversations: must be above 0"),
    (
        f"{TOP}[tracing]",
        "tracing.endpoint: the URL to export spans to is missing. Set endpoint",
    ),
    (f'{TOP}[tracing]\nendpoint = "x"', "tracing.endpoint: the URL must begin with http"),
    (f"{TOP}[tracing]\nratio = 1.1", "tracing.ratio: must be from 0 to 1, not 1.1"),
    (f'{TOP}[log]\nlevel = "loud"', "log.level: 'loud' is not a valid value. Use one of \"debug\""),
    (
        f'{TOP}[journal]\ndurability = "fsync"',
        'journal.durability: \'fsync\' is not a valid value. Use one of "power", "process", "off"',
    ),
    (WITHOUT_URL, f"{KEY}.component_post_url: the URL of the endpoint is missing. Set it to"),
    (f'{WITHOUT_URL}component_post_url = ""', f"{KEY}.component_post_url: the URL must begin"),
]


@pytest.mark.parametrize(("text", "fault"), SINGLE_FAULTS)
def test_single_fault(text: str, fault: str) -> None:
    told = faults_of(text)
    assert [one[: len(fault)] for one in told] == [fault]


def test_the_nearest_kind_is_named() -> None:
    (fault,) = faults_of(f'{TOP}component_post_stanzas = ["presense"]')
    assert 'Perhaps you meant "presence"' in fault


def test_a_kind_far_from_all_lists_them() -> None:
    (fault,) = faults_of(f'{TOP}component_post_stanzas = ["x"]')
    assert fault.endswith("Use any of message, presence, iq.")


# --- whole files


def expected_faults(path: Path) -> list[str]:
    lines = path.read_text(errors="replace").splitlines()
    found = [line.removeprefix("#! ") for line in lines if line.startswith("#! ")]
    return [line.removeprefix(": ").replace("{here}", str(path.parent)) for line in found]


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_bad_file_reports_all_its_faults_at_once(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path)
    told = [str(fault) for fault in caught.value.faults]
    expected = expected_faults(path)
    assert expected
    matched = [[one for one in expected if fault.startswith(one)] for fault in told]
    assert [len(found) for found in matched] == [1] * len(told)
    assert sorted(one for found in matched for one in found) == sorted(expected)


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_the_error_names_the_file_on_each_line(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_each_fault_has_a_remedy(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(fault.remedy for fault in caught.value.faults)


def one_fault_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    (fault,) = caught.value.faults
    return str(fault)


def test_a_missing_file(tmp_path: Path) -> None:
    told = one_fault_of(tmp_path / "none.toml")
    assert told == "there is no such file. Check the path of the configuration file."


def test_a_directory(tmp_path: Path) -> None:
    told = one_fault_of(tmp_path)
    assert told == "cannot be read (Is a directory). Check its path and permissions."


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "loop.toml"
    path.symlink_to(path)
    assert one_fault_of(path).startswith("cannot be read (Too many levels of symbolic links)")


HUGE = [
    f"{TOP}[http]\nmax_in_flight = {'9' * 5000}",
    f"x = {'[' * 5000}{']' * 5000}\n{TOP}",
]


@pytest.mark.parametrize("text", HUGE, ids=["number", "nesting"])
def test_toml_beyond_what_python_reads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    assert one_fault_of(path).startswith("a number is too long, or brackets are nested too deeply")


def test_a_secret_file_is_found_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "etc"
    place.mkdir()
    (place / "secret").write_text("s3cret\n")
    (place / "secret").chmod(0o600)
    (place / "bridge.toml").write_text(f'{WITHOUT_SECRET}component_secret_file = "secret"')
    monkeypatch.chdir(tmp_path)
    assert load(Path("etc/bridge.toml")).components == (COMPONENT,)


# --- domains


def twins(one: str, other: str) -> list[str]:
    table = 'component_secret = "s"\ncomponent_post_url = "http://h/"\n'
    text = f'[component."{one}"]\n{table}[component."{other}"]\n{table}'
    try:
        return [str(one.domain) for one in settings_of(text).components]
    except ConfigError as error:
        return [fault.problem for fault in error.faults]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("faß.de", "fass.de", False),
        ("faß.de", "xn--fa-hia.de", True),
        ("faß.de", "FAẞ.de", True),
        ("bot.example.com", "Bot.example.com", True),
        ("bücher.example", "BÜCHER.example", True),
    ],
)
def test_two_components_of_one_domain(one: str, other: str, is_same: bool) -> None:
    assert twins(one, other) == ([f"this is the same domain as {one}"] if is_same else [one, other])


# --- profiles

PNG = b"\x89PNG\r\n\x1a\n....."
PROFILE = f'[{KEY}.profile."echo"]'


def in_directory(directory: Path, data: bytes) -> Path:
    (directory / "face").write_bytes(data)
    return directory


def test_a_profile(tmp_path: Path) -> None:
    text = f"""{TOP}
    local_parts = ["Echo", "news"]
    [{KEY}.profile."Echo"]
    name = "Echo"
    description = "Says it again"
    url = "https://example.com/echo"
    avatar = "face"
    category = "automation"
    type = "echo"
    features = ["urn:example:echo"]
    [{KEY}.profile."*"]
    [{KEY}.profile.""]
    name = "All of them"
    """
    settings = settings_of(text, in_directory(tmp_path, PNG))
    [component] = settings.components
    avatar = Avatar(PNG, "image/png", hashlib.sha1(PNG).hexdigest())
    echo = Profile(
        *("Echo", "Says it again", "https://example.com/echo", avatar),
        *("automation", "echo", ("urn:example:echo",)),
    )
    assert component.profiles == {"echo": echo, "*": Profile(), "": Profile("All of them")}
    assert component.local_parts == frozenset({"echo", "news"})
    assert settings.warnings == ()


def test_a_large_picture_is_warned_about(tmp_path: Path) -> None:
    data = PNG.ljust(AVATAR_LARGE_BYTES + 1, b".")
    settings = settings_of(f'{TOP}{PROFILE}\navatar = "face"', in_directory(tmp_path, data))
    problem = "the picture has 8193 bytes, more than 8192: each contact loads it"
    assert settings.warnings == (f'{KEY}.profile."echo".avatar: {problem}',)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "this is not a picture in PNG or JPEG. Convert it to one of them."),
        (b"\xff\xd8\xff", "this is not a picture in PNG or JPEG. Convert it to one of them."),
        (b"GIF89a.....", "this is not a picture in PNG or JPEG. Convert it to one of them."),
        (
            PNG.ljust(AVATAR_LIMIT_BYTES + 2, b"."),
            "the picture has 65538 bytes, more than 65536."
            " Make it smaller: 96 pixels by 96 are enough for every client.",
        ),
        (None, "{here}/face cannot be read (No such file or directory)."),
    ],
)
def test_a_bad_picture(tmp_path: Path, data: bytes | None, problem: str) -> None:
    if data is not None:
        in_directory(tmp_path, data)
    [fault] = faults_of(f'{TOP}{PROFILE}\navatar = "face"', tmp_path)
    told = f'{KEY}.profile."echo".avatar: {problem}'.replace("{here}", str(tmp_path))
    assert fault.startswith(told)


BAD_PROFILES = [
    ('profile."echo" = "x"', '.profile."echo": must be a table'),
    ('profile."echo".name = 1', '.profile."echo".name: must be a string, not a number'),
    ('profile."echo".nmae = "x"', '.profile."echo".nmae: this key is unknown'),
    ('profile."echo".name = "\\u0001"', '.profile."echo".name: '),
    (
        f'profile."echo".description = "{"x" * 4001}"',
        '.profile."echo".description: the text is longer than 4000 characters',
    ),
    ('profile."echo".url = "example"', ".profile.\"echo\".url: 'example' is not a URL"),
    ('profile."echo".url = "http://[x"', ".profile.\"echo\".url: 'http://[x' is not a URL"),
    ('profile."echo".url = "http://a b"', '.profile."echo".url: the URL contains white space'),
    ('profile."echo".category = "client"', '.profile."echo".type: category and type belong'),
    ('profile."echo".type = "bot"', '.profile."echo".category: category and type belong'),
    (
        'profile."echo" = {category = "a b", type = "bot"}',
        ".profile.\"echo\".category: 'a b' contains white space or <",
    ),
    ('profile."echo".features = ["a<b"]', ".profile.\"echo\".features: 'a<b' contains white"),
    ('profile."echo".features = [""]', '.profile."echo".features: a feature is empty'),
    ('profile."echo".features = "x"', '.profile."echo".features: must be a list of strings'),
    (
        'profile."echo".features = [' + "'f'," * 101 + "]",
        '.profile."echo".features: there are more than 100 features',
    ),
    ('profile."a@b" = {}', ".profile.\"a@b\": 'a@b' is not a valid local part"),
    ('profile = {"echo" = {}, "Echo" = {}}', ".profile.\"Echo\": 'Echo' has another profile, too"),
    ("local_parts = []", ".local_parts: the list is empty"),
    ('local_parts = ["a b"]', ".local_parts: 'a b' is not a valid local part"),
    ('local_parts = [""]', ".local_parts: '' is not a valid local part"),
    ("local_parts = [1]", ".local_parts: must be a list of strings"),
    (
        'local_parts = ["news"]\nprofile."echo" = {}',
        ".profile.\"echo\": 'echo' is not among local_parts",
    ),
]


@pytest.mark.parametrize(("lines", "fault"), BAD_PROFILES)
def test_a_bad_profile(lines: str, fault: str) -> None:
    [told] = faults_of(f"{TOP}{lines}")
    assert told.startswith(f"{KEY}{fault}")
