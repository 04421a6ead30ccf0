"""The trial of deferred replies runs, and keeps its promises on a small scale."""

import pytest

from tests.bench.test_kills import MISSING, figure, run

pytestmark = [
    pytest.mark.prosody,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def test_each_deferred_reply_arrives_in_order_whatever_is_restarted() -> None:
    table = run("deferred", "--replies", "400", "--kills", "1", "--restarts", "1", "--seed", "1")
    assert figure(table, "violations:") == 0
    assert figure(table, "promised") == 400
    assert figure(table, "accepted") == figure(table, "arrived") == 400
    assert figure(table, "tried again") > 0
