"""How many requests a token may have at work at once."""

from collections import Counter as Multiset
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bridge.listener.problem import Problem

AT_ONCE: Final = 256


class Counter:
    """Counts the requests at work, by token; what is at nought is forgotten."""

    def __init__(self, limit: int = AT_ONCE) -> None:
        self._limit = limit
        self._at_work: Multiset[str] = Multiset()

    @contextmanager
    def one(self, token: str) -> Iterator[None]:
        """Count one more while it is open.

        Raises:
            Problem: 429 where the token has its bound already.
        """
        if self._at_work[token] >= self._limit:
            detail = f"This token has {self._limit} requests at work already. Wait for some."
            raise Problem(429, detail=detail, headers={"Retry-After": "1"})
        self._at_work[token] += 1
        try:
            yield
        finally:
            self._at_work[token] -= 1
            if not self._at_work[token]:
                del self._at_work[token]
