"""The router of jabberd2 on loopback: components attach to it, so it is all that they see."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from tests.servers.process import LOOPBACK, Server, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PATH: Final = "/usr/sbin/jabberd2-router"
_USERS: Final = "<users><user><name>jabberd</name><secret>unused</secret></user></users>\n"
_FILTER: Final = "<filter/>\n"


def missing() -> str | None:
    """Why jabberd2 cannot be started here, or None."""
    return None if shutil.which(_PATH) else "jabberd2 is not installed"


class Jabberd2(Server):
    """A router without sessions: the other processes of jabberd2 would attach like components.

    All components have one secret, and any domain may attach.
    """

    name = "jabberd2"

    def __init__(self, directory: Path, *, components: Mapping[str, str]) -> None:
        super().__init__(directory, components, None, None)
        self.c2s_port = self.component_port

    def _command(self) -> Sequence[str]:
        return [_PATH, "-c", str(self.directory / "router.xml")]

    def _configure(self) -> None:
        [secret] = set(self.components.values())
        place = self.directory
        write(place / "users.xml", _USERS)
        write(place / "filter.xml", _FILTER)
        write(
            place / "router.xml",
            f"""\
<router>
  <id>router</id>
  <pidfile>{place}/router.pid</pidfile>
  <log type='file'><file>{place}/router.log</file></log>
  <local>
    <ip>{LOOPBACK}</ip>
    <port>{self.component_port}</port>
    <users>{place}/users.xml</users>
    <secret>{escape(secret)}</secret>
  </local>
  <io><max_fds>1024</max_fds></io>
  <aci><acl type='all'><user>jabberd</user></acl></aci>
  <filter>{place}/filter.xml</filter>
</router>
""",
        )
