"""The script that takes the fixtures: a few scenes again, compared by meaning with those stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from bridge.capture.file import CaptureWriter, open_capture
from bridge.capture.format import IN
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


ERROR_END = b"</stream:error>"


@pytest.mark.parametrize("kind", ["prosody", "ejabberd"])
@pytest.mark.parametrize("scene", ["unknown_host", "wrong_secret"])
def test_an_end_tag_behind_an_error_may_come_too_late(
    kind: str, scene: str, tmp_path: Path
) -> None:
    [stored] = (FIXTURES / kind).glob(f"{scene}.xcap*")
    late = tmp_path / f"{scene}.xcap"
    with open_capture(stored) as capture:
        writer = CaptureWriter(late, capture.header)
        for record in capture:
            said, error, _ = record.data.partition(ERROR_END)
            writer.write(evolve(record, data=said + error) if record.channel == IN else record)
        writer.close()
    assert outline_of(late) == outline_of(stored)
