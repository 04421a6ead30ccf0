"""Commands in a whole life: the events that are POSTed, the answers, and what a restart does."""

from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from bridge.config.command import CommandSet, read_register
from bridge.config.settings import (
    Component,
    Count,
    ListenSettings,
    SenderLimits,
    Settings,
    TcpAddress,
)
from bridge.webhook.outcome import NoReply, Outcome, Rejected, Replied
from bridge.xmpp.command.registry import command_of
from bridge.xmpp.command.session import SENDER_LIMIT
from tests.bridge.dispatch.life import BOT, COMPONENT, DONE, Life, Wall, pass_time, said
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import element, meaning, stanza
from xmppstream import Element, Stanza
from xmppstream.names import STANZA_ERRORS, expanded

JULIET: Final = "juliet@capulet.example/balcony"
COMMANDS: Final = "http://jabber.org/protocol/commands"
DATA: Final = "jabber:x:data"
VALIDATE: Final = "http://jabber.org/protocol/xdata-validate"
ORDER: Final = command_of(
    {
        "node": "order",
        "name": "Order",
        "fields": [{"var": "id", "label": "Number", "required": True, "validate": "integer"}],
    }
)
OPEN: Final = command_of({"node": "open", "name": "Open the door", "for": ["capulet.example"]})
REGISTER: Final = read_register({"fields": [{"var": "username", "required": True}]}, print)
SIZE: Final = {"command": {"fields": [{"var": "size", "options": ["s", "l"], "required": True}]}}
SET: Final = CommandSet((ORDER, OPEN), REGISTER)


def life(journal: MemoryJournal | None = None, **keys: Any) -> Life:
    """A life whose service gets messages only, as by default."""
    keys.setdefault("wall", None)
    wall = keys.pop("wall")
    given = {"post_stanzas": frozenset({"message"}), "commands": SET, **keys}
    return Life(journal, component=evolve(COMPONENT, **given), wall=wall)


def run(
    id: str,
    node: str = "order",
    /,
    *,
    session: str = "",
    action: str = "",
    sender: str = JULIET,
    **values: str,
) -> Stanza:
    """A request of a client; `values` are a form that was filled in."""
    about = f" sessionid='{session}'" if session else ""
    about += f" action='{action}'" if action else ""
    fields = (f"<field var='{k}'><value>{v}</value></field>" for k, v in values.items())
    form = f"<x xmlns='{DATA}' type='submit'>{''.join(fields)}</x>" if values else ""
    command = f"<command xmlns='{COMMANDS}' node='{node}'{about}>{form}</command>"
    return stanza(f"<iq type='set' id='{id}' from='{sender}' to='{BOT}'>{command}</iq>")


def text(id: str, body: str, sender: str = JULIET) -> Stanza:
    inner = f"<body>{body}</body>"
    return stanza(f"<message from='{sender}' to='{BOT}' id='{id}' type='chat'>{inner}</message>")


def only(one: Life) -> Stanza:
    """The only stanza that was sent."""
    [sent] = one.sent()
    return sent


def command_in(answer: Stanza) -> Element:
    found = answer.element.find(expanded(COMMANDS, "command"))
    assert found is not None, answer
    return found


def status(answer: Stanza) -> str | None:
    return command_in(answer).get("status")


def session_of(answer: Stanza) -> str:
    return command_in(answer).get("sessionid") or ""


def note(answer: Stanza) -> tuple[str | None, str] | None:
    found = command_in(answer).find(expanded(COMMANDS, "note"))
    return None if found is None else (found.get("type"), found.text)


def asked_for(answer: Stanza) -> dict[str, list[str]]:
    """The fields of the form that is shown, with their values."""
    form = command_in(answer).find(expanded(DATA, "x"))
    assert form is not None
    assert form.get("type") == "form"
    return {
        one.get("var") or "": [v.text for v in one.find_all(expanded(DATA, "value"))]
        for one in form.find_all(expanded(DATA, "field"))
    }


def actions(answer: Stanza) -> tuple[str | None, list[str]] | None:
    found = command_in(answer).find(expanded(COMMANDS, "actions"))
    return None if found is None else (found.get("execute"), [one.local for one in found.elements])


def condition(answer: Stanza) -> list[str]:
    """The type of an error, its condition, and the one of XEP-0050."""
    error = answer.child("error")
    assert error is not None, answer
    names = [one.local for one in error.elements if one.name != expanded(STANZA_ERRORS, "text")]
    return [error.get("type") or "", *names]


def asked(one: Life) -> tuple[str, dict[str, Any]]:
    """The event and the command of the last POST."""
    json = one.endpoint.posts[-1].json
    return json["event"], json["command"]


async def test_a_command_of_two_steps(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(run("1"))
    form = only(one)
    assert (status(form), asked_for(form)) == ("executing", {"id": []})
    assert actions(form) == ("complete", ["complete"])
    session = session_of(form)
    await one.give(run("2", session=session, action="complete", id="many"))
    again = only(one)
    assert (status(again), asked_for(again)) == ("executing", {"id": ["many"]})
    assert note(again) == ("error", "Number: this is not a whole number.")
    assert session_of(again) == session
    assert one.endpoint.posts == []
    await one.give(run("3", session=session, action="complete", id="42"))
    assert asked(one) == (
        "command",
        {"node": "order", "sessionid": session, "action": "complete", "data": {"id": "42"}},
    )
    await one.answer("3", said(SIZE))
    second = only(one)
    assert (second.id, status(second), session_of(second)) == ("3", "executing", session)
    assert actions(second) == ("complete", ["prev", "complete"])
    assert asked_for(second) == {"size": []}
    await one.give(run("4", session=session, action="prev"))
    assert asked_for(only(one)) == {"id": ["42"]}
    await one.give(run("5", session=session, id="43"))
    assert asked(one)[1]["data"] == {"id": "43"}
    await one.answer("5", said(SIZE))
    one.sent()
    await one.give(run("6", session=session, action="complete", size="l"))
    assert asked(one)[1]["data"] == {"id": "43", "size": "l"}
    await one.answer("6", said({"command": {"note": "Ordered."}}))
    end = only(one)
    assert (status(end), note(end), actions(end)) == ("completed", ("info", "Ordered."), None)
    await one.give(run("7", session=session, action="complete", size="l"))
    assert condition(only(one)) == ["cancel", "not-allowed", "session-expired"]
    await one.kill()


async def began(one: Life, node: str = "order", sender: str = JULIET) -> str:
    """Begin a command; return its session."""
    await one.give(run("begin", node, sender=sender))
    return session_of(only(one))


async def test_a_command_without_fields_is_asked_at_once(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(run("1", "open"))
    event, command = asked(one)
    assert (event, command["action"], command["data"]) == ("command", "execute", {})
    await one.answer("1", DONE)
    end = only(one)
    assert (end.type, status(end), note(end)) == ("result", "completed", None)
    assert session_of(end) == command["sessionid"]
    await one.kill()


async def test_a_body_is_a_note_and_other_objects_are_sent(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(run("1", "open"), run("2", "open"))
    await one.answer("1", said([{"body": "It is open."}, {"kind": "message", "body": "Go in."}]))
    end, more = one.sent()
    assert note(end) == ("info", "It is open.")
    assert (more.kind, more.to) == ("message", JULIET)
    await one.answer("2", said({"error": {"condition": "gone", "type": "cancel"}}))
    assert condition(only(one)) == ["cancel", "gone"]
    await one.kill()


async def test_a_table_is_a_result(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    columns = [{"var": "day", "label": "Day"}, "rain"]
    rows = [["Monday", True], ["Tuesday", None], ["Friday", 0.5]]
    await one.give(run("1", "open"), text("2", "/open"))
    for id in ("1", "2"):
        await one.answer(id, said({"command": {"table": {"columns": columns, "rows": rows}}}))
    end, words = one.sent()
    form = command_in(end).find(expanded(DATA, "x"))
    assert form is not None
    assert (status(end), form.get("type")) == ("completed", "result")
    heads = form.find(expanded(DATA, "reported"))
    assert heads is not None
    assert [(one.get("var"), one.get("label")) for one in heads.elements] == [
        ("day", "Day"),
        ("rain", "rain"),
    ]
    items = form.find_all(expanded(DATA, "item"))
    assert ["".join(each.text for f in item.elements for each in f.elements) for item in items] == [
        "Mondaytrue",
        "Tuesday",
        "Friday0.5",
    ]
    body = words.child("body")
    assert body is not None
    assert body.text == "Day | rain\nMonday | true\nTuesday | \nFriday | 0.5"
    await one.kill()


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Rejected(404), "The service has refused this."),
        (Replied("json", b"{"), "The service has failed."),
        (RuntimeError("a bug"), "The service has failed."),
        (said({"command": {"fields": [{"type": "text-single"}]}}), "The service has failed."),
        (said({"command": {"fields": [{"var": str(n)} for n in range(101)]}}), "The service has"),
        (said({"command": {"table": {"columns": ["a"], "rows": [[1, 2]]}}}), "The service has"),
        (said({"command": "order"}), "The service has failed."),
        (said([{"command": {"note": "a"}}, {"command": {"note": "b"}}]), "The service has failed."),
        (said({"command": {"note": "a", "form": {"type": "x"}}}), "The service has failed."),
        (Replied("ndjson", b'{"append": "a stream"}\n'), "The service has failed."),
    ],
)
async def test_a_failure_completes_the_command(
    nursery: trio.Nursery, outcome: Outcome | Exception, words: str
) -> None:
    one = life()
    await nursery.start(one.run)
    session = await began(one)
    await one.give(run("1", session=session, id="42"))
    await one.answer("1", outcome)
    end = only(one)
    assert (end.type, status(end)) == ("result", "completed")
    found = note(end)
    assert found is not None
    assert found[0] == "error"
    assert found[1].startswith(words)
    assert len(one.pipeline.commands.sessions) == 0
    await one.kill()


async def test_an_endpoint_that_is_down_is_told_within_the_budget(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one = life()
    await nursery.start(one.run)
    session = await began(one)
    await one.give(run("1", session=session, id="42"))
    await pass_time(60)
    end = only(one)
    assert (status(end), note(end)) == (
        "completed",
        ("error", "The service has not answered in time."),
    )
    await one.kill()


async def test_cancel(nursery: trio.Nursery) -> None:
    """The service is told only of what it knows."""
    one = life()
    await nursery.start(one.run)
    session = await began(one)
    await one.give(run("1", session=session, action="cancel"))
    assert status(only(one)) == "canceled"
    assert one.endpoint.posts == []
    session = await began(one)
    await one.give(run("2", session=session, id="42"))
    await one.answer("2", said(SIZE))
    one.sent()
    await one.give(run("3", session=session, action="cancel"))
    event, command = asked(one)
    assert (event, command["action"], command["data"]) == ("command", "cancel", {"id": "42"})
    await one.answer("3", said({"command": {"note": "Nothing is ordered."}}))
    end = only(one)
    assert (status(end), note(end)) == ("canceled", ("info", "Nothing is ordered."))
    await one.kill()


async def test_a_reply_after_cancel_begins_no_step(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    session = await began(one)
    await one.give(run("1", session=session, id="42"))
    await one.give(run("2", session=session, id="42"))
    assert condition(only(one)) == ["wait", "resource-constraint"]  # the step is not answered yet
    await one.give(run("3", session=session, action="cancel"))
    await one.answer("1", said(SIZE))
    await one.answer("3")
    assert [(end.id, status(end)) for end in one.sent()] == [("1", "canceled"), ("3", "canceled")]
    assert len(one.pipeline.commands.sessions) == 0
    await one.kill()


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (run("1", action="next"), ["modify", "bad-request", "bad-sessionid"]),
        (run("1", action="jump"), ["modify", "bad-request", "malformed-action"]),
        (run("1", session="mine", id="4"), ["modify", "bad-request", "bad-sessionid"]),
        (run("1", session="c" + "0" * 24), ["cancel", "not-allowed", "session-expired"]),
        (run("1", "open", sender="eve@example.com/x"), ["auth", "forbidden"]),
        (run("1", "none"), ["cancel", "service-unavailable"]),
    ],
)
async def test_requests_that_are_refused(
    nursery: trio.Nursery, request_: Stanza, found: list[str]
) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(request_)
    assert condition(only(one)) == found
    await one.kill()


async def test_a_session_belongs_to_the_full_address_that_began_it(nursery: trio.Nursery) -> None:
    """Two people who run one command do not meet."""
    one = life()
    await nursery.start(one.run)
    hers = await began(one)
    his = await began(one, sender="romeo@montague.example/garden")
    assert hers != his
    for sender in ("romeo@montague.example/garden", "juliet@capulet.example/phone"):
        await one.give(run("1", session=hers, id="1", sender=sender))
        assert condition(only(one)) == ["cancel", "not-allowed", "session-expired"]
    await one.give(run("2", session=hers, id="1"))
    await one.give(run("3", session=his, id="2", sender="romeo@montague.example/garden"))
    assert [post.json["command"]["data"] for post in one.endpoint.posts] == [
        {"id": "1"},
        {"id": "2"},
    ]
    await one.kill()


async def test_the_first_step_has_none_before_it(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    session = await began(one)
    await one.give(run("1", session=session, action="prev"))
    assert condition(only(one)) == ["modify", "bad-request", "bad-action"]
    await one.give(run("2", session=session, action="complete"))
    assert note(only(one)) == ("error", "Number: this is required.")
    await one.kill()


async def test_a_session_expires_after_ten_minutes(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    session = await began(one)
    one.wall.shift_s = 599
    await one.give(run("1", session=session, id="x"))  # a step, so ten minutes from now
    assert status(only(one)) == "executing"
    one.wall.shift_s = 1199
    await one.give(run("2", session=session, id="42"))
    assert condition(only(one)) == ["cancel", "not-allowed", "session-expired"]
    assert one.state.entries("command_session") == {}
    await one.kill()


async def test_a_restart_between_two_steps(nursery: trio.Nursery) -> None:
    journal, wall = MemoryJournal(), Wall()
    one = life(journal, wall=wall)
    await nursery.start(one.run)
    session = await began(one)
    await one.give(run("1", session=session, id="42"))
    await one.answer("1", said(SIZE))
    assert asked_for(only(one)) == {"size": []}
    await one.give(text("t1", "/order"))
    one.sent()
    await one.kill()
    two = life(journal, wall=wall)
    await nursery.start(two.run)
    await two.give(run("2", session=session, size="l"))
    assert asked(two)[1]["data"] == {"id": "42", "size": "l"}
    await two.give(text("t2", "7"))
    assert asked(two)[1]["data"] == {"id": "7"}
    await two.kill()  # while both POSTs run
    three = life(journal, wall=wall)
    await nursery.start(three.run)
    await pass_time(0)
    assert sorted(three.endpoint.ids) == ["2", "t2"]
    assert {post.json["event"] for post in three.endpoint.posts} == {"command"}
    await three.answer("2", said({"command": {"note": "Ordered."}}))
    assert note(only(three)) == ("info", "Ordered.")
    await three.answer("t2", said({"command": {"note": "Ordered."}}))
    assert only(three).kind == "message"
    assert len(three.pipeline.commands.sessions) == 0
    await three.kill()


async def test_a_sender_has_five_sessions(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    sessions = [await began(one) for _ in range(6)]
    assert len(one.pipeline.commands.sessions) == SENDER_LIMIT
    await one.give(run("1", session=sessions[0], id="1"))
    assert condition(only(one)) == ["cancel", "not-allowed", "session-expired"]
    await one.give(run("2", session=sessions[1], id="1"))
    assert asked(one)[1]["sessionid"] == sessions[1]
    await one.kill()


async def test_sessions_of_all_are_bounded(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.xmpp.command.session.LIMIT", 3)
    one = life()
    await nursery.start(one.run)
    for number in range(3):
        await began(one, sender=f"s{number}@example.com/x")
    await one.give(run("1", sender="honest@example.com/x"))
    assert condition(only(one)) == ["wait", "resource-constraint"]
    await one.give(text("2", "/order", sender="honest@example.com/x"))
    assert said_to(one) == "Too many commands are under way here; try again later."
    one.wall.shift_s = 601
    await began(one, sender="honest@example.com/x")
    await one.kill()


async def test_a_form_of_very_many_fields_is_refused(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    session = await began(one)
    many = {f"f{number}": "x" for number in range(4_000)}  # the stream takes no more
    await one.give(run("1", session=session, **many))
    assert condition(only(one)) == ["modify", "bad-request", "bad-payload"]
    await one.give(run("2", session=session, id="1" * 5_000))
    assert note(only(one)) == ("error", "Number: this is too long.")
    await one.give(run("3", session=session, id="4", other="x"))  # what is unknown is left out
    assert asked(one)[1]["data"] == {"id": "4"}
    await one.kill()


async def test_who_sends_too_much_cannot_go_on(nursery: trio.Nursery) -> None:
    one = life()
    one.pipeline.admission.limiter.change(SenderLimits(max_waiting=Count(1)))
    await nursery.start(one.run)
    session = await began(one)
    await one.give(run("1", "open"), run("2", session=session, id="4"))
    assert condition(only(one)) == ["wait", "resource-constraint"]
    await one.answer("1")
    one.sent()
    await one.give(run("3", session=session, id="4"))
    assert asked(one)[1]["data"] == {"id": "4"}
    await one.kill()


async def test_what_is_no_command_is_as_before(nursery: trio.Nursery) -> None:
    """Without configured commands, a service gets what it got; and with them, other nodes."""
    for commands in (CommandSet(), SET):
        one = life(commands=commands, post_stanzas=frozenset({"iq", "message"}))
        await nursery.start(one.run)
        await one.give(run("1", "weather", action="next", city="Rome"))
        event, command = asked(one)
        assert event == "command"
        assert command["form"]["type"] == "submit"
        assert command["data"] == {"city": "Rome"}
        await one.answer("1", said({"command": {"note": "It rains."}}))
        assert session_of(only(one)) == "1"
        await one.kill()


# --- service discovery


def ask(id: str, name: str, node: str = "", sender: str = JULIET) -> Stanza:
    about = f" node='{node}'" if node else ""
    query = f"<query xmlns='http://jabber.org/protocol/disco#{name}'{about}/>"
    return stanza(f"<iq type='get' id='{id}' from='{sender}' to='{BOT}'>{query}</iq>")


def listed(answer: Stanza, local: str, attribute: str) -> list[str | None]:
    assert answer.payload is not None
    return [one.get(attribute) for one in answer.payload.elements if one.local == local]


async def test_commands_are_listed_for_those_who_may_use_them(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(ask("1", "items", COMMANDS), ask("2", "items", COMMANDS, "eve@example.com/x"))
    hers, his = one.sent()
    assert listed(hers, "item", "node") == ["order", "open"]
    assert listed(hers, "item", "name") == ["Order", "Open the door"]
    assert listed(hers, "item", "jid") == [BOT, BOT]
    assert listed(his, "item", "node") == ["order"]
    await one.give(ask("3", "info"), ask("4", "info", COMMANDS), ask("5", "info", "order"))
    info, list_, node = one.sent()
    assert {COMMANDS, DATA, "jabber:iq:register"} <= set(listed(info, "feature", "var"))
    assert listed(list_, "identity", "type") == ["command-list"]
    assert listed(node, "identity", "type") == ["command-node"]
    assert listed(node, "feature", "var") == [COMMANDS, DATA]
    await one.give(ask("6", "info", "open", "eve@example.com/x"))
    assert condition(only(one)) == ["cancel", "item-not-found"]
    await one.kill()


async def test_without_commands_nothing_is_said_of_them(nursery: trio.Nursery) -> None:
    one = life(commands=CommandSet())
    await nursery.start(one.run)
    await one.give(ask("1", "info"), ask("2", "items", COMMANDS))
    info, items = one.sent()
    assert {COMMANDS, "jabber:iq:register"}.isdisjoint(listed(info, "feature", "var"))
    assert listed(items, "item", "node") == []
    await one.kill()


# --- as text


def said_to(one: Life) -> str:
    """The body of the only message that was sent."""
    body = only(one).child("body")
    assert body is not None
    return body.text


async def test_a_command_as_text(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(text("1", "/order 42"))
    event, command = asked(one)
    assert event == "command"
    assert command.pop("sessionid")
    assert command == {"node": "order", "action": "complete", "data": {"id": "42"}}
    assert one.endpoint.posts[0].json["body"] == "/order 42"
    await one.answer("1", said({"command": {"note": {"type": "warn", "text": "Ordered."}}}))
    assert said_to(one) == "Ordered."
    await one.give(text("2", "/Order id=43"))
    assert asked(one)[1]["data"] == {"id": "43"}
    await one.answer("2", said({"body": "Yes."}))
    assert said_to(one) == "Yes."
    assert len(one.pipeline.commands.sessions) == 0
    await one.kill()


async def test_what_is_missing_is_asked_for_in_words(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(text("1", "/order"))
    assert said_to(one) == "Number?"
    await one.give(text("2", "many"))
    assert said_to(one) == "Number: this is not a whole number.\nNumber?"
    await one.give(text("3", "42"))
    assert asked(one)[1]["data"] == {"id": "42"}
    await one.answer("3", said(SIZE))
    assert said_to(one) == "size?\n1. s\n2. l"
    await one.give(text("4", "2"))
    assert asked(one)[1]["data"] == {"id": "42", "size": "l"}
    await one.answer("4", said({"command": {"note": "Ordered."}}))
    assert said_to(one) == "Ordered."
    await one.give(text("5", "42"))
    assert one.endpoint.posts[-1].json["event"] == "message"
    await one.kill()


async def test_a_question_ends_with_another_command_or_after_ten_minutes(
    nursery: trio.Nursery,
) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(text("1", "/order"), text("2", "/open"))
    assert said_to(one) == "Number?"
    await one.answer("2")
    await one.give(text("3", "42"))
    assert one.endpoint.posts[-1].json["event"] == "message"
    await one.answer("3")
    await one.give(text("4", "/order"), text("5", "/cancel"), text("6", "/cancel"))
    assert [body.text for sent in one.sent() if (body := sent.child("body"))] == [
        "Number?",
        "Canceled.",
    ]
    assert one.endpoint.posts[-1].json["body"] == "/cancel"  # nothing is asked: a message
    await one.answer("6")
    await one.give(text("7", "/order"))
    one.sent()
    one.wall.shift_s = 600
    await one.give(text("8", "42"))
    assert one.endpoint.posts[-1].json["event"] == "message"
    await one.kill()


async def test_help(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(text("1", "/help"))
    assert said_to(one) == "/order <id>: Order\n/open: Open the door"
    await one.give(text("2", "/help", sender="eve@example.com/x"))
    assert said_to(one) == "/order <id>: Order"
    await one.kill()


@pytest.mark.parametrize("body", ["/me waves", "/tmp is full", "/", "order 42", "/order 1 2"])
async def test_other_texts_are_messages(nursery: trio.Nursery, body: str) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(text("1", body))
    if body == "/order 1 2":
        assert said_to(one) == "These are too many words. Write: /order <id>"
    else:
        assert one.endpoint.posts[0].json["event"] == "message"
    await one.kill()


async def test_what_somebody_does_is_no_command(nursery: trio.Nursery) -> None:
    """Even if a command has the name that XEP-0245 has taken."""
    one = life(commands=CommandSet((command_of({"node": "me"}),)))
    await nursery.start(one.run)
    await one.give(text("1", "/me waves"))
    assert one.endpoint.posts[0].json["event"] == "message"
    await one.kill()


async def test_who_may_not_use_a_command_sends_a_message(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(text("1", "/open", sender="eve@example.com/x"))
    assert one.endpoint.posts[0].json["event"] == "message"
    await one.kill()


async def test_text_can_be_off_or_have_another_prefix(nursery: trio.Nursery) -> None:
    for commands, body, event in (
        (CommandSet((OPEN,), text=False), "/open", "message"),
        (CommandSet((OPEN,), prefix="!"), "/open", "message"),
        (CommandSet((OPEN,), prefix="!"), "!open", "command"),
    ):
        one = life(commands=commands)
        await nursery.start(one.run)
        await one.give(text("1", body))
        assert one.endpoint.posts[0].json["event"] == event
        await one.kill()


async def test_a_room_has_no_text_commands(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    private = "<x xmlns='http://jabber.org/protocol/muc#user'/><body>/order 1</body>"
    room = "r@rooms.capulet.example/nick"
    for id, type, inner in (("1", "groupchat", "<body>/order 1</body>"), ("2", "chat", private)):
        xml = f"<message from='{room}' to='{BOT}' id='{id}' type='{type}'>{inner}</message>"
        await one.give(stanza(xml))
        await one.answer(id)
    assert [post.json["event"] for post in one.endpoint.posts] == ["message", "message"]
    await one.kill()


async def test_a_command_of_a_stranger_in_a_message_is_not_believed(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    forged = f"<command xmlns='{COMMANDS}' node='open'/><body>%s</body>"
    for id, body in (("1", "hello"), ("2", "/order 42")):
        xml = f"<message from='{JULIET}' to='{BOT}' id='{id}' type='chat'>{forged % body}</message>"
        await one.give(stanza(xml))
        await one.answer(id)
    first, second = (post.json for post in one.endpoint.posts)
    assert ("command" in first, first["event"]) == (False, "message")
    assert second["command"]["node"] == "order"
    await one.kill()


async def test_a_failure_of_a_text_is_told_as_for_any_message(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(text("1", "/order 42"))
    await one.answer("1", Rejected(404))
    assert condition(only(one)) == ["cancel", "item-not-found"]
    assert len(one.pipeline.commands.sessions) == 0
    await one.kill()


# --- registration


def register(id: str, inner: str = "", type: str = "set") -> Stanza:
    query = f"<query xmlns='jabber:iq:register'>{inner}</query>"
    return stanza(f"<iq type='{type}' id='{id}' from='{JULIET}' to='{BOT}'>{query}</iq>")


def filled(**values: str) -> str:
    fields = (f"<field var='{k}'><value>{v}</value></field>" for k, v in values.items())
    return f"<x xmlns='{DATA}' type='submit'>{''.join(fields)}</x>"


async def test_registration(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    await one.give(register("1", type="get"))
    payload = only(one).payload
    assert payload is not None
    assert [one.local for one in payload.elements] == ["instructions", "username", "x"]
    await one.give(register("2", filled(username=" ")))
    assert condition(only(one)) == ["modify", "not-acceptable"]
    await one.give(register("3", filled(username="juliet")))
    event, command = asked(one)
    assert (event, command["action"]) == ("register", "register")
    assert (command["node"], command["data"]) == ("register", {"username": "juliet"})
    no = {"command": {"note": {"type": "error", "text": "That name is taken."}}}
    await one.answer("3", said(no))
    refused = only(one)
    assert condition(refused) == ["modify", "not-acceptable"]
    await one.give(register("4", "<username>juliet2</username>"))  # a client without forms
    assert asked(one)[1]["action"] == "register"
    assert asked(one)[1]["data"] == {"username": "juliet2"}
    await one.answer("4", said({"command": {"note": "Welcome."}}))
    done, welcome = one.sent()
    assert (done.type, done.payload, welcome.kind) == ("result", None, "message")
    await one.give(register("5", type="get"))
    payload = only(one).payload
    assert payload is not None
    assert payload.elements[0].local == "registered"
    await one.give(register("6", filled(username="julia")))
    assert asked(one)[1]["action"] == "change"
    await one.answer("6")
    assert only(one).type == "result"
    await one.give(register("7", "<remove/>"))
    assert asked(one)[1]["action"] == "remove"
    await one.answer("7", Rejected(403))
    assert only(one).type == "error"
    await one.give(register("8", "<remove/>"))
    await one.answer("8")
    assert only(one).type == "result"
    assert one.state.entries("registered") == {}
    await one.kill()


async def test_without_a_form_registration_is_as_before(nursery: trio.Nursery) -> None:
    one = life(commands=CommandSet((OPEN,)))
    await nursery.start(one.run)
    await one.give(register("1", type="get"), register("2", "<remove/>"))
    assert [one.type for one in one.sent()] == ["error", "error"]
    assert one.endpoint.posts == []
    await one.kill()


async def test_a_form_tells_all_that_clients_show(nursery: trio.Nursery) -> None:
    """Also those that show no notes with a form, and no names in place of labels."""
    fields = [
        {"var": "when", "desc": "The first day", "validate": "date"},
        {"var": "many", "validate": {"min": 1}, "value": 2, "required": True},
        {"var": "code", "validate": {"regex": "[A-Z]{3}"}},
        {"var": "size", "options": ["s", {"value": "l", "label": "large"}], "value": "l"},
        {"var": "tags", "type": "list-multi", "options": ["a", "b"], "value": ["a", "b"]},
        {"var": "key", "type": "hidden", "value": "k"},
        {"type": "fixed", "value": "Read this."},
    ]
    one = life(commands=CommandSet((command_of({"node": "order", "fields": fields}),)))
    await nursery.start(one.run)
    await one.give(run("1"))
    form = only(one)
    assert meaning(command_in(form).elements[1]) == meaning(
        element(
            f"<x xmlns='{DATA}' type='form'><title>order</title>"
            "<field var='when' type='text-single' label='when'><desc>The first day</desc>"
            f"<validate xmlns='{VALIDATE}' datatype='xs:date'><basic/></validate></field>"
            "<field var='many' type='text-single' label='many'><required/><value>2</value>"
            f"<validate xmlns='{VALIDATE}' datatype='xs:integer'><range min='1'/></validate>"
            "</field>"
            "<field var='code' type='text-single' label='code'>"
            f"<validate xmlns='{VALIDATE}' datatype='xs:string'><regex>[A-Z]{{3}}</regex>"
            "</validate></field>"
            "<field var='size' type='list-single' label='size'><value>l</value>"
            "<option label='s'><value>s</value></option>"
            "<option label='large'><value>l</value></option></field>"
            "<field var='tags' type='list-multi' label='tags'><value>a</value><value>b</value>"
            "<option label='a'><value>a</value></option>"
            "<option label='b'><value>b</value></option></field>"
            "<field var='key' type='hidden'><value>k</value></field>"
            "<field type='fixed'><value>Read this.</value></field></x>"
        )
    )
    session = session_of(form)
    await one.give(run("2", session=session, when="soon", many="0", code="x", size="xl"))
    again = only(one)
    found = note(again)
    assert found == (
        "error",
        "when: this is not a date such as 2026-06-30.\nmany: this is less than 1.\n"
        "code: this does not have the right form.\nsize: choose one of the options.",
    )
    shown = command_in(again).find(expanded(DATA, "x"))
    assert shown is not None
    told = [one.text for one in shown.find_all(expanded(DATA, "instructions"))]
    assert told == found[1].splitlines()
    await one.give(run("3", session=session, when="", many="3", tags="b", key="forged"))
    assert asked(one)[1]["data"] == {"many": "3", "tags": ["b"], "key": "k"}
    await one.kill()


async def test_a_command_is_answered_at_once(nursery: trio.Nursery) -> None:
    """Its session goes on by the reply, so there is no `reply_url`."""
    listen = ListenSettings(TcpAddress("127.0.0.1", 0), (), public_url="https://b.example")
    component = evolve(COMPONENT, commands=SET)
    one = Life(component=component, listen=listen)
    await nursery.start(one.run)
    await one.give(text("1", "hello"), run("2", "open"))
    assert {id: "reply_url" in one.endpoint.of(id)[0].json for id in ("1", "2")} == {
        "1": True,
        "2": False,
    }
    await one.answer("2", NoReply(deferred=True))
    assert status(only(one)) == "completed"
    assert len(one.pipeline.commands.sessions) == 0
    await one.kill()


async def test_so_many_people_are_known_to_be_registered(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that, the service decides what is a change."""
    monkeypatch.setattr("bridge.xmpp.command.registration.LIMIT", 2)
    one = life()
    await nursery.start(one.run)
    people = [f"p{number}@example.com/x" for number in range(3)]
    for id, sender in enumerate((*people, people[0], people[2])):
        asks = register(str(id), filled(username="u")).element.with_attributes(from_=sender)
        await one.give(Stanza(asks))
        await one.answer(str(id))
    actions_ = [post.json["command"]["action"] for post in one.endpoint.posts]
    assert actions_ == ["register", "register", "register", "change", "register"]
    assert list(one.state.entries("registered")) == ["p0@example.com", "p1@example.com"]
    await one.kill()


async def test_a_reload_changes_commands_but_no_session(nursery: trio.Nursery) -> None:
    one = life()
    await nursery.start(one.run)
    session, gone = await began(one), await began(one)
    other = command_of({"node": "order", "fields": [{"var": "x", "required": True}]})
    component = evolve(COMPONENT, post_stanzas=frozenset(), commands=CommandSet((other,)))

    def reload(component: Component) -> None:
        one.pipeline.change(component, Settings((component,)), one.endpoint, moved=False)

    reload(component)
    await one.give(ask("1", "items", COMMANDS), run("2", session=session, id="4"), run("3"))
    items, form = one.sent()
    assert listed(items, "item", "node") == ["order"]
    assert asked(one)[1]["data"] == {"id": "4"}
    assert asked_for(form) == {"x": []}
    reload(evolve(component, commands=CommandSet()))
    await one.give(ask("4", "info"), run("5", session=gone, id="4"))
    info, refused = one.sent()
    assert COMMANDS not in listed(info, "feature", "var")
    assert condition(refused) == ["cancel", "service-unavailable"]
    await one.answer("2")
    assert status(only(one)) == "completed"
    await one.kill()


async def test_a_text_to_confirm_is_shown(nursery: trio.Nursery) -> None:
    sure = {"node": "sure", "fields": [{"type": "fixed", "value": "Are you sure?"}]}
    hidden = {"node": "hidden", "fields": [{"var": "v", "type": "hidden", "value": "1"}]}
    one = life(commands=CommandSet((command_of(sure), command_of(hidden))))
    await nursery.start(one.run)
    await one.give(run("1", "sure"))
    form = only(one)
    assert asked_for(form) == {"": ["Are you sure?"]}
    await one.give(run("2", "sure", session=session_of(form)), run("3", "hidden"))
    posted = [one.endpoint.of(id)[0].json["command"] for id in ("2", "3")]
    assert [(each["action"], each["data"]) for each in posted] == [
        ("complete", {}),
        ("execute", {"v": "1"}),
    ]
    await one.kill()
