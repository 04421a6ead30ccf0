"""Checks of the XML that a component must accept or refuse (S13, S18 to S25)."""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import zip_longest
from typing import Final

import trio

from bridge.conformance.component.observation import Check, Observation, differs, failed, passed
from bridge.conformance.component.session import PING_PAYLOAD, Session, padded_ping
from bridge.conformance.component.source import HOST
from bridge.conformance.component.subject import Subject
from xmppstream import Stanza
from xmppstream.names import CLIENT, COMPONENT, PING, STREAMS

_NAMESPACES: Final = f"xmlns='{COMPONENT}' xmlns:stream='{STREAMS}'"
_LAUGHS: Final = (
    "<!DOCTYPE x [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>"
    "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;'>]>"
)


async def white_space(subject: Subject) -> Observation:
    session = await subject.attached()
    await session.send(" \n\t\r\n ")
    first = await session.answers_ping()
    await session.send("\n" * 100)
    return _answered(session, first and await session.answers_ping())


def _answered(session: Session, answered: bool) -> Observation:
    return passed() if answered else failed(session.silence)


# --- XML that must be refused


async def between(data: str, wanted: str, subject: Subject) -> Observation:
    """Send `data` between two stanzas."""
    return await _within(await _calm(subject), data, wanted)


async def inside(payload: str, wanted: str, subject: Subject) -> Observation:
    """Send `payload` inside an iq."""
    session = await _calm(subject)
    return await _within(session, session.iq(payload, id=session.in_flight.fresh_id()), wanted)


async def latin1_bytes(subject: Subject) -> Observation:
    session = await _calm(subject)
    text = session.iq("<q xmlns='u:q'>caf\xe9</q>", id=session.in_flight.fresh_id())
    return await _within(session, text.encode("latin-1"), _ENCODING)


async def _calm(subject: Subject) -> Session:
    """Return a stream on which a stanza was exchanged, so that the component reconnects soon."""
    session = await subject.attached()
    await session.exchange(within_s=1)
    return session


async def _within(session: Session, data: str | bytes, wanted: str) -> Observation:
    session.spoilt = True
    id = session.in_flight.fresh_id()
    await session.send(data)
    await session.send(session.iq(PING_PAYLOAD, id=id))
    return await _refusal(session, wanted, lambda: bool(session.answers(id)), "keeps reading")


async def before(header: str | bytes, wanted: str, subject: Subject) -> Observation:
    """Send `header` in place of the stream header."""
    session = await subject.opened()
    session.spoilt = True
    await session.open(header)
    swallowed = "continues to the handshake"
    return await _refusal(session, wanted, lambda: session.handshake is not None, swallowed)


async def _refusal(
    session: Session, wanted: str, went_on: Callable[[], bool], swallowed: str
) -> Observation:
    await session.until(lambda: session.over or went_on(), session.answer_s)
    if went_on():
        return failed(swallowed)
    if not session.over:
        return failed("no error, and the stream stays open")
    await session.until(lambda: session.ended, 2)
    # slixmpp says it in bytes that cannot be read, and then waits 2 s for our end tag.
    if session.fault is not None and not await _leaves(session):
        session.echoed = True
        return failed("answers with unreadable data, and the stream stays open")
    if session.error == wanted:
        return passed() if session.ended else differs(f"{wanted}, without an end tag")
    return differs(session.silence)


async def _leaves(session: Session) -> bool:
    return await session.until(lambda: session.gone, session.answer_s)


async def utf16(subject: Subject) -> Observation:
    header = f"<?xml version='1.0' encoding='UTF-16'?><stream:stream {_NAMESPACES} id='x'>"
    return await before(header.encode("utf-16"), _ENCODING, subject)


async def external_entity(subject: Subject) -> Observation:
    fetched = False

    async def serve(_: trio.SocketStream) -> None:
        nonlocal fetched
        fetched = True
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host=HOST))
        port = listener.socket.getsockname()[1]
        dtd = f"<!DOCTYPE x [<!ENTITY x SYSTEM 'http://{HOST}:{port}/x'>]>"
        header = f"<?xml version='1.0'?>{dtd}<stream:stream {_NAMESPACES} id='x'>&x;"
        observation = await before(header, "restricted-xml", subject)
        nursery.cancel_scope.cancel()
    return failed("fetches the entity") if fetched else observation


_RESTRICTED: Final = "restricted-xml"
_ENCODING: Final = "unsupported-encoding"
_MALFORMED: Final = "not-well-formed"
_Try = Callable[[str, str, Subject], Awaitable[Observation]]


def _rows(
    rule: str, wanted: str, how: _Try, cases: tuple[tuple[str, str], ...]
) -> tuple[Check, ...]:
    return tuple(Check(rule, name, partial(how, data, wanted)) for name, data in cases)


_BROKEN_OPENINGS: Final = (
    *_rows(
        "S19",
        _RESTRICTED,
        before,
        (
            (
                "a document type",
                f"<?xml version='1.0'?><!DOCTYPE x><stream:stream {_NAMESPACES} id='x'>",
            ),
            (
                "billion laughs (a small one)",
                f"<?xml version='1.0'?>{_LAUGHS}<stream:stream {_NAMESPACES} id='&d;'>",
            ),
        ),
    ),
    Check("S19", "an external entity", external_entity),
    Check("S18", "a header in UTF-16", utf16),
    *_rows(
        "S18",
        _ENCODING,
        before,
        (
            (
                "a header that declares Latin-1",
                f"<?xml version='1.0' encoding='ISO-8859-1'?><stream:stream {_NAMESPACES} id='x'>",
            ),
        ),
    ),
)
_BROKEN_STREAMS: Final = (
    *_rows(
        "S19",
        _RESTRICTED,
        between,
        (("a comment between stanzas", "<!-- c -->"), ("a processing instruction", "<?x y?>")),
    ),
    *_rows(
        "S19",
        _RESTRICTED,
        inside,
        (
            ("a comment inside a stanza", f"{PING_PAYLOAD}<!-- c -->"),
            ("an undefined entity", "<q xmlns='u:q'>&nbsp;</q>"),
        ),
    ),
    Check("S18", "Latin-1 bytes", latin1_bytes),
    *_rows(
        "S20",
        _MALFORMED,
        inside,
        (
            ("an unbound prefix", "<q xmlns='u:q'><x:y/></q>"),
            (
                "an attribute twice, with two prefixes",
                "<q xmlns='u:q' xmlns:a='u:n' xmlns:b='u:n' a:v='1' b:v='2'/>",
            ),
            ("a prefix bound to nothing", "<q xmlns='u:q'><z xmlns:p=''/></q>"),
            ("a name with two colons", "<q xmlns='u:q' xmlns:a='u:n'><a:b:c/></q>"),
        ),
    ),
)
# Alternating: a component that was not attached in between waits longer before each reconnect.
HOSTILE: Final = tuple(
    check
    for pair in zip_longest(_BROKEN_STREAMS, _BROKEN_OPENINGS)
    for check in pair
    if check is not None
)


# --- XML that must be accepted


async def byte_order_mark(subject: Subject) -> Observation:
    return await _tolerated(subject, "\ufeff{}")


async def standalone(subject: Subject) -> Observation:
    return await _tolerated(subject, "<?xml version='1.0' encoding='UTF-8' standalone='yes'?>{}")


async def _tolerated(subject: Subject, form: str) -> Observation:
    session = await subject.opened()
    await session.open(form.format(f"<stream:stream {_NAMESPACES} id='{session.id}'>"))
    if await session.accept() and await session.answers_ping():
        return passed()
    return differs(session.silence)


async def byte_by_byte(subject: Subject) -> Observation:
    session = await subject.opened()
    await session.send_in_pieces(session.profile.open(session.domain, session.id).encode())
    if not await session.accept():
        return failed(session.silence)
    id = session.in_flight.fresh_id()
    await session.send_in_pieces(session.iq(PING_PAYLOAD, id=id).encode())
    return _answered(session, await session.answer_to_ping(id) is not None)


async def cut_character(subject: Subject) -> Observation:
    session = await subject.attached()
    id = "é€🔑"
    text = session.iq(padded_ping(id), id=id).encode()
    await session.send_in_pieces(text, lambda byte: 0.02 if byte >= 0x80 else 0)
    return _answered(session, await session.answer_to_ping(id) is not None)


async def prefixed(subject: Subject) -> Observation:
    session = await subject.attached()
    id = session.in_flight.fresh_id()
    iq = session.iq(PING_PAYLOAD, id=id).replace("<iq", f"<c:iq xmlns:c='{COMPONENT}'")
    return await _taken(session, iq.replace("</iq", "</c:iq"), id, failed)


async def client_namespace(subject: Subject) -> Observation:
    session = await subject.attached()
    id = session.in_flight.fresh_id()
    iq = session.iq(PING_PAYLOAD, id=id).replace("<iq", f"<iq xmlns='{CLIENT}'")
    return await _taken(session, iq, id, differs)


async def _taken(
    session: Session, iq: str, id: str, otherwise: Callable[[str], Observation]
) -> Observation:
    await session.send(iq)
    alive = await session.answers_ping()
    if await session.until(lambda: bool(session.answers(id)) or session.over, 1):
        return passed() if session.answers(id) else otherwise(session.silence)
    return otherwise("not answered, but the next iq is" if alive else session.silence)


async def root_prefix(subject: Subject) -> Observation:
    session = await subject.opened()
    await session.open(
        f"<stream:stream {_NAMESPACES} xmlns:p='{PING}' id='{session.id}' from='{session.domain}'>"
    )
    if not await session.accept():
        return failed(session.silence)
    plain, by_prefix = await session.ping(), await session.ask("<p:ping/>")
    if by_prefix is None:
        return failed(session.silence)
    same = _kind(plain) == _kind(by_prefix)
    return passed() if same else failed("answered differently than with a declaration of its own")


def _kind(stanza: Stanza | None) -> str | None:
    return None if stanza is None else stanza.type


TAKEN: Final = (
    Check("S13", "white space between two pings", white_space),
    Check("S21", "characters split between writes", cut_character),
    Check("S22", "an iq with a prefix", prefixed),
    Check("S23", "an iq in jabber:client", client_namespace),
    Check("S18", "a byte order mark", byte_order_mark),
    Check("S18", "standalone in the declaration", standalone),
    Check("S21", "a header and an iq byte by byte", byte_by_byte),
    Check("S25", "a prefix declared on the root", root_prefix),
)
