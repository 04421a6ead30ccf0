"""jabberd2 on loopback: router, session manager and client connector, files as storage, no s2s.

Its router has one secret, which lets any component in, whatever its domain.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from tests.servers.process import LOOPBACK, Server, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DAEMONS = ("router", "sm", "c2s")
_USER = ("jabberd", "internal")


def missing() -> str | None:
    """Why jabberd2 cannot be started here, or None."""
    if not all(shutil.which(f"jabberd2-{daemon}") for daemon in _DAEMONS):
        return "jabberd2 is not installed"
    return None if _library() else "the modules of jabberd2 are not installed"


class Jabberd2(Server):
    """A jabberd2 with host `localhost`; see `Server` for its life.

    It has no users of its own and no rooms. All components share a secret.
    """

    name = "jabberd2"

    def __init__(self, directory: Path, *, components: Mapping[str, str]) -> None:
        super().__init__(directory, components, users=None, muc=None)

    def _command(self) -> Sequence[str]:
        # SIGTERM goes to the shell alone: it passes it on to the three, and waits for them.
        started = "".join(f"jabberd2-{one} -c {one}.xml & " for one in _DAEMONS)
        return ["sh", "-c", f"trap 'trap \"\" TERM; kill -TERM 0; wait' TERM; {started}wait"]

    def _configure(self) -> None:
        [secret] = set(self.components.values())
        (self.directory / "data").mkdir(exist_ok=True)
        user, password = _USER
        for name, text in {
            "users": f"<users><user><name>{user}</name><secret>{password}</secret></user></users>",
            "filter": "<filter/>",
            "router": self._router(secret),
            "sm": self._sm(),
            "c2s": self._c2s(),
        }.items():
            write(self.directory / f"{name}.xml", f"{text}\n")

    def _router(self, secret: str) -> str:
        return f"""<router>
 <id>router</id>
 <log type='stdout'/>
 <local>
  <ip>{LOOPBACK}</ip>
  <port>{self.component_port}</port>
  <users>users.xml</users>
  <secret>{escape(secret)}</secret>
 </local>
 <io><max_fds>1024</max_fds></io>
 <aci><acl type='all'><user>{_USER[0]}</user></acl><filter>filter.xml</filter></aci>
</router>"""

    def _sm(self) -> str:
        return f"""<sm>
 <id>sm</id>
 {self._link}
 <log type='stdout'/>
 <local><id>localhost</id></local>
 <storage>
  <path>{_library()}</path>
  <driver>fs</driver>
  <fs><path>data</path></fs>
 </storage>
 <modules>
  <path>{_library()}</path>
  <chain id='pkt-sm'>{_modules("iq-ping", "iq-version", "disco", "presence")}</chain>
  <chain id='pkt-router'>{_modules("session", "disco")}</chain>
 </modules>
</sm>"""

    def _c2s(self) -> str:
        return f"""<c2s>
 <id>c2s</id>
 {self._link}
 <log type='stdout'/>
 <local><id>localhost</id><ip>{LOOPBACK}</ip><port>{self.c2s_port}</port></local>
 <io><max_fds>1024</max_fds></io>
 <authreg>
  <path>{_library()}</path>
  <module>anon</module>
  <mechanisms><traditional><plain/></traditional></mechanisms>
 </authreg>
</c2s>"""

    @property
    def _link(self) -> str:
        """How a daemon finds the router, which may not be up when it starts."""
        user, password = _USER
        retry = "<retry><init>20</init><lost>3</lost><sleep>1</sleep></retry>"
        where = f"<ip>{LOOPBACK}</ip><port>{self.component_port}</port>"
        return f"<router>{where}<user>{user}</user><pass>{password}</pass>{retry}</router>"


def _modules(*names: str) -> str:
    return "".join(f"<module>{name}</module>" for name in names)


def _library() -> Path | None:
    """Where Debian keeps jabberd2's modules, /usr/lib/<architecture>/jabberd2."""
    return next(iter(Path("/usr/lib").glob("*/jabberd2/")), None)
