"""The flags of `run` that have it record: `--capture DIR`, and what goes with it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from bridge.capture.compression import Packing
from bridge.capture.retention import MAX_BYTES, MIN_BYTES, ROTATE_BYTES, CaptureDirectoryError
from bridge.capture.retention import CaptureOptions as Options
from bridge.cli.size import size_from, written
from bridge.config.settings import Component

if TYPE_CHECKING:
    from bridge.capture.recorders import Recording

Command = TypeVar("Command", bound=Callable[..., Any])
_PACKINGS: Final[dict[str, Packing]] = {"plain": "none", "gz": "gz", "zst": "zst"}
_FLAGS: Final = (
    click.option(
        "--capture",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Record what comes and goes, in files DIR/DOMAIN-TIME-NUMBER.xcap, for xmpp-bridge"
        " replay and show. Never with a secret; but messages are in them, as they are.",
    ),
    click.option(
        "--redact",
        is_flag=True,
        help="With --capture: replace texts and names of persons by others of the same length.",
    ),
    click.option(
        "--capture-rotate-bytes",
        metavar="SIZE",
        callback=size_from(MIN_BYTES),
        help=f"Begin a new file after that much. [default: {written(ROTATE_BYTES)}]",
    ),
    click.option(
        "--capture-max-bytes",
        metavar="SIZE",
        callback=size_from(MIN_BYTES),
        help="Keep at most that much of this run, and delete its oldest files."
        f" [default: {written(MAX_BYTES)}]",
    ),
    click.option(
        "--capture-format",
        type=click.Choice(list(_PACKINGS)),
        help="Pack the files. [default: plain]",
    ),
)


def capture_flags(command: Command) -> Command:
    """Give a command the flags; it gets them as keywords, for `options_of`."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def options_of(flags: dict[str, Any]) -> Options | None:
    """Make the options; None without `--capture`.

    Raises:
        click.UsageError: flags that contradict each other.
    """
    flags = {name: value for name, value in flags.items() if value}
    directory = flags.pop("capture", None)
    if directory is None:
        for name in flags:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} is for captures: give --capture DIR too.")
        return None
    rotate_bytes = flags.get("capture_rotate_bytes", ROTATE_BYTES)
    max_bytes = flags.get("capture_max_bytes", MAX_BYTES)
    if "capture_rotate_bytes" in flags and rotate_bytes > max_bytes // 2:
        raise click.UsageError(
            f"--capture-max-bytes {written(max_bytes)} must hold two files of"
            f" {written(rotate_bytes)} (--capture-rotate-bytes)."
        )
    packing = _PACKINGS[flags.get("capture_format", "plain")]
    return Options(directory, rotate_bytes, max_bytes, packing, bool(flags.get("redact")))


def open_recording(
    options: Options | None, components: tuple[Component, ...]
) -> "Recording | None":
    """Make the directory, and open the first file of each component; None without options.

    Raises:
        click.UsageError: that cannot be done.
    """
    if options is None:
        return None
    from bridge.capture.file import CaptureFileError
    from bridge.capture.recorders import Recording
    from bridge.telemetry.log import logger

    try:
        warning = options.prepare()
        if warning is not None:
            logger().warning("capture", warning=warning)
        return Recording(options, components)
    except (CaptureDirectoryError, CaptureFileError) as error:
        raise click.UsageError(f"--capture: {error}.") from None
