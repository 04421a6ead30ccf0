"""The redactor on records that a person can read, and each of its parts at its edges."""

import json
import re
import time
import unicodedata
from datetime import UTC, datetime

import pytest

from bridge.capture.format import Header, Record
from bridge.capture.redact import Redactor
from bridge.capture.redact.alphabet import letter_of
from bridge.capture.redact.hidden import Hidden
from bridge.capture.redact.pseudonym import MARKS, Pseudonyms
from bridge.capture.redact.rewriter import HELD_BYTES, HELD_RECORDS
from bridge.capture.redact.search import Search
from bridge.capture.redact.spelling import change_json, change_xml
from bridge.capture.redact.vocabulary import keeps_text
from bridge.payload import error
from bridge.webhook.outcome import BadReply, Failure, Rejected, TimedOut, Unreachable, error_of
from tests.bridge.capture.redact.test_properties import hidden_of
from xmppstream import StanzaError
from xmppstream.jid import split

KEY = b"0123456789abcdef"


def redact(*records: tuple[str, str], key: bytes = KEY) -> list[str]:
    """Feed records, and give the data of what comes out."""
    redactor = Redactor(key)
    new = [
        one
        for at, (channel, data) in enumerate(records)
        for one in redactor.feed(Record(float(at), channel, data.encode()))
    ]
    return [one.data.decode() for one in [*new, *redactor.end()]]


def one(data: str, channel: str = "in") -> str:
    (new,) = redact((channel, data))
    return new


# --- the bridge's own words

FAILURES: list[Failure] = [
    *map(Rejected, range(100, 600)),
    Unreachable("x"),
    TimedOut(),
    BadReply("x"),
]
OWN_TEXTS = {one.text for one in vars(error).values() if isinstance(one, StanzaError)} | {
    error_of(failure).text for failure in FAILURES
}


@pytest.mark.parametrize("text", sorted(OWN_TEXTS))
def test_the_text_of_an_error_of_the_bridge_is_kept(text: str) -> None:
    assert keeps_text("text", text)


# --- XML


@pytest.mark.parametrize(
    "xml",
    [
        "<message type='chat'/>",
        "<message xmlns='jabber:client' xmlns:x='urn:juliet' xml:lang='en-GB'/>",
        "<iq type='get'><query xmlns='jabber:iq:version' node='http://jabber.org/protocol/muc'/></iq>",
        "<show>chat</show><priority>-1</priority>",
        "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#user</value></field>",
        "<delay stamp='2026-11-22T11:26:42.503Z' from='x.test'/>",
        "<item affiliation='owner' role='moderator'/><status code='110'/>",
        "<a to='bot.example' from='localhost' by='[::1]'/>",
        "<message id='msg_64a1b2c3d4e5f60718293a4b5c-1'/>",
        "<?xml version='1.0' encoding=\"UTF-8\"?>",
        "<handshake>redacted</handshake></stream:stream> \n\t",
        "<error type='wait'><text>The service has not answered in time.</text></error>",
        "<presence from='x.test/default' to='x.test'/>",
        "<juliet><capulet:romeo></capulet:romeo ></juliet>",
    ],
)
def test_what_is_the_protocols_stays(xml: str) -> None:
    assert one(xml) == xml


@pytest.mark.parametrize(
    "xml",
    [
        "<message type='juliet'/>",
        "<body>chat</body>",
        "<subject>juliet</subject>",
        "<show>juliet</show>",
        "<value>urn:xmpp:juliet</value>",
        "<field var='juliet'/>",
        "<a to='juliet' by='juliet'/>",
        "<a href='http://x.test/juliet'/>",
        "<status code='juliet'/>",
        "<handshake>3f2504e0juliet</handshake>",
        "<a b='juliet",
        "<a juliet>",
        "<a b=juliet>",
        "<a b='x' juliet/>",
        "<!-- juliet -->",
        "<?juliet juliet?>",
        "<!DOCTYPE juliet [<!ENTITY a 'juliet'>]>",
        "&juliet; &#106;uliet j&#x75;liet <![CDATA[juliet]]> jul<![CDATA[iet]]> <![CDATA[juliet",
        "j\u0301uliet JULIET Juliet juliet\u200d",
        "mailto:juliet%40x.test %6auliet juliet@x.test",
        "<message id='juliet@x.test/1'/>",
        "<x jid='xmpp:juliet@x.test?join'/>",
        "<x jid='juliet\\40x.test@y.test/juliet'/>",
        "<x a='&apos;juliet&apos;' b=\"'juliet'\"/>",
        "<a b='juliet>juliet'/>",
        "<x:a x:b='juliet'/>",
        "<\u0301a='juliet'",
    ],
)
def test_what_is_a_persons_goes(xml: str) -> None:
    new = one(xml)
    assert "juliet" not in new.lower()
    assert "juliet" not in new.replace("&#106;", "j").replace("&#x75;", "u").lower()
    assert len(new) == len(xml)


def test_a_word_has_one_pseudonym_however_it_is_spelt_and_cut() -> None:
    words = "juliet|j&#117;liet|<![CDATA[juliet]]>|jul<![CDATA[iet]]>|&#x6A;ul&#x000069;et"
    new = [one(f"<body>{word}</body>") for word in words.split("|")]
    plain = "".join(c for c in new[0].removeprefix("<body>").removesuffix("</body>"))
    assert new[2] == f"<body><![CDATA[{plain}]]></body>"
    assert new[3] == f"<body>{plain[:3]}<![CDATA[{plain[3:]}]]></body>"
    assert (
        new[4]
        == f"<body>&#x{ord(plain[0]):02x};{plain[1:3]}&#x{ord(plain[3]):06x};{plain[4:]}</body>"
    )
    assert redact(("in", "<body>jul"), ("in", "iet</body>")) == [
        f"<body>{plain[:3]}",
        f"{plain[3:]}</body>",
    ]


@pytest.mark.parametrize("text", ["🙂", "x 🙂 y", "é", "1 éa 2", "日", "<![CDATA[ 🙂 é]]>", "🙂🙂"])
def test_a_character_has_one_pseudonym_wherever_it_is_cut(text: str) -> None:
    xml = f"<message><body>{text}</body></message>".encode()
    redactor = Redactor(KEY)
    [whole] = redactor.feed(Record(0.0, "in", xml))
    assert whole.data != xml
    for cut in range(1, len(xml)):
        redactor = Redactor(KEY)
        parts = redactor.feed(Record(0.0, "in", xml[:cut]))
        parts += redactor.feed(Record(0.0, "in", xml[cut:])) + redactor.end()
        assert b"".join(part.data for part in parts) == whole.data


def test_letter_case_and_script_stay() -> None:
    new = one("<body>Juliet JULIET Джульетта ΑΒΓ 你好 Καλή 42 א👍é</body>")
    assert new[6].isupper()
    assert new[7:12].islower()
    assert new[13:19] == new[6:12].upper()
    scripts = [unicodedata.name(c).split()[0] for c in new if c.isalpha() and not c.isascii()]
    expected = ["CYRILLIC"] * 9 + ["GREEK"] * 3 + ["CJK"] * 2 + ["GREEK"] * 4 + ["HEBREW", "LATIN"]
    assert scripts == expected


def test_everybody_has_one_name_everywhere() -> None:
    new = redact(
        ("in", "<presence from='juliet@x.test/pda' to='bot.example'/>"),
        ("out", "<presence to='Juliet@x.test' by='room@x.test/pda'/>"),
        ("http", '{"request": {"to": "juliet@x.test/pda"}, "status": 200}'),
    )
    name = split(new[0].split("'")[1])
    assert f"to='{name.local.capitalize()}@x.test'" in new[1]
    assert f"@x.test/{name.resource}'" in new[1]
    assert json.loads(new[2])["request"]["to"] == str(name)


# --- records


def test_a_word_over_several_chunks_is_held_back_with_what_comes_between() -> None:
    redactor = Redactor(KEY)
    assert redactor.feed(Record(1.0, "in", b"<body>jul")) == []
    assert redactor.feed(Record(2.0, "out", b"<a/>")) == []
    assert redactor.feed(Record(3.0, "http", b"{}")) == []
    got = redactor.feed(Record(4.0, "in", b"iet </body>"))
    assert [(one.at, one.channel, len(one.data)) for one in got] == [
        (1.0, "in", 9),
        (2.0, "out", 4),
        (3.0, "http", 2),
        (4.0, "in", 11),
    ]
    assert redactor.end() == []


def test_not_more_is_held_back_than_the_limits() -> None:
    redactor = Redactor(KEY)
    redactor.feed(Record(0.0, "in", b"<body>juliet"))
    got = [one for _ in range(HELD_RECORDS + 1) for one in redactor.feed(Record(1.0, "out", b" "))]
    assert got[0].at == 0.0
    assert len(got) > HELD_RECORDS
    assert redactor.feed(Record(2.0, "in", b"<a b='juliet")) == []
    (first, *rest) = redactor.feed(Record(3.0, "out", b"  " * (HELD_BYTES // 2)))
    assert len(first.data) == len("<a b='juliet")
    assert b"juliet" not in first.data
    assert len(rest) == 1


def test_a_tag_of_a_mebibyte_is_not_held_back_for_ever() -> None:
    redactor = Redactor(KEY)
    redactor.feed(Record(0.0, "in", b"<a b='"))
    got = [one for _ in range(40) for one in redactor.feed(Record(1.0, "in", b"juliet " * 5000))]
    assert got
    assert b"juliet" not in b"".join(one.data for one in got)


@pytest.mark.parametrize(
    "part",
    [
        *("<![CDATA[x", "]]", "&#1", "<a b='x' ", "<a b='", "a='", "QUJDREVG", "<!", "<?x "),
        *("x\\u00", "@a.", "a@b/", "a b=", '"', "{[", "<x a='&", "]", ".x", "\\40"),
    ],
)
def test_no_input_takes_long(part: str) -> None:
    data = part * (60_000 // len(part))
    started = time.process_time()
    redact(("in", data), ("http", json.dumps({"body": data, "request": {"to": data}})))
    search = Search(Hidden(1024))
    search.feed(Record(0.0, "in", data.encode()))
    search.end()
    assert time.process_time() - started < 5


def test_long_words_do_not_depend_on_the_cuts() -> None:
    text = ("Hallo" * 2000) + ("日本語テキスト" * 500)
    whole = one(f"<body>{text}</body>")
    data = f"<body>{text}</body>".encode()
    redactor = Redactor(KEY)
    cut = [
        one
        for at in range(0, len(data), 61)
        for one in redactor.feed(Record(0.0, "in", data[at : at + 61]))
    ] + redactor.end()
    assert b"".join(one.data for one in cut).decode() == whole
    assert [len(one.data) for one in cut] == [
        len(data[at : at + 61]) for at in range(0, len(data), 61)
    ]


def test_a_new_connection_begins_anew() -> None:
    new = redact(("in", "<body>jul"), ("link", "end given up"), ("link", "open x.test:5347"))
    new += redact(("in", "iet</body>"))
    assert new[1:3] == ["end given up", "open x.test:5347"]
    assert "jul" not in new[0]


def test_bytes_that_are_no_text_stay() -> None:
    redactor = Redactor(KEY)
    (new,) = redactor.feed(Record(0.0, "in", b"<body>\xff\x00\xc3</body>\xed\xa0\x80 "))
    assert new.data == b"<body>\xff\x00\xc3</body>\xed\xa0\x80 "


def test_link_lines() -> None:
    new = redact(
        ("link", "open [::1]:5347"),
        ("link", "end system-shutdown: juliet did it"),
        ("link", "end connection broke: Connection reset by peer"),
        ("link", "end juliet broke: it"),
        ("link", "juliet"),
        ("other", "juliet"),
    )
    assert new[0] == "open [::1]:5347"
    assert new[1].startswith("end system-shutdown: ")
    assert new[2] == "end connection broke: Connection reset by peer"
    assert "juliet" not in "".join(new)


def test_a_header() -> None:
    fields = (
        ("server", "127.0.0.1:5347"),
        ("endpoint", "https://x.test:8443/juliet?token=hunter"),
        ("continues", "bot.example-20261122T172000Z-0001.xcap.zst"),
        ("note", "what juliet did"),
        ("redacted", "no"),
    )
    header = Header("Prosody 0.12.3", "bot.example", datetime.now(UTC), fields)
    new = Redactor(KEY).header(header)
    assert (new.origin, new.domain, new.date) == (header.origin, header.domain, header.date)
    assert new.get("server") == "127.0.0.1:5347"
    assert new.get("endpoint").startswith("https://x.test:8443/")
    assert new.get("continues") == header.get("continues")
    assert new.get("redacted") == "yes"
    assert "juliet" not in str(new)
    assert "hunter" not in str(new)
    mine = Redactor(KEY).header(Header("juliet's capture", "b", header.date))
    assert "juliet" not in mine.origin
    theirs = Redactor(KEY).header(Header("x", "b", header.date, (("continues", "juliet.xcap"),)))
    assert "juliet" not in theirs.get("continues")


# --- JSON


def exchange(**members: object) -> dict[str, object]:
    """Redact an exchange."""
    new: dict[str, object] = json.loads(one(json.dumps(members), "http"))
    return new


def test_a_request_becomes_what_its_stanza_becomes() -> None:
    stanza = "<message to='a@x.test' id='m1' type='chat'><body>Good &amp; night</body></message>"
    new = exchange(
        id="msg_64a1b2c3",
        attempt=2,
        start=1.5,
        duration_s=0.25,
        request={"to": "a@x.test", "kind": "message", "type": "chat", "id": "m1"}
        | {"body": "Good & night", "stanza": stanza, "received": "2026-11-22T11:26:42.503Z"},
        status=200,
    )
    request = new["request"]
    assert isinstance(request, dict)
    assert request["stanza"] == one(stanza)
    assert f">{request['body'].replace('&', '&amp;')}<" in request["stanza"]
    assert f"to='{request['to']}' id='{request['id']}'" in request["stanza"]
    assert (request["kind"], request["received"]) == ("message", "2026-11-22T11:26:42.503Z")
    assert (new["id"], new["attempt"], new["start"], new["status"]) == ("msg_64a1b2c3", 2, 1.5, 200)


def test_keys_of_mod_rest_stay_and_their_values_go() -> None:
    link = "https://files.secret.example/rose.jpg"
    body = json.dumps(
        {"body": link, "oob_url": link, "reference": {"uri": "xmpp:juliet@capulet.example"}}
    )
    answer = exchange(headers={"content-type": "application/json"}, body=body)
    new = json.loads(str(answer["body"]))
    assert set(new) == {"body", "oob_url", "reference"}
    assert new["body"] == new["oob_url"]
    assert not {"secret", "rose", "juliet"} & set(re.findall(r"\w+", str(answer["body"])))


@pytest.mark.parametrize("body", ["true", "12", "-40", "4.50", "1.5e10", '"12"', "0", "[]", "null"])
def test_a_body_that_is_no_string_becomes_what_the_stanza_becomes(body: str) -> None:
    answer = exchange(headers={"content-type": "application/json"}, body=f'{{"body": {body}}}')
    new = json.loads(str(answer["body"]))["body"]
    if body in ("[]", "null"):
        assert new == json.loads(body)
    else:
        said = body.strip('"')
        sent = one(f"<body>{said}</body>").removeprefix("<body>").removesuffix("</body>")
        assert (new if isinstance(new, str) else json.dumps(new)) in (sent, str(float_of(sent)))
        assert sent != said


def float_of(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", '{"juliet": ["juliet", {"a": "juliet"}], "n": 1.25}'),
        ("application/json", '{"to": "juliet", "body": "\\u006auliet \\ud83d\\udc4d juliet"}'),
        ("application/json", '{"body": "juliet'),
        ("application/json", "juliet {'body': 'juliet'}"),
        (
            "application/json",
            '{"stanza": "<message id=\\"juliet\\"><body>juliet</body></message>"}',
        ),
        ("application/xmpp+xml", "<message><body>juliet</body></message>"),
        ("text/html", "<html><title>juliet</title><br>juliet<p class=juliet></html>"),
        ("text/juliet", "juliet"),
        ("", '{"body": "juliet"}'),
    ],
)
def test_answers(media_type: str, body: str) -> None:
    new = exchange(headers={"content-type": media_type, "retry-after": "120"}, body=body)
    text = json.dumps(new)
    assert "juliet" not in text.replace("\\\\u006a", "j")
    assert len(str(new["body"])) == len(body)
    headers = new["headers"]
    assert isinstance(headers, dict)
    assert headers["retry-after"] == "120"
    if media_type != "text/juliet":
        assert headers["content-type"] == media_type


def test_failures_and_bytes() -> None:
    new = exchange(failure={"kind": "unreachable", "why": "Connection refused"})
    assert new == {"failure": {"kind": "unreachable", "why": "Connection refused"}}
    assert "juliet" not in str(exchange(failure={"kind": "unreachable", "why": "juliet"}))
    assert exchange(body_base64="anVsaWV0/w==")["body_base64"] != "anVsaWV0/w=="
    assert "juliet" not in one("juliet no JSON", "http")
    assert exchange(body=None, juliet_=[5, True])["body"] is None
    api = json.loads(one('{"id": "msg_4f", "stanza": "<a to=\'juliet@x.test\'/>"}', "api"))
    assert api["id"] == "msg_4f"
    assert "juliet" not in api["stanza"]


# --- pseudonyms


@pytest.mark.parametrize("pattern", ["a", "1", "ab", "a1", "é", "ж", "a-b", "-", "好"])
def test_names_of_a_shape_are_permuted_and_none_stays(pattern: str) -> None:
    letters = [letter_of(character) for character in pattern]
    names = [""]
    for character, letter in zip(pattern, letters, strict=True):
        choices = letter.alphabet if letter else (character if pattern != "-" else "!#$%-.~")
        names = [name + choice for name in names for choice in choices[:700]]
    pseudonyms = Pseudonyms(KEY)
    new = [pseudonyms.name(name) for name in names]
    assert len(set(new)) == len(names)
    assert not [name for name, made in zip(names, new, strict=True) if name == made]
    sizes = {len(made) for name, made in zip(names, new, strict=True) if name not in MARKS}
    assert sizes == {len(pattern)}


def test_names_that_are_avoided_become_longer_and_stay_different() -> None:
    taken = {f"{number:02}" for number in range(100)}
    pseudonyms = Pseudonyms(KEY, taken.__contains__)
    names = [*sorted(taken), *(f"{mark}{number:02}" for mark in MARKS for number in range(100))]
    new = [pseudonyms.name(name) for name in names]
    assert len(set(new)) == len(names)
    assert taken.isdisjoint(new)
    assert all(name.startswith(MARKS) for name in new)


@pytest.mark.parametrize(
    "name",
    [
        *("juliet", "a.b-c_d", "o\\27hara", "\\20a", "a\\7b", "ß", "juliet\\40x.test", "x" * 1023),
        *("日本", "e\u0301a", "²", "١٢٣"),
    ],
)
def test_local_parts_stay_local_parts(name: str) -> None:
    new = Pseudonyms(KEY).name(name)
    assert new != name
    assert split(f"{new}@x.test").local == new
    assert new == new.lower()
    assert len(new.encode()) == len(name.encode())


def test_escapes_in_local_parts_stay_and_none_comes_about() -> None:
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.name("juliet\\40x")[6:9] == "\\40"
    names = [f"a\\{number:02}" for number in range(100)]
    new = [pseudonyms.name(name) for name in names]
    assert len(set(new)) == 100
    assert sum("\\40" in name for name in new) == sum("\\40" in name for name in names)


def test_a_key_makes_the_pseudonyms() -> None:
    text = "<a to='juliet@x.test'>some words</a>"
    assert one(text) == one(text)
    (other,) = redact(("in", text), key=b"another key, 16+")
    assert other != one(text)
    with pytest.raises(ValueError, match="16 bytes"):
        Redactor(b"short")


def test_no_place_of_a_word_stays() -> None:
    pseudonyms = Pseudonyms(KEY)
    for word in ("juliet", "zzzz", "ЖЖЖЖ", "0", "000", "111", "日本語", "👍", "é" * 300):
        new = pseudonyms.words[word]
        assert not [pair for pair in zip(word, new, strict=True) if pair[0] == pair[1]]
        assert len(new.encode()) == len(word.encode())
        assert new[0] != "0"


def test_avoided_words_are_hashed_again() -> None:
    first = Pseudonyms(KEY).words["juliet"]
    assert Pseudonyms(KEY, lambda made: made == first).words["juliet"] != first
    assert len(Pseudonyms(KEY, lambda made: True).words["juliet"]) == 6


def test_all_classes_are_closed_and_as_long() -> None:
    for number in [*range(0x1200), *range(0x1F300, 0x1F400), 0x10428, 0x4E00, 0xAC00]:
        letter = letter_of(chr(number))
        if letter is None:
            continue
        own = letter.alphabet[letter.index]
        assert (own.upper() if letter.upper else own) == chr(number)
        assert len({len(one.encode()) for one in letter.alphabet}) == 1
        other = letter_of(letter.alphabet[-1])
        assert other is not None
        assert other.alphabet == letter.alphabet


# --- spelling


@pytest.mark.parametrize(
    "raw", ["&#0;", "&#xD800;", "&#99999999;", "&#x;", "&amp", "& ;", "&u;", "]]>", "<![CDATA["]
)
def test_what_is_no_character_stays(raw: str) -> None:
    assert change_xml(f"a{raw}b", str) == f"a{raw}b"


def test_changes_that_are_longer_are_escaped() -> None:
    assert change_xml("&#97;", lambda _: "<a&b") == "&lt;a&amp;b"
    assert change_json("\\u0061", lambda _: 'a"\n') == 'a\\"\\u000a'
    assert change_json("a", lambda _: 'a"') == 'a\\"'


def test_json_spellings() -> None:
    assert change_json("\\ud83d\\udc4d\\n\\ud800\\/", str) == "\\ud83d\\udc4d\\n\\ud800\\/"
    assert change_json("\\u0061\\ud83d\\udc4d", lambda _: "b👎") == "\\u0062\\ud83d\\udc4e"


def test_what_stays_stays_over_several_chunks() -> None:
    assert redact(("in", "<show>ch"), ("in", "at</show>")) == ["<show>ch", "at</show>"]
    new = redact(("in", "<show>ch"), ("in", "eese</show>"))
    assert [len(one) for one in new] == [8, 11]
    assert "eese" not in new[1]


# --- secrets

SECRET = "Tr0ub4dor &amp; 3-x!"
MEANT = "Tr0ub4dor & 3-x!"
MUC_USER = "http://jabber.org/protocol/muc#user"
WITH_SECRETS = {
    "direct": f"<x xmlns='jabber:x:conference' jid='hall@muc.example' password='{SECRET}'/>",
    "mediated": f"<x xmlns='{MUC_USER}'><invite/><password>{SECRET}</password></x>",
    "join": f"<x xmlns='http://jabber.org/protocol/muc'><password>{SECRET}</password></x>",
    "registration": "<q:query xmlns:q='jabber:iq:register'>"
    f"<q:password>{SECRET}</q:password></q:query>",
    "form": "<x xmlns='jabber:x:data' type='submit'><field type='text-private' var='password'>"
    f"<required/><value>{SECRET}</value></field></x>",
    "cdata": f"<password><![CDATA[{MEANT}]]></password>",
    "half cdata": "<password>Tr0ub4dor <![CDATA[& 3-]]>x!</password>",
}


def is_hidden(text: str) -> bool:
    """Whether neither the secret, nor its signs, nor its length can be seen."""
    return not any(part in text for part in ("Tr0ub4dor", "&amp;", "& 3", "-x!", "3-")) and (
        "redacted" in text
    )


@pytest.mark.parametrize("xml", WITH_SECRETS.values(), ids=WITH_SECRETS)
def test_no_secret_survives_in_xml(xml: str) -> None:
    whole = f"<message to='a@b.example'>{xml}<body>hello</body></message>"
    expected = one(whole)
    assert is_hidden(expected), expected
    for at in range(len(whole)):  # cut anywhere
        pieces = redact(("in", whole[:at]), ("in", whole[at:]))
        assert is_hidden("".join(pieces)), pieces
        assert "".join(pieces).count("redacted") == 1
    long = whole.replace("Tr0ub4dor", "Tr0ub4dor " * 40)  # too long to be held back
    for size in (1, 7, 64, 200):
        chunks = [long[at : at + size] for at in range(0, len(long), size)]
        new = "".join(redact(*(("in", chunk) for chunk in chunks)))
        assert is_hidden(new), new
        assert new.count("redacted") == 1
    bytewise = "".join(redact(*(("in", byte) for byte in whole)))
    assert is_hidden(bytewise), bytewise


@pytest.mark.parametrize(
    "value",
    [
        {"invite": {"jid": "hall@muc.example", "password": MEANT}},
        {"muc": {"password": MEANT}},
        {"register": {"username": "x", "password": MEANT}},
        {"dataform": {"type": "submit", "data": {"password": MEANT}}},
        {"dataform": {"type": "submit", "data": {"password": [MEANT]}}},
        {"dataform": {"type": "form", "fields": [{"var": "password", "value": MEANT}]}},
        {"dataform": {"type": "form", "fields": [{"var": "password", "values": [MEANT]}]}},
        {"extdisco": {"services": [{"host": "a", "password": MEANT}]}},
        {"reply_url": f"https://example.com/v1/replies/{MEANT}"},
    ],
    ids=repr,
)
def test_no_secret_survives_in_json(value: dict[str, object]) -> None:
    body = json.dumps(value)
    for record in (
        {"uid": "msg_1", "attempt": 1, "request": value},
        {
            "uid": "msg_1",
            "status": 200,
            "headers": {"content-type": "application/json"},
            "body": body,
        },
        {"uid": "msg_1", "status": 200, "headers": {}, "body": body},
        {"uid": "msg_1", "status": 200, "headers": {}, "body": body[:-1]},
    ):
        new = one(json.dumps(record), "http")
        assert is_hidden(new), new


def test_a_secret_that_is_a_number_is_no_number_any_more() -> None:
    assert one('{"request": {"muc": {"password": 1234}}}', "http") == (
        '{"request":{"muc":{"password":"redacted"}}}'
    )
    body = json.dumps({"body": '{"register": {"password": 1234}}'})
    assert "redacted" in one(body, "http")
    assert "1234" not in one(body, "http")


def test_an_absent_secret_stays_absent() -> None:
    assert "redacted" not in one("<query xmlns='jabber:iq:register'><password/></query>")
    assert "redacted" not in one("<query xmlns='jabber:iq:register'><password></password></query>")
    for value in ("", None):
        new = one(json.dumps({"request": {"register": {"password": value}}}), "http")
        assert json.loads(new)["request"]["register"]["password"] == value


def test_the_secrets_are_looked_for_elsewhere() -> None:
    """A password that somebody also writes in a message is found if it were left there."""
    records = [
        Record(0.0, "in", b"<password>Swordfish</password>"),
        Record(1.0, "in", b"<body>swordfish</body>"),
    ]
    hidden = hidden_of(records)
    search = Search(hidden)
    for record in records[1:]:
        search.feed(record)
    search.end()
    assert "swordfish" in search.found
    redactor = Redactor(KEY, hidden.avoids)
    search = Search(hidden)
    for record in [one_ for given in records for one_ in redactor.feed(given)] + redactor.end():
        search.feed(record)
    search.end()
    assert search.found == {}


def test_the_uid_of_a_deferred_reply_stays() -> None:
    uid = "msg_64a1b2c3d4e5f60718293a4b5c-d0123456789"
    assert f"id='{uid}-1'" in one(f"<message id='{uid}-1'/>")
    assert json.loads(one(json.dumps({"uid": uid, "stanza": "<a/>"}), "api"))["uid"] == uid
