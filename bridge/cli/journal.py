"""`xmpp-bridge journal copy`: move a journal to another store, such as PostgreSQL, and back."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import sleep
from typing import Final, assert_never

import click
from attrs import frozen
from rich.console import Console

from bridge.cli.exit import EXIT_CODES
from bridge.cli.progress import Bar
from bridge.cli.queue_client import open_whole
from bridge.cli.settings import fail
from bridge.config.journal import check_cluster
from bridge.config.loader import load_journal
from bridge.config.settings import ConfigError, JournalSettings, NodeSettings
from bridge.config.value import BadValue, parse_database_url
from bridge.journal.copy import ArchiveStore, Copied, check_empty, copy, stanzas_in
from bridge.journal.directory import StateDirectory, StateDirectoryError
from bridge.journal.nodes import OtherNodes
from bridge.journal.store import JournalError
from bridge.telemetry.text import printable

_SCHEMES: Final = ("postgresql:", "postgres:")
_LOOKS: Final = 10
_LOOK_S: Final = 1.0
"""A node that lives commits something every 2 s; one that is dead holds up the copy for 10 s."""


@frozen
class FilePlace:
    """The journal of a state directory."""

    directory: StateDirectory

    def __str__(self) -> str:
        return str(self.directory.path)


@frozen
class DatabasePlace:
    """The journal of a cluster in a database."""

    journal: JournalSettings
    node: NodeSettings

    def __str__(self) -> str:
        return f"{self.journal.url}, cluster {self.node.cluster}"


Place = FilePlace | DatabasePlace


@click.group(epilog=EXIT_CODES)
def journal() -> None:
    """Move a journal to another store."""


@journal.command("copy", epilog=EXIT_CODES)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--cluster",
    metavar="NAME",
    help="The cluster of a URL, as in [node]. [default: xmpp_bridge]",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def copy_journal(source: str, target: str, cluster: str | None, quiet: bool) -> None:
    """Copy everything that a journal holds into an empty one.

    \b
    xmpp-bridge journal copy /var/lib/xmpp-bridge bridge.toml
    xmpp-bridge journal copy bridge.toml /var/lib/xmpp-bridge

    FROM and TO are each a state directory, a configuration file with [journal] url, or a URL such
    as postgresql://bridge@db.example.com/bridge (a password in it is visible to other users of this
    machine; a file is not). No daemon may use either of them. Stanzas keep their order, their uids
    and their attempts. FROM stays as it is: move it away afterwards.
    """
    try:
        ours, theirs = _place(source, cluster), _place(target, cluster)
    except ConfigError as error:
        fail(error)
    if _same(ours, theirs):
        raise click.UsageError("FROM and TO are the same journal.")
    if cluster is not None and not any(one.startswith(_SCHEMES) for one in (source, target)):
        raise click.UsageError("--cluster is for a URL: a configuration file names its own.")
    try:
        copied = _copy(ours, theirs, shown=not quiet)
    except (JournalError, StateDirectoryError) as error:
        raise click.ClickException(f"{printable(str(error))}.") from None
    click.echo(f"Copied {_told(copied)} from {ours} to {theirs}.")
    click.echo(f"{ours} is unchanged: move it away, so that no daemon delivers from it again.")


def _place(text: str, cluster: str | None) -> Place:
    """Return the journal that an argument names.

    Raises:
        click.UsageError: if it names none.
        ConfigError: if it is a configuration file with faults.
    """
    if text.startswith(_SCHEMES):
        node = NodeSettings() if cluster is None else NodeSettings(cluster)
        try:
            check_cluster(node.cluster)
            url = parse_database_url(text)
        except BadValue as error:
            raise click.UsageError(f"{error.problem}. {error.remedy}.") from None
        return DatabasePlace(JournalSettings(durability="power", url=url), node)
    path = Path(text)
    if not path.is_file():
        if path.suffix == ".toml":
            raise click.UsageError(f"There is no file {text!r}.")
        return FilePlace(StateDirectory(path))
    settings, node = load_journal(path)
    if settings.url is None:
        raise click.UsageError(
            f"{text} has no url in [journal], so its journal is in a state directory: name that."
        )
    return DatabasePlace(settings, node)


def _same(one: Place, other: Place) -> bool:
    if isinstance(one, FilePlace) and isinstance(other, FilePlace):
        return one.directory.path.resolve() == other.directory.path.resolve()
    if isinstance(one, DatabasePlace) and isinstance(other, DatabasePlace):
        return (one.journal.url, one.node.cluster) == (other.journal.url, other.node.cluster)
    return False


def _copy(ours: Place, theirs: Place, *, shown: bool) -> Copied:
    console = Console(stderr=True, highlight=False)
    with _opened(ours, is_source=True) as source, _opened(theirs, is_source=False) as target:
        others = [(ours, OtherNodes(source)), (theirs, OtherNodes(target))]
        for _ in range(_LOOKS if any(one.are_there for _, one in others) else 0):
            sleep(_LOOK_S)
            _check_unused(others)
        check_empty(target, str(theirs))
        total, done = stanzas_in(source), 0
        with Bar(total or None, shown=shown, console=console, doing="copying") as bar:

            def progress(count: int) -> None:
                nonlocal done
                done += count
                bar.stanzas = done
                bar.look(done)

            is_whole = False
            try:
                copied = copy(source, target, progress)
                _check_unused(others)
                is_whole = True
            finally:
                if not is_whole:  # Ctrl-C, too
                    remedy = f"{theirs} is incomplete: remove it before you copy again"
                    click.echo(f"{printable(remedy)}.", err=True)
            return copied


def _check_unused(others: Iterable[tuple[Place, OtherNodes]]) -> None:
    """Check that no daemon uses either journal.

    Raises:
        JournalError: if one does.
    """
    for place, nodes in others:
        label = nodes.moved()
        if label is not None:
            raise JournalError(f"the node {label} uses {place}", "stop it, and copy again")


@contextmanager
def _opened(place: Place, *, is_source: bool) -> Iterator[ArchiveStore]:
    """Reserve and open a journal.

    Raises:
        StateDirectoryError, JournalError: if it cannot be used, or a daemon uses it.
    """
    match place:
        case FilePlace(directory):
            if is_source and not directory.journal_file.exists():
                raise StateDirectoryError(f"there is no journal in {directory.path}")
            with directory.lock(), closing(open_whole(directory)) as store:
                yield store
        case DatabasePlace(settings, node):
            from bridge.journal.postgres.command import opened_for  # psycopg only if it is used

            with opened_for("journal-copy", settings, node) as store:
                yield store
        case _:
            assert_never(place)


def _told(copied: Copied) -> str:
    amounts = (
        (copied.pending, "pending stanza", "pending stanzas"),
        (copied.replies, "unconfirmed reply", "unconfirmed replies"),
        (copied.dead, "dead letter", "dead letters"),
        (copied.keys, "idempotency key", "idempotency keys"),
        (copied.state, "entry of small state", "entries of small state"),
    )
    words = [f"{count} {one if count == 1 else many}" for count, one, many in amounts]
    return f"{', '.join(words[:-1])} and {words[-1]}"
