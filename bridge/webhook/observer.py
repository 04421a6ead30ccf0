"""What is reported of each POST, to a capture for instance."""

from typing import Final, Literal, Protocol

from attrs import field, frozen

HEADERS: Final = ("content-type", "retry-after", "content-encoding")
"""The headers of an answer that matter; the last is kept only where it could not be undone."""
FailureKind = Literal["unreachable", "timed_out", "given_up"]


@frozen
class PostFailure:
    """Why there is no answer: nobody there or no HTTP, too late, or we stopped waiting."""

    kind: FailureKind
    why: str = ""


@frozen
class PostAnswer:
    """An answer; `body` is None where it was over the limit. Header names are in lower case."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    body: bytes | None = b""


PostReport = PostAnswer | PostFailure


class PostObserver(Protocol):
    """Is told of every POST when it is over. Nothing may wait or raise."""

    def now(self) -> float:
        """Give the time, in s by a clock of its own."""
        ...

    def exchanged(
        self, uid: str, attempt: int, began: float, request: bytes, result: PostReport
    ) -> None:
        """A POST is over that had begun at `began`."""
        ...
