"""The trial of sends runs, and keeps its promises on a small scale."""

import pytest

from tests.bench.test_kills import MISSING, figure, run

pytestmark = [
    pytest.mark.prosody,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def test_what_is_accepted_arrives_though_prosody_is_restarted() -> None:
    table = run("sends", "--stanzas", "500", "--within-s", "2", "--seed", "1")
    assert figure(table, "violations:") == 0
    assert figure(table, "accepted") == figure(table, "arrived") == 500
    assert figure(table, "detached") == 2
