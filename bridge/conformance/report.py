"""The report on a subject, rule by rule: as a table, as JSON, as an exit code."""

from collections import Counter
from enum import StrEnum
from typing import Any

from attrs import frozen
from rich.table import Table

from bridge.conformance.rule import BY_ID, RULES


class NothingTried(Exception):
    """No check could be run. The message is a sentence for a person."""


class Verdict(StrEnum):
    """Result of one check."""

    PASS = "pass"
    FAIL = "fail"
    DIFFERS = "differs"
    NOT_APPLICABLE = "not applicable"
    NOT_TESTABLE = "not testable"


_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.DIFFERS: "yellow"}


@frozen
class Finding:
    """One check of one rule: its name, the verdict, and the observation."""

    rule: str
    check: str
    verdict: Verdict
    seen: str = ""


@frozen
class Report:
    """All findings about one subject, in the order of the rules."""

    subject: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        return any(finding.verdict is Verdict.FAIL for finding in self.findings)

    def verdict_of(self, rule: str) -> Verdict:
        """Return the verdict of a rule's worst check; "not testable" if it has no check."""
        worst = (Verdict.FAIL, Verdict.DIFFERS, Verdict.PASS, Verdict.NOT_APPLICABLE)
        found = {finding.verdict for finding in self.findings if finding.rule == rule}
        return next((verdict for verdict in worst if verdict in found), Verdict.NOT_TESTABLE)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, for `--json`."""
        return {
            "subject": self.subject,
            "rules": [
                {
                    "rule": rule.id,
                    "title": rule.title,
                    "section": rule.section,
                    "verdict": str(self.verdict_of(rule.id)),
                    "checks": [
                        {
                            "check": finding.check,
                            "verdict": str(finding.verdict),
                            "seen": finding.seen,
                        }
                        for finding in self.findings
                        if finding.rule == rule.id
                    ],
                }
                for rule in RULES
            ],
        }

    def to_table(self) -> Table:
        """Return the report for a terminal, one row per check."""
        table = Table(title=self.subject, title_justify="left")
        for column in ("rule", "check", "verdict", "seen"):
            table.add_column(column, overflow="fold")
        for finding in self.findings:
            colour = _COLOURS.get(finding.verdict, "dim")
            verdict = f"[{colour}]{finding.verdict}[/]"
            table.add_row(finding.rule, finding.check, verdict, finding.seen)
        return table

    def summary(self) -> str:
        """Return one line with the number of rules per verdict."""
        counts = Counter(self.verdict_of(rule.id) for rule in RULES)
        parts = (f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
        return f"{len(RULES)} rules: " + ", ".join(parts)


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return findings sorted by rule number; the order of a rule's checks is kept."""
    numbers = {rule: number for number, rule in enumerate(BY_ID)}
    return tuple(sorted(findings, key=lambda finding: numbers[finding.rule]))
