"""The report of each POST to an observer, such as a capture."""

from typing import Final, Literal, Protocol

from attrs import field, frozen

HEADERS: Final = ("content-type", "retry-after", "content-encoding")
"""The response headers in a report. The last is left out if the coding was undone."""
FailureKind = Literal["unreachable", "timed_out", "given_up"]


@frozen
class PostFailure:
    """Why there is no answer: no connection or no HTTP, too late, or the POST was cancelled."""

    kind: FailureKind
    why: str = ""


@frozen
class PostAnswer:
    """An answer. `body` is None if it was over the limit. Header names are in lower case."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    body: bytes | None = b""


PostReport = PostAnswer | PostFailure


class PostObserver(Protocol):
    """Receives a report of every POST when it ends. Its methods must not block or raise."""

    def now(self) -> float:
        """Return the time in s, by the observer's own clock."""
        ...

    def exchanged(
        self, uid: str, attempt: int, began: float, request: bytes, result: PostReport
    ) -> None:
        """Handle the end of a POST that began at `began`, by `now`."""
        ...
