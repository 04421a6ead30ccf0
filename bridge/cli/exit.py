"""Exit codes, and how a command runs to its own."""

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

EXIT_CODES: Final = """\b
Exit codes: 0 all is well, 2 usage or configuration error,
3 the server refused (every component, for good), 1 anything else."""


def run_async(command: Callable[..., Awaitable[int]], *arguments: object) -> NoReturn:
    """Run a command to its exit code; Ctrl-C, and a reader of ours that leaves, are no bugs."""
    code = 1
    try:
        code = int(trio.run(command, *arguments))
    except* (KeyboardInterrupt, SystemExit):  # rich exits where the pipe is closed
        pass
    raise SystemExit(code)
