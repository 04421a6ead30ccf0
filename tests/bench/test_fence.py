"""The trial of batches in PostgreSQL runs, and keeps its promises on a small scale."""

import pytest

from tests.bench.test_kills import figure, run
from tests.servers import postgres

MISSING = postgres.missing()
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def test_no_batch_is_lost_or_halved_by_a_few_outages() -> None:
    told = run("fence", "--outages", "2", "--nodes", "2", "--seed", "1")
    assert figure(told, "violations:") == 0
    assert figure(told, "batches kept:") > 0
    assert "lost: 1," in told, "the frozen writer was told that it is ended"
