"""What a service gets wrong: each key with values of other types, and keys that objects lack."""

import json
from collections.abc import Iterator
from types import UnionType
from typing import Any, Final, get_args, get_origin

import pytest

from bridge.payload.body import IGNORED, ReplyBody, hint_for, read_reply, refuse_key
from bridge.payload.content import WRITERS
from bridge.payload.error import UnusableReply
from bridge.payload.key import fields_of, known_only, unknown_within
from bridge.payload.schema import content_schemas
from bridge.payload.shape import Shape
from tests.bridge.payload.test_content import ASKED, ASKED_IQ, composed

SAMPLES: Final[dict[str, Any]] = {
    "boolean": True,
    "integer": 5,
    "number": 1.5,
    "string": "x",
    "array": [[]],
    "object": {"zzz": 1},
}
"""A value of each type of JSON; the list holds what no list of ours does."""
COMPANY: Final[dict[str, dict[str, Any]]] = {
    "thread_parent": {"body": "x", "thread": "t"},
    "quote": {"body": "x", "reply": True},
    "replace": {"body": "x"},
    "moderate": {"kind": "iq"},
}
SCHEMAS, DEFINITIONS = content_schemas("{name}")


def types_of(schema: dict[str, Any]) -> set[str]:
    """Give the types of JSON that a schema allows."""
    if "$ref" in schema:
        return types_of(DEFINITIONS[schema["$ref"]])
    if "anyOf" in schema:
        return set().union(*map(types_of, schema["anyOf"]))
    if "enum" in schema:
        return {"string" if isinstance(one, str) else "boolean" for one in schema["enum"]}
    types = schema["type"]
    return {types} if isinstance(types, str) else set(types)


WRONG: Final = [
    pytest.param(key, value, id=f"{key}-{type}")
    for key in WRITERS
    for type, value in SAMPLES.items()
    if type == "array" or type not in types_of(SCHEMAS[key])
    if not (type == "array" and "array" in types_of(SCHEMAS[key]) and key == "bodies")
    if (key, type) != ("items", "object")  # mod_rest's question
]


def company_of(key: str) -> dict[str, Any]:
    """Give what a key needs beside it, so that its own value is looked at."""
    if key in COMPANY:
        return COMPANY[key]
    row = WRITERS[key]
    if row.makes_message:
        return {}
    return {"body": "x"} if "message" in row.kinds else {"show": "away"}


def test_the_table_is_long() -> None:
    assert len(WRONG) > 3 * len(WRITERS)


@pytest.mark.parametrize(("key", "value"), WRONG)
async def test_a_value_of_another_type_is_refused(key: str, value: Any) -> None:
    asked = ASKED_IQ if WRITERS[key].kinds == ("iq",) and key != "moderate" else ASKED
    with pytest.raises(UnusableReply) as caught:
        await composed({**company_of(key), key: value}, asked)
    sentence = str(caught.value)
    assert sentence.startswith("thread" if key == "thread_parent" else key)
    assert " is not " in sentence
    assert len(sentence) < 200
    assert not {"`", "$", "Expected", "enum", "NoneType"} & {*sentence, *sentence.split()}


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ({"state": "x" * 5000}, f"state: '{'x' * 60}…' is not one of active, composing, paused"),
        (
            {"body": "x", "hints": ["store", "stor"]},
            "hints: 'stor' is not one of no-permanent-store, no-store",
        ),
        ({"body": "x", "replace": True}, "replace is not false or a string"),
        ({"disco": 1}, "disco is not true, false, a string or an object"),
        ({"files": [{"url": "https://a.example/b", "size": "5"}]}, "files[0].size is not a whole"),
        ({"items": True}, "items: true asks; the answer is a list"),
        ({"files": []}, "files is empty: list a file, or leave the key out"),
        ({"dataform": {}}, "dataform has no type; use one of form, submit, cancel, result"),
        ({"bodies": {"de": 5}}, "bodies[] is not a string"),
    ],
)
async def test_the_sentence(reply: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnusableReply) as caught:
        await composed(reply, ASKED_IQ if {"disco", "items"} & reply.keys() else ASKED)
    assert str(caught.value).startswith(sentence)


def with_unknown(shape: Any) -> Iterator[tuple[str, Any]]:
    """Give values with an unknown key in each object of a shape, and the key's path."""
    for one in get_args(shape) if get_origin(shape) is UnionType else (shape,):
        if get_origin(one) is list:
            yield from ((path, [value]) for path, value in with_unknown(get_args(one)[0]))
        elif isinstance(one, type) and issubclass(one, Shape):
            yield ".zzz", {"zzz": 1}
            for name, inner in fields_of(one).items():
                for path, value in with_unknown(inner):
                    yield f".{name}{path}", {name: value}


WITHIN: Final = [
    pytest.param(key, f"{key}{path}", value, id=f"{key}{path}")
    for key, row in WRITERS.items()
    for path, value in with_unknown(row.shape)
]


@pytest.mark.parametrize(("key", "path", "value"), WITHIN)
def test_an_unknown_key_within_an_object_is_found(key: str, path: str, value: Any) -> None:
    assert tuple(unknown_within(key, value)) == (path,)
    assert tuple(unknown_within(key, known_only(key, value))) == ()
    assert hint_for(path).startswith("known keys: ")
    assert "kind" not in hint_for(path)
    assert f"'{path}'" in str(refuse_key(path))


@pytest.mark.parametrize(
    ("reply", "path", "hint"),
    [
        ({"files": [{"uri": "https://a"}]}, "files.uri", "perhaps you meant files.url"),
        ({"files": [{"url": "https://a", "mime_type": "x"}]}, "files.mime_type",
         "perhaps you meant files.media_type"),
        ({"dataform": {"titel": "x"}}, "dataform.titel", "perhaps you meant dataform.title"),
        ({"dataform": {"fields": [{"name": "x"}]}}, "dataform.fields.name",
         "perhaps you meant dataform.fields.var"),
        ({"dataform": {"items": [[{"vra": "x"}]]}}, "dataform.items.vra",
         "perhaps you meant dataform.items.var"),
        ({"reactions": {"id": "a", "emoji": []}}, "reactions.emoji",
         "perhaps you meant reactions.reactions"),
        ({"forwarded": {"message": {"boddy": "x"}}}, "forwarded.message.boddy",
         "perhaps you meant body"),
        ({"forwarded": {"message": {"files": [{"uri": "x"}]}}}, "forwarded.message.files.uri",
         "perhaps you meant files.url"),
    ],
)  # fmt: skip
def test_the_nearest_key_of_the_object(reply: dict[str, Any], path: str, hint: str) -> None:
    reading = read_reply(ReplyBody("json", msg(reply, {"body": "x"})))
    assert (reading.unknown, reading.unknown_in) == ((path,), (1,))
    assert hint_for(path) == hint


@pytest.mark.parametrize(
    "reply",
    [
        {"payload": {"datatype": "d", "data": {"zzz": {"titel": 1}}}},
        {"dataform": {"data": {"zzz": "x"}}},
        {"bodies": {"zzz": "x"}},
        {"stanza": "<message/>", "files": [{"uri": "x"}]},
        {"forwarded": {"message": {"body": "x", **dict.fromkeys(IGNORED, "x")}}},
    ],
)
def test_keys_that_are_the_services_own(reply: dict[str, Any]) -> None:
    assert read_reply(ReplyBody("json", msg(reply))).unknown == ()


def msg(reply: dict[str, Any], *before: dict[str, Any]) -> bytes:
    return json.dumps([*before, reply]).encode()
