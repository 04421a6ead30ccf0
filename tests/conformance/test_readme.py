"""The README's table of conformance is made of the reports that the suite keeps as fixtures.

`XMPP_BRIDGE_REWRITE=1 python -m pytest tests/conformance/test_readme.py` writes it anew.
"""

import json
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SUBJECTS = ("prosody", "ejabberd", "xmpp-bridge", "slixmpp")
HEAD = (
    "| rule | | Prosody 0.12.3 | ejabberd 23.01 | xmpp-bridge | slixmpp |\n"
    "|---|---|---|---|---|---|\n"
)
SIGNS = {"not applicable": "n/a", "not testable": "-", "differs": "*differs*", "fail": "**fail**"}


def table() -> str:
    reports = [
        json.loads((ROOT / "fixtures" / "conformance" / f"{subject}.json").read_text())["rules"]
        for subject in SUBJECTS
    ]
    lines = []
    for row in zip(*reports, strict=True):
        verdicts = (SIGNS.get(rule["verdict"], rule["verdict"]) for rule in row)
        lines.append(f"| {row[0]['rule']} | {row[0]['title']} | {' | '.join(verdicts)} |\n")
    return HEAD + "".join(lines)


def test_the_table_is_true() -> None:
    text = README.read_text()
    start = text.index(HEAD)
    end = text.index("\n\n", start) + 1
    if os.environ.get("XMPP_BRIDGE_REWRITE"):
        README.write_text(text[:start] + table() + text[end:])
        return
    assert text[start:end] == table()
