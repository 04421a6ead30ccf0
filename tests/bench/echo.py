"""A component that answers each message at once, without any HTTP.

It costs next to nothing, so it shows what Prosody and the load generator can route at most.
`python -m tests.bench.echo PORT DOMAIN SECRET`
"""

import asyncio
import re
import sys
from typing import Final

from tests.bench.raw_component import RawComponent, run

ADDRESSES: Final = re.compile(
    rb"<message(?=[^>]* to='([^']*)')(?=[^>]* from='([^']*)')(?![^>]* type='error')[^>]*>"
)
ANSWER: Final = (
    b"<message from='%b' to='%b' type='chat' id='r'><body>" + b"answer " * 14 + b"</body></message>"
)


class Echo(RawComponent):
    """Swaps the addresses, and says always the same."""

    def attached(self) -> None:
        print("attached", flush=True)

    def received(self, data: bytes) -> None:
        self.transport.write(b"".join([ANSWER % pair for pair in ADDRESSES.findall(data)]))


async def main(port: str, domain: str, secret: str) -> None:
    """Attach, and run until the stream is over."""
    loop = asyncio.get_running_loop()
    _, echo = await loop.create_connection(lambda: Echo(domain, secret), "127.0.0.1", int(port))
    await echo.ended


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
