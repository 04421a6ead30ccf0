"""What becomes of the objects of a request: one stanza, several, or a refusal that names one."""

import json
from typing import Any, Final

import pytest
from attrs import evolve

from bridge.listener.submission.composition import BATCH_LIMIT, Batch, NoSender
from bridge.listener.submission.singleflight import NotConfigured
from bridge.payload.attachment import FILES_LIMIT
from bridge.payload.body import NotJson, ReplyBody
from bridge.payload.error import UnusableReply
from tests.bridge.dispatch.life import BOT, DOMAIN, Life
from tests.bridge.sample import stanza

PEER: Final = "juliet@a.example/balcony"
OTHER: Final = "other.example"
HI: Final = {"to": PEER, "body": "hi"}
CAT: Final = "https://a.example/cat.png"
DOG: Final = "https://a.example/dog.png"
PING: Final = {"stanza": "<iq type='get' to='a.example'><ping xmlns='urn:xmpp:ping'/></iq>"}


def two_components() -> Life:
    """A life with a second component, whose parts are those of the first but for its name."""
    life = Life()
    submitter = life.submitters[DOMAIN]
    composer = evolve(submitter.composer, domain=OTHER)
    life.submitters[OTHER] = evolve(submitter, composer=composer)
    return life


async def composed(content: Any, default_from: str | None = BOT) -> Batch:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await two_components().sender.compose_all(ReplyBody("json", data), default_from)


def bodies(batch: Batch) -> list[str]:
    found = [one.child("body") for one in batch.stanzas]
    return ["" if one is None else one.text for one in found]


async def test_an_object_is_one_and_an_array_a_list() -> None:
    one = await composed(HI)
    assert (bodies(one), one.is_list, one.uids("msg_u")) == (["hi"], False, ["msg_u"])
    for content in ([HI], b"\xef\xbb\xbf \n" + json.dumps([HI]).encode()):
        alone = await composed(content)
        assert (bodies(alone), alone.is_list, alone.uids("msg_u")) == (["hi"], True, ["msg_u-1"])
    several = await composed([HI, {"to": "a@b", "body": "ho", "id": "own"}, {**HI, "body": "he"}])
    assert bodies(several) == ["hi", "ho", "he"]
    assert [one.id for one in several.stanzas] == [None, "own", None]
    assert several.uids("msg_u") == ["msg_u-1", "msg_u-2", "msg_u-3"]
    assert several.places == ("object 1: ", "object 2: ", "object 3: ")


async def test_each_file_is_a_message_and_the_body_goes_first() -> None:
    both = await composed({**HI, "id": "own", "files": [{"url": CAT}, {"url": DOG}]})
    assert (bodies(both), both.is_list) == (["hi", CAT, DOG], True)
    assert [one.id for one in both.stanzas] == ["own", None, None]
    one = await composed({"to": PEER, "files": [{"url": CAT}]})
    assert (bodies(one), one.is_list) == ([CAT], False)
    array = await composed([HI, {"to": PEER, "files": [{"url": CAT}, {"url": DOG}]}])
    assert bodies(array) == ["hi", CAT, DOG]
    assert array.places == ("object 1: ", "object 2: ", "object 2: ")


async def test_an_iq_may_be_the_only_one_of_an_array() -> None:
    [one] = (await composed([PING])).stanzas
    assert one.is_request


async def test_as_many_as_there_may_be() -> None:
    assert len((await composed([HI] * BATCH_LIMIT)).stanzas) == BATCH_LIMIT


BAD: Final[dict[str, tuple[Any, str]]] = {
    "an empty array": ([], "the array is empty; send at least one object"),
    "a string in it": ([HI, "ho"], "not a JSON object or an array of objects: value 2 is not one"),
    "a wrong type": ([HI, {**HI, "to": 5}], "object 2: to is not a string"),
    "an unknown key within": (
        [HI, {**HI, "oob": {"url": "https://a"}}, {**HI, "oob": {"uri": "https://a"}}],
        "object 3: key 'oob.uri' is unknown; perhaps you meant oob.url",
    ),
    "an unknown key": ([HI, HI, {**HI, "boddy": 1}], "object 3: key 'boddy' is unknown; perhaps"),
    "a key to be read": ([HI, {**HI, "uid": "x"}], "object 2: key 'uid' is read only"),
    "nothing to say": ([HI, {"to": PEER}], "object 2: there is nothing to send: no body"),
    "a type of a framework": (
        [HI, {"to": PEER, "type": "success"}],
        "object 2: there is nothing to send: type 'success' is not valid for message stanzas",
    ),
    "no address": ([{"body": "x"}, HI], "object 1: to is missing"),
    "no XML": ([HI, {"stanza": "<message"}], "object 2: stanza: "),
    "a bad file": ([HI, {"to": PEER, "files": [{"url": 5}]}], "object 2: files"),
    "an iq among others": ([HI, PING], "object 2: an iq waits for its answer; send it alone"),
    "an iq before others": ([PING, HI], "object 1: an iq waits for its answer; send it alone"),
    "two components": (
        [HI, {**HI, "from": f"x@{OTHER}"}],
        f"object 2: from: {OTHER} and {DOMAIN} are two components; send one array for each",
    ),
    "too many": ([HI] * (BATCH_LIMIT + 1), f"more than {BATCH_LIMIT} stanzas; split them"),
    "too many with their files": (
        [{"to": PEER, "files": [{"url": CAT}] * 60}] * 2,
        f"more than {BATCH_LIMIT} stanzas; split them",
    ),
    "too many files": (
        {"to": PEER, "files": [{"url": CAT}] * (FILES_LIMIT + 1)},
        f"files: more than {FILES_LIMIT} entries",
    ),
}


@pytest.mark.parametrize(("content", "why"), BAD.values(), ids=BAD)
async def test_one_that_may_not_be_sent_is_named(content: Any, why: str) -> None:
    with pytest.raises(UnusableReply) as caught:
        await composed(content)
    assert str(caught.value).startswith(why) or str(caught.value).endswith(why)
    assert not isinstance(caught.value, NotJson)


async def test_a_refusal_keeps_its_type() -> None:
    with pytest.raises(NoSender, match=r"^object 2: from is missing$"):
        await composed([{**HI, "from": BOT}, HI], None)
    with pytest.raises(NotConfigured, match=r"^object 2: from: 'evil\.example' is not a comp"):
        await composed([HI, {**HI, "from": "me@evil.example"}])
    with pytest.raises(NotJson):
        await composed(b"[{]")


@pytest.mark.parametrize(
    "content",
    [HI, [HI], {"stanza": f"<message to='{PEER}'><body>hi</body></message>"}, PING],
    ids=["object", "array", "stanza", "iq"],
)
async def test_a_sender_is_needed_in_each_form(content: Any) -> None:
    with pytest.raises(NoSender, match=r"^from is missing$"):
        await composed(content, None)


async def test_a_sender_is_needed_in_xml() -> None:
    life = two_components()
    xml = f"<message to='{PEER}'><body>hi</body></message>"
    for content in (ReplyBody("xml", xml.encode()), stanza(xml)):
        with pytest.raises(NoSender, match=r"^from is missing$"):
            await life.sender.compose_all(content, None)


async def test_what_has_to_be_one_stanza_is_not_several() -> None:
    body = ReplyBody("json", json.dumps([HI, HI]).encode())
    with pytest.raises(UnusableReply, match="becomes 2 stanzas"):
        await Life().sender.compose(body, BOT)
