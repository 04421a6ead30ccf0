"""The command: plays scenes on a real server and puts what the bridge recorded into `fixtures/`."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import click
import trio
from attrs import evolve

from bridge.capture.file import CaptureWriter, open_capture
from tests.capture import malformed
from tests.capture.scene import SCENES
from tests.capture.stage import open_stage, software
from tests.servers.ejabberd import Ejabberd
from tests.servers.prosody import Prosody

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
KINDS: Final[dict[str, type[Prosody | Ejabberd]]] = {"prosody": Prosody, "ejabberd": Ejabberd}
PACKINGS: Final = {"prosody": ".gz", "ejabberd": ".zst"}
"""For what is large: each of them somewhere."""
PACKED_FROM_BYTES: Final = 100_000


@click.command()
@click.argument("what", type=click.Choice([*KINDS, "malformed"]))
@click.argument("scenes", nargs=-1, type=click.Choice(list(SCENES)), metavar="[SCENE]...")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=FIXTURES,
    help="Instead of fixtures/.",
)
def main(what: str, scenes: tuple[str, ...], directory: Path) -> None:
    """Take captures of a server again: all scenes, or the named ones.

    \b
    python -m tests.capture prosody
    python -m tests.capture ejabberd room unicode
    python -m tests.capture malformed
    """
    directory /= what
    directory.mkdir(parents=True, exist_ok=True)
    if what == "malformed":
        write_malformed(directory)
        return
    for scene in scenes or SCENES:
        path = trio.run(partial(take, KINDS[what], scene, directory))
        click.echo(f"{path}: {path.stat().st_size} bytes")


async def take(kind: type[Prosody | Ejabberd], scene: str, directory: Path) -> Path:
    """Play a scene, and give the file that tells it; one of that name is replaced."""
    with tempfile.TemporaryDirectory(prefix="captures-") as name:
        captures = Path(name)
        async with open_stage(kind, captures) as stage:
            version = await software(stage)
            await SCENES[scene](stage)
        return _keep(captures, directory, scene, version)


def _keep(captures: Path, directory: Path, scene: str, version: str) -> Path:
    """Copy the one recording, with what it is of in its header."""
    [recorded] = captures.rglob("*.xcap")
    about = (SCENES[scene].__doc__ or "").partition("\n")[0]
    for old in directory.glob(f"{scene}.xcap*"):
        old.unlink()
    packing = PACKINGS[directory.name] if recorded.stat().st_size > PACKED_FROM_BYTES else ""
    path = directory / f"{scene}.xcap{packing}"
    with open_capture(recorded) as capture:
        header = capture.header
        fields = (*header.fields, ("software", version), ("scene", about))
        writer = CaptureWriter(path, evolve(header, fields=fields))
        for record in capture:
            writer.write(record)
        writer.close()
        assert capture.cut is None, capture.cut
    path.chmod(0o644)
    return path


def write_malformed(directory: Path) -> None:
    """Write all of `fixtures/malformed/`, and remove what is no longer a way."""
    for old in directory.glob("*.xcap*"):
        old.unlink()
    for name, data in malformed.files():
        (directory / name).write_bytes(data)
