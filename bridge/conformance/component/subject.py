"""The component under test: its connections, in the state that a check needs.

Invariant: one of them is in use, the `session`; the others are only kept for what was seen on them.
"""

from typing import Final

import trio

from bridge.conformance.component.ledger import Ledger
from bridge.conformance.component.profile import Profile
from bridge.conformance.component.session import Session
from bridge.conformance.component.source import SECRET, Absent, Patience, Source

_MISSES: Final = 2
"""So often in a row is a component waited for that does not come again by itself."""


class Subject:
    """What the checks are given: brings connections in the state that they need."""

    def __init__(
        self,
        source: Source,
        nursery: trio.Nursery,
        domain: str,
        profile: Profile,
        patience: Patience,
        *,
        slow: bool = False,
    ) -> None:
        self.source = source
        self.domain = domain
        self.profile = profile
        self.patience = patience
        self.slow = slow
        self.sessions: list[Session] = []
        self.in_flight = Ledger()
        self._nursery = nursery
        self._session: Session | None = None
        self._secret = ""
        self._started = False
        self._misses = 0

    @property
    def was_here(self) -> bool:
        """Whether it has ever sent a stream header."""
        return any(session.header is not None for session in self.sessions)

    async def opened(self, secret: str = SECRET, *, anew: bool = False) -> Session:
        """Give a connection on which the component has sent its header, and nothing was answered.

        With `anew` it is that of a process which has had none before. A component that is started
        by hand has one secret, whatever is asked for.
        Raises:
            Absent: it does not come, or sends no header.
        """
        if not self.source.can_restart:
            secret, anew = SECRET, False
        session = self._session
        if self._started and secret == self._secret and not anew:
            if session is not None and not (session.touched or session.over):
                return session
            returned = await self._returned()
            if returned is not None:
                return returned
            if not self.source.can_restart:
                raise Absent("The component did not come again.")
        return await self._restarted(secret)

    async def _restarted(self, secret: str) -> Session:
        await self.source.stop()
        self._session, self._secret, self._started = None, secret, True
        await self.source.start(secret)
        within_s = self.patience.come_s if self.source.can_restart else self.patience.first_s
        session = await self._next(within_s)
        if session is not None:
            return session
        if self._session is not None:
            raise Absent("The component connected, but sent no stream header.")
        raise Absent(self.source.absence(within_s))

    async def _returned(self) -> Session | None:
        """Let go of the connection in use, and wait for the component to come again by itself: a
        little, since that costs less than a start, but not where it has reasons to stay away.
        """
        session, self._session = self._session, None
        if session is not None:
            if session.whole:
                await session.close()
                await session.until(lambda: session.gone, self.patience.return_s)
            await session.hang_up()
        within_s = self.patience.return_s
        if not self.source.can_restart and not self._misses:
            within_s = self.patience.again_s
        elif self.source.can_restart and (
            session is None or session.dismissed or self._misses >= _MISSES
        ):
            return None
        returned = await self._next(within_s)
        self._misses = 0 if returned is not None else self._misses + 1
        return returned

    async def _next(self, within_s: float) -> Session | None:
        with trio.move_on_after(within_s):
            # One that is gone before it was looked at has lain in the queue; there may be more.
            while (session := await self.comes(within_s)) is not None:
                if await session.greets(within_s):
                    return session
        return None

    async def attached(self, *, fresh: bool = False) -> Session:
        """Give a connection on which the handshake was accepted; that in use, unless `fresh`.

        Raises:
            Absent: it does not come, or sends no handshake.
        """
        session = self._session
        if session is not None and session.whole and not fresh and self._secret == SECRET:
            return session
        session = await self.opened()
        await session.open()
        if not await session.accept():
            raise Absent("The component sent no handshake.")
        return session

    async def comes(self, within_s: float) -> Session | None:
        """Give the next connection, by the component's own doing; None where none comes."""
        transport = await self.source.accept(within_s)
        if transport is None:
            return None
        session = Session(
            transport,
            self.profile,
            self.domain,
            self._secret,
            self.in_flight,
            self.patience.answer_s,
        )
        self._session = session
        self.sessions.append(session)
        self._nursery.start_soon(session.read)
        return session

    async def stop(self) -> None:
        """Leave the component in peace: stop the process, or end its stream."""
        if self._session is not None and self._session.whole and not self.source.can_restart:
            await self._session.close()
        await self.source.stop()
        if self._session is not None:
            await self._session.hang_up()
