"""Problem details (RFC 9457): the form of every refusal.

A handler raises `Problem`; the application makes the response of it. What a problem says is for
the one who asked, so it quotes no secret, and nothing that others have sent.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):
    """A request is refused: `detail` says why, in a sentence that names the remedy."""

    def __init__(
        self,
        status: int,
        title: str | None = None,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        """`title` is the status' own phrase unless given; `members` are further members of the
        object (RFC 9457 §3.2); one that is None is left out.
        """
        self.status = status
        self.title = HTTPStatus(status).phrase if title is None else title
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = {name: value for name, value in members.items() if value is not None}
        super().__init__(f"{self.status} {self.title}: {self.detail}")

    def response(self) -> Response:
        """Make the response."""
        value: dict[str, object] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            value["detail"] = self.detail
        value |= self.members
        return Response(
            msgspec.json.encode(value),
            self.status,
            {"Cache-Control": "no-store", **self.headers},
            MEDIA_TYPE,
        )
