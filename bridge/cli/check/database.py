"""The database of the journal, if it is on PostgreSQL: whether it can be used, and is safe."""

from functools import partial
from typing import assert_never

import trio

from bridge.cli.check.report import Report
from bridge.config.settings import Settings
from bridge.journal.store import JournalError


async def check_database(settings: Settings, report: Report) -> None:
    """Connect to the database, and report what is wrong with it and how long a commit takes."""
    url = settings.journal.url
    if url is None:
        return
    from bridge.journal.postgres.inspection import inspect  # psycopg only if it is used

    try:
        findings = await trio.to_thread.run_sync(
            partial(inspect, settings.journal, settings.node), abandon_on_cancel=True
        )
    except JournalError as error:
        report.bad("", f"journal {url}", f"{error}.")
        return
    for one in findings:
        what = f"journal: {one.what}"
        match one.result:
            case "ok":
                report.good("", what, one.details)
            case "warning":
                report.warn("", what, one.details)
            case "failed":
                report.bad("", what, one.details)
            case _:
                assert_never(one.result)
