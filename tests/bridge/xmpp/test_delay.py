"""`<delay/>` in what is written late (XEP-0203)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.xmpp.outbox import delayed
from tests.bridge.sample import meaning, stanza
from xmppstream import Element, encode, make
from xmppstream.names import COMPONENT, DELAY, expanded

DOMAIN = "bot.example"
MADE = 1_700_000_000.9
STAMP = "2023-11-14T22:13:20Z"


def delay(domain: str = DOMAIN) -> Element:
    return Element(expanded(DELAY, "delay"), (("from", domain), ("stamp", STAMP)))


@pytest.mark.parametrize("kind", ["message", "presence"])
@pytest.mark.parametrize("inner", ["", "<body>a</body>", "<x xmlns='u'><message/></x>", "/&gt;"])
def test_it_is_the_last_child(kind: str, inner: str) -> None:
    one = stanza(f"<{kind} from='a@b' to='c@d' id='1'>{inner}</{kind}>")
    late = stanza(delayed(encode(one), MADE, DOMAIN).decode())
    assert late.element.children[:-1] == one.element.children
    assert late.element.attributes == one.element.attributes
    assert meaning(late.element.elements[-1]) == meaning(delay())


def test_an_iq_stays_as_it_is() -> None:
    for data in (b"<iq type='result' id='1'/>", b"<iq id='1' type='get'><q xmlns='u'/></iq>"):
        assert delayed(data, MADE, DOMAIN) == data


def test_one_more_delay_beside_that_of_another() -> None:
    """A message that was late before it came to us."""
    first = f"<delay xmlns='{DELAY}' from='other.example' stamp='2001-01-01T00:00:00Z'/>"
    one = stanza(f"<message from='a@b' to='c@d'>{first}</message>")
    late = stanza(delayed(encode(one), MADE, DOMAIN).decode())
    assert [child.get("from") for child in late.element.elements] == ["other.example", DOMAIN]


def test_what_a_domain_may_hold_is_escaped() -> None:
    late = stanza(delayed(b"<message/>", MADE, "a'&<b").decode())
    assert meaning(late.element.elements[0]) == meaning(delay("a'&<b"))


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"]))


@given(st.sampled_from(["message", "presence"]), TEXT, st.floats(0, 4_000_000_000))
def test_nothing_else_is_touched(kind: str, text: str, made: float) -> None:
    children = (Element(expanded(COMPONENT, "body"), (), (text,)),) if text else ()
    one = make(kind, "a@b", "c@d", id=text or "i", children=children)  # type: ignore[arg-type]  # of KINDS
    late = stanza(delayed(encode(one), made, DOMAIN).decode())
    *rest, last = late.element.elements
    assert [meaning(child) for child in rest] == [meaning(child) for child in children]
    assert last.name == expanded(DELAY, "delay")
    assert late.element.attributes == one.element.attributes
