"""Exit codes, and running a command to its exit code."""

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

EXIT_CODES: Final = """\b
Exit codes: 0 success, 2 usage or configuration error,
3 the server refused the component, 130 Ctrl-C,
1 any other error. For each command:
xmpp-bridge help operation"""
"""The end of every command's help; the manual says what 1 means for each."""


def run_async(command: Callable[..., Awaitable[int]], *arguments: object) -> NoReturn:
    """Run a command and exit with its code. Ctrl-C and a closed output pipe print no traceback."""
    code = 1
    try:
        code = int(trio.run(command, *arguments))
    except* (KeyboardInterrupt, SystemExit):  # rich exits if the pipe is closed
        pass
    raise SystemExit(code)
