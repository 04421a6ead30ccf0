"""Single values of the configuration: what is accepted, what is refused, what is never shown."""

import base64

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config.value import (
    BadValue,
    Secret,
    check_domain,
    check_header,
    check_host,
    parse_post_url,
    parse_server,
)
from xmppstream.jid import to_ascii

URLS = [
    ("http://h", "http://h/"),
    ("https://example.com/your-api", "https://example.com/your-api"),
    ("HTTP://Example.COM/API", "http://example.com/API"),
    ("http://h:8000/", "http://h:8000/"),
    ("http://h:65535/", "http://h:65535/"),
    ("http://h/a?token=1", "http://h/a?token=1"),
    ("http://h/a#fragment", "http://h/a"),
    ("http://127.0.0.1:1/", "http://127.0.0.1:1/"),
    ("http://[::1]:8000/", "http://[::1]:8000/"),
    ("http://[::1]/", "http://[::1]/"),
    ("http://bücher.example/", "http://xn--bcher-kva.example/"),
    ("https://faß.de/a", "https://xn--fa-hia.de/a"),
    ("https://FAẞ.de/", "https://xn--fa-hia.de/"),
    ("https://ς.example:1/", "https://xn--3xa.example:1/"),
    ("https://a_b.ü.example/", "https://a_b.xn--tda.example/"),
    ("http://user:pass@h/", "http://h/"),
]


@pytest.mark.parametrize(("text", "url"), URLS)
def test_post_url_is_taken_apart(text: str, url: str) -> None:
    assert parse_post_url(text).url == url


BAD_URLS = [
    ("", "must begin with http:// or https://"),
    ("example.com/api", "must begin with http:// or https://"),
    ("//example.com/api", "must begin with http:// or https://"),
    ("ftp://example.com/", "must begin with http:// or https://"),
    ("http://", "has no host"),
    ("http:///api", "has no host"),
    ("http://:8000/", "has no host"),
    ("http://user:pass@/", "has no host"),
    ("http://h:0/", "port 0 is out of range"),
    ("http://h:65536/", "no valid host or port"),
    ("http://h:-1/", "no valid host or port"),
    ("http://h:http/", "no valid host or port"),
    ("http://[::1/", "no valid host or port"),
    ("http://[zz::]/", "no valid host or port"),
    ("http://999.1.1.1/", "not a domain name or IP address"),
    ("http://a..b/", "not a domain name or IP address"),
    (f"http://{'a' * 64}/", "not a domain name or IP address"),
    (f"http://ü{'a' * 64}/", "not a domain name or IP address"),
    ("http://☃.example/", "not a domain name or IP address"),
    ("http://a\u00b7b.example/", "not a domain name or IP address"),
    ("http://a<b/", "not a domain name or IP address"),
    ("http://a\\b/", "not a domain name or IP address"),
    ("http://h/a b", "white space or control characters"),
    (" http://h/", "white space or control characters"),
    ("http://h/\n", "white space or control characters"),
    ("http://h/\x00", "white space or control characters"),
    (f"http://h/{'p' * 8000}", "longer than 8000 characters"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_URLS)
def test_bad_post_url_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_post_url(text)
    assert problem in caught.value.problem


CREDENTIALS = [
    ("http://user:pass@h/", "user:pass"),
    ("http://user@h/", "user:"),
    ("http://u%40home:p%3A%2F@h/", "u@home:p:/"),
    ("http://u:a:b@h/", "u:a:b"),
    ("http://ü:é@h/", "ü:é"),
]


@pytest.mark.parametrize(("text", "pair"), CREDENTIALS)
def test_credentials_become_a_header(text: str, pair: str) -> None:
    authorization = parse_post_url(text).authorization
    assert authorization == Secret("Basic " + base64.b64encode(pair.encode()).decode())


def test_a_url_without_credentials_has_no_header() -> None:
    assert parse_post_url("http://h/").authorization is None


@pytest.mark.parametrize("show", [str, repr, "{}".format, "%s".__mod__])
@pytest.mark.parametrize("hidden", ["juliet", "hunter2", "t0ken", "anVsaWV0Omh1bnRlcjI="])
def test_nothing_secret_of_a_url_is_shown(show: "type[str]", hidden: str) -> None:
    url = parse_post_url("http://juliet:hunter2@h/path?key=t0ken")
    assert hidden not in show(url)


def test_what_is_shown_of_a_url() -> None:
    assert str(parse_post_url("http://juliet:hunter2@h:1/path?key=t0ken")) == "http://h:1/path?…"


@pytest.mark.parametrize("show", [str, repr, "{}".format])
def test_a_secret_is_not_shown(show: "type[str]") -> None:
    assert "hunter2" not in show(Secret("hunter2"))


@pytest.mark.parametrize("text", [text for text, _ in BAD_URLS] + ["http://u:hunter2@h:99999/"])
def test_the_error_does_not_quote_the_url(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_post_url(text)
    assert "hunter2" not in str(caught.value)


@given(st.one_of(st.text(), st.text().map("http://{}".format), st.text().map("http://[{}]".format)))
@settings(derandomize=True, deadline=None)
def test_any_text_is_refused_or_good_for_httpx(text: str) -> None:
    try:
        url = parse_post_url(text)
    except BadValue:
        return
    assert httpx.Request("POST", url.url).url.raw_host


SERVERS = [
    ("127.0.0.1:5347", ("127.0.0.1", 5347)),
    ("127.0.0.1", ("127.0.0.1", 5347)),
    ("xmpp.example.com", ("xmpp.example.com", 5347)),
    ("xmpp.example.com:1", ("xmpp.example.com", 1)),
    ("localhost:65535", ("localhost", 65535)),
    ("[::1]:5275", ("::1", 5275)),
    ("[::1]", ("::1", 5347)),
    ("[fe80::1%eth0]:5347", ("fe80::1%eth0", 5347)),
    ("my_server:5347", ("my_server", 5347)),
    ("bücher.example:5347", ("bücher.example", 5347)),
]


@pytest.mark.parametrize(("text", "address"), SERVERS)
def test_server_is_split(text: str, address: tuple[str, int]) -> None:
    assert parse_server(text) == address


BAD_SERVERS = [
    ("", "no valid host"),
    (":5347", "no valid host"),
    ("5347", "no valid host"),
    ("a b:5347", "no valid host"),
    ("a..b:5347", "no valid host"),
    (".a:5347", "no valid host"),
    (f"{'a' * 64}:5347", "no valid host"),
    ("256.0.0.1:5347", "no valid host"),
    ("user@host:5347", "no valid host"),
    ("host/path", "no valid host"),
    ("a\x00b:5347", "no valid host"),
    ("::1", "more than one colon"),
    ("::1:5347", "more than one colon"),
    ("http://host:5347", "is a URL"),
    ("xmpp://127.0.0.1:5347", "is a URL"),
    ("xmpp://[::1]", "is a URL"),
    ("component_ports = { 5347 }", "a piece of Prosody's configuration"),
    ("{ 5347 }", "a piece of Prosody's configuration"),
    ('Component "bot.example.com"', "a piece of Prosody's configuration"),
    ("host:", "not a valid port"),
    ("host:0", "not a valid port"),
    ("host:65536", "not a valid port"),
    ("host:99999999999999999999", "not a valid port"),
    ("host:-1", "not a valid port"),
    ("host:+1", "not a valid port"),
    ("host:xmpp", "not a valid port"),
    ("host:٣", "not a valid port"),
    ("[::1]:", "not a valid port"),
    ("[::1]:0", "not a valid port"),
    ("[::1", "not an IPv6 address"),
    ("[::1]5347", "not an IPv6 address"),
    ("[host]:5347", "not an IPv6 address"),
    ("[zz::1]:5347", "no valid host"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_SERVERS)
def test_bad_server_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_server(text)
    assert problem in caught.value.problem


@given(st.one_of(st.text(), st.text().map("{}:5347".format), st.text().map("[{}]:1".format)))
@settings(derandomize=True, deadline=None)
def test_any_text_is_refused_or_good_for_the_resolver(text: str) -> None:
    try:
        host, port = parse_server(text)
    except BadValue:
        return
    assert ":" in host or to_ascii(host).encode("idna")
    assert 1 <= port <= 65535


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "bot.example.com",
        "BOT.example.com",
        "xn--bcher-kva.example",
        "bücher.example",
        "_xmpp.example.com",
        "1.example",
        "a" * 63,
        ".".join(["a" * 63] * 3 + ["a" * 61]),
    ],
)
def test_domain_is_accepted(text: str) -> None:
    check_domain(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "bot.example.com.",
        ".example.com",
        "bot..example.com",
        "-bot.example.com",
        "bot-.example.com",
        "bot example.com",
        "user@example.com",
        "example.com/resource",
        "example.com:5347",
        "<bot>",
        "bot\n",
        "bot\x00",
        "a" * 64,
        ".".join(["a" * 63] * 4),
        "ü" * 63 + "." + "ü" * 63 + "." + "ü",
        "ü" * 63,
        "1א.example",
    ],
)
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="is not a valid domain"):
        check_domain(text)


@pytest.mark.parametrize("text", ["example.com", "localhost", "127.0.0.1", "::1", "a_b"])
def test_name_for_a_certificate_is_accepted(text: str) -> None:
    check_host(text)


@pytest.mark.parametrize("text", ["", ".example.com", "a..b", "a b", "1.2.3", ":x", "a" * 64])
def test_bad_name_for_a_certificate_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="not a domain name or IP address"):
        check_host(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer t0ken"),
        ("X-Api-Key", ""),
        ("x_y.z~", "a\tb"),
        ("User-Agent", "mine"),
        ("Accept", "application/json"),
    ],
)
def test_header_is_accepted(name: str, value: str) -> None:
    check_header(name, value)


BAD_HEADERS = [
    ("", "x", "is not a valid header name"),
    ("X Y", "x", "is not a valid header name"),
    ("X:", "x", "is not a valid header name"),
    ("Ü", "x", "is not a valid header name"),
    ("X\r\nY", "x", "is not a valid header name"),
    ("Content-Type", "text/html", "is set by the bridge"),
    ("content-length", "1", "is set by the bridge"),
    ("HOST", "x", "is set by the bridge"),
    ("Transfer-Encoding", "chunked", "is set by the bridge"),
    ("Connection", "close", "is set by the bridge"),
    ("Upgrade", "h2c", "is set by the bridge"),
    ("Webhook-Id", "1", "is set by the bridge"),
    ("webhook-timestamp", "1", "is set by the bridge"),
    ("webhook-attempt", "1", "is set by the bridge"),
    ("webhook-signature", "v1,x", "is set by the bridge"),
    ("X", "a\r\nEvil: 1", "a header cannot"),
    ("X", "a\n", "a header cannot"),
    ("X", "a\x00", "a header cannot"),
    ("X", " a", "a header cannot"),
    ("X", "a ", "a header cannot"),
    ("X", "é", "a header cannot"),
    ("X", "€", "a header cannot"),
]


@pytest.mark.parametrize(("name", "value", "problem"), BAD_HEADERS)
def test_bad_header_is_refused(name: str, value: str, problem: str) -> None:
    with pytest.raises(BadValue) as caught:
        check_header(name, value)
    assert problem in caught.value.problem


def test_the_error_does_not_quote_the_headers_value() -> None:
    with pytest.raises(BadValue) as caught:
        check_header("Authorization", "Bearer hunter2\n")
    assert "hunter2" not in str(caught.value)
