"""Rooms (XEP-0045): invitations, occupants, and how one enters."""

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import (
    Asked,
    Elements,
    Written,
    check_time,
    child,
    child_text,
    element,
    number_of,
)
from bridge.payload.shape import History, Invite, Muc, Occupant
from xmppstream import Element, InvalidJid, Stanza, split
from xmppstream.jid import bare
from xmppstream.names import MUC_USER, expanded


def read_invite(elements: Elements, stanza: Stanza) -> Invite | None:
    mediated = direct = None
    for one in elements:
        if one.namespace == ns.CONFERENCE:
            jid = one.get("jid")
            if jid:
                direct = Invite(
                    jid,
                    stanza.from_,
                    one.get("reason"),
                    one.get("password"),
                    one.get("thread"),
                    direct=True,
                    continue_=one.get("continue") in ("true", "1"),
                )
            continue
        invite = one.find(expanded(MUC_USER, "invite"))
        if invite is not None and stanza.from_:
            thread = invite.find(expanded(MUC_USER, "continue"))
            mediated = Invite(
                bare(stanza.from_),
                invite.get("from"),
                child_text(invite, MUC_USER, "reason"),
                child_text(one, MUC_USER, "password"),
                None if thread is None else thread.get("thread"),
                to=invite.get("to"),
            )
    return mediated or direct


def write_invite(value: Invite, asked: Asked) -> Written:
    """With `to`, the room passes the invitation on (XEP-0045 §7.8.2); else it goes to the invited
    person directly (XEP-0249).
    """
    address = value.to or value.jid
    if not address:
        raise UnusableReply("invite has no jid: the room's address")
    try:
        split(address)
    except InvalidJid as error:
        raise UnusableReply(f"invite.{'to' if value.to else 'jid'}: {error}") from None
    if value.to:
        thread = None if value.thread is None else {"thread": value.thread}
        inner = (
            *child(MUC_USER, "reason", value.reason),
            *(() if thread is None else (element(expanded(MUC_USER, "continue"), thread),)),
        )
        invite = Element(expanded(MUC_USER, "invite"), (("to", value.to),), inner)
        password = child(MUC_USER, "password", value.password)
        return (Element(expanded(MUC_USER, "x"), (), (invite, *password)),)
    going_on = "true" if value.continue_ or value.thread else None
    attributes = {
        "jid": value.jid,
        "reason": value.reason,
        "password": value.password,
        "continue": going_on,
        "thread": value.thread,
    }
    return (element(expanded(ns.CONFERENCE, "x"), attributes),)


def read_muc(elements: Elements, _: Stanza) -> Muc | bool:
    one = elements[0]
    history = one.find(expanded(ns.MUC, "history"))
    password = child_text(one, ns.MUC, "password")
    if history is None:
        return Muc(password) if password else True
    maxchars, maxstanzas, seconds = (
        number_of(history.get(name)) for name in ("maxchars", "maxstanzas", "seconds")
    )
    return Muc(password, History(maxchars, maxstanzas, seconds, history.get("since")))


def write_muc(value: Muc | bool, _: Asked) -> Written:
    if value is False:
        return ()
    if value is True:
        value = Muc()
    history: Written = ()
    if value.history is not None:
        one = value.history
        check_time("muc.history.since", one.since)
        numbers = {"maxchars": one.maxchars, "maxstanzas": one.maxstanzas, "seconds": one.seconds}
        if any(number is not None and number < 0 for number in numbers.values()):
            raise UnusableReply("muc.history: a number is negative")
        pairs = {key: None if number is None else str(number) for key, number in numbers.items()}
        history = (element(expanded(ns.MUC, "history"), {**pairs, "since": one.since}),)
    inner = (*history, *child(ns.MUC, "password", value.password))
    return (Element(expanded(ns.MUC, "x"), (), inner),)


def read_occupant(elements: Elements, _: Stanza) -> Occupant | None:
    one = elements[0]
    item = one.find(expanded(MUC_USER, "item"))
    codes = [number_of(one.get("code")) for one in one.find_all(expanded(MUC_USER, "status"))]
    statuses = [code for code in codes if code is not None] or None
    if item is None:
        return Occupant(statuses=statuses) if statuses else None
    actor = item.find(expanded(MUC_USER, "actor"))
    return Occupant(
        item.get("affiliation"),
        item.get("role"),
        item.get("jid"),
        item.get("nick"),
        statuses,
        child_text(item, MUC_USER, "reason"),
        None if actor is None else actor.get("nick") or actor.get("jid"),
    )
