"""The recipes of the manual as programs: found on the page, written to a file, and run.

A program is the page's first block in its language with the recipe below it. Changed are only the
addresses that a test cannot have, and how long the slow work takes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.manual.page import Section, code_of, page
from tests.servers.process import LOOPBACK, START_S, tail, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGE: Final = page("recipes")
FRAME: Final = "A program to start from"
LANGUAGES: Final = {"python": "Flask", "js": "Express", "php": "PHP"}
POLL_S: Final = 0.02
_SLOW: Final = re.compile(r"sleep\(\d+\)")


@dataclass(frozen=True)
class Recipe:
    """One task: its code by language, and the values of the keys that it needs, by the table."""

    task: str
    code: Mapping[str, str]
    kinds: tuple[str, ...]
    events: tuple[str, ...]


def recipes() -> dict[str, Recipe]:
    """Return the recipes of the page by task, in the order of the table at its end."""
    found = {}
    (table,) = PAGE.section("Reference").tables
    for cells in table[1:]:
        task = "".join(one.content for one in cells[0].children or ())
        kinds, events = (tuple(code_of(cell)) for cell in cells[1:3])
        found[task] = Recipe(task, code_in(PAGE.section(task)), kinds, events)
    return found


def code_in(section: Section) -> dict[str, str]:
    """Return the blocks of a section by language."""
    return {one.info: one.content for one in section.tokens if one.type == "fence"}


def missing(language: str) -> str | None:
    """Why a program in that language cannot be run here, or None."""
    if language == "php":
        return None if shutil.which("php") else "php is not installed"
    if language == "js":
        if shutil.which("node") is None:
            return "node is not installed"
        found = subprocess.run(["node", "-e", "require.resolve('express')"], capture_output=True)
        return "express is not installed from npm" if found.returncode else None
    return None


@contextmanager
def run(
    recipe: Recipe, language: str, directory: Path, port: int, replaced: Mapping[str, str]
) -> Iterator[None]:
    """Run a recipe as a program that listens on `port`, in a directory of its own.

    `replaced` says what stands in the program in place of which text.
    """
    text = f"{code_in(PAGE.section(FRAME))[language]}\n\n{recipe.code[language]}"
    text = _SLOW.sub("sleep(0)", replace(text, replaced))
    with run_program(text, language, directory, port):
        yield


@contextmanager
def run_program(
    text: str, language: str, directory: Path, port: int, command: str | None = None
) -> Iterator[None]:
    """Run a program of the manual, with `port` in place of the one that it has. `command` is for
    another web framework than the one of its language.
    """
    suffix = {"python": "py"}.get(language, language)
    program, log = directory / f"bot.{suffix}", directory / "log"
    write(program, text.replace("8000", str(port)))
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(language, program.name, port) if command is None else command.split(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,  # Ctrl-C is for pytest alone
        )
    try:
        _wait_up(process, port, log)
        yield
    except Exception as error:
        error.add_note(f"{program} says:\n{tail(log)}")
        raise
    finally:
        process.kill()
        process.wait()


def replace(text: str, replaced: Mapping[str, str]) -> str:
    """Return a text with other words in place of some of its own."""
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def _command(language: str, program: str, port: int) -> list[str]:
    match language:
        case "python":
            return [sys.executable, "-m", "flask", "--app", "bot", "run", "--port", str(port)]
        case "js":
            return ["node", program]
        case _:
            return ["php", "-S", f"{LOOPBACK}:{port}", program]


def _wait_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _accepts(port):
        assert process.poll() is None, f"exited with {process.returncode}:\n{tail(log)}"
        assert time.monotonic() < deadline, f"is not up:\n{tail(log)}"
        time.sleep(POLL_S)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port)).close()
    except OSError:
        return False
    return True
