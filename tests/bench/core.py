"""Small stanzas through the sans-IO core: stanzas per second, and memory that stays flat."""

import time

from tests.bench.process import rss_mb
from xmppstream import ComponentConnection, Role
from xmppstream.names import COMPONENT, STREAMS

BATCH = 10
STANZA = (
    b"<message to='bot@ext.localhost' from='juliet@localhost/balcony' type='chat' id='abc123'>"
    b"<body>" + b"x" * 100 + b"</body></message>"
)


def run(stanzas: int) -> None:
    """Feed them, ten to a chunk, and report."""
    connection = ComponentConnection(Role.COMPONENT, domain="ext.localhost")
    connection.open()
    header = f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}' id='1'>"
    connection.receive_data(header.encode())
    connection.authenticate("secret")
    connection.receive_data(b"<handshake/>")
    chunk, done, started = STANZA * BATCH, 0, time.perf_counter()
    tenth = max(stanzas // 10, BATCH)
    while done < stanzas:
        done += len(connection.receive_data(chunk))
        if done % tenth == 0:
            rate = done / (time.perf_counter() - started)
            print(f"{done:>10,} stanzas  {rate:>9,.0f}/s  {rss_mb():6.1f} MB", flush=True)
