"""A server, a daemon, an endpoint and a sender at once; and tables of cases that are played there.

A case is what one sender says, what the endpoint makes of it, and all that this sender gets. Each
case has a sender of its own, so that a whole table runs at once over one daemon, and every stanza
that comes back belongs to one case. Stanzas are compared by meaning.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape, quoteattr

import trio

from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import Daemon, Table, run_daemon, settings_for
from tests.servers.endpoint import (
    NOTHING,
    Answer,
    Endpoint,
    Posted,
    Raw,
    Reaction,
    echo,
    open_endpoint,
)
from tests.servers.peer import CLIENT, COMPONENT, Peer, connect_component, name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from tests.servers.process import Server

BOT: Final = "bot.localhost"
ECHO: Final = f"echo@{BOT}"
PEER: Final = "peer.localhost"
STANZA_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
MUC_USER: Final = "http://jabber.org/protocol/muc#user"
XML_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"
ALL_KINDS: Final = ["message", "presence", "iq"]
PLAY_S: Final = 60.0
ONE_ATTEMPT: Final = {"budget_s": 0}
"""For [retry]: so that an error is told at once."""
NO_JOURNAL: Final = {"durability": "off"}
"""For [journal]: so that all is told at the end."""


@dataclass(frozen=True)
class Scene:
    """All that takes part; `peer` is the component PEER, which sends for everybody."""

    server: Server
    endpoint: Endpoint
    daemon: Daemon
    peer: Peer


@asynccontextmanager
async def open_scene(
    server: Server,
    directory: Path,
    *,
    component: Table | None = None,
    http: Table | None = None,
    stream: Table | None = None,
    retry: Table | None = None,
    journal: Table | None = None,
    log_level: str = "info",
    state_dir: Path | None = None,
) -> AsyncIterator[Scene]:
    """Attach a daemon as BOT, with an echo for an endpoint; `component` has further keys of it."""
    async with (
        open_endpoint() as endpoint,
        connect_component(server.component_port, PEER, COMPONENTS[PEER]) as peer,
        run_daemon(
            directory,
            settings_for(
                server.component_port,
                {BOT: bot_table(endpoint, **(component or {}))},
                http=http or {},
                stream=stream or {},
                retry=retry or {},
                journal=journal or {},
            ),
            log_level=log_level,
            state_dir=state_dir,
        ) as daemon,
    ):
        yield Scene(server, endpoint, daemon, peer)
        assert len(daemon.logged("attached")) == 1, daemon.tail()


def bot_table(endpoint: Endpoint, **keys: Any) -> Table:
    """The table of BOT in a configuration."""
    secret = COMPONENTS[BOT]
    return {"component_secret": secret, "component_post_url": endpoint.url, **keys}


def message(body: str | None, to: str = ECHO, **attributes: str) -> str:
    """A message from `{me}`; of type chat, unless `type` is given; `""` leaves it out."""
    content = "" if body is None else f"<body>{escape(body)}</body>"
    return stanza("message", content, to=to, **{"type": "chat", **attributes})


def stanza(kind: str, content: str = "", to: str = ECHO, **attributes: str) -> str:
    """A stanza with the id `q` from `{me}`, unless told otherwise; `""` leaves one out."""
    given = {"from": "{me}", "to": to, "id": "q", **attributes}
    if "from_" in given:
        given["from"] = given.pop("from_")
    words = [f" {key}={quoteattr(value)}" for key, value in given.items() if value]
    return f"<{kind}{''.join(words)}>{content}</{kind}>"


def answered(body: str, id: str = "*", from_: str = ECHO, type: str = "chat") -> str:
    """A message from the bot to `{me}`, as it is expected."""
    return message(body, to="{me}", from_=from_, id=id, type=type)


def refused(condition: str, type: str, kind: str = "message", from_: str = ECHO) -> str:
    """The error for a stanza with the id `q`, as it is expected."""
    content = f"<error type='{type}'><{condition} xmlns='{STANZA_ERRORS}'/></error>"
    return stanza(kind, content, to="{me}", from_=from_, type="error")


@dataclass(frozen=True)
class Case:
    """One row. In all its texts, `{me}` is the sender of this case, and `{bare}` its bare JID.

    `posted` is a part of the JSON that must be POSTed, exactly once; None where nothing must.
    `answers` are all the stanzas that the sender gets, in their order; an id `*` is any.
    """

    name: str
    sent: str
    reaction: Reaction = NOTHING
    answers: tuple[str, ...] = ()
    posted: Mapping[str, Any] | None = None

    @property
    def is_posted(self) -> bool:
        return self.posted is not None


def row(
    name: str,
    sent: str,
    reaction: Reaction,
    *answers: str,
    posted: Mapping[str, Any] | None = None,
) -> Case:
    """A case whose stanza is POSTed."""
    return Case(name, sent, reaction, answers, posted or {})


def own(name: str, sent: str, *answers: str) -> Case:
    """A case in which the bridge answers itself, and nothing is POSTed."""
    return Case(name, sent, answers=answers)


async def play(scene: Scene, cases: Sequence[Case]) -> None:
    """Play all cases at once and report everything that is not as expected."""
    stage = _Stage(scene, {_bare(number): case for number, case in enumerate(cases)})
    scene.endpoint.react = stage.react
    for bare, case in stage.cases.items():
        await scene.peer.send(_filled(case.sent, bare))
    with trio.move_on_after(PLAY_S):
        await stage.wait_complete()
    # what should not have come at all would have come before these
    for id in "12":
        await scene.peer.send(message("last", id=id, from_=f"curtain@{PEER}"))
        await scene.peer.receive(lambda it: it.get("to") == f"curtain@{PEER}", timeout_s=PLAY_S)
    mismatches = stage.mismatches()
    assert not mismatches, "\n\n".join([f"{len(mismatches)} cases differ", *mismatches])


class _Stage:
    """What has happened so far, by case."""

    def __init__(self, scene: Scene, cases: dict[str, Case]) -> None:
        self.cases = cases
        self._scene = scene
        self._first_request = len(scene.endpoint.requests)
        self._first_stanza = len(scene.peer.stanzas)

    def react(self, posted: Posted) -> Reaction:
        """React to a case as it says, however often it is POSTed; to all else by an echo."""
        bare = _bare_of(posted["from"])
        if bare not in self.cases:
            return echo(posted)
        reaction = self.cases[bare].reaction
        if not isinstance(reaction, Answer):
            return reaction
        body = _filled(reaction.body.decode(errors="surrogateescape"), bare)
        return replace(reaction, body=body.encode(errors="surrogateescape"))

    def posted(self) -> dict[str, list[Posted]]:
        found: dict[str, list[Posted]] = {bare: [] for bare in self.cases}
        for request in self._scene.endpoint.requests[self._first_request :]:
            if (bare := _bare_of(request.json["from"])) in found:
                found[bare].append(request.json)
        return found

    def answers(self) -> dict[str, list[ET.Element]]:
        found: dict[str, list[ET.Element]] = {bare: [] for bare in self.cases}
        for element in self._scene.peer.stanzas[self._first_stanza :]:
            if (bare := _bare_of(element.get("to", ""))) in found:
                found[bare].append(element)
        return found

    async def wait_complete(self) -> None:
        """Wait until every case has as much as it should have."""
        posted = sum(case.is_posted for case in self.cases.values())
        await self._scene.endpoint.wait_requests(self._first_request + posted, PLAY_S * 2)
        missing = {bare: len(case.answers) for bare, case in self.cases.items() if case.answers}
        for element in self._scene.peer.stanzas[self._first_stanza :]:
            _count_off(missing, element)
        while missing:
            _count_off(missing, await self._scene.peer.receive(timeout_s=PLAY_S * 2))

    def mismatches(self) -> list[str]:
        posted, answers = self.posted(), self.answers()
        return [
            f"{case.name}: {case.sent}\n  {fault}"
            for bare, case in self.cases.items()
            for fault in (
                *_posted_faults(case, bare, posted[bare]),
                *_answer_faults(case, bare, answers[bare]),
            )
        ]


def _count_off(missing: dict[str, int], element: ET.Element) -> None:
    bare = _bare_of(element.get("to", ""))
    if bare in missing:
        missing[bare] -= 1
        if not missing[bare]:
            del missing[bare]


def _posted_faults(case: Case, bare: str, posted: list[Posted]) -> list[str]:
    if case.reaction == Raw() and posted == posted[:1] * 2:
        # A kept connection that ends without a byte was closed before the POST, as it seems: it is
        # sent again on a fresh one, with the same webhook-id.
        posted = posted[:1]
    if len(posted) != case.is_posted:
        return [f"POSTed {len(posted)} times, not {case.is_posted:d}: {posted}"]
    expected = {
        key: _filled(value, bare) if isinstance(value, str) else value
        for key, value in (case.posted or {}).items()
    }
    got = {key: posted[0].get(key) for key in expected} if posted else {}
    return [] if got == expected else [f"POSTed {got}\n    not {expected}"]


def _answer_faults(case: Case, bare: str, got: list[ET.Element]) -> list[str]:
    expected = [parsed(_filled(answer, bare)) for answer in case.answers]
    shown = [plain(element) for element in expected]
    any_id = [element.get("id") == "*" for element in expected]
    any_id += [False] * len(got)
    found = [plain(element, any_id=any_id[number]) for number, element in enumerate(got)]
    if found == shown:
        return []
    return ["got  " + "\n       ".join(found), "want " + "\n       ".join(shown)]


def body_of(element: ET.Element) -> str | None:
    """The text of a message's body, on a component's stream or a client's."""
    return element.findtext(f"{{{COMPONENT}}}body") or element.findtext(f"{{{CLIENT}}}body")


def parsed(text: str) -> ET.Element:
    """A stanza without a namespace of its own, as it would come on a component's stream."""
    return ET.fromstring(f"<stream xmlns='{COMPONENT}'>{text}</stream>")[0]


def plain(element: ET.Element, *, any_id: bool = False) -> str:
    """A stanza in one spelling: attributes sorted, the stream's namespace and language left out.

    So are the text of a stanza error and a message's type `normal`, which is the default (ejabberd
    takes it away). `any_id` puts `*` for an id that is not empty.
    """
    copy = deepcopy(element)
    copy.attrib.pop(XML_LANG, None)
    if any_id and copy.get("id"):
        copy.set("id", "*")
    if name(copy) == "message" and copy.get("type") == "normal":
        del copy.attrib["type"]
    for error in copy.iter():
        for text in error.findall(f"{{{STANZA_ERRORS}}}text"):
            error.remove(text)
    return _spelt(copy, "")


def _spelt(element: ET.Element, inherited: str) -> str:
    namespace = element.tag[1:].partition("}")[0] if element.tag.startswith("{") else ""
    if inherited == "" and namespace in (COMPONENT, CLIENT):
        namespace = ""
    attributes = dict(element.attrib)
    if namespace != inherited:
        attributes["xmlns"] = namespace
    words = "".join(f" {key}={quoteattr(value)}" for key, value in sorted(attributes.items()))
    inside = escape(element.text or "")
    for child in element:
        inside += _spelt(child, namespace) + escape(child.tail or "")
    tag = name(element)
    return f"<{tag}{words}>{inside}</{tag}>"


def _bare(number: int) -> str:
    return f"c{number}@{PEER}"


def _filled(text: str, bare: str) -> str:
    return text.replace("{me}", f"{bare}/r").replace("{bare}", bare)


def _bare_of(jid: str) -> str:
    return jid.partition("/")[0]
