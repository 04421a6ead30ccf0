"""A move of three components: what `import` writes and prints is accepted by a real Prosody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bridge.cli.check.attach import check_attach
from bridge.cli.check.report import Report
from bridge.cli.main import main
from bridge.config.loader import load
from tests.bridge.cli.prosody.test_import import CLOCK, MAIN
from tests.servers.prosody import Prosody

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.prosody
async def test_prosody_accepts_what_was_moved(tmp_path: Path) -> None:
    server = Prosody(tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "clock.cfg.lua").write_text(CLOCK)
    file, output = tmp_path / "prosody.cfg.lua", tmp_path / "bridge.toml"
    file.write_text(MAIN.replace("5348", str(server.component_port)))
    result = CliRunner().invoke(main, ["import", str(file), "--output", str(output)])
    assert result.exit_code == 0
    server.extra = result.stdout
    settings = load(output)
    assert len(settings.components) == 3
    async with server:
        for one in settings.components:
            report = Report()
            await check_attach(one, settings, report)
            assert report.verdict() == "All is well."
