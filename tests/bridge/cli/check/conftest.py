"""The scripted server has no services: it answers each question with an error."""

from typing import Any, Final

import pytest
import trio

from tests.bridge.xmpp_server import Session, XmppServer
from xmppstream import ErrorType, Stanza, StanzaCondition, StanzaError

_NONE: Final = StanzaError(StanzaCondition.SERVICE_UNAVAILABLE, ErrorType.CANCEL)


async def answer_none(session: Session, stanza: Stanza) -> None:
    await trio.lowlevel.checkpoint()
    if stanza.is_request:
        await session.send(stanza.error_reply(_NONE))


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture(autouse=True)
def _without_services(monkeypatch: pytest.MonkeyPatch) -> None:
    start: Any = XmppServer.start

    async def started(cls: type[XmppServer], nursery: trio.Nursery) -> XmppServer:
        server: XmppServer = await start.__func__(cls, nursery)
        server.on_stanza = answer_none
        return server

    monkeypatch.setattr(XmppServer, "start", classmethod(started))
