"""Checks of how a component attaches: header, digest and handshake (S1 to S9)."""

import hashlib
from typing import Final

import trio

from bridge.conformance.component.ending import ends
from bridge.conformance.component.observation import Check, Observation, differs, failed, passed
from bridge.conformance.component.profile import escaped
from bridge.conformance.component.session import Session, condition_of, name_of
from bridge.conformance.component.source import SECRET
from bridge.conformance.component.subject import Subject
from xmppstream.jid import same_domain
from xmppstream.names import COMPONENT, STREAMS, expanded

_ROOT: Final = expanded(STREAMS, "stream")
_VECTOR_ID: Final = "3BF96D32"
_VECTOR_SECRET: Final = "test"
_ESCAPED_ID: Final = "a&b<c>'d\""
_NAMESPACES: Final = f"xmlns='{COMPONENT}' xmlns:stream='{STREAMS}'"


async def header_namespaces(subject: Subject) -> Observation:
    root = (await subject.opened()).header
    assert root is not None
    default = dict(root.namespaces).get("")
    if root.name != _ROOT:
        return failed(f"the root is {root.name}")
    return passed() if default == COMPONENT else failed(f"the default namespace is {default}")


async def header_to(subject: Subject) -> Observation:
    root = (await subject.opened()).header
    assert root is not None
    to = dict(root.attributes).get("to")
    if to == subject.domain:
        return passed()
    if to is not None and same_domain(to, subject.domain):
        return differs("the domain in another spelling")
    return failed("no to" if to is None else f"to is {to}")


async def no_version(subject: Subject) -> Observation:
    root = (await subject.opened()).header
    assert root is not None
    version = dict(root.attributes).get("version")
    return passed() if version is None else differs(f"version {version}")


async def bare_header(subject: Subject) -> Observation:
    session = await subject.opened()
    return await _attaches(session, f"<stream:stream {_NAMESPACES} id='{session.id}'>")


async def full_header(subject: Subject) -> Observation:
    session = await subject.opened()
    return await _attaches(
        session,
        f"<?xml version='1.0' encoding='utf-8'?><stream:stream {_NAMESPACES} version='1.0'"
        f" id='{session.id}' from='{session.domain}' to='{session.domain}' xml:lang='de'>",
    )


async def _attaches(session: Session, header: str) -> Observation:
    await session.open(header)
    if not await session.accept():
        return failed(f"no handshake{_end_of(session)}")
    return passed() if await session.answers_ping() else failed(f"no answer{_end_of(session)}")


def _end_of(session: Session) -> str:
    if session.error is not None:
        return f", but the stream error {session.error}"
    return ", but the end of the stream" if session.over else ""


async def early_error_empty_id(subject: Subject) -> Observation:
    return await _early_error(subject, f"<stream:stream {_NAMESPACES} version='1.0' id=''>")


async def early_error_without_id(subject: Subject) -> Observation:
    return await _early_error(subject, f"<stream:stream {_NAMESPACES}>")


async def _early_error(subject: Subject, header: str) -> Observation:
    """Send header, error and end tag in one write, as Prosody and Openfire do."""
    session = await subject.opened()
    await session.fail("host-unknown", header)
    ended = await ends(session, session.answer_s)
    if session.handshake is not None:
        return failed("sends a handshake")
    return passed() if ended else differs("leaves the connection open")


async def digest(subject: Subject) -> Observation:
    session = await subject.opened(_VECTOR_SECRET)
    session.id = _VECTOR_ID
    return await _digest(session)


async def digest_of_escapes(subject: Subject) -> Observation:
    session = await subject.opened(_VECTOR_SECRET)
    session.id = _ESCAPED_ID
    return await _digest(session)


async def digest_of_unicode(subject: Subject) -> Observation:
    return await _digest(await subject.opened())


async def _digest(session: Session) -> Observation:
    """Compare the digests. Letter case and white space have checks of their own."""
    await session.open()
    attached = await session.accept()
    text = session.handshake
    if text is None:
        return failed(f"no handshake{_end_of(session)}")
    if text.strip().lower() == session.digest:
        return passed() if attached else failed("the stream ends after it")
    return failed(_explained(text.strip().lower(), session))


def _explained(text: str, session: Session) -> str:
    secret, id = session.secret.encode(), session.id.encode()
    known = {
        "the id was hashed with its XML escapes": escaped(session.id).encode() + secret,
        "hashed as Latin-1, with ? for other characters": id
        + session.secret.encode("latin-1", errors="replace"),
        "hashed as Latin-1, without other characters": id
        + session.secret.encode("latin-1", errors="ignore"),
        "hashed as UTF-16": (session.id + session.secret).encode("utf-16-le"),
        "the secret without the id": secret,
        "the secret before the id": secret + id,
    }
    for seen, data in known.items():
        if hashlib.sha1(data, usedforsecurity=False).hexdigest() == text:
            return seen
    return "an unknown digest"


async def lower_case(subject: Subject) -> Observation:
    texts = [one.handshake for one in subject.sessions if one.handshake is not None]
    if all(text == text.lower() for text in texts):
        return passed()
    if subject.profile.any_case:
        return differs(f"upper case, which {subject.profile.name} accepts")
    return failed("upper case")


async def no_white_space(subject: Subject) -> Observation:
    texts = [one.handshake for one in subject.sessions if one.handshake is not None]
    return failed("white space") if any(set(text) & set(" \t\r\n") for text in texts) else passed()


async def holds_back(subject: Subject) -> Observation:
    session = await subject.opened()
    await session.open()
    handshaken = await session.until(
        lambda: session.handshake is not None or session.over, session.answer_s
    )
    if not handshaken or session.handshake is None:
        return failed(f"no handshake{_end_of(session)}")
    await trio.sleep(subject.patience.hold_s)
    early = [name_of(stanza) for stanza in session.stanzas]
    if early:
        return failed(f"{early[0]} is sent too early")
    if session.over:
        return failed("does not wait for the answer")
    await session.accept()
    return passed() if await session.answers_ping() else failed("no answer afterwards")


async def asked_at_once(subject: Subject) -> Observation:
    session = await subject.opened()
    await session.open()
    if not await session.accept():
        return failed(f"no handshake{_end_of(session)}")
    if not subject.profile.asks_at_once:
        await session.send(session.greeting())
    await session.until(
        lambda: all(session.answers(id) for id in session.greeting_ids), session.answer_s
    )
    await trio.sleep(subject.patience.settle_s)
    refused = []
    for id, asked in zip(session.greeting_ids, ("disco#info", "version"), strict=True):
        answers = session.answers(id)
        if len(answers) != 1:
            return failed(f"{asked}: {len(answers) or 'no'} answer{'s' if answers else ''}")
        if answers[0].type == "error":
            refused.append(f"{asked}: {condition_of(answers[0])}")
    return differs("; ".join(refused)) if refused else passed()


CHECKS: Final = (
    Check("S1", "the header's namespaces", header_namespaces),
    Check("S1", "the header's to", header_to),
    Check("S2", "no version in the header", no_version),
    Check("S2", "a header with only an id", bare_header),
    Check("S2", "a header with version, from, to and xml:lang", full_header),
    Check("S4", f"the digest of {_VECTOR_ID} and {_VECTOR_SECRET}", digest),
    Check("S4", "an id with XML escapes", digest_of_escapes),
    Check("S5", f"the secret {SECRET}", digest_of_unicode),
    Check("S7", "nothing is sent until the handshake is accepted (1 s)", holds_back),
    Check("S9", "disco#info and version right after the handshake", asked_at_once),
)
"""Checks that need a connection of their own."""

EARLY_ERRORS: Final = (
    Check("S3", "an early error with an empty id", early_error_empty_id),
    Check("S3", "an early error without id", early_error_without_id),
)
"""Checks after which a component may stay away."""

SEEN_ALL_ALONG: Final = (
    Check("S4", "lower case", lower_case),
    Check("S6", "no white space in any handshake", no_white_space),
)
"""Checks of all connections, made at the end."""
