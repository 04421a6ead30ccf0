"""Answers and actions in a message: the list in the body, and what an answer to it means."""

import xml.etree.ElementTree as ET
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slixmpp.plugins.xep_0439 import stanza as quick
from slixmpp.stanza import Message

from bridge.payload.error import UnusableReply
from bridge.payload.extension.choice import Choice, offer_of
from bridge.payload.field import of_stanza
from tests.bridge.payload.test_content import composed
from tests.bridge.payload.test_field import read
from tests.bridge.sample import stanza
from xmppstream import rehome, write
from xmppstream.names import CLIENT, COMPONENT, expanded

BODY: Final = expanded(COMPONENT, "body")
YES_NO: Final = [{"value": "yes", "label": "Yes!"}, {"value": "no"}]
MERGE: Final = [{"id": "m1", "label": "Merge now"}]
RESPONSE: Final = "<response xmlns='urn:xmpp:tmp:quick-response' value='{}'/>"


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        ({"body": "Book it?", "answers": YES_NO}, "Book it?\n1. Yes!\n2. no"),
        ({"body": "A request.", "actions": MERGE}, "A request.\n1. Merge now"),
        ({"body": "Q", "answers": YES_NO, "actions": MERGE}, "Q\n1. Yes!\n2. no\n3. Merge now"),
        # A value that is a number keeps it, so the others get numbers that are free.
        ({"body": "Q", "answers": ["5", "1", "none"]}, "Q\n5\n1\n2. none"),
        ({"body": "Q", "answers": [{"value": "3", "label": "Good"}, "x"]}, "Q\n3. Good\n1. x"),
        ({"html": "<p>Book <b>it</b>?</p>", "answers": YES_NO}, "Book it?\n1. Yes!\n2. no"),
        ({"body": "B", "html": "<i>B</i>", "answers": YES_NO}, "B\n1. Yes!\n2. no"),
        ({"body": "Q", "answers": []}, "Q"),
    ],
)
async def test_what_can_be_chosen_is_in_the_body_as_well(reply: dict[str, Any], body: str) -> None:
    [one] = await composed(reply)
    assert [child.text for child in one.element.find_all(BODY)] == [body]
    fields = of_stanza(one)
    if reply.get("answers"):
        assert [found.value for found in fields["answers"]] == [
            given if isinstance(given, str) else given["value"] for given in reply["answers"]
        ]
    if "html" in reply:
        assert fields["html"].endswith("<p>1. Yes!<br/>2. no</p>")


async def test_labels_are_not_markup() -> None:
    [one] = await composed({"html": "<p>Q</p>", "answers": ["<b>&amp;", "b"]})
    assert of_stanza(one)["html"] == "<p>Q</p><p>1. &lt;b&gt;&amp;amp;<br/>2. b</p>"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ({"answers": YES_NO}, None),
        ({"body": "x", "answers": [{"label": "A"}]}, "answers.*no value"),
        ({"body": "x", "actions": [{"id": "a"}]}, "actions.*no label"),
        ({"body": "x", "actions": ["a"]}, "actions.*not an object"),
        ({"body": "x", "answers": "yes"}, "answers is not a list"),
        ({"body": "x", "bodies": {"de": "y"}, "answers": YES_NO}, "answers and bodies exclude"),
        ({"body": "x", "action": "m1"}, "action and body exclude"),
        ({"reactions": ["x"], "body": "q", "answers": YES_NO}, "reactions and body exclude"),
    ],
)
async def test_what_cannot_be_offered(reply: dict[str, Any], why: str | None) -> None:
    if why is None:
        assert await composed(reply) == []  # it says nothing: there is no question
        return
    with pytest.raises(UnusableReply, match=why):
        await composed(reply)


async def test_files_go_after_the_question() -> None:
    question, file = await composed(
        {"body": "Is it this?", "files": [{"url": "https://a.example/b"}], "answers": YES_NO}
    )
    assert offer_of(question) is not None
    assert offer_of(file) is None


ANSWER: Final = "answer"
ACTION: Final = "action"


@pytest.mark.parametrize(
    ("reply", "said", "chosen"),
    [
        ({"answers": YES_NO}, "yes", (ANSWER, "yes")),
        ({"answers": YES_NO}, " 1 \n", (ANSWER, "yes")),
        ({"answers": YES_NO}, "2", (ANSWER, "no")),
        ({"answers": YES_NO}, "2.", (ANSWER, "no")),
        ({"answers": YES_NO}, "2)", (ANSWER, "no")),
        ({"answers": YES_NO}, "YES!", (ANSWER, "yes")),
        ({"answers": YES_NO}, "No", (ANSWER, "no")),
        ({"answers": YES_NO}, "3", None),
        ({"answers": YES_NO}, "0", None),
        ({"answers": YES_NO}, "-1", None),
        ({"answers": YES_NO}, "٢", None),
        ({"answers": YES_NO}, "yes please", None),
        ({"answers": YES_NO}, "", None),
        ({"answers": YES_NO, "actions": MERGE}, "3", (ACTION, "m1")),
        ({"answers": YES_NO, "actions": MERGE}, "merge now", (ACTION, "m1")),
        ({"answers": YES_NO, "actions": MERGE}, "m1", None),
        ({"answers": ["5", "1", "none"]}, "1", (ANSWER, "1")),
        ({"answers": ["5", "1", "none"]}, "2", (ANSWER, "none")),
        ({"answers": ["5", "1", "none"]}, "3", None),
        # A value goes before the label of another one.
        ({"answers": [{"value": "a", "label": "b"}, {"value": "b", "label": "c"}]}, "b",
         (ANSWER, "b")),
    ],
)  # fmt: skip
async def test_what_an_answer_chooses(
    reply: dict[str, Any], said: str, chosen: tuple[Any, str] | None
) -> None:
    [one] = await composed({"body": "Q", **reply})
    offer = offer_of(one)
    assert offer is not None
    assert offer.choice_of(said) == (None if chosen is None else Choice(*chosen))


@given(st.lists(st.text("ab129 .", min_size=1, max_size=3), min_size=1, max_size=6, unique=True))
async def test_each_line_of_the_list_can_be_chosen_by_its_number(values: list[str]) -> None:
    """The numbers of the text are those of the rule, whatever the values are."""
    try:
        [one] = await composed({"body": "Q", "answers": values})
    except UnusableReply:
        assert any(not value.strip() for value in values)
        return
    offer = offer_of(one)
    assert offer is not None
    [body] = one.element.find_all(BODY)
    for line, value in zip(body.text.split("\n")[1:], values, strict=True):
        number = line.partition(". ")[0] if line != value else value
        exact = [other for other in values if other.strip() == number.strip()]
        assert offer.choice_of(number) == Choice("answer", exact[0] if exact else value)


def test_numbers_mean_nothing_without_the_list() -> None:
    """A service that writes the XML itself may have no list, or another one."""
    inner = RESPONSE.format("yes") + RESPONSE.format("no")
    for body, chosen in (("Q\n1. no\n2. yes", None), ("Q\n1. yes\n2. no", Choice("answer", "no"))):
        offer = offer_of(stanza(f"<message to='a@b'><body>{body}</body>{inner}</message>"))
        assert offer is not None
        assert offer.choice_of("2") == chosen
        assert offer.choice_of("no") == Choice("answer", "no")


@pytest.mark.parametrize("inner", ["", RESPONSE.format(""), RESPONSE.format("x" * 201)])
def test_what_offers_nothing(inner: str) -> None:
    assert offer_of(stanza(f"<message to='a@b'><body>x</body>{inner}</message>")) is None


def test_an_offer_is_bounded() -> None:
    inner = "".join(RESPONSE.format(f"v{number}") for number in range(1000))
    offer = offer_of(stanza(f"<message to='a@b'><body>x</body>{inner}</message>"))
    assert offer is not None
    assert len(offer.answers) == 20


async def test_slixmpp_reads_and_writes_the_same() -> None:
    """Its plugin for XEP-0439 has the elements from the XEP, as the bridge has."""
    slixmpp: Any = quick  # it is not typed
    message: Any = Message
    slixmpp.register_plugins()
    [one] = await composed({"body": "Q", "answers": YES_NO, "actions": MERGE})
    xml = ET.fromstring(write(rehome(one.element, CLIENT), ""))
    found = list(message(xml=xml)["substanzas"])
    assert [(it["value"], it["label"]) for it in found if isinstance(it, quick.Response)] == [
        ("yes", "Yes!"),
        ("no", ""),
    ]
    assert [(it["id"], it["label"]) for it in found if isinstance(it, quick.Action)] == [
        ("m1", "Merge now")
    ]
    chosen = message()
    chosen["from"], chosen["to"] = "juliet@capulet.example/x", "bot@b.example"
    chosen["action_selected"]["id"] = "m1"
    told = read(str(chosen))
    assert (told["event"], told["action"]) == ("action", "m1")
