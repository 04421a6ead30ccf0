"""The rules of the component stream, S1 to S36: their titles and sources.

Reports, tests and the manual share this list. The numbers are stable.
"""

from typing import Final

from attrs import frozen


@frozen
class Rule:
    """One rule: its number, its requirement in a few words, and its source."""

    id: str
    title: str
    section: str


RULES: Final = (
    Rule("S1", "the header names the component's own domain", "XEP-0114 §3"),
    Rule("S2", "no version, no features, no SASL; any header is accepted", "XEP-0114 §3"),
    Rule(
        "S3",
        "an early stream error is understood, even with an incomplete header",
        "RFC 6120 §4.9.1",
    ),
    Rule("S4", "the handshake is the hex SHA-1 of stream id and secret", "XEP-0114 §3"),
    Rule("S5", "a secret may contain any Unicode, hashed as UTF-8", "XEP-0114 §3"),
    Rule("S6", "no white space inside the handshake", "XEP-0114 §3"),
    Rule("S7", "nothing is sent before the handshake is accepted", "XEP-0114 §3"),
    Rule("S8", "a conflict may also follow an accepted handshake", "RFC 6120 §4.9.3.3"),
    Rule("S9", "early disco#info and version requests are answered", "XEP-0030, XEP-0092"),
    Rule("S10", "a stream error ends the stream", "RFC 6120 §4.9.1.1"),
    Rule("S11", "the reaction to a stream error depends on its class", "RFC 6120 §4.9.3"),
    Rule("S12", "an end tag is answered with an end tag", "RFC 6120 §4.4"),
    Rule("S13", "white space between stanzas is ignored", "RFC 6120 §4.6.1"),
    Rule("S14", "a space is sent after 60 to 120 s of silence", "RFC 6120 §4.6.1"),
    Rule("S15", "white space is not answered", "RFC 6120 §4.6.1"),
    Rule("S16", "reading never stops", "RFC 6120 §4.6"),
    Rule("S17", "at least 10,000 bytes; over a limit, a stanza error", "RFC 6120 §13.12.4"),
    Rule("S18", "UTF-8 and XML 1.0 only", "RFC 6120 §11.6"),
    Rule("S19", "no comment, PI, DTD, or entity except the predefined five", "RFC 6120 §11.1"),
    Rule("S20", "namespaces are well-formed", "RFC 6120 §11.3"),
    Rule("S21", "the bytes may be split anywhere", "RFC 6120 §11.6"),
    Rule("S22", "a prefix for the stream's namespace makes no difference", "RFC 6120 §4.8.5"),
    Rule("S23", "stanzas in jabber:client are accepted", "RFC 6120 §4.8.3"),
    Rule("S24", "no top-level stanza in jabber:client is sent", "RFC 6120 §4.8.3"),
    Rule("S25", "prefixes declared on the stream root apply in stanzas", "RFC 6120 §4.8.5"),
    Rule("S26", "xml:lang is inherited from the header", "RFC 6120 §4.7.4"),
    Rule("S27", "no character that XML forbids is sent", "XML 1.0 §2.2"),
    Rule("S28", "every stanza has to and from; from is on the component's domain", "XEP-0114 §3"),
    Rule("S29", "each iq get or set has exactly one answer", "RFC 6120 §8.2.3"),
    Rule("S30", "an error is never answered", "RFC 6120 §8.3.1"),
    Rule("S31", "an error has the id, one condition and a valid type", "RFC 6120 §8.3.2"),
    Rule("S32", "stanzas between two addresses keep their order", "RFC 6120 §10.1"),
    Rule("S33", "an unknown top-level element is ignored", "RFC 6120 §4.9.3.24"),
    Rule("S34", "a stanza for another domain is not answered as that domain", "XEP-0114 §3"),
    Rule("S35", "an iq to the component's own domain comes back in order", "RFC 6120 §10.1"),
    Rule("S36", "the component's own groupchat messages come back", "XEP-0045 §7.4"),
)

BY_ID: Final = {rule.id: rule for rule in RULES}
