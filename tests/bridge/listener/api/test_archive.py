"""Pages of an archive: what is asked, what is told, and archives that lie or flood."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from bridge.xmpp.archive import PAGES_LIMIT
from tests.bridge.listener.api.test_stanza import problem
from tests.bridge.listener.conftest import World, bearer
from tests.bridge.listener.fake_sender import BOT
from tests.bridge.sample import meaning, stanza
from xmppstream import Stanza

ROOM: Final = "coven@chat.example"
PATH: Final = f"/v1/archive/{ROOM}"
MAM: Final = "urn:xmpp:mam:2"
ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
FIN: Final = (
    f"<fin xmlns='{MAM}' complete='true'><set xmlns='http://jabber.org/protocol/rsm'>"
    "<first index='0'>a1</first><last>a2</last><count>2</count></set></fin>"
)
FIRST: Final = (
    "<delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>"
    f"<message xmlns='jabber:client' from='{ROOM}/nurse' id='m1' type='groupchat' xml:lang='en'>"
    "<body>Hi</body></message>"
)
SECOND: Final = (
    "<delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:09:32Z'/>"
    f"<message xmlns='jabber:client' from='{ROOM}/witch' type='groupchat'>"
    "<reactions xmlns='urn:xmpp:reactions:0' id='a1'><reaction>👍</reaction></reactions></message>"
)


def fin(inner: str = FIN) -> Stanza:
    return stanza(f"<iq type='result' id='x' from='{ROOM}' to='{BOT}'>{inner}</iq>")


def result(queryid: str, inner: str, id: str = "a1", from_: str = ROOM, to: str = BOT) -> Stanza:
    return stanza(
        f"<message from='{from_}' to='{to}'><result xmlns='{MAM}' queryid='{queryid}' id='{id}'>"
        f"<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded></result></message>"
    )


def queryid_of(query: Stanza) -> str:
    assert query.payload is not None
    return query.payload.get("queryid") or ""


def answers(
    world: World, make: Callable[[str], list[Stanza]], weight_bytes: int = 100
) -> list[bool]:
    """Have an archive answer; the list says of each message whether it was taken."""
    taken: list[bool] = []

    def meanwhile(query: Stanza) -> None:
        for one in make(queryid_of(query)):
            taken.append(world.sender.archives.take(one, weight_bytes))

    world.sender.meanwhile = meanwhile
    world.sender.answer = fin()
    return taken


async def test_a_page(world: World) -> None:
    taken = answers(world, lambda id: [result(id, FIRST), result(id, SECOND, "a2")])
    response = await world.get(PATH, Prefer="wait=9", **bearer("asker"))
    assert response.status_code == 200, response.text
    assert response.headers["preference-applied"] == "wait=9"
    assert taken == [True, True]
    value = response.json()
    assert value.pop("seconds") >= 0
    first, second = value.pop("messages")
    assert value == {"jid": ROOM, "first": "a1", "last": "a2", "count": 2, "complete": True}
    assert first == {
        "archive_id": "a1",
        "timestamp": "2010-07-10T23:08:25Z",
        "from": f"{ROOM}/nurse",
        "from_local": "coven",
        "from_domain": "chat.example",
        "from_resource": "nurse",
        "kind": "message",
        "id": "m1",
        "type": "groupchat",
        "event": "message",
        "body": "Hi",
        "text": "Hi",
        "ref": "a1",
        "lang": "en",
        "stanza": f"<message from='{ROOM}/nurse' id='m1' type='groupchat' xml:lang='en'>"
        "<body>Hi</body></message>",
    }
    assert (second["event"], second["reactions"]) == ("reaction", {"id": "a1", "reactions": ["👍"]})
    assert not world.sender.archives.is_any


async def test_what_is_asked(world: World) -> None:
    answers(world, lambda _: [])
    query = "with=juliet@capulet.example&start=2010-06-07T00:00:00Z&end=2010-07-07T00:00:00Z"
    response = await world.get(f"{PATH}?{query}&after=a0&max=7", **bearer("one"))
    assert response.json() | {"seconds": 0} == {
        "jid": ROOM, "seconds": 0, "messages": [], "complete": True, "first": "a1", "last": "a2",
        "count": 2,
    }  # fmt: skip
    [(asked, _, key)] = world.sender.asked
    assert (asked.type, asked.to, asked.from_, key) == ("set", ROOM, BOT, None)
    assert asked.payload is not None
    expected = (
        f"<query xmlns='{MAM}' queryid='{queryid_of(asked)}'>"
        "<x xmlns='jabber:x:data' type='submit'>"
        f"<field var='FORM_TYPE'><value>{MAM}</value></field>"
        "<field var='with'><value>juliet@capulet.example</value></field>"
        "<field var='start'><value>2010-06-07T00:00:00Z</value></field>"
        "<field var='end'><value>2010-07-07T00:00:00Z</value></field></x>"
        "<set xmlns='http://jabber.org/protocol/rsm'><after>a0</after><max>7</max></set></query>"
    )
    assert meaning(asked.payload) == meaning(stanza(f"<iq>{expected}</iq>").element.elements[0])


async def test_the_last_page(world: World) -> None:
    answers(world, lambda _: [])
    await world.get(f"{PATH}?before=", **bearer("one"))
    await world.get(f"{PATH}?before=a9&from=bot@{BOT}", **bearer("one"))
    for (asked, _, _), before in zip(world.sender.asked, ("", "a9"), strict=True):
        assert asked.payload is not None
        [page] = asked.payload.elements
        assert [(one.local, one.text) for one in page.elements] == [
            ("before", before),
            ("max", "50"),
        ]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("max=0", "max: not a number from 1 to 500"),
        ("max=501", "max: not a number"),
        ("max=-1", "max: not a number"),
        ("max=1e2", "max: not a number"),
        ("start=yesterday", "start is not a time"),
        ("end=2010", "end is not a time"),
        ("with=@", "with: not a valid address"),
        ("after=a&before=b", "after and before exclude each other"),
        ("after=a&before=", "after and before exclude each other"),
        ("node=%00", "character"),
    ],
)
async def test_a_query_that_is_not_valid(world: World, query: str, why: str) -> None:
    assert why in problem(await world.get(f"{PATH}?{query}", **bearer("one")), 422)["detail"]
    assert not world.sender.asked


async def test_who_may_ask(world: World) -> None:
    problem(await world.get(PATH, **bearer("sender")), 403)
    problem(await world.get(f"{PATH}?from=x@{BOT}", **bearer("other")), 403)
    problem(await world.get("/v1/archive/@", **bearer("one")), 422)
    problem(await world.get("/v1/archive/", **bearer("one")), 422)


async def test_only_the_archive_that_was_asked_can_answer(world: World) -> None:
    other = "00000000"
    taken = answers(
        world,
        lambda id: [
            result(id, FIRST, from_="mallory@chat.example"),
            result(id, FIRST, from_=f"{ROOM}/nurse"),
            result(id, FIRST, from_="chat.example"),
            result(id, FIRST, to=f"other@{BOT}"),
            result(other, FIRST),
            result("", FIRST),
            stanza(f"<message from='{ROOM}' to='{BOT}'><body>x</body></message>"),
            stanza(f"<presence from='{ROOM}' to='{BOT}'><result xmlns='{MAM}' queryid='{id}'/>"
                   "</presence>"),
            result(id, FIRST, from_="Coven@Chat.Example"),
        ],
    )  # fmt: skip
    value = (await world.get(PATH, **bearer("one"))).json()
    assert taken == [False] * 8 + [True]
    assert len(value["messages"]) == 1


@pytest.mark.parametrize(("count", "weight_bytes"), [(8, 100), (1000, 100), (7, 1024 * 1024)])
async def test_an_archive_that_floods(world: World, count: int, weight_bytes: int) -> None:
    taken = answers(world, lambda id: [result(id, FIRST)] * count, weight_bytes)
    value = problem(await world.get(f"{PATH}?max=7", **bearer("one")), 502)
    assert "sent more than was asked for, 7 messages" in value["detail"]
    assert taken == [True] * count  # taken, and so not POSTed, but not kept
    assert not world.sender.archives.is_any


@pytest.mark.parametrize(
    "inner",
    ["", "<message xmlns='other'/>", "<iq xmlns='jabber:client'/>",
     "<delay xmlns='urn:xmpp:delay' stamp='never'/>"],
)  # fmt: skip
async def test_results_without_a_message_are_left_out(world: World, inner: str) -> None:
    answers(world, lambda id: [result(id, inner), result(id, SECOND, "a2")])
    [one] = (await world.get(PATH, **bearer("one"))).json()["messages"]
    assert one["archive_id"] == "a2"


async def test_an_end_that_says_nothing(world: World) -> None:
    for end in ("", "<fin xmlns='urn:xmpp:mam:2'/>", "<x/>"):
        answers(world, lambda id: [result(id, FIRST, "b1"), result(id, SECOND, "b2")])
        world.sender.answer = fin(end)
        value: dict[str, Any] = (await world.get(PATH, **bearer("one"))).json()
        assert (value["first"], value["last"], value["complete"]) == ("b1", "b2", False)
        assert "count" not in value


@pytest.mark.parametrize(
    ("condition", "status", "is_hinted"),
    [("forbidden", 403, True), ("item-not-found", 404, True), ("service-unavailable", 502, True),
     ("bad-request", 400, False), ("resource-constraint", 429, False)],
)  # fmt: skip
async def test_a_closed_archive(world: World, condition: str, status: int, is_hinted: bool) -> None:
    world.sender.answer = stanza(
        f"<iq type='error' id='x' from='{ROOM}' to='{BOT}'><error type='auth'>"
        f"<{condition} xmlns='{ERRORS}'/></error></iq>"
    )
    value = problem(await world.get(PATH, **bearer("one")), status)
    assert value["type"].endswith(f":remote:{condition}")
    assert ("to that person alone" in value["detail"]) == is_hinted
    assert value["error"]["condition"] == condition
    assert not world.sender.archives.is_any


async def test_too_many_at_a_time(world: World) -> None:
    world.sender.answer = fin()
    query = stanza(f"<iq type='set' id='q' to='{ROOM}' from='{BOT}'/>")
    archives = world.sender.archives
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.xmpp.archive.PAGES_LIMIT", 1)
        with archives.collecting(query, "other", 1):
            value = problem(await world.get(PATH, **bearer("one")), 503)
            assert "too many archives" in value["detail"]
    assert (await world.get(PATH, **bearer("one"))).status_code == 200
    assert PAGES_LIMIT == 16
