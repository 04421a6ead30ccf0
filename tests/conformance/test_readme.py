"""The table of conformance in the manual is made of the reports that the suite keeps as fixtures.

`XMPP_BRIDGE_REWRITE=1 python -m pytest tests/conformance/test_readme.py` writes it anew.
"""

import json
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "bridge" / "manual" / "conformance.md"
SERVERS = {
    "prosody": "Prosody 0.12.3",
    "prosody-13": "Prosody 13.0.1",
    "ejabberd": "ejabberd 23.01",
    "jabberd2": "jabberd2 2.7.0",
}
COMPONENTS = {
    "xmpp-bridge": "xmpp-bridge",
    "slixmpp": "slixmpp",
    "xmpp.js": "xmpp.js 0.13.1",
    "biboumi": "biboumi 9.0",
    "gloox": "gloox 1.0.24",
}
SUBJECTS = SERVERS | COMPONENTS
HEAD = ("rule", "", *SUBJECTS.values())
SIGNS = {"not applicable": "n/a", "not testable": "-", "differs": "*differs*", "fail": "**fail**"}


def table() -> str:
    """Return the table, with its columns padded as mdformat pads them."""
    reports = [
        json.loads((ROOT / "fixtures" / "conformance" / f"{subject}.json").read_text())["rules"]
        for subject in SUBJECTS
    ]
    rows = [HEAD]
    for row in zip(*reports, strict=True):
        verdicts = (SIGNS.get(rule["verdict"], rule["verdict"]) for rule in row)
        rows.append((row[0]["rule"], row[0]["title"], *verdicts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(map(str.ljust, row, widths)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "".join(f"| {line} |\n" for line in lines)


def test_the_table_is_true() -> None:
    text, made = PAGE.read_text(), table()
    start = text.index("| rule |")
    end = text.index("\n\n", start) + 1
    if os.environ.get("XMPP_BRIDGE_REWRITE"):
        PAGE.write_text(text[:start] + made + text[end:])
        return
    assert text[start:end] == made
