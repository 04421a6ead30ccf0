"""Profiles as clients see them: vCards, items, announcements, capabilities."""

import base64
import hashlib
import re

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.profile import Avatar, Profile, parse_avatar
from bridge.xmpp.identity.book import IdentityBook, read_profile
from bridge.xmpp.identity.disco import CAPS_NODE, DiscoInfo
from bridge.xmpp.state import MemoryState
from tests.bridge.recorder import Recorder
from tests.bridge.sample import element, meaning, stanza
from tests.bridge.xmpp.test_autoresponder import BARE, COMPONENT, FULL, HOST, NAME, iq, responder
from xmppstream import Element, Stanza
from xmppstream.names import DISCO_INFO, expanded

PNG = b"\x89PNG\r\n\x1a\n" + b"not decoded by anybody here"
AVATAR = parse_avatar(PNG)
SHA1 = hashlib.sha1(PNG).hexdigest()
BASE64 = base64.b64encode(PNG).decode()
ECHO = Profile("Echo", "Says <it> again", "https://example.com/echo", AVATAR)
WITH = evolve(COMPONENT, profiles={"echo": ECHO})
PUBSUB = "http://jabber.org/protocol/pubsub"


def ask(payload: str, to: str = BARE, component: object = WITH) -> Element:
    [answer] = responder(component).answer(stanza(iq(payload, to)))  # type: ignore[arg-type]
    assert answer.type == "result"
    assert answer.payload is not None
    return answer.payload


def test_the_vcard() -> None:
    assert meaning(ask("<vCard xmlns='vcard-temp'/>")) == meaning(
        element(
            "<vCard xmlns='vcard-temp'><FN>Echo</FN><NICKNAME>Echo</NICKNAME>"
            "<URL>https://example.com/echo</URL><DESC>Says &lt;it&gt; again</DESC>"
            f"<PHOTO><TYPE>image/png</TYPE><BINVAL>{BASE64}</BINVAL></PHOTO></vCard>"
        )
    )


VCARD_4 = (
    "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><fn><text>Echo</text></fn>"
    "<nickname><text>Echo</text></nickname>"
    f"<photo><uri>data:image/png;base64,{BASE64}</uri></photo>"
    "<url><uri>https://example.com/echo</uri></url>"
    "<note><text>Says &lt;it&gt; again</text></note></vcard>"
)


def test_the_vcard_in_its_later_form() -> None:
    found = ask("<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/>", FULL)
    assert meaning(found) == meaning(element(VCARD_4))


def test_a_vcard_without_a_name_has_that_of_the_component() -> None:
    bare = evolve(COMPONENT, profiles={"*": Profile(url="https://example.com/")})
    found = ask("<vCard xmlns='vcard-temp'/>", BARE, bare)
    url = "<URL>https://example.com/</URL>"
    name = NAME.replace("&", "&amp;")
    assert meaning(found) == meaning(
        element(f"<vCard xmlns='vcard-temp'><FN>{name}</FN>{url}</vCard>")
    )


INFO = f"<info bytes='{len(PNG)}' id='{SHA1}' type='image/png'/>"
ITEMS = [
    ("urn:xmpp:vcard4", "current", VCARD_4),
    (
        "http://jabber.org/protocol/nick",
        "current",
        "<nick xmlns='http://jabber.org/protocol/nick'>Echo</nick>",
    ),
    (
        "urn:xmpp:avatar:metadata",
        SHA1,
        f"<metadata xmlns='urn:xmpp:avatar:metadata'>{INFO}</metadata>",
    ),
    ("urn:xmpp:avatar:data", SHA1, f"<data xmlns='urn:xmpp:avatar:data'>{BASE64}</data>"),
]


@pytest.mark.parametrize(("node", "id", "payload"), ITEMS, ids=[row[0] for row in ITEMS])
def test_the_items_of_an_account(node: str, id: str, payload: str) -> None:
    def items(inside: str) -> str:
        return f"<pubsub xmlns='{PUBSUB}'><items node='{node}'>{inside}</items></pubsub>"

    whole = items(f"<item id='{id}'>{payload}</item>")
    assert meaning(ask(items(""))) == meaning(element(whole))
    assert meaning(ask(items(f"<item id='{id}'/>"))) == meaning(element(whole))
    assert meaning(ask(items("<item id='another'/>"))) == meaning(element(items("")))


def test_what_presence_announces() -> None:
    book = responder(WITH).book
    caps, nick, update = book.announced(BARE)
    assert caps == book.info(BARE).caps()
    assert meaning(nick) == meaning(
        element("<nick xmlns='http://jabber.org/protocol/nick'>Echo</nick>")
    )
    assert meaning(update) == meaning(
        element(f"<x xmlns='vcard-temp:x:update'><photo>{SHA1}</photo></x>")
    )


def test_a_profile_without_a_picture_says_so() -> None:
    plain = evolve(COMPONENT, profiles={"*": Profile(description="quiet")})
    [_, update] = responder(plain).book.announced(BARE)
    assert meaning(update) == meaning(element("<x xmlns='vcard-temp:x:update'><photo/></x>"))
    [_] = responder(plain).book.announced(HOST)


def test_where_iqs_are_posted_only_the_name_is_announced() -> None:
    posted = evolve(WITH, post_stanzas=frozenset({"message", "iq"}))
    [nick] = responder(posted).book.announced(BARE)
    assert nick.text == "Echo"


PROFILES = evolve(
    COMPONENT,
    profiles={
        "": Profile(name="The service"),
        "*": Profile(name="Anybody"),
        "echo": Profile(name="Echo", category="automation", type="echo", features=("urn:x",)),
    },
)


@pytest.mark.parametrize(
    ("address", "identity", "name"),
    [
        (HOST, "component/generic", "The service"),
        (f"{HOST}/x@y", "component/generic", "The service"),
        (BARE, "automation/echo", "Echo"),
        (f"ECHO@{HOST}/desk", "automation/echo", "Echo"),
        (f"other@{HOST}", "client/bot", "Anybody"),
    ],
)
def test_whose_profile_an_address_has(address: str, identity: str, name: str) -> None:
    info = responder(PROFILES).book.info(address)
    assert (f"{info.category}/{info.type}", info.name) == (identity, name)
    assert ("urn:x" in info.features) is (name == "Echo")
    assert "vcard-temp" in info.features


def test_another_configuration_is_used_at_once() -> None:
    one = responder(WITH)
    before = one.book.info(BARE)
    one.book.change(evolve(COMPONENT, profiles={"echo": evolve(ECHO, name="Parrot")}))
    assert (before.name, one.book.info(BARE).name) == ("Echo", "Parrot")
    one.book.change(COMPONENT)
    assert one.book.profile(BARE) is None


# --- entity capabilities


def test_the_hash_is_that_of_the_xep() -> None:
    features = (
        "http://jabber.org/protocol/caps",
        "http://jabber.org/protocol/disco#info",
        "http://jabber.org/protocol/disco#items",
        "http://jabber.org/protocol/muc",
    )
    info = DiscoInfo("client", "pc", "Exodus 0.9.1", features)
    assert info.hash == "QgayPKawpkPSDYmwT/WM94uAlu0="  # XEP-0115 §5.2


def hash_of(query: Element) -> str:
    """Compute the hash from an answer as a client does (XEP-0115 §5.4)."""
    identities = [
        "/".join(one.get(key) or "" for key in ("category", "type", "lang", "name"))
        for one in query.find_all(expanded(DISCO_INFO, "identity"))
    ]
    features = [one.get("var") or "" for one in query.find_all(expanded(DISCO_INFO, "feature"))]
    assert len({*features}) == len(features)
    parts = [*sorted(identities), *sorted(features, key=str.encode)]
    digest = hashlib.sha1("".join(f"{part}<" for part in parts).encode()).digest()
    return base64.b64encode(digest).decode()


words = st.text(st.characters(codec="utf-8", exclude_characters="<", exclude_categories=["Cc"]))


@given(
    name=words,
    features=st.lists(words.filter(bool)),
    posted=st.sets(st.sampled_from(["message", "edit", "reaction", "displayed", "typing", "form"])),
)
def test_the_hash_in_a_presence_is_that_of_the_answer(
    name: str, features: list[str], posted: set[str]
) -> None:
    component = evolve(
        COMPONENT,
        post_events=frozenset(posted),
        profiles={"*": Profile(name=name, features=tuple(features))},
    )
    one = responder(component)
    [presence] = one.answer(
        Stanza(stanza(f"<presence type='probe' from='a@x.example' to='{BARE}'/>").element)
    )
    caps = presence.element.elements[0]
    [info] = one.answer(stanza(iq(f"<query xmlns='{DISCO_INFO}'/>", f"{BARE}/default")))
    assert info.payload is not None
    assert (caps.get("node"), caps.get("ver")) == (CAPS_NODE, hash_of(info.payload))


# --- pictures


@pytest.mark.parametrize(
    ("data", "media_type"),
    [(PNG, "image/png"), (b"\xff\xd8\xff\xe0....", "image/jpeg")],
)
def test_a_picture_is_known_by_its_first_bytes(data: bytes, media_type: str) -> None:
    assert parse_avatar(data) == Avatar(data, media_type, hashlib.sha1(data).hexdigest())
    assert re.fullmatch("[0-9a-f]{40}", parse_avatar(data).hash)


# --- profiles that are set while the bridge runs


def test_a_profile_that_was_set_outlives_the_process() -> None:
    state = MemoryState()
    first = IdentityBook(PROFILES, state)
    first.load(Recorder().logger())
    first.set_profile("echo", ECHO)
    first.set_profile("", Profile(name="Set"))
    again = IdentityBook(PROFILES, state)
    assert again.name(BARE) == "Echo"
    assert again.profile(BARE) != ECHO  # not read yet
    again.load(Recorder().logger())
    assert again.profile(BARE) == ECHO
    assert again.name(HOST) == "Set"
    again.set_profile("echo", None)
    assert again.profile(BARE) == PROFILES.profiles["echo"]
    assert [*state.entries("profile")] == [""]


def test_a_profile_of_another_version_is_left_out_and_reported() -> None:
    state, log = MemoryState(), Recorder()
    state.put("profile", "echo", b'{"colour": "red"}')
    state.put("profile", "news", b"{")
    book = IdentityBook(COMPONENT, state)
    book.load(log.logger())
    assert book.profile(BARE) is None
    [first, second] = log.of("a profile cannot be read")
    assert (first["local"], second["local"]) == ("echo", "news")
    assert first["why"].startswith("colour: this key is unknown")


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)


@given(
    st.builds(
        Profile,
        name=texts,
        description=texts,
        avatar=st.sampled_from([None, AVATAR]),
        features=st.lists(st.sampled_from(["urn:a", "urn:b"])).map(tuple),
    )
)
def test_a_profile_is_read_as_it_was_written(profile: Profile) -> None:
    assert read_profile(profile.to_json()) == profile
