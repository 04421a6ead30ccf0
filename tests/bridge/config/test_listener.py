"""`[listen]`: what it may say, and each fault with its key and remedy."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.config.listener import parse_listen_address
from bridge.config.loader import from_table, load
from bridge.config.settings import (
    ConfigError,
    Count,
    ListenSettings,
    Seconds,
    Settings,
    TcpAddress,
    UnixAddress,
)
from bridge.config.token import SCOPES, Scope, Token, digest_of
from bridge.config.value import BadValue
from xmppstream import split

SECRET: Final = "0123456789abcdef"
DOMAINS: Final = ("bot.example.com", "Other.example.com")
COMPONENTS: Final = "".join(
    f'[component."{domain}"]\ncomponent_secret = "s3cret"\n'
    'component_post_url = "https://example.com/api"\n'
    for domain in DOMAINS
)
LISTEN: Final = '[listen]\naddress = "127.0.0.1:5280"\n'
TOKEN: Final = f'[[listen.token]]\nname = "a"\nsecret = "{SECRET}"\nscopes = ["send"]\n'
PLACE: Final = TcpAddress("127.0.0.1", 5280)


def settings_of(
    text: str, directory: Path = Path("/nowhere"), environment: dict[str, str] | None = None
) -> Settings:
    table = tomllib.loads(COMPONENTS + text)
    return from_table(table, "test", directory=directory, environment=environment or {})


def listen_of(text: str, **options: Any) -> ListenSettings:
    listen = settings_of(text, **options).listen
    assert listen is not None
    return listen


def faults_of(text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(text, **options)
    assert SECRET not in str(caught.value)
    return [str(fault) for fault in caught.value.faults]


def token(*scopes: Scope, **options: Any) -> Token:
    return Token(
        **{
            "name": "a",
            "digest": digest_of(SECRET),
            "components": frozenset(DOMAINS),
            "scopes": frozenset(scopes or ("send",)),
            **options,
        }
    )


# --- what is accepted


def test_off_unless_configured() -> None:
    assert settings_of("").listen is None


def test_defaults() -> None:
    assert listen_of(LISTEN + TOKEN) == ListenSettings(
        PLACE, (token(),), None, Count(524288), Count(512)
    )


def test_all_keys() -> None:
    text = f"""{LISTEN}
default_host = "example.com"
max_body_bytes = 1000
max_connections = 9
public_url = "https://EXAMPLE.com:8443/bridge/"
reply_ttl_s = 60
[[listen.token]]
name = "monitoring@host-1"
secret = "{SECRET}"
components = ["OTHER.example.com"]
local_parts = ["", "alert"]
scopes = ["watch", "manage", "send", "query", "receive", "rooms", "send"]
"""
    expected = token(
        *SCOPES,
        name="monitoring@host-1",
        components=frozenset({"Other.example.com"}),
        local_parts=frozenset({"", "alert"}),
    )
    assert listen_of(text) == ListenSettings(
        PLACE,
        (expected,),
        "example.com",
        Count(1000),
        Count(9),
        "https://example.com:8443/bridge",
        Seconds(60),
    )


@pytest.mark.parametrize(
    ("text", "url", "warning"),
    [
        ("https://example.com", "https://example.com", ""),
        ("https://example.com/a/b/", "https://example.com/a/b", ""),
        ("http://127.0.0.1:5280", "http://127.0.0.1:5280", ""),
        ("http://[::1]:5280/", "http://[::1]:5280", ""),
        ("http://localhost:5280/x", "http://localhost:5280/x", ""),
        (
            "http://bridge:5280",
            "http://bridge:5280",
            "listen.public_url: http://bridge:5280 has no TLS",
        ),
    ],
)
def test_public_urls(text: str, url: str, warning: str) -> None:
    settings = settings_of(f"{LISTEN}public_url = '{text}'\n{TOKEN}")
    assert settings.listen is not None
    assert settings.listen.public_url == url
    assert [one.startswith(warning) for one in settings.warnings] == [True] * bool(warning)


def test_a_public_url_needs_no_token() -> None:
    assert settings_of(f"{LISTEN}public_url = 'https://example.com'\n").warnings == ()
    assert len(settings_of(LISTEN).warnings) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the URL must begin with http:// or https://"),
        ("bridge.example.com", "the URL must begin with http:// or https://"),
        ("ftp://example.com", "the URL must begin with http:// or https://"),
        ("https:///replies", "the URL has no host"),
        ("https://example.com/?", "the URL has a query or a fragment"),
        ("https://example.com/?a=b", "the URL has a query or a fragment"),
        ("https://example.com/#top", "the URL has a query or a fragment"),
        ("https://me:hidden@example.com/", "the URL contains credentials"),
        ("https://example.com/" + "a" * 1000, "the URL is longer than 1000 characters"),
        ("https://example.com/a b", "the URL contains white space or control characters"),
    ],
)
def test_what_is_no_public_url(text: str, problem: str) -> None:
    [fault] = faults_of(f"{LISTEN}public_url = '{text}'\n{TOKEN}")
    assert fault.startswith(f"listen.public_url: {problem}. ")
    assert "hidden" not in fault


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:5280", PLACE),
        ("[::1]:80", TcpAddress("::1", 80)),
        ("0.0.0.0:5280", TcpAddress("0.0.0.0", 5280)),
        ("localhost:5280", PLACE),
        ("unix:/run/xmpp-bridge/http.sock", UnixAddress("/run/xmpp-bridge/http.sock")),
        ("/run/xmpp-bridge/http.sock", UnixAddress("/run/xmpp-bridge/http.sock")),
    ],
)
def test_places(text: str, place: TcpAddress | UnixAddress) -> None:
    assert parse_listen_address(text) == place
    if "localhost" not in text:
        assert parse_listen_address(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5280",
        ":5280",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "::1:5280",
        "[::1]",
        "example.com:5280",
        "http://127.0.0.1:5280",
        "unix:",
        "unix:relative/http.sock",
        "unix:/run/",
        "/",
        "unix:/" + "x" * 107,
    ],
)
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(BadValue):
        parse_listen_address(text)
    (fault,) = faults_of(LISTEN.replace("127.0.0.1:5280", text) + TOKEN)
    assert fault.startswith("listen.address: ")


def test_secrets_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "token").chmod(0o600)
    for line in (
        'secret_file = "token"',
        'secret_env = "TOKEN"',
        f'secret_hash = "sha256:{digest_of(SECRET).hex()}"',
        f'secret_hash = "sha256:{digest_of(SECRET).hex().upper()}"',
    ):
        text = LISTEN + TOKEN.replace(f'secret = "{SECRET}"', line)
        listen = listen_of(text, directory=tmp_path, environment={"TOKEN": SECRET})
        assert listen.tokens == (token(),)


# --- warnings


def test_not_on_loopback() -> None:
    for address in ("0.0.0.0:1", "[::]:1", "192.0.2.1:1"):
        (warning,) = settings_of(LISTEN.replace("127.0.0.1:5280", address) + TOKEN).warnings
        assert warning.startswith(f"listen.address: {address} is not a loopback address")
    for address in ("127.1.2.3:1", "[::1]:1", "localhost:1", "/run/http.sock"):
        assert not settings_of(LISTEN.replace("127.0.0.1:5280", address) + TOKEN).warnings


def test_no_token() -> None:
    (warning,) = settings_of(LISTEN).warnings
    assert "add a [[listen.token]]" in warning


def test_a_file_with_a_token_that_all_can_read(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    components = COMPONENTS.replace('component_secret = "s3cret"', 'component_secret_file = "s"')
    (tmp_path / "s").write_text("s3cret")
    (tmp_path / "s").chmod(0o600)
    path.write_text(components + LISTEN + TOKEN)
    path.chmod(0o644)
    assert any("everyone on this machine can read" in one for one in load(path).warnings)
    path.write_text(components + LISTEN + TOKEN.replace("secret =", "secret_hash = 'sha256:") + "'")
    hashed = TOKEN.replace(f'secret = "{SECRET}"', f'secret_hash = "sha256:{"0" * 64}"')
    path.write_text(components + LISTEN + hashed)
    assert not load(path).warnings


# --- faults

MAKE: Final = "Generate one with: openssl rand -hex 32."
SOURCES: Final = "Set exactly one of secret, secret_file, secret_env, secret_hash."
FIRST: Final = "listen.token[0]"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("listen = 3\n", ["listen: must be a table. Write it as [listen]."]),
        ("[listen]\n", ["listen.address: the address is missing. Use an address such as"]),
        ("[listen]\naddress = 5280\n", ["listen.address: must be a string, not a number."]),
        (
            "[listen]\naddres = 'x'\n",
            [
                "listen.addres: this key is unknown. Perhaps you meant address.",
                "listen.address: the address is missing.",
            ],
        ),
        (LISTEN + "max_body_bytes = 0\n", ["listen.max_body_bytes: must be above 0"]),
        (LISTEN + "max_connections = true\n", ["listen.max_connections: must be a whole number"]),
        (LISTEN + "default_host = 'a b'\n", ["listen.default_host: 'a b' is not a valid domain."]),
        (LISTEN + "public_url = 3\n", ["listen.public_url: must be a string, not a number."]),
        (LISTEN + "reply_ttl_s = 0\n", ["listen.reply_ttl_s: must be above 0 and at most 86400"]),
        (
            LISTEN + "reply_ttl_s = 9.5\n",
            ["listen.reply_ttl_s: 9.5 s leave no time to answer. Use at least 10 s."],
        ),
        (LISTEN + "token = 3\n", ["listen.token: must be an array of tables."]),
        (LISTEN + "[listen.token]\nname = 'a'\n", ["listen.token: must be an array of tables."]),
        (LISTEN + "token = ['a']\n", ["listen.token: must be an array of tables."]),
        (
            LISTEN + "[[listen.token]]\n",
            [
                f"{FIRST}.name: the name is missing. Name the client that uses the token.",
                f"{FIRST}.secret: the secret is missing. {SOURCES}",
                f'{FIRST}.scopes: the scopes are missing. Use any of "send", "query", "receive",',
            ],
        ),
        (
            LISTEN + "[[listen.token]]\nname = 1\nsecret = 2\nscopes = 'send'\nscope = []\n",
            [
                f"{FIRST}.name: must be a string",
                f"{FIRST}.secret: must be a string",
                f"{FIRST}.scopes: must be a list of strings",
                f"{FIRST}.scope: this key is unknown. Perhaps you meant scopes.",
            ],
        ),
        (
            LISTEN + TOKEN.replace('"a"', '"a b"'),
            [f"{FIRST}.name: 'a b' is not a valid token name. Use 1 to 64 letters"],
        ),
        (
            LISTEN + TOKEN + "secret_env = 'X'\n",
            [f"{FIRST}.secret: only one may be set, not secret and secret_env. {SOURCES}"],
        ),
        (
            LISTEN + TOKEN.replace(SECRET, "0123456789abcde"),
            [f"{FIRST}.secret: the secret is shorter than 16 characters and could be guessed."],
        ),
        (LISTEN + TOKEN.replace(SECRET, ""), [f"{FIRST}.secret: the secret is empty. {MAKE}"]),
        (
            LISTEN + TOKEN.replace(SECRET, SECRET + " x"),
            [f"{FIRST}.secret: it contains characters other than visible ASCII. {MAKE}"],
        ),
        (
            LISTEN + TOKEN.replace(f'secret = "{SECRET}"', 'secret_hash = "sha256:12"'),
            [f"{FIRST}.secret_hash: the value is not a SHA-256 hash. Use sha256:HEX,"],
        ),
        (
            LISTEN + TOKEN.replace(f'secret = "{SECRET}"', 'secret_env = "NONE"'),
            [f"{FIRST}.secret_env: the environment variable NONE is not set."],
        ),
        (
            LISTEN + TOKEN.replace(f'secret = "{SECRET}"', 'secret_file = "none"'),
            [f"{FIRST}.secret_file: /nowhere/none cannot be read (No such file or directory)."],
        ),
        (
            LISTEN + TOKEN.replace('"send"', '"sent", "x"'),
            [
                f"{FIRST}.scopes: 'sent' is not a scope. Perhaps you meant \"send\".",
                f"{FIRST}.scopes: 'x' is not a scope. Use any of",
            ],
        ),
        (LISTEN + TOKEN.replace('["send"]', "[]"), [f"{FIRST}.scopes: the scopes are missing."]),
        (
            LISTEN + TOKEN + 'components = ["bot.exmple.com", "x"]\n',
            [
                f"{FIRST}.components: 'bot.exmple.com' is not a configured component. Perhaps",
                f"{FIRST}.components: 'x' is not a configured component. Configured components:",
            ],
        ),
        (LISTEN + TOKEN + "components = []\n", [f"{FIRST}.components: the list is empty."]),
        (LISTEN + TOKEN + "local_parts = []\n", [f"{FIRST}.local_parts: the list is empty."]),
        (
            LISTEN + TOKEN + 'local_parts = ["a@b", "ok", "c d"]\n',
            [
                f"{FIRST}.local_parts: 'a@b' is not a valid local part. Use the part before the @",
                f"{FIRST}.local_parts: 'c d' is not a valid local part. Use",
            ],
        ),
        (
            LISTEN + TOKEN + TOKEN,
            [
                "listen.token[1].name: another token is also named 'a'. Use a different name",
                f"listen.token[1]: the token 'a' has the same secret. {MAKE}",
            ],
        ),
    ],
)
def test_faults(text: str, faults: list[str]) -> None:
    found = faults_of(text) if not text.startswith("listen =") else first_faults(text)
    assert len(found) == len(faults), found
    for one, expected in zip(found, faults, strict=True):
        assert one.startswith(expected), one


def first_faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_table(
            tomllib.loads(text + COMPONENTS), "test", directory=Path("/nowhere"), environment={}
        )
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"\xff" * 20])
def test_secret_files_that_hold_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    text = LISTEN + TOKEN.replace(f'secret = "{SECRET}"', 'secret_file = "token"')
    (fault,) = faults_of(text, directory=tmp_path)
    assert fault.startswith("listen.token[0].secret_file: ")


def test_nothing_shows_a_secret() -> None:
    settings = settings_of(LISTEN + TOKEN)
    assert SECRET not in repr(settings)
    assert digest_of(SECRET).hex() not in repr(settings)


# --- what a token may do


@pytest.mark.parametrize(
    ("local_parts", "address", "speaks"),
    [
        (None, "any@bot.example.com/x", True),
        (None, "bot.example.com", True),
        (None, "any@BOT.example.com", True),
        (None, "any@example.com", False),
        (None, "any@x.bot.example.com", False),
        (["a"], "a@bot.example.com/r", True),
        (["a"], "A@bot.example.com", False),
        (["a"], "b@bot.example.com", False),
        (["a"], "bot.example.com", False),
        (["a", ""], "bot.example.com/r", True),
    ],
)
def test_as_whom_it_speaks(local_parts: list[str] | None, address: str, speaks: bool) -> None:
    locals_ = None if local_parts is None else frozenset(local_parts)
    one = token(components=frozenset({"bot.example.com"}), local_parts=locals_)
    assert one.speaks_as(split(address)) == speaks


@pytest.mark.parametrize(
    ("components", "local_parts", "expected"),
    [
        ({"a.example"}, None, "a.example"),
        ({"a.example"}, {"x"}, "x@a.example"),
        ({"a.example"}, {""}, "a.example"),
        ({"a.example"}, {"", "x"}, "a.example"),
        ({"a.example"}, {"x", "y"}, None),
        ({"a.example", "b.example"}, None, None),
        ({"a.example", "b.example"}, {"x"}, None),
    ],
)
def test_the_address_that_is_its_only_one(
    components: set[str], local_parts: set[str] | None, expected: str | None
) -> None:
    locals_ = None if local_parts is None else frozenset(local_parts)
    assert token(components=frozenset(components), local_parts=locals_).only_address == expected


# --- nobody else pays for it


def test_a_daemon_without_a_listener_imports_nothing_of_it() -> None:
    foreign = ("starlette", "prometheus_client")
    code = (
        "import sys, bridge.daemon.daemon, bridge.cli.main, bridge.config.loader\n"
        f"print([one for one in {(*foreign, 'bridge.listener')} if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
