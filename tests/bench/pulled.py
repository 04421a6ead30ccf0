"""The bridge with pollers in place of an endpoint, told the port, the domain and the secret.

The daemon is a child; the pollers are tasks of this process, and answer at once.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import trio

from tests.bench.puller import Puller, free_port, listen_at
from tests.servers.daemon import settings_for, toml

POLLERS: Final = 8
REPLY: Final = b'{"body":"hello"}'


async def answer(_: dict[str, Any]) -> bytes:
    """Answer as the endpoint `fast` does."""
    return REPLY


async def main(port: int, domain: str, secret: str) -> None:
    """Run until SIGTERM."""
    polled_at = free_port()
    with tempfile.TemporaryDirectory(prefix="pulled-") as place:
        config = Path(place) / "bridge.toml"
        component = {"component_secret": secret, "component_post_url": "pull:"}
        settings = settings_for(
            port,
            {domain: component},
            journal={"durability": "off"},
            http={"max_in_flight": 1000},
            listen=listen_at(polled_at),
        )
        config.write_text(toml(settings))
        config.chmod(0o600)
        daemon = await trio.lowlevel.open_process(
            [sys.executable, "-m", "bridge", "run", str(config)], stdin=subprocess.DEVNULL
        )
        try:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async with trio.open_nursery() as nursery:
                    for _ in range(POLLERS):
                        nursery.start_soon(Puller(polled_at, answer, at_once=64).run)
                    async for _ in signals:
                        nursery.cancel_scope.cancel()
        finally:
            daemon.terminate()
            with trio.CancelScope(shield=True):
                await daemon.wait()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2], sys.argv[3])
