"""Checks of how a server reads XML: rules S18 to S20, S22, and S24 to S27."""

from typing import Final

from bridge.conformance.report import Verdict
from bridge.conformance.server.outcome import (
    PROBE,
    Judge,
    Judgement,
    Outcome,
    accepted,
    intact,
    judged,
    not_passed_on,
    not_well_formed,
    passed_on,
    refused,
    turned_away,
)
from bridge.conformance.server.target import ANSWER_S, Check, Target, sends
from xmppstream.element import Element
from xmppstream.names import CLIENT, COMPONENT, LANG, PING, expanded
from xmppstream.stanza import Stanza

_MESSAGE: Final = f"<message from='a@DOMAIN' to='b@DOMAIN' id='{PROBE}'>%s</message>"
_FOREIGN: Final = "urn:example:foreign"
_FORWARD: Final = "urn:xmpp:forward:0"
_RESTRICTED: Final = refused("restricted-xml")
_ILL_FORMED: Final = refused("not-well-formed")
_NOT_UTF8: Final = refused("unsupported-encoding", "not-well-formed", "bad-format")
_OTHER_CONTENT: Final = not_passed_on(
    "invalid-namespace", "unsupported-stanza-type", ignored=Verdict.PASS
)


def _body(content: str) -> str:
    return _MESSAGE % f"<body>{content}</body>"


def _raw(content: bytes) -> bytes:
    return _body("%").encode().replace(b"%", content)


def _declared(rule: str, name: str, declaration: str, judge: Judge) -> Check:
    """Return a check that attaches with `declaration` before the stream header."""

    async def probe(target: Target) -> Judgement:
        _, outcome = await target.enter(declaration.encode() + target.header)
        return judge(outcome)

    return Check(rule, name, probe)


async def utf_16(target: Target) -> Judgement:
    wire = await target.open(target.header_with("", declaration="\ufeff").decode().encode("utf-16"))
    await wire.read_until(lambda: wire.ended, ANSWER_S)
    seen = f"stream error {wire.condition}" if wire.condition else "closed without a stream error"
    if not wire.ended:
        seen = "no answer, the stream stays open" if wire.root is None else "the header is accepted"
    return judged(wire.condition == "unsupported-encoding", not wire.ended, seen)


async def latin_1(target: Target) -> Judgement:
    header = target.header_with("", declaration="<?xml version='1.0' encoding='ISO-8859-1'?>")
    wire, outcome = await target.enter(header)
    if outcome.ended or not outcome.alive:
        return refused("unsupported-encoding")(outcome)
    await wire.send(target.fill(_raw("é".encode("latin-1"))))
    outcome = await target.settle(wire)
    if outcome.passed_on or not outcome.ended:
        return Judgement(Verdict.FAIL, f"the header is accepted; a non-ASCII byte: {outcome.seen}")
    return Judgement(
        Verdict.DIFFERS, f"the declaration is ignored; a non-ASCII byte: {outcome.seen}"
    )


async def foreign_prefix(target: Target) -> Judgement:
    header = target.header_with(f" xmlns:f='{_FOREIGN}'")
    outcome = await target.try_stanza((_MESSAGE % "<f:x f:y='1'/>").encode(), header)
    name = expanded(_FOREIGN, "x")
    changed = bool(outcome.passed_on) and outcome.passed_on[0].element.find(name) is None
    if changed:
        return Judgement(Verdict.FAIL, "passed on with a different name")
    return passed_on(Verdict.DIFFERS)(outcome)


async def inherited_lang(target: Target) -> Judgement:
    wire = await target.attach(target.header_with(" xml:lang='de'"))
    await wire.send(target.fill(_body("Hallo").encode()))
    outcome = await target.settle(wire)
    if not outcome.passed_on:
        return Judgement(Verdict.FAIL, outcome.seen)
    lang = outcome.passed_on[0].element.get(LANG)
    header = wire.attribute(LANG)
    seen = f"passed on with xml:lang {lang}" if lang else "passed on without xml:lang"
    seen += f", in a stream with xml:lang {header}" if header else ", in a stream without one"
    return judged((lang or header) == "de", False, seen)


async def own_lang(target: Target) -> Judgement:
    header = target.header_with(" xml:lang='de'")
    xml = _body("Salut").replace(" id=", " xml:lang='fr' id=")
    outcome = await target.try_stanza(xml.encode(), header)
    if not outcome.passed_on:
        return Judgement(Verdict.FAIL, outcome.seen)
    lang = outcome.passed_on[0].element.get(LANG)
    return judged(lang == "fr", True, f"passed on with xml:lang {lang}")


def _holds(wanted: Element, otherwise: Verdict) -> Judge:
    """Return a judge: the stanza must be passed on with the payload `wanted`."""

    def judge(outcome: Outcome) -> Judgement:
        if outcome.passed_on and wanted not in _payloads(outcome.passed_on):
            return Judgement(Verdict.FAIL, "passed on with a different payload")
        return passed_on(otherwise)(outcome)

    return judge


def _payloads(stanzas: tuple[Stanza, ...]) -> list[Element]:
    return [element for stanza in stanzas for element in stanza.element.elements]


_FORWARDED: Final = Element(
    expanded(_FORWARD, "forwarded"),
    (),
    (Element(expanded(CLIENT, "message"), (("to", "a@b"),), (Element(expanded(CLIENT, "body")),)),),
)

CHECKS: Final = (
    _declared("S18", "an XML declaration", "<?xml version='1.0'?>", accepted(Verdict.FAIL)),
    _declared("S18", "no XML declaration", "", accepted(Verdict.FAIL)),
    _declared(
        "S18",
        "an XML declaration with UTF-8",
        '<?xml version="1.0" encoding="UTF-8"?>',
        accepted(Verdict.FAIL),
    ),
    _declared(
        "S18",
        "an XML declaration with standalone",  # RFC 6120 §11.5: ignore it or close the stream
        "<?xml version='1.0' standalone='yes'?>",
        turned_away(
            "restricted-xml", "not-well-formed", "bad-format", "invalid-xml", let_in=Verdict.PASS
        ),
    ),
    _declared(
        "S18",
        "a byte order mark",
        "\ufeff",
        turned_away("not-well-formed", "bad-format", let_in=Verdict.DIFFERS),
    ),
    _declared("S18", "white space before the declaration", " \n<?xml version='1.0'?>", _ILL_FORMED),
    sends(
        "S18",
        "a declaration between stanzas",
        "<?xml version='1.0'?>" + _body("x"),
        refused("not-well-formed", "restricted-xml"),
    ),
    _declared(
        "S18",
        "XML 1.1",
        "<?xml version='1.1'?>",
        turned_away("unsupported-version", "not-well-formed", let_in=Verdict.DIFFERS),
    ),
    Check("S18", "UTF-16", utf_16),
    Check("S18", "ISO-8859-1 declared", latin_1),
    sends("S18", "a byte that is invalid in UTF-8", _raw(b"\xff"), _NOT_UTF8),
    sends("S18", "an overlong form", _raw(b"\xc0\xaf"), _NOT_UTF8),
    sends("S18", "a lone surrogate", _raw(b"\xed\xa0\x80"), _NOT_UTF8),
    sends("S19", "a comment between stanzas", "<!-- x -->" + _body("x"), _RESTRICTED),
    sends("S19", "a comment in a stanza", _body("a<!-- x -->b"), _RESTRICTED),
    sends("S19", "a processing instruction", _body("a<?x y?>b"), _RESTRICTED),
    _declared("S19", "a DTD", "<!DOCTYPE stream>", _RESTRICTED),
    _declared("S19", "an internal subset", "<!DOCTYPE stream [<!ENTITY e 'x'>]>", _RESTRICTED),
    sends("S19", "a DTD between stanzas", "<!DOCTYPE x>" + _body("x"), _RESTRICTED),
    sends("S19", "an undefined entity", _body("&undefined;"), _RESTRICTED),
    sends(
        "S19",
        "the predefined entities and character references",
        _body("&lt;&amp;&gt;&quot;&apos;&#65;&#x42;"),
        intact("<&>\"'AB"),
    ),
    sends("S19", "a CDATA section", _body("<![CDATA[<&]]>"), intact("<&")),
    sends("S20", "an unbound prefix of an element", _MESSAGE % "<p:x/>", not_well_formed),
    sends("S20", "an unbound prefix of an attribute", _MESSAGE % "<x p:y='1'/>", not_well_formed),
    sends(
        "S20",
        "two attributes with one expanded name",
        _MESSAGE % f"<x xmlns='{_FOREIGN}' xmlns:p='{_FOREIGN}' xmlns:q='{_FOREIGN}'"
        " p:y='1' q:y='2'/>",
        not_well_formed,
    ),
    sends("S20", "xmlns:p=''", _MESSAGE % "<x xmlns:p=''/>", not_well_formed),
    sends("S20", "a name with two colons", _MESSAGE % "<a:b:c xmlns:a='urn:a'/>", not_well_formed),
    sends("S20", "an attribute twice", _MESSAGE % "<x y='1' y='2'/>", _ILL_FORMED),
    sends("S20", "mismatched tags", _MESSAGE % "<x></y>", _ILL_FORMED),
    sends("S20", "an attribute without quotes", _MESSAGE % "<x y=1/>", _ILL_FORMED),
    sends(
        "S22",
        "a prefixed iq",
        f"<c:iq xmlns:c='{COMPONENT}' from='a@DOMAIN' to='b@DOMAIN' id='{PROBE}' type='get'>"
        f"<ping xmlns='{PING}'/></c:iq>",
        _holds(Element(expanded(PING, "ping")), Verdict.DIFFERS),
    ),
    sends(
        "S22",
        "a prefixed payload",
        _MESSAGE % f"<f:x xmlns:f='{_FOREIGN}' f:y='1'/>",
        _holds(Element(expanded(_FOREIGN, "x"), ((expanded(_FOREIGN, "y"), "1"),)), Verdict.FAIL),
    ),
    sends(
        "S24",
        "a top-level message in jabber:client",
        _body("x").replace("<message", f"<message xmlns='{CLIENT}'"),
        _OTHER_CONTENT,
    ),
    sends(
        "S24",
        "jabber:client inside a forwarded payload",
        _MESSAGE % f"<forwarded xmlns='{_FORWARD}'><message xmlns='{CLIENT}' to='a@b'><body/>"
        "</message></forwarded>",
        _holds(_FORWARDED, Verdict.FAIL),
    ),
    Check("S25", "a prefix from the stream's header", foreign_prefix),
    Check("S26", "xml:lang of the header", inherited_lang),
    Check("S26", "xml:lang of the stanza", own_lang),
    sends("S27", "&#1;", _body("&#1;"), _ILL_FORMED),
    sends("S27", "a control character", _raw(b"\x01"), _ILL_FORMED),
    sends("S27", "NUL", _raw(b"\0"), _ILL_FORMED),
    sends("S27", "&#xFFFE;", _body("&#xFFFE;"), _ILL_FORMED),
    sends("S27", "U+FFFF", _body("\uffff"), _ILL_FORMED),
)
