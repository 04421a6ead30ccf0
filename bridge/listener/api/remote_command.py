"""`POST /v1/commands/{jid}/{node}` runs a command of somebody else (XEP-0050), step by step.

Each request is one step, and the bridge remembers nothing between them: the client sends back the
session and the values of the form. The session belongs to the address that began it.
"""

import json
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import SubmissionHandler, json_response
from bridge.listener.api.query import Asking
from bridge.listener.api.request import media_type
from bridge.listener.api.stanza import JSON, decoded
from bridge.listener.problem import Problem
from bridge.payload import namespace as ns
from bridge.payload.body import BLANK, ReplyBody
from bridge.payload.extension.form import read_command, values_of
from xmppstream import Element, Stanza, make
from xmppstream.names import expanded

ACTIONS: Final = ("execute", "prev", "next", "complete", "cancel")
_KEYS: Final = ("action", "sessionid", "data")
_PATH: Final = "/v1/commands/"
_COMMAND: Final = expanded(ns.COMMANDS, "command")
_FORM: Final = expanded(ns.DATA, "x")


@frozen
class RemoteCommandRoutes:
    """The route of the commands of others."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [Route(f"{_PATH}{{jid}}/{{node:path}}", self.run, methods=["POST"])]

    async def run(self, request: Request) -> Response:
        """Take one step, and return what the command answers."""
        async with self.handler.authorized(request, "query") as grant:
            body = await self.handler.body(request, grant)
            step: dict[str, Any] = {}
            if body.strip(BLANK):
                media_type(request, JSON)
                step = _step(decoded(body))
            jid, node = _place(request)
            command = {"node": node, **step}
            iq = {"kind": "iq", "type": "set", "to": jid, "command": command}
            content = ReplyBody("json", json.dumps(iq).encode())
            stanza = await self.handler.stanza(grant, content, request.query_params.get("from"))
            answer, head, headers = await Asking(self.handler, request).ask(stanza)
        return json_response({**head, "node": node, **described(answer)}, 200, headers)


def _place(request: Request) -> tuple[str, str]:
    """Return the address and the node of a path. Slashes of the address are percent-encoded, those
    of the node need not be: nodes often are URLs.
    """
    raw = request.scope["raw_path"].decode("ascii", "replace").partition("?")[0]
    jid, _, node = raw.partition(_PATH)[2].partition("/")
    try:
        return unquote(jid, errors="strict"), unquote(node, errors="strict")
    except UnicodeDecodeError:
        raise Problem(422, detail="The path is not percent-encoded UTF-8.") from None


def _step(value: object) -> dict[str, Any]:
    """Return what a step says. Raises `Problem` 422 if that is not valid."""
    if not isinstance(value, dict):
        raise Problem(422, detail="The body must be a JSON object.")
    for key in value:
        if key not in _KEYS:
            detail = f"key {key[:60]!r} is unknown; known keys: {', '.join(_KEYS)}"
            raise Problem(422, detail=detail)
    given = {key: one for key, one in value.items() if one is not None and one != ""}
    action = given.get("action")
    if action is not None and action not in ACTIONS:
        raise Problem(422, detail=f"action is not one of {', '.join(ACTIONS)}.")
    if "sessionid" not in given and (action not in (None, "execute") or "data" in given):
        what = f"action {action}" if action else "data"
        detail = f"{what} without a sessionid: take it from the answer to the step before."
        raise Problem(422, detail=detail)
    return given


def described(answer: Stanza) -> dict[str, Any]:
    """Return the content of a command's answer. `data` has the values of its form, by name, so that
    they can be changed and sent back.
    """
    payload = answer.payload
    if payload is None or payload.name != _COMMAND:
        return {}
    command = msgspec.to_builtins(read_command([payload], _NOTHING))
    kept = ("sessionid", "status", "actions", "note", "form")
    found = {key: command[key] for key in kept if key in command}
    form = payload.find(_FORM)
    return found if form is None else {**found, "data": _data(form)}


def _data(form: Element) -> dict[str, Any]:
    return dict(values_of(form))


_NOTHING: Final = make("iq", None, None)
