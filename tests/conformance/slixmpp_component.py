"""A component as slixmpp's documentation writes one: run as a process, told all by XMPP_*.

It answers pings, service discovery and version by slixmpp's plugins, and ends with its stream.
"""

import asyncio
import logging
import os

from slixmpp.componentxmpp import ComponentXMPP


async def main() -> None:
    """Attach, and run until the stream is over."""
    component = ComponentXMPP(  # type: ignore[no-untyped-call]  # slixmpp has not typed it
        os.environ["XMPP_DOMAIN"],
        os.environ["XMPP_SECRET"],
        os.environ["XMPP_HOST"],
        int(os.environ["XMPP_PORT"]),
    )
    for plugin in ("xep_0030", "xep_0092", "xep_0199"):
        component.register_plugin(plugin)
    component.connect()
    await component.disconnected


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
