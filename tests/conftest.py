"""What all tests share.

With `XMPP_BRIDGE_NO_SKIP=1` (as in CI) nothing may skip: a skip fails. No example of Hypothesis has
a deadline: a busy machine is no fault.
"""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("XMPP_BRIDGE_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may skip: {report.longrepr}"
    return report
