"""`journal copy`: between state directories, and what it refuses."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from bridge.cli import journal as command
from bridge.cli.main import main
from bridge.journal import copy as copying
from bridge.journal.directory import StateDirectory
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import JournalError, Totals
from tests.bridge.journal.test_copy import ONE_OF_EACH, content, entry

URL: Final = "postgresql://bridge:hunter2@127.0.0.1:1/bridge"


@pytest.fixture
def full(tmp_path: Path) -> StateDirectory:
    """A state directory whose journal holds one of everything."""
    directory = StateDirectory(tmp_path / "full")
    with opened(directory) as store:
        store.commit(ONE_OF_EACH)
    return directory


@pytest.fixture
def empty(tmp_path: Path) -> StateDirectory:
    """A state directory that does not exist yet."""
    return StateDirectory(tmp_path / "empty")


@contextmanager
def opened(directory: StateDirectory) -> Iterator[SqliteStore]:
    with closing(SqliteStore(directory.journal_file)) as store:
        yield store


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["journal", "copy", *map(str, arguments)])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "hunter2" not in result.output
    return result


def test_a_journal_is_copied(full: StateDirectory, empty: StateDirectory) -> None:
    result = invoke(full.path, empty.path)
    assert (result.exit_code, result.stdout) == (
        0,
        "Copied 2 pending stanzas, 3 unconfirmed replies, 2 dead letters, 2 idempotency keys and"
        f" 2 entries of small state from {full.path} to {empty.path}.\n"
        f"{full.path} is unchanged: move it away, so that no daemon delivers from it again.\n",
    )
    with opened(full) as source, opened(empty) as target:
        assert content(target) == content(source)
    assert not empty.lock_file.read_bytes()


def test_progress_is_told(full: StateDirectory, empty: StateDirectory) -> None:
    lines = invoke(full.path, empty.path).stderr.splitlines()
    assert (lines[0].startswith("29 %, 2 stanzas, "), lines[-1].startswith("7 stanzas, ")) == (
        True,
        True,
    )


def test_a_quiet_copy_tells_no_progress(full: StateDirectory, empty: StateDirectory) -> None:
    assert invoke(full.path, empty.path, "--quiet").stderr == ""


def test_a_second_copy_is_refused(full: StateDirectory, empty: StateDirectory) -> None:
    invoke(full.path, empty.path)
    result = invoke(full.path, empty.path)
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {empty.path} is not empty: it holds 7 stanzas; copy into a new state directory,"
        " or into another cluster's schema.\n",
    )


@pytest.mark.parametrize("taken", ["full", "empty"])
def test_no_daemon_may_use_either(full: StateDirectory, empty: StateDirectory, taken: str) -> None:
    directory = full if taken == "full" else empty
    with directory.lock():
        result = invoke(full.path, empty.path)
    assert result.exit_code == 1
    assert f"cannot use the state directory {directory.path}: process " in result.stderr
    assert "has it; stop that process" in result.stderr


def test_a_copy_that_ends_early_is_told(
    full: StateDirectory, empty: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(full) as store:
        store.commit([entry(f"more{n}") for n in range(9)])
    monkeypatch.setattr(copying, "PAGE", 2)
    commit = SqliteStore.commit

    def fail_late(self: SqliteStore, operations: list[object]) -> None:
        if self.totals().get("bot", Totals()).pending >= 4:
            raise JournalError("no room", "make some")
        commit(self, operations)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteStore, "commit", fail_late)
    result = invoke(full.path, empty.path, "--quiet")
    assert (result.exit_code, result.stderr) == (
        1,
        f"{empty.path} is incomplete: remove it before you copy again.\n"
        "Error: no room; make some.\n",
    )


def test_there_must_be_a_journal(tmp_path: Path, empty: StateDirectory) -> None:
    result = invoke(tmp_path, empty.path)
    assert (result.exit_code, result.stderr) == (1, f"Error: there is no journal in {tmp_path}.\n")
    assert not empty.path.exists()


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "bridge.toml"
    path.write_text(f'[component."bot.example"]\ncomponent_secret_file = "none"\n{text}')
    return str(path)


REFUSED: Final = [
    (("{full}", "{full}"), "FROM and TO are the same journal."),
    (("{full}", "{full}/../full"), "FROM and TO are the same journal."),
    (("{url}", "{url}"), "FROM and TO are the same journal."),
    (("{full}", "none.toml"), "There is no file 'none.toml'."),
    (("{full}", "postgresql://h:x/"), "the URL has no valid host or port"),
    (("{full}", "{url}", "--cluster", "A"), "'A' is not a valid name of a cluster"),
    (("{full}", "{empty}", "--cluster", "a"), "--cluster is for a URL"),
]


@pytest.mark.parametrize(("arguments", "told"), REFUSED)
def test_arguments_that_are_refused(
    full: StateDirectory, empty: StateDirectory, arguments: tuple[str, ...], told: str
) -> None:
    places = {"full": full.path, "empty": empty.path, "url": URL}
    result = invoke(*(one.format(**places) for one in arguments))
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_configuration_without_a_url(
    tmp_path: Path, full: StateDirectory, empty: StateDirectory
) -> None:
    result = invoke(full.path, written(tmp_path, ""))
    assert result.exit_code == 2
    assert "has no url in [journal], so its journal is in a state directory" in result.stderr


def test_a_configuration_with_faults(tmp_path: Path, full: StateDirectory) -> None:
    config = written(tmp_path, '[journal]\nurl_file = "none"')
    result = invoke(full.path, config)
    assert result.exit_code == 2
    assert f"{config}: journal.url_file: {tmp_path}/none cannot be read" in result.stderr


def test_clusters_of_one_database_are_different_journals() -> None:
    one, other = (command._place(URL, name) for name in ("a", "b"))
    assert command._same(one, one)
    assert not command._same(one, other)
