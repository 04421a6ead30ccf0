"""Prosody's community modules mod_rest and mod_post_msg, as they are installed by whoever wants
them: no package of Debian's bookworm has them. XMPP_BRIDGE_PROSODY_MODULES names the directory.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.servers.process import Server

_VARIABLE: Final = "XMPP_BRIDGE_PROSODY_MODULES"
MODULES: Final = Path(os.environ.get(_VARIABLE, ""))
EXAMPLE: Final = MODULES / "mod_rest" / "example" / "app.py"
USER: Final = ("bob", "pw")
POST_MSG_USER: Final = ("bob@localhost", "pw")
"""Who sends through the modules; mod_post_msg wants a whole address."""


def missing() -> str | None:
    """Why the modules cannot be asked here, or None."""
    return None if _VARIABLE in os.environ else f"{_VARIABLE} does not name prosody-modules"


@asynccontextmanager
async def open_mod_rest(
    directory: Path, components: dict[str, str], muc: str | None = None
) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """Start a Prosody with both modules, and give it and a client of their HTTP server. The rooms
    of `muc` have an archive.
    """
    with reserve_port() as held:
        port = held.getsockname()[1]
        extra = [
            f"plugin_paths = {{ {quoted(str(MODULES.resolve()))} }}",
            f'http_ports = {{ {port} }} http_interfaces = {{ "{LOOPBACK}" }} https_ports = {{}}',
            'http_default_host = "localhost"',
        ]
        enabled = (
            'modules_enabled = { "version", "uptime", "lastactivity", "adhoc", "rest", "post_msg" }'
        )
        archive = {} if muc is None else {muc: ['modules_enabled = { "muc_mam" }']}
        users = {"alice": "pw", USER[0]: USER[1]}
        async with (
            Prosody(
                directory,
                components=components,
                users=users,
                muc=muc,
                component_settings={"localhost": [enabled], **archive},
                extra="\n".join(extra),
            ) as server,
            httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", auth=USER) as client,
        ):
            yield server, client
