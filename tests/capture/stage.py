"""Where a scene is played: a server, the bridge that records, its endpoint, and people.

Everything is as the bridge's users have it: the bridge is the command with `run --capture`, people
are clients, the endpoint is HTTP. Each scene has a server of its own, so that what it leaves behind
(rosters, rooms) is in no other's capture.
"""

from __future__ import annotations

import tempfile
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.servers.daemon import run_daemon, settings_for
from tests.servers.ejabberd import Ejabberd
from tests.servers.endpoint import NOTHING, Answer, Endpoint, Posted, Reaction, open_endpoint, reply
from tests.servers.peer import Peer, connect_client, connect_component, name
from tests.servers.prosody import Prosody

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.servers.daemon import Daemon, Table

BOT: Final = "bot.localhost"
ECHO: Final = f"echo@{BOT}"
OTHER: Final = "other.localhost"
HOST: Final = "localhost"
MUC: Final = "rooms.localhost"
SECRET: Final = "correct-horse-battery"
PASSWORD: Final = "staple-every-evening"
USERS: Final = {"alice": PASSWORD, "bob": PASSWORD}
ALL_KINDS: Final = ["message", "presence", "iq"]
MAX_STANZA_BYTES: Final = 1024 * 1024
WAIT_S: Final = 30.0

PROSODY_MODULES: Final = (
    *("roster", "saslauth", "disco", "ping", "version", "carbons", "vcard_legacy", "pep", "adhoc"),
    *("uptime",),
)
EJABBERD_MODULES: Final = (
    *("mod_disco", "mod_ping", "mod_roster", "mod_version", "mod_carboncopy", "mod_vcard"),
    *("mod_adhoc", "mod_admin_extra"),
)


@dataclass
class Stage:
    """All that a scene has; `directory` is for files of its own, `captures` gets the recording."""

    server: Prosody | Ejabberd
    endpoint: Endpoint
    directory: Path
    captures: Path

    @asynccontextmanager
    async def bridge(
        self,
        *,
        domain: str = BOT,
        secret: str = SECRET,
        wait_attached: bool = True,
        http: Table | None = None,
        retry: Table | None = None,
        **keys: Any,
    ) -> AsyncIterator[Daemon]:
        """Run the bridge, which records; `keys` are further ones of its component."""
        table = {"component_secret": secret, "component_post_url": self.endpoint.url, **keys}
        settings = settings_for(
            self.server.component_port, {domain: table}, http=http or {}, retry=retry or {}
        )
        async with run_daemon(
            self.directory,
            settings,
            wait_attached=wait_attached,
            arguments=["--capture", str(self.captures)],
        ) as daemon:
            yield daemon

    def user(self, user: str, resource: str, **how: bool) -> AbstractAsyncContextManager[Peer]:
        """Log in as one of USERS."""
        return connect_client(
            self.server.c2s_port, f"{user}@{HOST}", PASSWORD, resource=resource, **how
        )

    def component(self, domain: str, **how: bool) -> AbstractAsyncContextManager[Peer]:
        """Attach as a component without the bridge."""
        return connect_component(self.server.component_port, domain, SECRET, **how)

    def answer(self, script: Mapping[str, Reaction]) -> None:
        """Have the endpoint answer by the body of a message, and say nothing to all else."""
        self.endpoint.react = lambda posted: script.get(posted.get("body", ""), NOTHING)

    async def posted(self, predicate: Callable[[Posted], bool]) -> None:
        """Wait until something of that kind was POSTed and answered."""
        await self.endpoint.wait_until(
            lambda: self.endpoint.in_flight == 0 and any(map(predicate, self.endpoint.posted)),
            WAIT_S,
            "a POST",
        )


@asynccontextmanager
async def open_stage(kind: type[Prosody | Ejabberd], captures: Path) -> AsyncIterator[Stage]:
    """Start a server that knows BOT and OTHER, and an endpoint; nothing of it is left behind."""
    with tempfile.TemporaryDirectory(prefix="capture-") as name:
        directory = Path(name)
        async with _server(kind, directory) as server, open_endpoint(_nothing) as endpoint:
            yield Stage(server, endpoint, directory, captures)


async def software(stage: Stage) -> str:
    """Ask the server for its name and version, as in `Prosody 0.12.3`."""
    async with stage.user("alice", "asks", presence=False) as alice:
        await alice.send(
            f"<iq type='get' id='version' to='{HOST}'><query xmlns='jabber:iq:version'/></iq>"
        )
        answer = await alice.receive(lambda it: it.get("id") == "version")
        words = [answer.findtext(f".//{{jabber:iq:version}}{it}") for it in ("name", "version")]
        return " ".join(word for word in words if word)


def has_id(id: str) -> Callable[[ET.Element], bool]:
    """Pick a stanza by its id."""
    return lambda it: it.get("id") == id


def says(body: str) -> Callable[[ET.Element], bool]:
    """Pick a message by its body."""
    return lambda it: it.findtext("{jabber:client}body") == body


def was(**parts: str) -> Callable[[Posted], bool]:
    """Pick what was POSTed by the values of some keys."""
    return lambda posted: all(posted.get(key) == value for key, value in parts.items())


def is_presence(from_: str, type: str | None = None) -> Callable[[ET.Element], bool]:
    """Pick a presence by its sender and type."""
    return lambda it: name(it) == "presence" and it.get("from") == from_ and it.get("type") == type


def stanzas(*texts: str) -> Answer:
    """Reply by stanzas in XML."""
    return reply(*({"stanza": text} for text in texts))


def message(body: str, to: str = ECHO, **attributes: str) -> str:
    """A chat message; see `endpoint` for what becomes of it."""
    given = {"type": "chat", "to": to, **attributes}
    words = "".join(f" {key}='{value}'" for key, value in given.items())
    return f"<message{words}><body>{body}</body></message>"


def _nothing(_: Posted) -> Reaction:
    return NOTHING


def _server(kind: type[Prosody | Ejabberd], directory: Path) -> Prosody | Ejabberd:
    components = {BOT: SECRET, OTHER: SECRET}
    if kind is Prosody:
        names = ", ".join(f'"{module}"' for module in PROSODY_MODULES)
        extra = f"modules_enabled = {{ {names} }}\nc2s_stanza_size_limit = {MAX_STANZA_BYTES}"
        return Prosody(directory, components=components, users=USERS, muc=MUC, extra=extra)
    modules: dict[str, object] = {module: {} for module in EJABBERD_MODULES}
    modules["mod_muc"] = {"hosts": [MUC], "access": "all", "access_create": "all"}
    return Ejabberd(
        directory, components=components, users=USERS, muc=MUC, extra={"modules": modules}
    )
