"""The script that takes the fixtures: a few scenes again, compared by meaning with those stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.command import FIXTURES, take
from tests.capture.outline import outline_of
from tests.servers.conftest import KINDS
from tests.servers.ejabberd import Ejabberd
from tests.servers.prosody import Prosody


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", ["chat", "room", "unknown_host"])
async def test_a_scene_is_as_it_was(
    kind: type[Prosody | Ejabberd], scene: str, tmp_path: Path
) -> None:
    directory = tmp_path / kind.name
    directory.mkdir()
    again = outline_of(await take(kind, scene, directory))
    stored = outline_of(FIXTURES / kind.name / f"{scene}.xcap")
    assert again == stored
    assert again.links
