"""The description of the interface, held against the routes, and against what is answered.

schemathesis sends what the description allows, and what it does not, to the real server, and looks
at each answer. That is no proof (it has missed a planted fault), so the cases that matter are
written out by hand in the other modules.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema_rs import Draft202012Validator
from schemathesis.checks import CHECKS as ALL
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from starlette.routing import Route

from bridge.config.settings import Count, ListenSettings, TcpAddress
from bridge.config.token import SCOPES
from bridge.config.value import Secret
from bridge.listener.api.openapi.document import document
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.webhook.outcome import ERROR_OF_STATUS
from bridge.webhook.signature import Signer
from bridge.xmpp.command.commands import Commands
from tests.bridge.listener.api.test_contact import COMPONENT, announcer
from tests.bridge.listener.conftest import TOKENS, World, bearer, token
from tests.bridge.listener.fake_sender import BOT, FakeSender
from tests.bridge.listener.server.serving import serving
from tests.bridge.payload.test_field import read
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza

DOCUMENT: Final[dict[str, Any]] = json.loads(document())
METHODS: Final = ("get", "post", "put", "delete", "patch")
OPERATIONS: Final = [
    (path, method)
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if method in METHODS
]


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, method in OPERATIONS}


def routed(app: Any) -> set[tuple[str, str]]:
    return {
        (method, route.path.replace(":path}", "}"))
        for route in app.app.routes
        for method in set(route.methods or ()) - {"HEAD"}
    }


def make(*watching: Route) -> Any:
    listen = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS)
    return make_app(FakeSender(), TokenAuth(TOKENS), listen, watching=watching)


def test_every_route_is_described_and_every_description_routed() -> None:
    assert routed(make()) == described()
    assert ("GET", "/metrics") in routed(make(Route("/metrics", lambda _: None)))


def test_routes_for_watching_are_described_where_they_are() -> None:
    paths = {"/metrics", "/healthz", "/readyz"}
    value = json.loads(document(iter(["/metrics", "/readyz", "/healthz", "/"])))
    assert set(value["paths"]) == set(DOCUMENT["paths"]) | paths
    assert not paths & set(DOCUMENT["paths"])


async def test_it_is_served_as_it_is_made(world: World) -> None:
    response = await world.client.get("/v1/openapi.json")
    assert response.json() == DOCUMENT


def test_every_reference_leads_somewhere() -> None:
    references = re.findall(
        r'"\$ref":"#/components/schemas/(\w+)"', document(["/readyz", "/healthz"]).decode()
    )
    assert set(references) == set(DOCUMENT["components"]["schemas"])


def test_every_refusal_is_a_problem_and_both_schemes_are_there() -> None:
    for path, method in OPERATIONS:
        operation = DOCUMENT["paths"][path][method]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert set(response["content"]) == {"application/problem+json"}, (path, status)
        if "security" not in operation:
            assert {"401", "403", "429", "503"} <= set(operation["responses"])
    assert {one["scheme"] for one in DOCUMENT["components"]["securitySchemes"].values()} == {
        "bearer",
        "basic",
    }
    assert DOCUMENT["security"] == [{"bearer": []}, {"basic": []}]


def test_every_operation_has_a_name_of_its_own_and_a_tag() -> None:
    value = json.loads(document(["/metrics", "/healthz", "/readyz"]))
    items = [*value["paths"].values(), *value["webhooks"].values()]
    operations = [operation for item in items for operation in item.values()]
    names = [one["operationId"] for one in operations]
    assert sorted(names) == [
        "answerEvent",
        "deleteCommand",
        "deleteProfile",
        "deleteRoom",
        "extendEvent",
        "getCommand",
        "getDescription",
        "getHealth",
        "getMetrics",
        "getProfile",
        "getReadiness",
        "getRest",
        "getRoom",
        "listCommands",
        "listContacts",
        "listRooms",
        "makeAddress",
        "pollEvents",
        "postMsg",
        "postRest",
        "postRestEcho",
        "postRestTo",
        "putCommand",
        "putProfile",
        "putRoom",
        "queryArchive",
        "queryDisco",
        "queryItems",
        "queryLast",
        "queryPing",
        "queryTime",
        "queryUploadRequest",
        "queryVcard",
        "queryVersion",
        "receiveStanza",
        "replyLater",
        "runCommand",
        "sendStanzas",
        "sendText",
        "uploadFile",
    ]
    tags = [tag["name"] for tag in value["tags"]]
    assert {tag for one in operations for tag in one["tags"]} == set(tags)


def test_the_objects_of_answers_are_closed() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    answers = ("Accepted", "Answer", "Problem", "Health", "Readiness", "Ping", "Version", "Disco")
    own = (
        "Event",
        "Events",
        "Lease",
        "Contacts",
        "Profile",
        "ProfileSet",
        "Room",
        "RoomDetail",
        "RoomSettings",
        "UploadedFile",
    )
    for name in (
        *answers,
        *own,
        "Items",
        "Stanza",
    ):  # the aliases ignore other keys, as mod_rest does
        assert schemas[name]["additionalProperties"] is False, name
    assert "additionalProperties" not in schemas["Request"]  # later versions have more keys


# --- the POST to a service

POST: Final = DOCUMENT["webhooks"]["stanza"]["post"]


def fits(name: str) -> Draft202012Validator:
    components = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return Draft202012Validator(components)


def test_what_is_posted_and_answered_fits() -> None:
    xml = "<message to='a@b' from='c@d'><body>hi</body></message>"
    fits("Request").validate(read(xml))
    assert not fits("Request").is_valid({"body": "hi"})
    for reply in (None, [], {"body": "hi"}, [{"body": "hi"}, {"reactions": ["x"]}]):
        fits("Reply").validate(reply)
    unusable: list[Any] = ["hi", {"boddy": "hi"}, [5], {"files": [{}]}]
    for bad in unusable:
        assert not fits("Reply").is_valid(bad)


def test_the_headers_of_a_post_are_described() -> None:
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLjSw")
    lines = Signer((secret,)).headers("msg_1", 2, 1.5, b"{}").splitlines()
    signed = {line.partition(":")[0] for line in lines}
    optional = {one["name"] for one in POST["parameters"] if not one["required"]}
    assert {one["name"] for one in POST["parameters"]} == signed | {"traceparent"}
    unsigned = {
        line.partition(":")[0] for line in Signer().headers("msg_1", 2, 1.5, b"{}").splitlines()
    }
    assert optional == signed - unsigned


def test_each_status_is_described_with_its_error() -> None:
    described = POST["responses"]
    assert set(described) == {"200", "202", "204", "default", *map(str, ERROR_OF_STATUS)}
    whole = {"application/json", "application/xmpp+xml"}
    streamed = {"application/x-ndjson", "text/event-stream"}
    assert set(described["200"]["content"]) == whole | streamed
    assert described["404"]["description"].endswith("item-not-found (cancel)")
    assert POST["security"] == []


def test_a_deferred_reply_is_a_reply_that_may_be_the_last() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    reply, stanza_ = schemas["DeferredReply"], schemas["Stanza"]
    assert set(reply["properties"]) == {*stanza_["properties"], "done"}
    assert reply["additionalProperties"] is False
    assert DOCUMENT["paths"]["/v1/replies/{token}"]["post"]["security"] == []


@pytest.fixture(scope="module")
def schema() -> Iterator[schemathesis.BaseSchema]:
    """The description as it is served by the real server, before a sender that takes all."""
    sender = FakeSender(BOT)
    sender.answer = stanza(f"<iq type='result' id='x' from='a' to='{BOT}'/>")
    tokens = [token("all", *SCOPES)]
    listen = ListenSettings(
        TcpAddress("127.0.0.1", 0), tuple(tokens), "example.org", Count(1_000_000)
    )
    announcers = {BOT: announcer(COMPONENT)}
    commands = Commands(COMPONENT)
    commands.load(Recorder().logger())
    app = make_app(
        sender,
        TokenAuth(tokens),
        listen,
        announcers=lambda: announcers,
        commands=lambda: {BOT: commands},
    )
    with serving(app) as url:
        yield schemathesis.openapi.from_url(f"{url}/v1/openapi.json", config=config())


IN_PATH: Final = ParameterLocation.PATH
REJECTION: Final = "negative_data_rejection"
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    REJECTION,
    "positive_data_acceptance",
    "ignored_auth",
)


def broken(case: schemathesis.Case[Any]) -> set[ParameterLocation]:
    """Where a request is said to break the description.

    Of paths alone that is not to be trusted (4.32): `/msg/hhhh` was said to be over 3071
    characters. `test_an_address_that_is_too_long` has the case.
    """
    assert case.meta is not None
    negative = schemathesis.GenerationMode.NEGATIVE
    return {place for place, part in case.meta.components.items() if part.mode is negative}


def config() -> SchemathesisConfig:
    """What no schema can say: a valid request may be one that XMPP has no stanza for (422)."""
    accepted = ["2xx", 401, 403, 404, 409, 422]
    refused = [400, 401, 403, 404, 405, 409, 413, 415, 422, 431]
    return SchemathesisConfig.from_dict(
        {
            "checks": {
                "positive_data_acceptance": {"expected-statuses": accepted},
                REJECTION: {"expected-statuses": refused},
            }
        }
    )


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_schemathesis(schema: Any, path: str, method: str, mode: Any) -> None:
    takes_nothing = path in ("/v1/openapi.json", "/v1/contacts")
    if takes_nothing and mode is schemathesis.GenerationMode.NEGATIVE:
        return  # nothing can be wrong
    operation = schema[path][method.upper()]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: schemathesis.Case[Any]) -> None:
        names = [name for name in CHECKS if name != REJECTION or broken(case) != {IN_PATH}]
        checks: list[Any] = list(ALL.get_by_names(names))
        case.call_and_validate(headers=bearer("all"), checks=checks)

    run()
