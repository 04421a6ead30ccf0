"""Components whose service fetches its events: `component_post_url = "pull:"`."""

from pathlib import Path
from typing import Any, Final

import pytest

from bridge.config.loader import from_table
from bridge.config.pull import PULLED_BUDGET_S, pollers_of
from bridge.config.settings import ConfigError, Settings, retry_of
from bridge.config.value import PULL

DOMAIN: Final = "bot.example.com"
OTHER: Final = "other.example.com"
KEY: Final = f'component."{DOMAIN}"'
TOKEN: Final[dict[str, Any]] = {
    "name": "notebook",
    "secret": "0123456789abcdef",
    "scopes": ["receive"],
}
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLjSw"


def settings_of(*tokens: dict[str, Any], top: Any = None, **keys: Any) -> Settings:
    """A pulled component and another one, with a listener."""
    component = {"component_secret": "s", "component_post_url": "pull:", **keys}
    other = {"component_secret": "s", "component_post_url": "http://127.0.0.1/"}
    table: dict[str, Any] = {
        "component": {DOMAIN: component, OTHER: other},
        "listen": {"address": "127.0.0.1:5280", "token": list(tokens)},
    }
    table = {key: value for key, value in (table | (top or {})).items() if value is not None}
    return from_table(table, "test", directory=Path("/"))


def faults_of(*tokens: dict[str, Any], top: Any = None, **keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(*tokens, top=top, **keys)
    return [str(fault) for fault in caught.value.faults]


def test_a_pulled_component_has_no_url() -> None:
    settings = settings_of(TOKEN)
    assert settings.components[0].post_url == PULL
    assert str(PULL) == "pull:"
    assert settings.warnings == ()


def test_without_a_listener_nobody_could_poll() -> None:
    assert faults_of(top={"listen": None}) == [
        f'{KEY}.component_post_url: "pull:" needs the listener, at which the service polls. Add'
        ' [listen] with an address, and a token with the scope "receive".'
    ]


def test_a_listener_with_a_fault_is_no_second_fault() -> None:
    [fault] = faults_of(TOKEN, top={"listen": {"address": "nowhere", "token": [TOKEN]}})
    assert fault.startswith("listen.address")


@pytest.mark.parametrize("text", ["pull", "PULL:", "pull://", " pull:", "pull:now", "pull:/"])
def test_what_was_meant_to_be_pull(text: str) -> None:
    [fault] = faults_of(TOKEN, component_post_url=text)
    assert fault == (
        f'{KEY}.component_post_url: {text!r} is not a URL. Write exactly "pull:" for a service'
        " that polls."
    )


@pytest.mark.parametrize(
    "token",
    [
        TOKEN | {"scopes": ["send", "query"]},
        TOKEN | {"components": [OTHER]},
    ],
)
def test_a_component_that_no_token_may_poll_is_warned_about(token: dict[str, Any]) -> None:
    settings = settings_of(token)
    assert settings.warnings == (
        f'{KEY}: no token may poll its events: add the scope "receive" to a [[listen.token]]',
    )
    assert settings.listen is not None
    assert pollers_of(settings.components[0], settings.listen) == []


def test_the_tokens_that_may_poll() -> None:
    settings = settings_of(
        TOKEN,
        TOKEN | {"name": "laptop", "secret": "fedcba9876543210", "components": [DOMAIN]},
        TOKEN | {"name": "sender", "secret": "f123456789abcdef", "scopes": ["send"]},
    )
    assert settings.listen is not None
    assert pollers_of(settings.components[0], settings.listen) == ["notebook", "laptop"]


def test_keys_without_effect_are_warned_about() -> None:
    http = {"timeout_s": 5, "http2": False, "headers": {"X-Own": "1"}, "max_in_flight": 5}
    settings = settings_of(TOKEN, http=http, webhook_secrets=[SECRET])
    assert settings.warnings == (
        f"{KEY}.webhook_secrets has no effect, because nothing is POSTed: give the secret to"
        " xmpp-bridge forward",
        f"{KEY}.http: timeout_s, headers has no effect, because nothing is POSTed; only"
        " max_in_flight applies",
    )
    assert settings_of(TOKEN, http={"max_in_flight": 5}).warnings == ()


def test_a_secret_for_all_endpoints_is_not_sent_to_a_pulled_one() -> None:
    http = {"headers": {"Authorization": "Bearer s3cret"}}
    assert len(settings_of(TOKEN, top={"http": http}).components) == 2


def test_a_message_is_offered_longer_than_a_lease_lasts() -> None:
    settings = settings_of(TOKEN)
    pulled, other = (retry_of(one, settings) for one in settings.components)
    assert (pulled.message_budget_s, pulled.iq_budget_s) == (PULLED_BUDGET_S, 10)
    assert other.message_budget_s == 60


@pytest.mark.parametrize(
    ("top", "own", "budget_s"),
    [
        ({"retry": {"message_budget_s": 60}}, None, 60),
        ({"retry": {"budget_s": 20}}, None, 20),
        ({"retry": {"iq_budget_s": 5}}, None, PULLED_BUDGET_S),
        (None, {"budget_s": 0}, 0),
        (None, {"retry_timeouts": False}, PULLED_BUDGET_S),
    ],
)
def test_a_budget_that_is_set_holds(top: Any, own: Any, budget_s: float) -> None:
    settings = settings_of(TOKEN, top=top, **({} if own is None else {"retry": own}))
    retry = retry_of(settings.components[0], settings)
    assert retry.message_budget_s == budget_s
    assert retry.retry_timeouts is (own != {"retry_timeouts": False})
