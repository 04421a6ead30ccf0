"""The measurement of streamed replies runs, and everybody gets the whole text."""

import pytest

from tests.bench.test_kills import MISSING, figure, run

pytestmark = [
    pytest.mark.prosody,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def test_everybody_gets_the_whole_text_beside_ordinary_traffic() -> None:
    table = run(
        *("streams", "--streams", "20", "--seconds", "5", "--window", "4"), "--measure-s", "0.5"
    )
    assert figure(table, "messages:") == 20
    assert "20 whole" in table
