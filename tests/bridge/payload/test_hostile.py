"""Input that is large, deep or absurd: it is read or refused, in steps that grow with its size.

Steps are calls of functions, Python's and C's; twice the input may take about twice as many.
"""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import pytest

from bridge.capture.format import IN, Record
from bridge.capture.redact import Redactor
from bridge.capture.redact.hidden import Hidden
from bridge.capture.redact.search import Search
from bridge.payload.body import ReplyBody, RichObject, read_reply
from bridge.payload.content import WRITERS, write_fields
from bridge.payload.error import UnusableReply
from bridge.payload.event import event_of
from bridge.payload.extension.form import FIELDS_LIMIT, form_element
from bridge.payload.mod_rest import to_mod_rest
from bridge.payload.request import request_body
from bridge.payload.shape import Form, FormField
from tests.bridge.payload.test_content import ASKED, ASKED_IQ
from tests.bridge.sample import stanza
from xmppstream import Element, Stanza
from xmppstream.names import COMPONENT, expanded

MANY: Final = 2_000
FALLBACK: Final = "urn:xmpp:fallback:0"
REPLY: Final = "urn:xmpp:reply:0"


def el(space: str, name: str, *children: Element | str, **attributes: str) -> Element:
    """Make an element; a trailing `_` of an attribute is dropped."""
    pairs = tuple((key.rstrip("_"), value) for key, value in attributes.items())
    return Element(expanded(space, name), pairs, children)


def nested(depth: int, make: Callable[[Element | str], Element], inside: str = "x") -> Element:
    one: Element | str = inside
    for _ in range(depth):
        one = make(one)
    assert isinstance(one, Element)
    return one


def forward(one: Element | str) -> Element:
    inner = (one,) if isinstance(one, Element) else ()
    return el("urn:xmpp:forward:0", "forwarded", el("jabber:client", "message", *inner))


def ranges(count: int) -> Element:
    """Ranges that overlap, end before they begin, are negative, huge, or no numbers."""
    places = [("0", "9"), ("5", "2"), ("-3", "4"), ("1", "99999999999"), ("x", ""), ("", "-1")]
    bodies = [
        el(FALLBACK, "body", start=start, end=end)
        for start, end in (places[one % len(places)] for one in range(count))
    ]
    return el(FALLBACK, "fallback", *bodies, for_=REPLY)


def body(text: str) -> Element:
    return el(COMPONENT, "body", text)


READ: Final[dict[str, Callable[[int], tuple[Element, ...]]]] = {
    "reactions": lambda n: (
        el("urn:xmpp:reactions:0", "reactions", *(
            el("urn:xmpp:reactions:0", "reaction", f"r{one}") for one in range(n)), id="a"),
    ),
    "forwards beside each other": lambda n: tuple(forward("x") for _ in range(n)),
    "forwards within each other": lambda n: (nested(min(n // 20, 200), forward),),
    "fallback ranges": lambda n: (body("x" * n), el(REPLY, "reply", id="a"), ranges(n)),
    "fallbacks": lambda n: (
        body("x" * n), el(REPLY, "reply", id="a"), *(ranges(1) for _ in range(n))),
    "fields of a form": lambda n: (
        el("jabber:x:data", "x", *(
            el("jabber:x:data", "field", el("jabber:x:data", "value", "v"), var=f"v{one}")
            for one in range(n)), type="submit"),
    ),
    "rows of a table": lambda n: (
        el("jabber:x:data", "x", *(
            el("jabber:x:data", "item", el("jabber:x:data", "field", var="a"))
            for _ in range(n)), type="result"),
    ),
    "references": lambda n: (
        body("x"),
        *(el("urn:xmpp:reference:0", "reference", type="mention", uri=f"xmpp:a{one}@b", begin="-1",
             end="9" * 30) for one in range(n)),
    ),
    "files": lambda n: tuple(
        el("jabber:x:oob", "x", el("jabber:x:oob", "url", f"https://a/{one}")) for one in range(n)),
    "bodies": lambda n: tuple(
        Element(expanded(COMPONENT, "body"),
                (("{http://www.w3.org/XML/1998/namespace}lang", f"x-{one}"),), ("x",))
        for one in range(n)),
    "deep XHTML": lambda n: (
        el("http://jabber.org/protocol/xhtml-im", "html", el("http://www.w3.org/1999/xhtml", "body",
           nested(min(n // 20, 200), lambda one: el("http://www.w3.org/1999/xhtml", "p", one)))),
    ),
    "wide XHTML": lambda n: (
        el("http://jabber.org/protocol/xhtml-im", "html", el("http://www.w3.org/1999/xhtml", "body",
           *(el("http://www.w3.org/1999/xhtml", "blink", "x") for _ in range(n)))),
    ),
    "deep JSON": lambda n: (
        el("urn:xmpp:json-msg:0", "payload",
           el("urn:xmpp:json:0", "json", "[" * n + "]" * n), datatype="d"),
    ),
    "delays": lambda n: tuple(el("urn:xmpp:delay", "delay", stamp="x" * 9) for _ in range(n)),
    "stanza ids": lambda n: tuple(
        el("urn:xmpp:sid:0", "stanza-id", by=f"a{one}", id="x") for one in range(n)),
}  # fmt: skip


def message(*children: Element) -> Stanza:
    made = Stanza.of(el(COMPONENT, "message", *children, from_="a@b/c", to="bot@b.example", id="m"))
    assert made is not None
    return made


def steps(run: Callable[[], object]) -> int:
    """Count the calls that something takes."""
    count = 0

    def counted(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def read(one: Stanza) -> dict[str, Any]:
    event_of(one)
    to_mod_rest(one)
    made: dict[str, Any] = json.loads(request_body(one, "<message/>", 0.0))
    return made


@pytest.mark.parametrize("name", READ)
def test_a_stranger_cannot_make_reading_fail_or_slow(name: str) -> None:
    small, large = (message(*READ[name](count)) for count in (MANY, 2 * MANY))
    assert read(small)["event"]
    assert steps(lambda: read(large)) < 2.5 * steps(lambda: read(small)) + 500


@pytest.mark.parametrize("depth", [*range(50, 1050, 50), *range(300, 340), *range(960, 1000)])
def test_json_of_any_depth(depth: int) -> None:
    """What can just be read must not fail when it is written, nor when it is redacted."""
    text = '{"a":' * depth + "1" + "}" * depth
    inner = el("urn:xmpp:json:0", "json", text)
    one = message(el("urn:xmpp:json-msg:0", "payload", inner, datatype="d"))
    posted = request_body(one, "<message/>", 0.0).decode()
    for record in (Record(0.0, "http", f'{{"request":{posted}}}'.encode()),
                   Record(0.0, "http", f'{{"request":{{"payload":{{"data":{text}}}}}}}'.encode()),
                   Record(0.0, IN, f"<json>{text}</json>".encode())):  # fmt: skip
        [new] = Redactor(b"0123456789abcdef").feed(record)
        if depth < 900:  # else it is no JSON to msgspec, and not to `replay`
            assert (b'{"request":' in new.data) is (record.channel == "http")
        Search(Hidden(1024)).feed(record)


def large(count: int) -> dict[str, Any]:
    """Give a large value for keys that can have one."""
    fields = [{"var": f"v{one}", "value": "x"} for one in range(count)]
    return {
        "reactions": {"id": "a", "reactions": [f"r{one}" for one in range(count)]},
        "references": [{"type": "data", "uri": f"https://a/{one}"} for one in range(count)],
        "dataform": {"type": "submit", "fields": fields},
        "hints": ["store"] * count,
        "fallback": [f"urn:{one}" for one in range(count)],
        "bodies": {f"x-{one}": "x" for one in range(count)},
        "html": "<p>" * count + "x<b>" * count,
        "payload": {"datatype": "d", "data": [{"a": 1}] * count},
        "vcard": {"fn": "x", "photo": {"type": "image/png", "binval": "QUJD" * 25 * count}},
        "items": [{"jid": f"a{one}@b"} for one in range(count)],
        "disco": {"features": [f"urn:{one}" for one in range(count)]},
        "stats": [{"name": f"n{one}", "value": one} for one in range(count)],
        "subject": "x" * 100 * count,
    }


def write(key: str, value: Any) -> None:
    asked = stanza(ASKED_IQ if WRITERS[key].kinds == ("iq",) else ASKED)
    [one] = read_reply(ReplyBody("json", json.dumps({"body": "x", key: value}).encode())).objects
    assert isinstance(one, RichObject)
    with pytest.raises(UnusableReply) if key in ("reactions", "dataform") else nullcontext():
        write_fields({key: one.fields[key]}, None, WRITERS[key].kinds[0], asked)


@pytest.mark.parametrize("key", large(0))
def test_a_large_reply_is_written_or_refused(key: str) -> None:
    small, twice = large(MANY)[key], large(2 * MANY)[key]
    write(key, small)
    assert steps(lambda: write(key, twice)) < 2.5 * steps(lambda: write(key, small)) + 500


def test_a_field_that_is_there_twice_is_found_at_once() -> None:
    class Name(str):
        """Counts comparisons."""

        compared = 0

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    count = FIELDS_LIMIT - 2
    names = [Name(f"v{one}") for one in range(count)]
    fields = [FormField(name) for name in (*names, names[-1], Name(f"v{count - 1}"))]
    with pytest.raises(UnusableReply, match="'v497' is there twice"):
        form_element("dataform", Form("submit", fields=fields))
    assert Name.compared < 10 * count
