"""Connections to PostgreSQL that can be interrupted from another thread.

A connection that hangs gives no error: `statement_timeout` is the server's, and TCP waits for
minutes. So each wait for an answer is noted, and `interrupt` shuts the socket down (by a duplicate,
because psycopg's own belongs to its thread), which wakes psycopg at once.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import sql

from bridge.config.value import DatabaseUrl
from bridge.journal.postgres.errors import explained, silent
from bridge.journal.store import JournalError

HANG_S: Final = 5.0
"""Seconds without an answer after which `interrupt` ends a wait."""
LEAST_VERSION: Final = 13_00_00
_CONNECT_S: Final = 3
_DEFAULTS: Final = {
    "connect_timeout": str(_CONNECT_S),
    "tcp_user_timeout": "5000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
_SETTINGS: Final = (
    "SET jit = off",  # it took 400 ms to compile a query of 2 ms
    "SET client_min_messages = warning",
    "SET standard_conforming_strings = on",
)

Row = tuple[Any, ...]

logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of each batch that is refused


class Connection:
    """A connection in autocommit mode, opened when it is needed, and again after it was lost."""

    def __init__(
        self,
        url: DatabaseUrl,
        schema: str,
        name: str,
        elapsed_s: Callable[[], float],
        prepare: Callable[[psycopg.Connection[Row]], None] = lambda _: None,
    ) -> None:
        """`name` is shown in `pg_stat_activity`. `prepare` is called with each new connection."""
        self._url = url
        self._schema = schema
        self._name = name
        self._elapsed_s = elapsed_s
        self._prepare = prepare
        self._connection: psycopg.Connection[Row] | None = None
        self._socket: socket.socket | None = None
        self._waits_since: float | None = None
        self.was_interrupted = False
        """Whether the last connection was ended by `interrupt`."""

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.closed

    @property
    def handle(self) -> socket.socket:
        """The socket of the open connection, for waiting until something can be read."""
        assert self._socket is not None
        return self._socket

    def get(self) -> psycopg.Connection[Row]:
        """Return the connection, and open it if it is not open.

        Raises:
            JournalError: if it cannot be opened.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self.close()
        with explained(self._url):
            connection = psycopg.connect(self._url.value, autocommit=True, **self._parameters())
        try:
            self.was_interrupted = False
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))
            self._connection = connection
            with explained(self._url), self.waiting():
                self._set_up(connection)
        except JournalError as error:
            self.close()
            if self.was_interrupted:
                raise silent(self._url) from error
            raise
        return connection

    def _parameters(self) -> dict[str, Any]:
        given = psycopg.conninfo.conninfo_to_dict(self._url.value)
        return {
            "application_name": self._name,
            **{key: value for key, value in _DEFAULTS.items() if key not in given},
        }

    def _set_up(self, connection: psycopg.Connection[Row]) -> None:
        version = connection.info.server_version
        if version < LEAST_VERSION:
            raise JournalError(
                f"{self._url} is PostgreSQL {version // 10000}, which is too old",
                f"upgrade it to {LEAST_VERSION // 10000} or later",
            )
        connection.prepare_threshold = None
        for statement in _SETTINGS:
            connection.execute(statement.encode())
        path = sql.SQL("SET search_path = {}").format(sql.Identifier(self._schema))
        connection.execute(path)
        self._prepare(connection)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that an answer of the server is waited for in this block."""
        self._waits_since = self._elapsed_s()
        try:
            yield
        finally:
            self._waits_since = None

    def interrupt(self) -> None:
        """End a wait that has lasted for `HANG_S`. Call it from any thread."""
        since, held = self._waits_since, self._socket
        if since is not None and held is not None and self._elapsed_s() - since >= HANG_S:
            self.was_interrupted = True
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, if it is open."""
        connection, self._connection = self._connection, None
        held, self._socket = self._socket, None
        if held is not None:
            held.close()
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
