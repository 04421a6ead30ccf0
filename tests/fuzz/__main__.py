"""Coverage-guided fuzzing of the stream: `python -m tests.fuzz --seconds 20 [--corpus DIR]`.

Needs atheris (`pip install '.[fuzz]'`). Runs in rounds, each in a process of its own, since libxml2
keeps every name that a thread has ever seen. What is found anew goes into the corpus directory; a
crash is written beside it and ends the run with exit code 1. `tests/fuzz/corpus/` holds the seeds;
every crash that was mended is a row of `tests/conformance/`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEEDS = Path(__file__).parent / "corpus"
ROUND_S = 120


def fuzz(corpus: str, seconds: int) -> None:
    """One round, in this process; never returns."""
    import atheris  # type: ignore[import-untyped]  # it has no stubs

    with atheris.instrument_imports(include=["xmppstream", "tests.fuzz.stream"]):
        from tests.fuzz.stream import check
    options = [f"-max_total_time={seconds}", "-max_len=2048", "-rss_limit_mb=4096"]
    options += ["-use_value_profile=1", "-print_final_stats=1", "-timeout=10"]
    dictionary = f"-dict={SEEDS.parent / 'xml.dict'}"
    artifacts = f"-artifact_prefix={corpus}-crash-"
    atheris.Setup([sys.argv[0], *options, dictionary, artifacts, corpus], check)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--corpus", type=Path, help="kept between runs; default: a new one")
    parser.add_argument("--one-round", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_round:
        fuzz(str(arguments.corpus), arguments.seconds)
    corpus = arguments.corpus or Path(tempfile.mkdtemp()) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS.iterdir():
        shutil.copy(seed, corpus)
    ends = time.monotonic() + arguments.seconds
    while (left := ends - time.monotonic()) >= 1:
        round_s = min(int(left), ROUND_S)
        command = [sys.executable, "-m", "tests.fuzz", "--one-round", "--corpus", str(corpus)]
        if subprocess.run([*command, "--seconds", str(round_s)]).returncode:
            print(f"found something: see {corpus}-crash-*", file=sys.stderr)
            return 1
    print(f"nothing found; {len(list(corpus.iterdir()))} inputs in {corpus}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
