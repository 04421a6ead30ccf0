"""The table H4, typed out once more, and who may be told anything (S29, S30)."""

import pytest

from bridge.payload.error import INTERNAL, OVERLOADED, STOPPING, error_for, may_not_be_told
from bridge.webhook.outcome import (
    ERROR_OF_STATUS,
    REFUSES_US,
    BadReply,
    Failure,
    Rejected,
    TimedOut,
    Unreachable,
    error_of,
)
from tests.bridge.sample import meaning, stanza
from xmppstream import ErrorType, StanzaCondition, StanzaError

TABLE = """
400 411 416 422   bad-request              modify
401 511           not-authorized           auth
402 403 451       forbidden                auth
404               item-not-found           cancel
405               not-allowed              cancel
406               not-acceptable           modify
408 504           remote-server-timeout    wait
409 412           conflict                 cancel
410               gone                     cancel
413 414 431       resource-constraint      modify
415 501           feature-not-implemented  cancel
423 425 429 507   resource-constraint      wait
500               internal-server-error    cancel
502               remote-server-timeout    cancel
503               remote-server-timeout    wait
"""
ROWS = {
    int(status): (condition, type)
    for line in TABLE.strip().splitlines()
    for *statuses, condition, type in [line.split()]
    for status in statuses
}
OTHERS = [100, 199, 300, 301, 302, 303, 304, 307, 308, 407, 417, 418, 421, 424, 426, 428]
OTHERS += [499, 505, 506, 508, 510, 520, 599, 600, 999]


@pytest.mark.parametrize(("status", "error"), ROWS.items())
def test_status_of_the_table(status: int, error: tuple[str, str]) -> None:
    made = error_of(Rejected(status))
    assert (made.condition, made.type) == error


@pytest.mark.parametrize("status", OTHERS)
def test_any_other_status(status: int) -> None:
    made = error_of(Rejected(status))
    assert (made.condition, made.type) == ("service-unavailable", "cancel")


def test_the_table_has_no_other_rows() -> None:
    assert set(ERROR_OF_STATUS) == set(ROWS)


OTHER_FAILURES: list[tuple[Failure, str, str]] = [
    (Unreachable("ConnectError"), "remote-server-timeout", "wait"),
    (TimedOut(), "remote-server-timeout", "wait"),
    (BadReply("not JSON"), "internal-server-error", "cancel"),
]


@pytest.mark.parametrize(("failure", "condition", "type"), OTHER_FAILURES)
def test_failure_without_a_status(failure: Failure, condition: str, type: str) -> None:
    made = error_of(failure)
    assert (made.condition, made.type) == (condition, type)


FIXED = [
    (INTERNAL, "internal-server-error", "cancel"),
    (OVERLOADED, "resource-constraint", "wait"),
    (STOPPING, "remote-server-timeout", "wait"),
]


@pytest.mark.parametrize(("error", "condition", "type"), FIXED)
def test_error_of_the_bridges_own(error: StanzaError, condition: str, type: str) -> None:
    assert (error.condition, error.type) == (condition, type)


@pytest.mark.parametrize("failure", [Unreachable("s3cret at 10.0.0.1"), BadReply("s3cret")])
def test_nothing_of_the_endpoint_is_in_the_text(failure: Failure) -> None:
    assert "s3cret" not in error_of(failure).text


@pytest.mark.parametrize("status", [*ROWS, *OTHERS])
def test_the_text_says_whose_fault_it_is(status: int) -> None:
    is_refusal = 400 <= status <= 499
    said = "The service has refused this." if is_refusal else "The service has failed."
    assert error_of(Rejected(status)).text == said


def test_what_is_logged_as_a_refusal_of_the_bridge() -> None:
    assert set(REFUSES_US) == {401, 403, 407}


# --- who may be told

MUC_USER = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
ADDRESSES = "from='juliet@x.example/a' to='bot@bot.example.com/b' id='1'"
ERROR = StanzaError(StanzaCondition.GONE, ErrorType.CANCEL)


def of(kind: str, type: str | None, content: str = "") -> str:
    attribute = f" type='{type}'" if type else ""
    return f"<{kind} {ADDRESSES}{attribute}>{content}</{kind}>"


TOLD = [
    ("message", None),
    ("message", "chat"),
    ("message", "normal"),
    ("message", "nonsense"),
    ("iq", "get"),
    ("iq", "set"),
]
UNTOLD = [
    ("message", "error"),
    ("message", "groupchat"),
    ("message", "headline"),
    ("presence", None),
    ("presence", "error"),
    ("presence", "probe"),
    ("presence", "subscribe"),
    ("presence", "subscribed"),
    ("presence", "unavailable"),
    ("presence", "unsubscribe"),
    ("presence", "unsubscribed"),
    ("iq", "error"),
    ("iq", "result"),
]
REQUESTS = [("iq", "get"), ("iq", "set")]


@pytest.mark.parametrize(("kind", "type"), TOLD)
def test_a_sender_is_told(kind: str, type: str | None) -> None:
    assert error_for(stanza(of(kind, type)), ERROR, in_room=False) is not None


@pytest.mark.parametrize(("kind", "type"), UNTOLD)
def test_a_sender_is_not_told(kind: str, type: str | None) -> None:
    assert error_for(stanza(of(kind, type)), ERROR, in_room=False) is None


@pytest.mark.parametrize(("kind", "type"), [row for row in TOLD if row not in REQUESTS])
def test_an_occupant_is_not_told(kind: str, type: str | None) -> None:
    assert error_for(stanza(of(kind, type, MUC_USER)), ERROR, in_room=False) is None


@pytest.mark.parametrize(("kind", "type"), [row for row in TOLD if row not in REQUESTS])
def test_a_sender_in_one_of_our_rooms_is_not_told(kind: str, type: str | None) -> None:
    assert error_for(stanza(of(kind, type)), ERROR, in_room=True) is None


@pytest.mark.parametrize("in_room", [False, True])
@pytest.mark.parametrize("content", ["", MUC_USER])
@pytest.mark.parametrize(("kind", "type"), REQUESTS)
def test_a_request_is_answered_to_anybody(
    kind: str, type: str, content: str, in_room: bool
) -> None:
    assert error_for(stanza(of(kind, type, content)), ERROR, in_room=in_room) is not None


@pytest.mark.parametrize(("kind", "type"), UNTOLD)
def test_nobody_is_told_because_of_a_room(kind: str, type: str | None) -> None:
    assert error_for(stanza(of(kind, type, MUC_USER)), ERROR, in_room=True) is None


def test_muc_user_deeper_inside_does_not_count() -> None:
    inside = f"<forwarded xmlns='urn:xmpp:forward:0'>{MUC_USER}</forwarded>"
    assert not may_not_be_told(stanza(of("message", "chat", inside)))


UNANSWERABLE = [
    f"<iq from='a@b' to='c' type='{type}'{rest}/>" for type, rest in [("get", ""), ("set", "")]
] + ["<message to='c' id='1'/>", "<iq to='c' type='get' id='1'/>"]


@pytest.mark.parametrize("xml", UNANSWERABLE)
def test_without_id_or_sender_nobody_is_told(xml: str) -> None:
    assert error_for(stanza(xml), ERROR, in_room=False) is None


def test_the_error_has_its_addresses_swapped_and_the_id() -> None:
    made = error_for(stanza(of("message", "chat")), ERROR, in_room=False)
    assert made is not None
    assert meaning(made.element) == meaning(
        stanza(
            "<message to='juliet@x.example/a' from='bot@bot.example.com/b' id='1' type='error'>"
            "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
            "</message>"
        ).element
    )
