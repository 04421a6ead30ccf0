"""The results of all checks: a table, an exit code and a verdict."""

from collections import Counter
from typing import Final, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.daemon.daemon import ExitCode
from bridge.telemetry.text import printable

_Result = Literal["ok", "warning", "failed"]
_COLOURS: Final[dict[_Result, str]] = {"ok": "green", "warning": "yellow", "failed": "red"}


class Report:
    """The table of checks and results."""

    def __init__(self) -> None:
        self.code = ExitCode.OK
        self._counts: Counter[_Result] = Counter()
        self._table = Table(title="Checks", title_justify="left", show_lines=False)
        for column in ("component", "check", "result", "details"):
            self._table.add_column(column, overflow="fold")

    def good(self, domain: str, what: str, details: str) -> None:
        self._add(domain, what, "ok", details)

    def warn(self, domain: str, what: str, details: str) -> None:
        self._add(domain, what, "warning", details)

    def bad(self, domain: str, what: str, details: str, code: ExitCode = ExitCode.OTHER) -> None:
        self._add(domain, what, "failed", details)
        self.code = max(self.code, code)

    def _add(self, domain: str, what: str, result: _Result, details: str) -> None:
        # Brackets in an address or in a server's text must not be read as rich's markup.
        shown = f"[{_COLOURS[result]}]{result}[/]"
        self._table.add_row(
            escape(domain), escape(printable(what)), shown, escape(printable(details))
        )
        self._counts[result] += 1

    def show(self, console: Console) -> None:
        console.print(self._table)

    def verdict(self, untried: str = "") -> str:
        """Return the last line: the number of problems and warnings, and `untried`, a clause about
        what no check has covered.
        """
        found = [
            f"{count} {noun}{'' if count == 1 else 's'}"
            for count, noun in (
                (self._counts["failed"], "problem"),
                (self._counts["warning"], "warning"),
            )
            if count
        ]
        text = ", ".join(found) if found else "All is well"
        return f"{text}{'; but ' if untried and not found else '; ' if untried else ''}{untried}."
