"""The seeds of the fuzzer, and every crash that it found, in the suite."""

from pathlib import Path

import pytest

from tests.fuzz.stream import check

SEEDS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_seed(seed: Path) -> None:
    check(seed.read_bytes())
