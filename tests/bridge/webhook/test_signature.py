"""The headers of a POST, verified by the library that endpoints use."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from bridge.config.value import BadValue, Secret, parse_key
from bridge.webhook.signature import Signer

UID = "msg_0123456789abcdef01234567"
BODY = '{"body":"žluťoučký kůň 🐎"}'.encode()


def key(seed: int = 0, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes((seed + n) % 256 for n in range(size))).decode()


def headers(
    *keys: str, attempt: int = 1, now: float | None = None, body: bytes = BODY
) -> dict[str, str]:
    """Give what an endpoint reads."""
    signer = Signer(tuple(parse_key(one) for one in keys))
    lines = signer.headers(UID, attempt, time.time() if now is None else now, body)
    assert lines.endswith("\r\n")
    return dict(line.split(": ", 1) for line in lines.split("\r\n")[:-1])


def test_every_post_says_who_it_is() -> None:
    assert headers(attempt=3, now=1_700_000_000.9) == {
        "webhook-id": UID,
        "webhook-timestamp": "1700000000",
        "webhook-attempt": "3",
    }


@pytest.mark.parametrize("size", [24, 25, 26, 32, 64])
def test_the_library_verifies_it(size: int) -> None:
    assert Webhook(key(size=size)).verify(BODY, headers(key(size=size))) is not None


@given(st.binary(max_size=100).map(lambda data: data.hex().encode()), st.integers(1, 99))
def test_the_library_verifies_every_body(body: bytes, attempt: int) -> None:
    given_headers = headers(key(), attempt=attempt, body=body)
    Webhook(key()).verify(body, given_headers, json_parse=False)


def test_another_body_id_time_or_key_is_refused() -> None:
    good = headers(key())
    later = str(int(good["webhook-timestamp"]) + 1)
    wrong = [
        (key(), BODY + b" ", good),
        (key(), BODY, {**good, "webhook-id": UID[:-1] + "8"}),
        (key(), BODY, {**good, "webhook-timestamp": later}),
        (key(1), BODY, good),
    ]
    for secret, body, given_headers in wrong:
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, given_headers)


def test_while_a_secret_is_replaced_both_hold() -> None:
    old, new, other = key(1), key(2), key(3)
    both = headers(new, old)
    assert both["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, both)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(BODY, both)


def test_each_attempt_is_signed_anew() -> None:
    now = time.time()
    first, second = headers(key(), now=now - 60), headers(key(), attempt=2, now=now)
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]
    for one in (first, second):
        Webhook(key()).verify(BODY, one)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("whsec_", id="no key"),
        pytest.param(key().removeprefix("whsec_"), id="no prefix"),
        pytest.param(key().replace("whsec_", "WHSEC_"), id="another prefix"),
        pytest.param(key(size=23), id="too short"),
        pytest.param(key(size=65), id="too long"),
        pytest.param(key() + "!", id="no base64"),
        pytest.param(key() + "\n", id="end of line"),
        pytest.param(key().rstrip("="), id="no padding"),
        pytest.param("whsec_ščř" + "a" * 40, id="no ASCII"),
        pytest.param("whsec_" + key(), id="twice the prefix"),
    ],
)
def test_a_wrong_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_key(text)
    assert "whsec_" in str(caught.value)
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
    secret = text.replace("whsec_", "").strip()
    assert len(secret) < 4 or secret not in shown


def test_a_good_key_is_a_secret() -> None:
    secret = parse_key(key())
    assert secret == Secret(key())
    assert key() not in repr(secret)
