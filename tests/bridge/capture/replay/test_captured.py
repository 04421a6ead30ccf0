"""`replay --answers captured`, by its command: what was, again, and the same each time."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from bridge.capture.exchange import CHANNEL, HttpExchange, encode
from bridge.capture.format import IN, LINK, OUT
from bridge.cli.main import main
from bridge.webhook.observer import PostAnswer, PostFailure
from tests.bridge.capture.replay.maker import (
    CLOSE,
    DATE,
    DOMAIN,
    HEADER,
    OURS,
    Script,
    conversation,
    error,
    message,
    reply,
)

FIXTURES = Path(__file__).parents[4] / "fixtures"
CAPTURES = sorted([*FIXTURES.glob("prosody/*.xcap*"), *FIXTURES.glob("ejabberd/*.xcap*")])


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, arguments)])


def expect(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    result = run(*arguments, "--answers", "captured", "--expect", "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def differences(*arguments: str | Path) -> list[str]:
    code, found = expect(*arguments)
    assert (code == 1) == bool(found["differences"])
    return [text.partition(" s: ")[2].splitlines()[0] for text in found["first_differences"]]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_real_servers_did_is_done_again(path: Path) -> None:
    first = run(path, "--answers", "captured", "--expect")
    assert (first.exit_code, "no difference: " in first.output) == (0, True), first.output
    assert run(path, "--answers", "captured", "--expect").output == first.output


def test_a_conversation_is_compared(tmp_path: Path) -> None:
    code, found = expect(conversation().write(tmp_path / "c.xcap"))
    assert (code, found["differences"], found["compared"]) == (0, 0, {"stanzas": 2, "posts": 3})
    assert found["stanzas"] == {"message": 3, "presence": 0, "iq": 0}
    assert found["errors"] == {"status 501": 1}
    assert found["latency_s"]["max"] == 0.005
    assert "seconds" not in found


CHANGES = {
    "another body": ("yes</body>", "no</body>", ["sent differently: message chat"]),
    "another status": ('"status":501', '"status":404', ["sent differently: message error"]),
    "another reply": ('\\\\"yes\\\\"', '\\\\"no\\\\"', ["sent differently: message chat"]),
    "nothing sent": (
        "out <message",
        "note <message",
        ["sent now, not then: message chat", "sent now, not then: message error"],
    ),
    "another post": ('"body":"hi","stanza"', '"body":"ho","stanza"', ["POSTed differently"] * 3),
    "no post": (
        "in <message to='echo@bot.localhost' from='juliet@localhost/balcony' type='chat' id='m3'",
        "note <",
        ["POSTed then, not now: the POST of message"],
    ),
    "one more": (
        'http {"uid":"msg_a2"',
        'note {"uid":"msg_a2"',
        ["POSTed now, not then: the POST of message"],
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_difference_is_told(tmp_path: Path, change: tuple[str, str, list[str]]) -> None:
    old, new, told = change
    path = conversation().write(tmp_path / "c.xcap")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = differences(path)
    assert len(found) == len(told)
    for one, beginning in zip(sorted(found), sorted(told), strict=True):
        assert one.startswith(beginning)


def test_a_difference_reads_like_a_diff(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    path.write_text(path.read_text().replace("<body>yes</body>", "<body>no</body>"))
    result = run(path, "--answers", "captured", "--expect")
    assert result.exit_code == 1
    assert "sent differently: message chat to juliet@localhost/balcony id msg_a1-1" in result.output
    assert "    -   <body>no</body>\n    +   <body>yes</body>\n" in result.output


EQUAL = {
    "the order of attributes": (f"to='echo@{DOMAIN}' from=", f"from='echo@{DOMAIN}' xto="),
    "ids that were made": ("msg_a1-1", "msg_b7-1"),
    "prefixes": ("<body>yes</body>", "<a:body xmlns:a='jabber:component:accept'>yes</a:body>"),
    "white space in JSON": ('"kind":"message"', '"kind" :  "message"'),
    "the time": ("2026-11-22T17:20:00.06", "2026-11-22T17:20:00.07"),
    "an own delay": (
        "<body>yes</body>",
        f"<body>yes</body><delay xmlns='urn:xmpp:delay' from='{DOMAIN}' stamp='x'/>",
    ),
}


@pytest.mark.parametrize("change", list(EQUAL.values())[1:], ids=list(EQUAL)[1:])
def test_what_does_not_count_is_not_told(tmp_path: Path, change: tuple[str, str]) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    old, new = change
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert differences(path) == []


def test_the_order_of_attributes_does_not_count(tmp_path: Path) -> None:
    script = Script().open().came(message("m1")).posted("msg_a1", "m1", {"body": "yes"})
    swapped = (
        f"<message id='msg_a1-1' type='chat' from='echo@{DOMAIN}' to='juliet@localhost/balcony'>"
        "<body>yes</body></message>"
    )
    assert differences(script.sent(swapped).stop().write(tmp_path / "c.xcap")) == []


def asked(then: list[list[str]], now: list[list[str]]) -> Script:
    """Messages, each with the texts of its replies, as they were sent then and are answered now."""
    script = Script().open()
    for number, (texts, answers) in enumerate(zip(then, now, strict=True)):
        uid, id = f"msg_a{number}", f"m{number}"
        answer = [{"body": one} for one in answers]
        script.came(message(id)).posted(uid, id, answer or None)
        for at, text in enumerate(texts, 1):
            script.sent(reply(uid, text).replace(f"{uid}-1", f"{uid}-{at}"))
    return script.stop()


TO: Final = "message chat to juliet@localhost/balcony id"
FEWER = {
    "one of many that are alike": (
        [["yes"]] * 6,
        [["yes"], [], *[["yes"]] * 4],
        [f"sent then, not now: {TO} msg_a1-1"],
    ),
    "one more that is alike": (
        [["yes"], [], *[["yes"]] * 4],
        [["yes"]] * 6,
        [f"sent now, not then: {TO} msg_a1-1"],
    ),
    "one, and all others changed": (
        [["one"], ["two"], ["three"], ["four"]],
        [["1"], [], ["3"], ["4"]],
        [
            f"sent differently: {TO} msg_a0-1",
            f"sent then, not now: {TO} msg_a1-1",
            f"sent differently: {TO} msg_a2-1",
            f"sent differently: {TO} msg_a3-1",
        ],
    ),
    "to another message": (
        [["yes"], [], ["yes"]],
        [[], ["yes"], ["yes"]],
        [f"sent then, not now: {TO} msg_a0-1", f"sent now, not then: {TO} msg_a1-1"],
    ),
    "the first of several": (
        [["one", "two", "three"], ["yes"]],
        [["two", "three"], ["yes"]],
        [f"sent then, not now: {TO} msg_a0-1"],
    ),
    "one changed of several": (
        [["one", "two", "three"]],
        [["one", "2", "three"]],
        [f"sent differently: {TO} msg_a0-2"],
    ),
}


@pytest.mark.parametrize("case", FEWER.values(), ids=FEWER.keys())
def test_one_reply_fewer_is_one_difference(
    tmp_path: Path, case: tuple[list[list[str]], list[list[str]], list[str]]
) -> None:
    then, now, told = case
    assert sorted(differences(asked(then, now).write(tmp_path / "c.xcap"))) == sorted(told)


def test_a_changed_reply_is_compared_with_its_own(tmp_path: Path) -> None:
    script = asked([["one"], ["two"], ["three"]], [[], ["2"], ["3"]])
    _, found = expect(script.write(tmp_path / "c.xcap"))
    texts = "\n".join(found["first_differences"])
    assert "-   <body>two</body>\n+   <body>2</body>" in texts
    assert "-   <body>three</body>\n+   <body>3</body>" in texts


def test_replies_of_a_conversation_keep_their_order(tmp_path: Path) -> None:
    script = Script().open().came(message("m1") + message("m2"))
    script.posted("msg_a1", "m1", {"body": "one"}).posted("msg_a2", "m2", {"body": "two"})
    script.sent(reply("msg_a2", "two")).sent(reply("msg_a1", "one")).stop()
    assert differences(script.write(tmp_path / "c.xcap")) == [
        "sent in another order: message chat to juliet@localhost/balcony id msg_a1-1"
    ]


def test_between_conversations_there_is_no_order(tmp_path: Path) -> None:
    romeo = "romeo@localhost/orchard"
    script = Script().open().came(message("m1") + message("m2", sender=romeo))
    script.posted("msg_a1", "m1", {"body": "one"})
    script.posted("msg_a2", "m2", {"body": "two"}, sender=romeo)
    script.sent(reply("msg_a2", "two", romeo)).sent(reply("msg_a1", "one")).stop()
    assert differences(script.write(tmp_path / "c.xcap")) == []


def test_only_the_first_differences_are_shown(tmp_path: Path) -> None:
    script = Script().open()
    for number in range(30):
        script.came(message(f"m{number}")).posted(f"msg_a{number}", f"m{number}", {"body": "yes"})
        script.sent(reply(f"msg_a{number}", "no"))
    path = script.stop().write(tmp_path / "c.xcap")
    result = run(path, "--answers", "captured", "--expect", "--max-differences", "2")
    assert result.output.count("sent differently") == 2
    assert "… and 28 more (--max-differences shows more)" in result.output
    assert "30 differences; 0 stanzas and 30 POSTs match" in result.output


# --- what an endpoint did


def test_attempts_that_failed_are_made_again(tmp_path: Path) -> None:
    script = Script().open().came(message("m1"))
    script.posted("msg_a1", "m1", status=503)
    script.wait(0.4).posted(
        "msg_a1", "m1", failure=PostFailure("unreachable", "refused"), attempt=2
    )
    script.wait(2).posted("msg_a1", "m1", {"body": "at last"}, attempt=3)
    path = script.sent(reply("msg_a1", "at last")).stop().write(tmp_path / "c.xcap")
    code, found = expect(path)
    assert (code, found["attempts"]) == (0, 3)
    assert found["failed_attempts"] == {"status 503": 1, "unreachable": 1}


def test_what_was_given_up_is_given_up_again(tmp_path: Path) -> None:
    script = Script().open().came(message("m1")).posted("msg_a1", "m1", status=503)
    script.sent(error("m1", "remote-server-timeout", "wait", "The service has failed."))
    path = script.wait(5).stop().write(tmp_path / "c.xcap")
    code, found = expect(path)
    assert (code, found["compared"]["stanzas"]) == (0, 1)


@pytest.mark.parametrize("rest_s", [1, 40])
def test_what_was_never_tried_is_given_up_again(tmp_path: Path, rest_s: float) -> None:
    """A request waits for its turn, in vain: the endpoint is down, and others ask whether it is."""
    ping = "<ping xmlns='urn:xmpp:ping'/>"
    script = Script().open().came(message("m0")).posted("msg_a0", "m0")
    script.came(f"<iq to='{DOMAIN}' from='a@b/c' type='get' id='q1'>{ping}</iq>").wait(10)
    namespace = "urn:ietf:params:xml:ns:xmpp-stanzas"
    script.sent(
        f"<iq to='a@b/c' from='{DOMAIN}' type='error' id='q1'><error type='wait'>"
        f"<remote-server-timeout xmlns='{namespace}'/><text xmlns='{namespace}'>"
        "The service has not answered in time.</text></error></iq>"
    )
    script.came(message("m1")).posted("msg_a1", "m1").wait(rest_s)
    path = script.stop().write(tmp_path / "c.xcap")
    code, found = expect(path, "--component-post-stanzas", "message,iq")
    assert (code, found["left_out"]["never tried then, and given up"]) == (0, 1)


def test_what_timed_out_times_out(tmp_path: Path) -> None:
    script = Script().open().came(message("m1"))
    script.wait(30).posted("msg_a1", "m1", failure=PostFailure("timed_out"), received=0.06)
    script.sent(
        error("m1", "remote-server-timeout", "wait", "The service has not answered in time.")
    )
    code, found = expect(script.wait(40).stop().write(tmp_path / "c.xcap"))
    assert (code, found["errors"]) == (0, {"no answer in time": 1})


def test_a_stop_before_the_answer_is_a_stop_again(tmp_path: Path) -> None:
    script = Script().open().came(message("m1"))
    script.posted("msg_a1", "m1", failure=PostFailure("given_up"))
    code, found = expect(script.stop().write(tmp_path / "c.xcap"))
    assert (code, found["unfinished"], found["left_out"]) == (0, 1, {"cut off by the end": 1})


# --- connections


def test_a_copy_that_was_sent_again_counts_once(tmp_path: Path) -> None:
    script = Script().open().came(message("m1")).posted("msg_a1", "m1", {"body": "yes"})
    script.sent(reply("msg_a1", "yes")).wait(3).put(LINK, "end reset")
    script.open().sent(reply("msg_a1", "yes")).stop()
    code, found = expect(script.write(tmp_path / "c.xcap"))
    assert (code, found["connections"], found["left_out"]) == (0, 2, {"sent again": 1})


def test_barriers_are_not_compared_and_always_answered(tmp_path: Path) -> None:
    script = Script().open().came(message("m1")).posted("msg_a1", "m1", {"body": "yes"})
    script.sent(reply("msg_a1", "yes")).wait(300)
    head = f"to='{DOMAIN}' from='{DOMAIN}' type='get' id='barrier-1-1'"
    ping = f"<iq {head}><ping xmlns='urn:xmpp:ping'/></iq>"
    script.sent(ping).came(ping).stop()
    code, found = expect(script.write(tmp_path / "c.xcap"))
    assert (code, found["stanzas"]["iq"], found["connections"]) == (0, 0, 1)
    assert found["log"] == {}  # in a replay, no other instance is noticed by the captured ids


def test_a_barrier_is_answered_between_two_stanzas(tmp_path: Path) -> None:
    script = Script().open()
    text = message("m1")
    for offset in range(0, len(text), 7):  # over more than a second: we ask meanwhile
        script.wait(0.1).came(text[offset : offset + 7])
    script.posted("msg_a1", "m1", {"body": "yes"}).sent(reply("msg_a1", "yes")).stop()
    assert differences(script.write(tmp_path / "c.xcap")) == []


def test_a_refusal_is_as_it_was(tmp_path: Path) -> None:
    condition = "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    script = Script().put(LINK, "open x").put(OUT, OURS).put(IN, HEADER)
    script.put(IN, f"<stream:error>{condition}</stream:error>{CLOSE}").put(LINK, "end refused")
    script.open().came(message("m1")).posted("msg_a1", "m1", {"body": "yes"})
    code, found = expect(script.sent(reply("msg_a1", "yes")).stop().write(tmp_path / "c.xcap"))
    assert (code, found["compared"]["stanzas"]) == (0, 1)
    assert found["log"] == {"the server refuses this component": 1}


def test_what_http_clients_had_sent_is_not_compared(tmp_path: Path) -> None:
    sent = f"<message to='a@b' from='{DOMAIN}' id='x'><body>news</body></message>"
    script = Script().open().put("api", json.dumps({"id": "x", "stanza": sent})).sent(sent)
    code, found = expect(script.stop().write(tmp_path / "c.xcap"))
    assert (code, found["left_out"]) == (0, {"sent for HTTP clients": 1})


def test_an_answer_that_an_http_client_waited_for_is_not_posted(tmp_path: Path) -> None:
    ping = "<ping xmlns='urn:xmpp:ping'/>"
    asked = f"<iq to='a@b' from='{DOMAIN}' type='get' id='q1'>{ping}</iq>"
    script = Script().open().put("api", json.dumps({"id": "q1", "stanza": asked})).sent(asked)
    script.came(f"<iq from='a@b' to='{DOMAIN}' type='result' id='q1'/>")
    path = script.stop().write(tmp_path / "c.xcap")
    code, found = expect(path, "--component-post-stanzas", "iq")
    assert (code, found["left_out"]) == (0, {"sent for HTTP clients": 1})
    assert found["posted"]["iq"] == 0


PROMISE = {"deferred": True}


def test_a_deferred_reply_is_one_of_http_clients(tmp_path: Path) -> None:
    later = reply("msg_a1-d0123456789", "later")
    script = Script().open().came(message("m1")).posted("msg_a1", "m1", PROMISE, status=202)
    script.wait(5).put("api", json.dumps({"uid": "msg_a1-d0123456789", "stanza": later}))
    code, found = expect(script.sent(later).stop().write(tmp_path / "c.xcap"))
    assert (code, found["left_out"]) == (0, {"sent for HTTP clients": 1})
    assert found["log"] == {}


def test_an_iq_with_a_deferred_answer_has_no_other(tmp_path: Path) -> None:
    head = f"to='echo@{DOMAIN}' from='juliet@localhost/balcony'"
    asked = f"<iq {head} type='get' id='q1'><q xmlns='urn:q'/></iq>"
    answer = f"<iq to='juliet@localhost/balcony' from='echo@{DOMAIN}' type='result' id='q1'/>"
    came = (DATE + timedelta(seconds=0.06)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    posted = {"to": f"echo@{DOMAIN}", "from": "juliet@localhost/balcony", "kind": "iq", "id": "q1"}
    posted |= {"type": "get", "stanza": asked, "received": came, "uid": "msg_a1"}
    text = json.dumps(posted, separators=(",", ":")).encode()
    promised = PostAnswer(202, {"content-type": "application/json"}, json.dumps(PROMISE).encode())
    script = Script().open().came(asked)
    script.put(CHANNEL, encode(HttpExchange("msg_a1", 1, 0.065, 0.005, text, promised)))
    script.wait(5).put("api", json.dumps({"uid": "msg_a1-d0123456789", "stanza": answer}))
    path = script.sent(answer).stop().write(tmp_path / "c.xcap")
    code, found = expect(path, "--component-post-stanzas", "iq")
    assert (code, found["left_out"]) == (0, {"sent for HTTP clients": 1}), found
    assert found["posted"]["iq"] == 1


def test_replies_to_what_came_before_the_capture_are_left_out(tmp_path: Path) -> None:
    script = Script().open().posted("msg_old", "m0", {"body": "yes"}, received=-5)
    script.sent(reply("msg_old", "yes")).stop()
    code, found = expect(script.write(tmp_path / "c.xcap"))
    assert (code, found["left_out"]) == (0, {"replies to stanzas from before": 1})


# --- files


def test_files_that_continue_one_another_are_one_story(tmp_path: Path) -> None:
    script = conversation()
    cut = next(n for n, one in enumerate(script.records) if b"id='m2'" in one.data)
    first = Script(script.records[:cut]).write(tmp_path / "z.xcap")
    opening, rest = script.records[:5], script.records[cut:]
    start = rest[0].at
    again = Script()
    for one in opening:
        again.records.append(type(one)(0.0, one.channel, one.data))
    for one in rest:
        data = one.data
        if one.channel == "http":  # times in a file count from its own start
            value = json.loads(data)
            data = json.dumps(value | {"start": value["start"] - start}).encode()
        again.records.append(type(one)(one.at - start, one.channel, data))
    date = DATE + timedelta(seconds=start)
    second = again.write(tmp_path / "a.xcap", date=date, continues="z.xcap", repeated="5")
    for order in ((first, second), (second, first)):
        code, found = expect(*order)
        assert (code, found["compared"], found["connections"]) == (
            0,
            {"stanzas": 2, "posts": 3},
            1,
        )
    code, found = expect(second)
    assert (code, found["compared"]) == (0, {"stanzas": 1, "posts": 2})


def test_files_of_their_own_follow_one_another(tmp_path: Path) -> None:
    one, two = (conversation().write(tmp_path / name) for name in ("a.xcap", "b.xcap"))
    code, found = expect(one, two)
    assert (code, found["compared"]) == (0, {"stanzas": 4, "posts": 6})


def test_standard_input_and_packed_files_are_read(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    command = ["replay", "-", "--answers", "captured", "--expect"]
    result = CliRunner().invoke(main, command, input=path.read_bytes())
    assert (result.exit_code, "no difference" in result.output) == (0, True)
    packed = tmp_path / "c.xcap.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert differences(packed) == []


# --- a part of it


PARTS = {
    ("--only", "juliet@localhost"): (1, {"stanzas": 1, "posts": 1}),
    ("--only", "JULIET@localhost/balcony", "--kind", "message"): (1, {"stanzas": 1, "posts": 1}),
    ("--only", "localhost"): (2, {"stanzas": 2, "posts": 2}),
    ("--only", "nobody@localhost"): (0, {"stanzas": 0, "posts": 0}),
    ("--kind", "presence"): (0, {"stanzas": 0, "posts": 0}),
    ("--since", "0.085"): (1, {"stanzas": 1, "posts": 1}),
    ("--since", "2026-11-22T17:20:00.085Z"): (1, {"stanzas": 1, "posts": 1}),
    ("--since", "17:20:00.085"): (1, {"stanzas": 1, "posts": 1}),
    ("--since", "17:21"): (0, {"stanzas": 0, "posts": 0}),
}


@pytest.mark.parametrize(("options", "told"), PARTS.items(), ids=lambda one: str(one)[:40])
def test_a_part_is_replayed(
    tmp_path: Path, options: tuple[str, ...], told: tuple[int, dict[str, int]]
) -> None:
    script = Script().open().came(message("m1")).posted("msg_a1", "m1", {"body": "yes"})
    script.sent(reply("msg_a1", "yes"))
    romeo = "romeo@localhost/orchard"
    script.came(message("m2", sender=romeo)).posted("msg_a2", "m2", {"body": "no"}, sender=romeo)
    script.sent(reply("msg_a2", "no", romeo)).stop()
    code, found = expect(script.write(tmp_path / "c.xcap"), *options)
    assert code == 0, found
    assert (found["stanzas"]["message"], found["compared"]) == told


# --- today's settings


def test_a_configuration_says_what_is_posted_without_its_secrets(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    config = tmp_path / "bridge.toml"
    config.write_text(
        f'[component."{DOMAIN}"]\ncomponent_secret_file = "not-here"\n'
        'component_post_url = "http://127.0.0.1:1/"\ncomponent_post_stanzas = ["iq"]\n'
    )
    code, found = expect(path, "--config", str(config))
    assert (code, found["posted"]["message"]) == (1, 0)
    code, found = expect(path, "--config", str(config), "--component-post-stanzas", "message")
    assert (code, found["posted"]["message"]) == (0, 3)


def test_a_configuration_of_other_components_is_refused(tmp_path: Path) -> None:
    path = conversation().write(tmp_path / "c.xcap")
    config = tmp_path / "bridge.toml"
    table = '[component."{}.x"]\ncomponent_post_url = "http://127.0.0.1:1/"\n'
    config.write_text(table.format("a") + table.format("b"))
    result = run(path, "--config", str(config))
    assert result.exit_code == 2
    assert (
        "it has no component bot.localhost, which the capture is from; it has a.x, b.x"
        in result.output
    )
