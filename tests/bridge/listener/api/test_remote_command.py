"""The commands of others, run step by step."""

import json
from typing import Any, Final
from urllib.parse import quote

import pytest

from bridge.listener.api.stanza import JSON
from tests.bridge.listener.api.test_stanza import problem
from tests.bridge.listener.conftest import World, bearer
from tests.bridge.listener.fake_sender import BOT
from tests.bridge.sample import meaning, stanza

SERVER: Final = "capulet.example"
NODE: Final = "http://jabber.org/protocol/admin#add-user"
PATH: Final = f"/v1/commands/{SERVER}/{quote(NODE)}"
COMMANDS: Final = "http://jabber.org/protocol/commands"
ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"


def answer(inner: str, attributes: str = "sessionid='s1' status='executing'") -> Any:
    head = f"<iq type='result' id='x' from='{SERVER}' to='{BOT}'>"
    return stanza(
        f"{head}<command xmlns='{COMMANDS}' node='{NODE}' {attributes}>{inner}</command></iq>"
    )


FORM: Final = (
    "<actions execute='complete'><prev/><complete/></actions>"
    "<x xmlns='jabber:x:data' type='form'><title>Add a user</title>"
    "<field var='FORM_TYPE' type='hidden'><value>urn:admin</value></field>"
    "<field var='jid' type='jid-single' label='Address'><required/></field>"
    "<field var='groups' type='list-multi'><value>a</value><value>b</value></field></x>"
)


async def test_a_command_of_two_steps(world: World) -> None:
    world.sender.answer = answer(FORM)
    first = await world.post(PATH, **bearer("asker"), Prefer="wait=9")
    assert first.status_code == 200
    assert first.headers["preference-applied"] == "wait=9"
    value = first.json()
    assert value.pop("seconds") >= 0
    assert value.pop("form")["fields"][1] == {
        "var": "jid",
        "type": "jid-single",
        "label": "Address",
        "required": True,
    }
    assert value == {
        "jid": SERVER,
        "node": NODE,
        "sessionid": "s1",
        "status": "executing",
        "actions": {"execute": "complete", "prev": True, "complete": True},
        "data": {"FORM_TYPE": "urn:admin", "groups": ["a", "b"]},
    }
    world.sender.answer = answer(
        "<note type='info'>Added.</note>", "sessionid='s1' status='completed'"
    )
    data = {**value["data"], "jid": "romeo@capulet.example", "admin": True}
    step = {"action": "complete", "sessionid": "s1", "data": data}
    second = await world.post(PATH, json.dumps(step), JSON, **bearer("asker"))
    assert second.json() | {"seconds": 0} == {
        "jid": SERVER,
        "seconds": 0,
        "node": NODE,
        "sessionid": "s1",
        "status": "completed",
        "note": {"type": "info", "text": "Added."},
    }
    begun, sent = (one.element.elements[0] for one, _, _ in world.sender.asked)
    assert meaning(begun) == meaning(
        stanza(f"<iq><command xmlns='{COMMANDS}' node='{NODE}'/></iq>").element.elements[0]
    )
    assert sent.get("action") == "complete"
    [form] = sent.elements
    assert (form.get("type"), [one.get("var") for one in form.elements]) == (
        "submit",
        ["FORM_TYPE", "groups", "jid", "admin"],
    )
    assert {one.from_ for one, _, _ in world.sender.asked} == {BOT}
    assert {(one.type, one.to) for one, _, _ in world.sender.asked} == {("set", SERVER)}


@pytest.mark.parametrize(
    ("path", "jid", "node"),
    [
        ("a@b%2Fres/list", "a@b/res", "list"),
        ("a@b/http://x/y%23z", "a@b", "http://x/y#z"),
        ("a@b/http%3A%2F%2Fx%2Fy%23z", "a@b", "http://x/y#z"),
        ("moby%5C40sea.example@irc.example/a%20b", "moby\\40sea.example@irc.example", "a b"),
        ("f%C3%BC@b/%C3%BC", "fü@b", "ü"),
    ],
)
async def test_the_place_of_a_command(world: World, path: str, jid: str, node: str) -> None:
    world.sender.answer = answer("")
    response = await world.post(f"/v1/commands/{path}?from={BOT}")
    assert response.json()["node"] == node
    [(asked, _, _)] = world.sender.asked
    assert asked.payload is not None
    assert (asked.to, asked.payload.get("node")) == (jid, node)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ([], "must be a JSON object"),
        ({"node": "x"}, "key 'node' is unknown; known keys: action, sessionid, data"),
        ({"action": "run"}, "action is not one of execute, prev, next, complete, cancel"),
        ({"action": []}, "action is not one of"),
        ({"action": "next"}, "action next without a sessionid"),
        ({"data": {"a": "b"}}, "data without a sessionid"),
        ({"sessionid": 5}, "command.sessionid is not a string"),
        ({"sessionid": "s", "data": []}, "command.data is not an object"),
        ({"sessionid": "s", "data": {"a": {"b": 1}}}, "command.data"),
        ({"sessionid": "s", "data": {"a": "\u0000"}}, None),  # replaced, as in every text
        ({"sessionid": "s", "data": {f"v{n}": "x" for n in range(600)}}, "more than 500"),
    ],
)
async def test_a_step_that_is_not_valid(world: World, step: Any, why: str | None) -> None:
    world.sender.answer = answer("")
    response = await world.post(PATH, json.dumps(step), JSON, **bearer("one"))
    if why is None:
        assert response.status_code == 200
        return
    assert why in problem(response, 422)["detail"]
    assert not world.sender.asked


async def test_who_may_run_one(world: World) -> None:
    problem(await world.post(PATH, **bearer("sender")), 403)
    problem(await world.post(f"{PATH}?from=x@{BOT}", **bearer("other")), 403)
    problem(await world.post(PATH, b"{}", "text/plain", **bearer("one")), 415)
    problem(await world.post(PATH, b"{", JSON, **bearer("one")), 400)
    problem(await world.post("/v1/commands/@/x", **bearer("one")), 422)
    problem(await world.post("/v1/commands/a%FF/x", **bearer("one")), 422)
    problem(await world.post("/v1/commands/a@b/", **bearer("one")), 422)
    problem(await world.post("/v1/commands/a@b", **bearer("one")), 405)
    assert not world.sender.asked


async def test_an_error_says_what_the_command_says(world: World) -> None:
    world.sender.answer = stanza(
        f"<iq type='error' id='x' from='{SERVER}' to='{BOT}'><error type='cancel'>"
        f"<not-allowed xmlns='{ERRORS}'/><session-expired xmlns='{COMMANDS}'/></error></iq>"
    )
    value = problem(await world.post(PATH, b'{"sessionid": "old"}', JSON, **bearer("one")), 403)
    assert value["error"]["application"] == "session-expired"


@pytest.mark.parametrize(
    "inner",
    ["", "<x xmlns='jabber:x:data'/>", "<actions/>" * 3, "<note/>", "<x xmlns='jabber:x:data'>"
     + "".join(f"<field var='v{n}'><value>x</value></field>" for n in range(4_900)) + "</x>"],
    ids=["empty", "form", "actions", "note", "4,900 fields"],
)  # fmt: skip
async def test_what_others_answer(world: World, inner: str) -> None:
    """Whatever comes is described. The stream takes 10,000 elements at most."""
    world.sender.answer = answer(inner, "status='what'")
    value = (await world.post(PATH, **bearer("one"))).json()
    assert value["status"] == "what"
    assert len(value.get("data", {})) == (4_900 if len(inner) > 10_000 else 0)
    world.sender.answer = stanza(f"<iq type='result' id='x' from='{SERVER}' to='{BOT}'><y/></iq>")
    assert "status" not in (await world.post(PATH, **bearer("one"))).json()
