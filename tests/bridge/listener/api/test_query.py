"""The short forms, and stanza errors as statuses."""

import pytest
from trio.testing import MockClock

from bridge.listener.api.query import QUERIES
from bridge.listener.problem import STATUS_OF, problem_of
from bridge.webhook.outcome import Rejected, error_of
from tests.bridge.listener.api.test_stanza import JULIET, PING, XML, problem
from tests.bridge.listener.conftest import World, bearer
from tests.bridge.listener.fake_sender import BOT
from tests.bridge.sample import meaning, stanza
from xmppstream import StanzaCondition

ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"
VERSION = "jabber:iq:version"
INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"
PHOTO = "QUJD" * 100_000
HEAD = f"<iq type='result' id='x' from='{JULIET}' to='{BOT}'"


@pytest.mark.parametrize(
    ("path", "asked", "answer", "expected"),
    [
        (f"ping/{JULIET}", "<ping xmlns='urn:xmpp:ping'/>", "", {}),
        (
            "version/capulet.example",
            f"<query xmlns='{VERSION}'/>",
            f"<query xmlns='{VERSION}'><name>Prosody</name><version>0.12.3</version></query>",
            {"name": "Prosody", "version": "0.12.3"},
        ),
        (
            f"disco/{JULIET}/orchard%2F1?node=a%26b",
            f"<query xmlns='{INFO}' node='a&amp;b'/>",
            f"<query xmlns='{INFO}' node='a&amp;b'>"
            "<identity category='client' type='pc' name='Gajim' xml:lang='en'/>"
            "<identity category='account' type='registered'/>"
            "<feature var='urn:xmpp:ping'/><feature/><x xmlns='jabber:x:data'/></query>",
            {
                "node": "a&b",
                "identities": [
                    {"category": "client", "type": "pc", "name": "Gajim", "lang": "en"},
                    {"category": "account", "type": "registered"},
                ],
                "features": ["urn:xmpp:ping"],
            },
        ),
        (
            "items/capulet.example",
            f"<query xmlns='{ITEMS}'/>",
            f"<query xmlns='{ITEMS}'><item jid='rooms.capulet.example' name='Rooms'/>"
            "<item jid='a' node='b'/></query>",
            {
                "items": [
                    {"jid": "rooms.capulet.example", "name": "Rooms"},
                    {"jid": "a", "node": "b"},
                ]
            },
        ),
        (
            f"vcard/{JULIET}",
            "<vCard xmlns='vcard-temp'/>",
            f"<vCard xmlns='vcard-temp'><FN>Juliet</FN><EMAIL><USERID>j@c.example</USERID></EMAIL>"
            f"<PHOTO><TYPE>image/png</TYPE><BINVAL>{PHOTO}</BINVAL></PHOTO></vCard>",
            {
                "fn": "Juliet",
                "email": "j@c.example",
                "photo": {"type": "image/png", "binval": PHOTO},
            },
        ),
        ("vcard/a", "<vCard xmlns='vcard-temp'/>", "<vCard xmlns='vcard-temp'/>", {}),
        ("vcard/a", "<vCard xmlns='vcard-temp'/>", "<vCard xmlns='other'><FN>x</FN></vCard>", {}),
        (
            f"last/{JULIET}",
            "<query xmlns='jabber:iq:last'/>",
            "<query xmlns='jabber:iq:last' seconds='903'>Heading home</query>",
            {"idle_seconds": 903, "status": "Heading home"},
        ),
        (
            "last/a",
            "<query xmlns='jabber:iq:last'/>",
            "<query xmlns='jabber:iq:last' seconds='-1e9'/>",
            {},
        ),
        (
            f"time/{JULIET}",
            "<time xmlns='urn:xmpp:time'/>",
            "<time xmlns='urn:xmpp:time'><tzo>-06:00</tzo><utc>2006-12-19T17:58:35Z</utc></time>",
            {"utc": "2006-12-19T17:58:35Z", "tzo": "-06:00"},
        ),
        ("time/a", "<time xmlns='urn:xmpp:time'/>", "<time xmlns='urn:xmpp:time'/>", {}),
        (
            "upload_request/upload.example?filename=a%20b.png&size=23&content-type=image/png",
            "<request xmlns='urn:xmpp:http:upload:0' filename='a b.png' size='23'"
            " content-type='image/png'/>",
            "<slot xmlns='urn:xmpp:http:upload:0'><put url='https://u.example/p'>"
            "<header name='Authorization'>Basic x</header><header name='Host'>evil</header></put>"
            "<get url='https://u.example/g'/></slot>",
            {
                "put": {
                    "url": "https://u.example/p",
                    "headers": [{"name": "Authorization", "value": "Basic x"}],
                },
                "get": {"url": "https://u.example/g"},
            },
        ),
        (
            "upload_request/upload.example?filename=a&size=1",
            "<request xmlns='urn:xmpp:http:upload:0' filename='a' size='1'/>",
            "<slot xmlns='urn:xmpp:http:upload:0'/>",
            {},
        ),
        ("version/a", f"<query xmlns='{VERSION}'/>", "", {}),
        ("items/a", f"<query xmlns='{ITEMS}'/>", "<query xmlns='other'/>", {}),
    ],
)
async def test_a_question_and_its_answer(
    world: World, path: str, asked: str, answer: str, expected: dict[str, object]
) -> None:
    world.sender.answer = stanza(f"{HEAD}>{answer}</iq>")
    response = await world.get(f"/v1/{path}", Prefer="wait=9", **bearer("asker"))
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=9"
    value = response.json()
    assert value.pop("seconds") >= 0
    to = value.pop("jid")
    assert value == expected
    ((question, wait_s, key),) = world.sender.asked
    assert question.payload is not None
    assert meaning(question.payload) == meaning(stanza(f"<iq>{asked}</iq>").element.elements[0])
    assert (question.type, question.to, question.from_) == ("get", to, BOT)
    assert question.id
    assert (wait_s, key) == (9, None)


async def test_the_time_that_a_ping_took(world: World, autojump_clock: MockClock) -> None:
    world.sender.answer = stanza(f"{HEAD}/>")
    assert (await world.get("/v1/ping/a", **bearer("one"))).json() == {"jid": "a", "seconds": 0}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "size: not the number"),
        ("filename=a", "size: not the number"),
        ("filename=a&size=-1", "size: not the number"),
        ("filename=a&size=1e3", "size: not the number"),
        ("filename=a&size=" + "9" * 19, "size: not the number"),
        ("filename=a&size=0", "a size in bytes above 0"),
        ("size=1", "a file has a name"),
        ("filename=%00&size=1", "character"),
    ],
)
async def test_an_upload_that_cannot_be_asked_for(world: World, query: str, why: str) -> None:
    value = problem(await world.get(f"/v1/upload_request/a?{query}", **bearer("one")), 422)
    assert why in value["detail"]
    assert not world.sender.asked


@pytest.mark.parametrize("name", [one for one in QUERIES if one != "upload_request"])
async def test_questions_that_are_refused(world: World, name: str) -> None:
    problem(await world.get(f"/v1/{name}/a@b", **bearer("sender")), 403)
    problem(await world.get(f"/v1/{name}/a@b?from=x@{BOT}", **bearer("other")), 403)
    problem(await world.get(f"/v1/{name}/@", **bearer("one")), 422)
    problem(await world.get(f"/v1/{name}/", **bearer("one")), 422)
    problem(await world.get(f"/v1/{name}/a@b"), 422)  # several names
    problem(await world.get(f"/v1/{name}", **bearer("one")), 404)
    assert not world.sender.asked


@pytest.mark.parametrize("condition", StanzaCondition)
async def test_an_error_in_answer(world: World, condition: StanzaCondition) -> None:
    world.sender.answer = stanza(
        f"<iq type='error' id='p1' from='{JULIET}' to='{BOT}'><error type='wait'>"
        f"<{condition} xmlns='{ERRORS}'/><text xmlns='{ERRORS}'>no &lt;way&gt;</text>"
        "<own xmlns='urn:own'/></error></iq>"
    )
    for response in (
        await world.post("/v1/stanzas", PING, XML, Accept=XML),
        await world.get(f"/v1/ping/{JULIET}?from={BOT}"),
    ):
        value = problem(response, STATUS_OF[condition])
        assert value["error"] == {
            "condition": condition,
            "type": "wait",
            "text": "no <way>",
            "application": "own",
        }
        assert meaning(stanza(value["stanza"]).element) == meaning(world.sender.answer.element)


def test_the_table_is_whole_and_keeps_what_is_ours() -> None:
    assert set(STATUS_OF) == set(StanzaCondition)
    assert {400, 403, 404, 409, 410, 501, 504} <= set(STATUS_OF.values())
    assert not {401, 405, 413, 415, 422, 500, 503} & set(STATUS_OF.values())


def test_it_is_the_contracts_table_the_other_way_round() -> None:
    """A status that H4 turns into a condition comes back, but for what H4 has many of."""
    for condition in ("bad-request", "forbidden", "item-not-found", "conflict", "gone"):
        status = STATUS_OF[condition]
        assert error_of(Rejected(status)).condition == condition
    for status in (406, 429, 501, 504):
        assert STATUS_OF[error_of(Rejected(status)).condition] == status


@pytest.mark.parametrize(
    "error",
    ["", "<error type='x'/>", "<error><odd xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"],
)
def test_an_error_that_is_none(error: str) -> None:
    problem = problem_of(stanza(f"<iq type='error' id='p1' to='{BOT}'>{error}</iq>"))
    assert problem.status == 502
    assert problem.members["error"] in (
        {"condition": "undefined-condition", "type": "cancel", "text": None},
        {"condition": "undefined-condition", "type": "x", "text": None},
    )


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html", "application/json"),
        (XML, XML),
        (f"application/json, {XML}", "application/json"),
        (f"application/json;q=0.5, {XML};q=0.6", XML),
        (f"{XML};q=0.1, */*;q=0.2", "application/json"),
        (f"{XML};q=0", "application/json"),
        (f"{XML};q=nonsense", XML),
    ],
)
async def test_which_form_is_preferred(world: World, accept: str, media: str) -> None:
    world.sender.answer = stanza(f"{HEAD}/>")
    response = await world.post("/v1/stanzas", PING, XML, Accept=accept)
    assert response.headers["content-type"] == media
    assert response.headers["vary"] == "Accept"
