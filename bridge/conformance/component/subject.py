"""The component under test: its connections, in the state that a check needs.

Invariant: at most one connection is in use, `_session`. Earlier ones are kept in `sessions` because
some checks look at everything that was received.
"""

from typing import Final

import trio

from bridge.conformance.component.ledger import Ledger
from bridge.conformance.component.profile import Profile
from bridge.conformance.component.session import PING_PAYLOAD, Session
from bridge.conformance.component.source import SECRET, Absent, Patience, Source

_MISSES: Final = 2
"""After so many failed waits in a row, the component is restarted at once."""


class Subject:
    """The component, as checks use it: provides connections in the state that they need."""

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
        """Whether the component has ever sent a stream header."""
        return any(session.header is not None for session in self.sessions)

    async def opened(self, secret: str = SECRET, *, anew: bool = False) -> Session:
        """Return a connection on which the component sent its header and nothing was answered yet.

        With `anew`, it is the first connection of a new process. A component that is started by
        hand has one secret: `secret` and `anew` are then ignored.

        Raises:
            Absent: if the component does not connect, or sends no header.
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
                raise Absent("The component did not reconnect.")
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
        """Close the connection in use, and wait for the component to reconnect by itself.

        A short wait costs less than a restart; but not if the component has a reason to stay away.
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
            # A connection that closed before its header came from the backlog: try the next one.
            while (session := await self.comes(within_s)) is not None:
                if await session.greets(within_s):
                    return session
        return None

    async def attached(self, *, fresh: bool = False) -> Session:
        """Return a connection with an accepted handshake: the one in use, unless `fresh`.

        Raises:
            Absent: if the component does not connect, or sends no handshake.
        """
        session = self._session
        if session is not None and session.whole and not fresh and self._secret == SECRET:
            return session
        session = await self.opened()
        await session.open()
        if not await session.accept():
            raise Absent("The component sent no handshake.")
        return session

    async def answers_pings(self) -> bool:
        """Find out once, on a stream of its own, whether the component answers pings at all.

        Raises as `attached`.
        """
        if self.in_flight.answers_pings is None:
            session = await self.attached(fresh=True)
            self.in_flight.answers_pings = await session.ask(PING_PAYLOAD) is not None
        return self.in_flight.answers_pings

    async def crash(self) -> str:
        """Return how the process was killed, once it has had time to follow its connection."""
        if self._session is not None and self._session.gone:
            await self.source.ends(self.patience.settle_s)
        return self.source.crash

    async def comes(self, within_s: float) -> Session | None:
        """Return the next connection that the component opens; None if none comes in time."""
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
        """Stop the process, or end the stream of a component that was started by hand."""
        if self._session is not None and self._session.whole and not self.source.can_restart:
            await self._session.close()
        await self.source.stop()
        if self._session is not None:
            await self._session.hang_up()
