"""The commands: options in, text and an exit code out. One module per command.

`main` is the entry point. Before it imports anything else, which takes half a second, it has `run`
keep SIGHUP and SIGTERM: their default action would kill the process. The daemon takes them later.
"""

import signal
import sys

EARLY_SIGNALS: list[int] = []
"""The signals that came before the daemon could take them, each once."""


def main() -> None:
    """Run `xmpp-bridge` with the arguments of the process."""
    if sys.argv[1:2] == ["run"]:
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, _keep)
    from bridge.cli.main import main as command

    command()


def _keep(number: int, _: object) -> None:
    if number not in EARLY_SIGNALS:
        EARLY_SIGNALS.append(number)
