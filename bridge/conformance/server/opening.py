"""Checks of how a server lets a component attach: rules S1 to S9."""

from typing import Final

from bridge.conformance.report import Verdict
from bridge.conformance.server.connection import Wire
from bridge.conformance.server.outcome import (
    PROBE,
    Judgement,
    accepted,
    judged,
    refused,
    turned_away,
)
from bridge.conformance.server.target import ANSWER_S, BARRIER, SILENCE_S, Check, Target
from xmppstream.names import CLIENT, COMPONENT, DISCO_INFO, LANG, PING, STREAMS, VERSION, expanded

_FEATURES: Final = expanded(STREAMS, "features")
_SHOWN: Final = (("from", "from"), ("id", "id"), (LANG, "xml:lang"), ("version", "version"))
_UNKNOWN: Final = "no-such-component"


async def own_domain(target: Target) -> Judgement:
    _, outcome = await target.enter()
    return accepted(Verdict.FAIL)(outcome)


async def unknown_domain(target: Target) -> Judgement:
    _, outcome = await target.enter(_unknown_header(target))
    return turned_away("host-unknown", let_in=Verdict.DIFFERS)(outcome)


async def no_domain(target: Target) -> Judgement:
    header = target.header.replace(f" to='{target.domain}'".encode(), b"")
    _, outcome = await target.enter(header)
    judge = turned_away("host-unknown", "improper-addressing", let_in=Verdict.DIFFERS)
    return judge(outcome)


async def server_header(target: Target) -> Judgement:
    wire = await target.open()
    seen = shown(wire)
    if wire.attribute("from") not in (None, target.domain):
        seen += "; from is not the component's domain"
    whole = bool(wire.attribute("id")) and wire.attribute("from") == target.domain
    return judged(whole, not wire.attribute("id"), seen)


async def unique_id(target: Target) -> Judgement:
    one, other = await target.open(), await target.open()
    same = one.attribute("id") == other.attribute("id")
    return judged(not same, same, "the same id twice" if same else "two different ids")


async def no_features(target: Target) -> Judgement:
    wire = await target.attach()
    sent = any(element.name == _FEATURES for element in wire.elements)
    return judged(not sent, False, "stream features" if sent else "none")


async def version(target: Target) -> Judgement:
    _, outcome = await target.enter(target.header_with(" version='1.0'"))
    return accepted(Verdict.DIFFERS)(outcome)


async def from_too(target: Target) -> Judgement:
    more = f" from='{target.domain}' xml:lang='en'"
    _, outcome = await target.enter(target.header_with(more))
    return accepted(Verdict.DIFFERS)(outcome)


async def other_namespace(target: Target) -> Judgement:
    header = target.header.replace(COMPONENT.encode(), CLIENT.encode())
    wire, outcome = await target.enter(header)
    if outcome.alive:
        return Judgement(Verdict.DIFFERS, outcome.seen)
    return early(wire, "invalid-namespace", "bad-format")


async def other_stream_namespace(target: Target) -> Judgement:
    header = target.header.replace(STREAMS.encode(), b"urn:example:streams")
    wire, _ = await target.enter(header)
    return early(wire, "invalid-namespace", "bad-format")


async def unknown_early(target: Target) -> Judgement:
    wire, _ = await target.enter(_unknown_header(target))
    if wire.accepted or wire.condition == "not-authorized":
        return Judgement(Verdict.NOT_TESTABLE, "no refusal before the handshake")
    return early(wire, "host-unknown")


async def no_stream(target: Target) -> Judgement:
    wire = await target.open(b"GET / HTTP/1.0\r\n\r\n")
    await wire.read_until(lambda: wire.ended, ANSWER_S)
    return early(wire, "not-well-formed", "bad-format", "invalid-xml")


def _unknown_header(target: Target) -> bytes:
    return target.header_with("", to=f"{_UNKNOWN}.{target.domain}")


def early(wire: Wire, *conditions: str) -> Judgement:
    """Judge an early refusal: it needs a header with id and from, and a stream error.

    RFC 6120 §4.9.1.2. A component must cope with a refusal whose header lacks them (S3).
    """
    if wire.condition is None:
        what = "closed without a stream error" if wire.ended else "not refused"
        return Judgement(Verdict.FAIL, what)
    whole = bool(wire.attribute("id") and wire.attribute("from"))
    seen = f"stream error {wire.condition}; header with {shown(wire) or 'no attributes'}"
    return judged(whole and wire.condition in conditions, wire.root is None, seen)


def shown(wire: Wire) -> str:
    """Describe the attributes of the server's header."""
    names = []
    for name, label in _SHOWN:
        value = wire.attribute(name)
        if value is not None:
            empty = " (empty)" if not value else ""
            names.append(f"{label} {value}" if name in (LANG, "version") else f"{label}{empty}")
    return ", ".join(names)


async def right_digest(target: Target) -> Judgement:
    _, outcome = await target.enter()
    return accepted(Verdict.FAIL)(outcome)


async def wrong_digest(target: Target) -> Judgement:
    def wrong(digest: str) -> str:
        return ("1" if digest[0] == "0" else "0") + digest[1:]

    _, outcome = await target.enter(text=wrong)
    return refused("not-authorized")(outcome)


async def no_digest(target: Target) -> Judgement:
    _, outcome = await target.enter(text=lambda _: "")
    return refused("not-authorized")(outcome)


async def upper_case(target: Target) -> Judgement:
    _, outcome = await target.enter(text=str.upper)
    return turned_away("not-authorized", let_in=Verdict.DIFFERS)(outcome)


async def unicode_secret(target: Target) -> Judgement:
    if target.secret.isascii():
        return Judgement(Verdict.NOT_TESTABLE, "the given secret is ASCII")
    _, outcome = await target.enter()
    return accepted(Verdict.FAIL)(outcome)


async def space_in_handshake(target: Target) -> Judgement:
    _, outcome = await target.enter(text=lambda digest: f"\n  {digest}\n")
    return turned_away("not-authorized", let_in=Verdict.DIFFERS)(outcome)


async def message_before(target: Target) -> Judgement:
    wire = await target.open()
    message = f"<message from='a@DOMAIN' to='b@DOMAIN' id='{PROBE}'><body>early</body></message>"
    await wire.send(target.fill(message.encode()))
    await target.shake(wire)
    outcome = await target.settle(wire, opening=True)
    let_through = bool(outcome.passed_on)
    seen = "ignored; the handshake is accepted" if outcome.ignored else outcome.seen
    return judged(outcome.condition == "not-authorized", let_through, seen)


async def iq_without_handshake(target: Target) -> Judgement:
    wire = await target.open()
    ping = f"<iq from='a@DOMAIN' to='b@DOMAIN' id='{PROBE}' type='get'><ping xmlns='{PING}'/></iq>"
    await wire.send(target.fill(ping.encode()))
    await wire.read_until(lambda: wire.ended or bool(target.probes(wire)), SILENCE_S)
    outcome = await target.settle(wire, opening=True)
    let_through = bool(outcome.passed_on)
    return judged(outcome.condition == "not-authorized", let_through, outcome.seen)


async def silent_before(target: Target) -> Judgement:
    wire = await target.open()
    await wire.read_until(lambda: wire.ended or bool(wire.elements), SILENCE_S)
    if wire.ended:
        return Judgement(Verdict.FAIL, f"the stream ends ({wire.condition or 'no error'})")
    names = ", ".join(element.local for element in wire.elements)
    return judged(not names, False, names or "only the header")


async def second_connection(target: Target) -> Judgement:
    # No barriers here: with two links of one domain, a server may choose at random between them.
    first = await target.attach()
    second = await target.open()
    if not second.ended:
        await target.shake(second)
        await second.read_until(lambda: second.ended, SILENCE_S)
    await first.read_until(lambda: first.ended, SILENCE_S)
    if second.ended:
        what = second.condition or "an end without a stream error"
        when = "after an accepted" if second.accepted else "instead of an accepted"
        seen = f"{what} for the second, {when} handshake" + (
            "; the first ends too" if first.ended else ""
        )
        good = second.condition == "conflict" and not second.accepted and not first.ended
        return judged(good, first.ended, seen)
    if first.ended:
        what = first.condition or "an end without a stream error"
        return judged(first.condition == "conflict", False, f"{what} for the first")
    seen = "both are attached" if second.accepted else "no answer to the second connection"
    return Judgement(Verdict.DIFFERS, seen)


async def free_again(target: Target) -> Judgement:
    first = await target.attach()
    await target.close(first)
    _, outcome = await target.enter()
    return accepted(Verdict.FAIL)(outcome)


async def questions(target: Target) -> Judgement:
    wire = await target.attach()
    await wire.read_until(lambda: wire.ended, SILENCE_S)
    names = {DISCO_INFO: "disco#info", VERSION: "jabber:iq:version"}
    asked = {
        names.get(stanza.payload.namespace, stanza.payload.namespace)
        for stanza in wire.stanzas
        if stanza.is_request and stanza.payload is not None
        if not (stanza.id or "").startswith(BARRIER)
    }
    return judged(
        not asked, False, f"requests {', '.join(sorted(asked))}" if asked else "no requests"
    )


CHECKS: Final = (
    Check("S1", "a header with the component's own domain", own_domain),
    Check("S1", "a header with an unknown domain", unknown_domain),
    Check("S1", "a header without a domain", no_domain),
    Check("S2", "the server's header", server_header),
    Check("S2", "the ids of two streams", unique_id),
    Check("S2", "stream features", no_features),
    Check("S2", "a header with version='1.0'", version),
    Check("S2", "a header with from and xml:lang", from_too),
    Check("S3", "the error for a header in jabber:client", other_namespace),
    Check("S3", "the error for another stream namespace", other_stream_namespace),
    Check("S3", "the error for an unknown domain", unknown_early),
    Check("S3", "the error for HTTP", no_stream),
    Check("S4", "the right digest", right_digest),
    Check("S4", "a wrong digest", wrong_digest),
    Check("S4", "an empty handshake", no_digest),
    Check("S4", "the digest in upper case", upper_case),
    Check("S5", "a non-ASCII secret", unicode_secret),
    Check("S6", "white space around the digest", space_in_handshake),
    Check("S7", "a message before the handshake", message_before),
    Check("S7", "an iq without a handshake", iq_without_handshake),
    Check("S7", "data from the server before the handshake", silent_before),
    Check("S8", "a second connection for the domain", second_connection),
    Check("S8", "a new connection after a clean end", free_again),
    Check("S9", "requests from the server after the handshake", questions),
)
