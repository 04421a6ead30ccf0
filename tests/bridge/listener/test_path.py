"""An unknown path is answered with the nearest known one."""

import pytest

from bridge.listener.middleware import nearest_path
from bridge.listener.problem import problem_of, type_of
from tests.bridge.listener.api.test_stanza import problem
from tests.bridge.listener.conftest import World
from tests.bridge.sample import stanza


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/api/version/x@capulet.example", "/v1/version/x@capulet.example"),
        ("/version/x", "/v1/version/x"),
        ("/v1/versoin/x@y", "/v1/version/x@y"),
        ("/v1/stanza", "/v1/stanzas"),
        ("/v1/Stanzas", "/v1/stanzas"),
    ],
)
async def test_the_nearest_path_is_named(world: World, path: str, nearest: str) -> None:
    value = problem(await world.get(path), 404)
    assert f"Did you mean {nearest}?" in value["detail"]


@pytest.mark.parametrize("path", ["/", "/quux", "/v1/", "/a/b/c/d/e/f", "/%3Cb%3E/version"])
async def test_a_path_like_no_other_is_not_guessed(world: World, path: str) -> None:
    assert "Did you mean" not in problem(await world.get(path), 404)["detail"]


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/metric", "/metrics"),
        ("/healtz", "/healthz"),
        ("/readz", "/readyz"),
        ("/pingg/x", "/rest/ping/x"),
    ],
)
def test_a_slip_of_the_keyboard(path: str, nearest: str) -> None:
    assert (
        nearest_path(path, ["/metrics", "/healthz", "/readyz", "/v1/stanzas", "/rest/ping/{jid}"])
        == nearest
    )


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (404, "urn:xmpp-bridge:problem:not-found"),
        (413, "urn:xmpp-bridge:problem:content-too-large"),
        (422, "urn:xmpp-bridge:problem:unprocessable-content"),
        (503, "urn:xmpp-bridge:problem:service-unavailable"),
    ],
)
def test_a_type_for_each_status(status: int, type: str) -> None:
    assert type_of(status) == type


def test_a_404_of_the_other_side_has_another_type() -> None:
    answer = stanza(
        "<iq type='error' from='x@y' id='1'><error type='cancel'><item-not-found"
        " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
    remote = problem_of(answer)
    assert remote.status == 404
    assert remote.type == "urn:xmpp-bridge:problem:remote:item-not-found"


@pytest.mark.parametrize("path", ["/<b>/x", "/\x1b[2J", "/" + "a" * 300, "", "/\u202e"])
def test_strange_words_are_not_quoted(path: str) -> None:
    assert nearest_path(path, ["/v1/{kind}/{to}", "/aaa"]) is None
