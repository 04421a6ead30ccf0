"""The programs of the manual's page on slow answers, each with a person who writes to it."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.manual.page import page
from tests.servers.client import open_client
from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.recipe import missing, run_program
from tests.servers.scene import BOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.prosody import Prosody

PROGRAMS: Final = {
    name: next(block for block in page("slow").blocks if text in block.text)
    for name, text in {
        "FastAPI": "from fastapi import FastAPI",
        "Flask": "from flask import Flask",
        "Express": 'require("express")',
    }.items()
}
MODULES: Final = {"FastAPI": ("fastapi", "uvicorn"), "Flask": ("flask",), "Express": ()}


def missing_for(name: str) -> str | None:
    """Why a program cannot be run here, or None."""
    for module in MODULES[name]:
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return missing(PROGRAMS[name].language)


@pytest.mark.prosody
@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program_answers_word_by_word(prosody: Prosody, tmp_path: Path, name: str) -> None:
    if (reason := missing_for(name)) is not None:
        pytest.skip(reason)
    with reserve_port() as held:
        port = held.getsockname()[1]
        url = f"http://{LOOPBACK}:{port}/"
        bot = {"component_secret": COMPONENTS[BOT], "component_post_url": url}
        bridge = settings_for(prosody.component_port, {BOT: bot})
        command = None
        if name == "FastAPI":
            command = f"{sys.executable} -m uvicorn bot:app --port {port}"
        language = PROGRAMS[name].language
        with run_program(PROGRAMS[name].text, language, tmp_path, port, command):
            async with (
                run_daemon(tmp_path, bridge),
                open_client(prosody, script="slixmpp_reader.py") as client,
            ):
                await client.write("life")
                answer = "You asked 'life'. Let me think about that. "
                last = await client.see(lambda line: line.get("body") == answer)
    texts = [line for line in client.lines if line.get("body")]
    first = texts[0]
    assert first["replaces"] is None
    assert answer.startswith(first["body"])
    assert {one["replaces"] for one in texts[1:]} <= {first["id"]}
    assert last is texts[-1]
