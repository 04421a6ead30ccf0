"""How Prosody, ejabberd and Openfire differ towards a component, as frozen values.

A profile determines the exact bytes that the scripted server (`session`) sends, and the limits that
findings are measured by. Sources: the servers' code, and the wire of Prosody 0.12.3. Behaviour that
all three share does not belong here.
"""

from collections.abc import Callable
from enum import StrEnum
from secrets import randbits, token_hex
from typing import Final
from uuid import uuid4

from attrs import frozen

from xmppstream.names import COMPONENT, STREAMS
from xmppstream.writer import escape_value

_KIB: Final = 1024


class Moment(StrEnum):
    """When a stream error is sent."""

    HEADER = "with the header"
    HANDSHAKE = "instead of the handshake"
    ATTACHED = "after the handshake"


@frozen
class Profile:
    """One server's quirks. The headers are templates with `{domain}` and `{id}`."""

    name: str
    header: str
    early_header: str
    handshake: str
    make_id: Callable[[], str]
    conflicts: frozenset[Moment]
    any_case: bool
    """Accepts a digest in upper case. All three refuse white space around it."""
    checks_from: bool
    max_stanza_bytes: int | None
    idle_close_s: float | None
    asks_at_once: bool
    """Sends disco#info and jabber:iq:version requests right after the handshake (S9)."""

    def open(self, domain: str, id: str) -> str:
        """Return the header that precedes a handshake."""
        return self.header.format(domain=escaped(domain), id=escaped(id))

    def open_early(self, domain: str) -> str:
        """Return the header that precedes an early error (S3)."""
        return self.early_header.format(domain=escaped(domain))


def escaped(value: str) -> str:
    """Escape an attribute value for use in single or double quotes."""
    return escape_value(value).replace('"', "&quot;")


_NAMESPACES: Final = f"xmlns:stream='{STREAMS}' xmlns='{COMPONENT}'"

PROSODY: Final = Profile(
    name="prosody",
    header="<?xml version='1.0'?>"
    f"<stream:stream {_NAMESPACES} xml:lang='en' from='{{domain}}' id='{{id}}'>",
    early_header=f"<?xml version='1.0'?><stream:stream {_NAMESPACES} version='1.0' id=''>",
    handshake="<handshake xmlns='jabber:component:accept'/>",
    make_id=lambda: str(uuid4()),
    # ATTACHED only with component_conflict_resolve = "kick_old".
    conflicts=frozenset({Moment.HANDSHAKE, Moment.ATTACHED}),
    any_case=True,
    checks_from=True,
    max_stanza_bytes=512 * _KIB,
    idle_close_s=None,
    asks_at_once=False,
)

EJABBERD: Final = Profile(
    name="ejabberd",
    header="<?xml version='1.0'?>"
    f"<stream:stream id='{{id}}' xml:lang='en' {_NAMESPACES} from='{{domain}}'>",
    early_header="<?xml version='1.0'?>"
    f"<stream:stream id='4711' xml:lang='en' {_NAMESPACES} from='{{domain}}'>",
    handshake="<handshake/>",
    make_id=lambda: str(randbits(64)),
    conflicts=frozenset(),
    any_case=False,
    checks_from=True,
    max_stanza_bytes=None,
    idle_close_s=None,
    asks_at_once=False,
)

OPENFIRE: Final = Profile(
    name="openfire",
    header='<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<stream:stream xmlns:stream="{STREAMS}" xmlns="{COMPONENT}" from="{{domain}}" id="{{id}}">',
    early_header='<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<stream:stream xmlns:stream="{STREAMS}" xmlns="{COMPONENT}" from="{{domain}}">',
    handshake="<handshake></handshake>",
    make_id=lambda: token_hex(5),
    conflicts=frozenset({Moment.HEADER, Moment.ATTACHED}),
    any_case=True,
    checks_from=False,
    max_stanza_bytes=1024 * _KIB,
    idle_close_s=360,
    asks_at_once=True,
)

PROFILES: Final = {profile.name: profile for profile in (PROSODY, EJABBERD, OPENFIRE)}
