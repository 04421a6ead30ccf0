"""`print-alerts`: the rules are those of the manual, and each fires when it must."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from bridge.cli.help import pages
from bridge.cli.main import main

ROOT: Final = Path(__file__).parents[3]
PROMTOOL: Final = shutil.which("promtool")
PAGE: Final = pages()["monitoring"]


def printed() -> str:
    result = CliRunner().invoke(main, ["print-alerts"])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_manual_shows_the_same_file() -> None:
    assert f"```yaml\n{printed()}```\n" in PAGE


def test_the_manual_explains_each_alert() -> None:
    section = PAGE.partition("## Alerts\n")[2].partition("\n## ")[0]
    explained = re.findall(r"^- `([^`]+)`:", section, re.M)
    assert explained == re.findall(r"^ +expr: (.+)$", printed(), re.M)
    assert len(explained) == 7
    assert printed().count("- alert: ") == printed().count("summary: ") == 7


def promtool(*arguments: str) -> None:
    command = [str(PROMTOOL), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


BOT: Final = 'component="bot.example"'
HEALTHY: Final = {
    f"xmpp_bridge_stream_attached{{{BOT}}}": "1+0x90",
    f"xmpp_bridge_node_leases{{{BOT}}}": "1+0x90",
    f"xmpp_bridge_endpoint_up{{{BOT}}}": "1+0x90",
    'xmpp_bridge_journal_up{instance="host"}': "1+0x90",
    f"xmpp_bridge_stanzas_oldest_age_seconds{{{BOT}}}": "600+0x90",
    f"xmpp_bridge_senders_untold_total{{{BOT}}}": "7+0x90",
    f"xmpp_bridge_dead_letters{{{BOT}}}": "0+0x90",
}
ALERTS: Final = {
    "XmppBridgeNotAttached": "0+0x90",
    "XmppBridgeNoGateway": "0+0x90",
    "XmppBridgeEndpointDown": "0+0x90",
    "XmppBridgeJournalDown": "0+0x90",
    "XmppBridgeStanzaOld": "601+0x90",
    "XmppBridgeSenderNotTold": "7+0x60 8+0x30",
    "XmppBridgeDeadLetters": "3+0x90",
}
SUMMARIES: Final = (
    "bot.example is not attached to its server.",
    "bot.example: no node attaches.",
    "bot.example: the endpoint is down.",
    "host: the journal does not answer.",
    "bot.example: a stanza has waited for 10 min.",
    "bot.example: a sender was not told.",
    "bot.example has 3 dead letters.",
)


def expected(alert: str, at: int, labels: dict[str, str] | None, summary: str) -> dict[str, Any]:
    """What promtool is to find of an alert `at` so many minutes; without labels, nothing."""
    fired = [{"exp_labels": labels, "exp_annotations": {"summary": summary}}] if labels else []
    return {"eval_time": f"{at}m", "alertname": alert, "exp_alerts": fired}


@pytest.mark.promtool
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_each_alert_fires_in_its_own_case_only(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(printed())
    promtool("check", "rules", str(tmp_path / "rules.yml"))
    tests: list[dict[str, Any]] = []
    for number, (alert, values) in enumerate(ALERTS.items()):
        series = HEALTHY | {list(HEALTHY)[number]: values}
        labels = {"instance": "host"} if "Journal" in alert else {"component": "bot.example"}
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": one, "values": v} for one, v in series.items()],
                "alert_rule_test": [
                    expected(one, 80, labels if one == alert else None, SUMMARIES[number])
                    for one in ALERTS
                ],
            }
        )
    tests[0]["alert_rule_test"].append(expected("XmppBridgeNotAttached", 1, None, ""))
    (tmp_path / "tests.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": tests}))
    promtool("test", "rules", str(tmp_path / "tests.yml"))


@pytest.mark.parametrize("name", ["print-alerts", "print-dashboard"])
def test_a_reader_may_leave_early(name: str) -> None:
    """As in `print-dashboard | head -1`: neither a traceback nor a word."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "bridge", name]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""


def test_its_help_fits_a_narrow_terminal() -> None:
    result = CliRunner().invoke(main, ["print-alerts", "--help"], terminal_width=60)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 60
    assert "xmpp-bridge print-alerts > xmpp-bridge.rules.yml" in result.stdout
