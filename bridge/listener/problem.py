"""Problem details (RFC 9457): the form of every refusal.

A handler raises `Problem`, and the application turns it into a response. Its text is for the client
that asked, so it quotes no secret and nothing that others have sent.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response

from xmppstream import Element, Stanza, StanzaCondition, write
from xmppstream.names import COMPONENT, STANZA_ERRORS, expanded

MEDIA_TYPE: Final = "application/problem+json"
BRIDGE: Final = "urn:xmpp-bridge:problem"
REMOTE: Final = f"{BRIDGE}:remote"
"""The types of problems (RFC 9457 §3.1.1): `BRIDGE` and the status's phrase if the bridge refuses,
`REMOTE` and the condition if the other side of an iq does. So a 404 of either is told apart.
"""
STATUS_OF: Final[dict[str, int]] = {
    StanzaCondition.BAD_REQUEST: 400,
    StanzaCondition.CONFLICT: 409,
    StanzaCondition.FEATURE_NOT_IMPLEMENTED: 501,
    StanzaCondition.FORBIDDEN: 403,
    StanzaCondition.GONE: 410,
    StanzaCondition.INTERNAL_SERVER_ERROR: 502,
    StanzaCondition.ITEM_NOT_FOUND: 404,
    StanzaCondition.JID_MALFORMED: 400,
    StanzaCondition.NOT_ACCEPTABLE: 406,
    StanzaCondition.NOT_ALLOWED: 403,
    StanzaCondition.NOT_AUTHORIZED: 403,
    StanzaCondition.POLICY_VIOLATION: 403,
    StanzaCondition.RECIPIENT_UNAVAILABLE: 502,
    StanzaCondition.REDIRECT: 410,
    StanzaCondition.REGISTRATION_REQUIRED: 403,
    StanzaCondition.REMOTE_SERVER_NOT_FOUND: 404,
    StanzaCondition.REMOTE_SERVER_TIMEOUT: 504,
    StanzaCondition.RESOURCE_CONSTRAINT: 429,
    StanzaCondition.SERVICE_UNAVAILABLE: 502,
    StanzaCondition.SUBSCRIPTION_REQUIRED: 403,
    StanzaCondition.UNDEFINED_CONDITION: 502,
    StanzaCondition.UNEXPECTED_REQUEST: 409,
}
_OTHER: Final = 502
_NAMES: Final = {413: "content-too-large", 422: "unprocessable-content"}  # renamed in Python 3.13


class Problem(Exception):
    """A refused request. `detail` is a sentence that gives the reason and the remedy."""

    def __init__(
        self,
        status: int,
        title: str | None = None,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        type: str | None = None,
        **members: object,
    ) -> None:
        """`title` defaults to the phrase of the status, and `type` to a URI with it. `members` are
        further members of the object (RFC 9457 §3.2); a member that is None is left out.
        """
        self.status = status
        self.title = HTTPStatus(status).phrase if title is None else title
        self.type = type or type_of(status)
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = {name: value for name, value in members.items() if value is not None}
        super().__init__(f"{self.status} {self.title}: {self.detail}")

    def response(self) -> Response:
        """Return the response."""
        value: dict[str, object] = {
            "type": self.type,
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


def type_of(status: int) -> str:
    """Return the type of a refusal by the bridge, such as `urn:xmpp-bridge:problem:not-found`."""
    name = _NAMES.get(status) or HTTPStatus(status).name.lower().replace("_", "-")
    return f"{BRIDGE}:{name}"


def problem_of(answer: Stanza) -> Problem:
    """Return the problem for an error that answers an iq."""
    error = answer.child("error")
    found = None if error is None else _condition(error)
    condition = found or StanzaCondition.UNDEFINED_CONDITION.value
    text = None if error is None else error.find(expanded(STANZA_ERRORS, "text"))
    return Problem(
        STATUS_OF.get(condition, _OTHER),
        detail=f"{answer.from_ or 'The server'} answered with the error {condition}.",
        type=f"{REMOTE}:{condition}",
        error={
            "condition": condition,
            "type": (None if error is None else error.get("type")) or "cancel",
            "text": None if text is None else text.text,
            **_application(error),
        },
        stanza=write(answer.element, COMPONENT),
    )


def _application(error: Element | None) -> dict[str, str]:
    """Return the condition of the application, if there is one: `session-expired`, say."""
    for child in () if error is None else error.elements:
        if child.namespace != STANZA_ERRORS:
            return {"application": child.local}
    return {}


def _condition(error: Element) -> str | None:
    for child in error.elements:
        if child.namespace == STANZA_ERRORS and child.local in STATUS_OF:
            return child.local
    return None
