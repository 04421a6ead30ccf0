"""Times, spans and sizes as a person reads them."""

import pytest

from bridge.telemetry.text import age, size, when

AGES = [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h")]
AGES += [(172_800, "2 d")]


@pytest.mark.parametrize(("seconds", "shown"), AGES)
def test_ages(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


SIZES = [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (2**31, "2.0 GiB")]


@pytest.mark.parametrize(("count", "shown"), SIZES)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize("at", [1e300, -1e300, float("nan"), float("inf")])
def test_a_time_that_is_none(at: float) -> None:
    assert when(at).endswith(" s since 1970")
