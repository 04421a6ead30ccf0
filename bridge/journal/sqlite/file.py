"""The journal's file: how it is opened, its schema, and SQLite's faults in an operator's words.

The file belongs to one daemon at a time by the lock of the state directory (`state_dir`), never by
SQLite's exclusive locking: an operator may look into it with `sqlite3` while the daemon runs.
"""

import os
import pwd
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from bridge.journal.sqlite.statement import STATEMENTS
from bridge.journal.store import ImpossibleOperation, JournalError

APPLICATION_ID: Final = 0x584D5042  # "XMPB"
VERSION: Final = 2
_WAL_LIMIT_BYTES: Final = 8 * 1024 * 1024
_CACHE_KIB: Final = 16 * 1024
_PROBE_BYTES: Final = 64 * 1024
_STATEMENTS: Final = 10 * STATEMENTS  # the `Bulk`s, and as much for all else

# Numbers are counted by the writer: AUTOINCREMENT would cost 2 µs a row. Long columns come last, so
# that a scan of the others need not follow them. `attempts` is JSON without its outer brackets,
# which makes appending one concatenation.
_SCHEMA: Final = f"""
CREATE TABLE pending (
  number INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, component TEXT NOT NULL,
  kind TEXT NOT NULL, from_ TEXT NOT NULL, to_ TEXT NOT NULL, id TEXT, lang TEXT,
  received REAL NOT NULL, attempts TEXT NOT NULL, weight INTEGER NOT NULL, xml TEXT NOT NULL);
CREATE TABLE reply (
  number INTEGER PRIMARY KEY, uid TEXT NOT NULL, place INTEGER NOT NULL, component TEXT NOT NULL,
  made REAL NOT NULL, kind TEXT NOT NULL, from_ TEXT NOT NULL, to_ TEXT NOT NULL, id TEXT,
  data BLOB NOT NULL);
CREATE INDEX reply_uid ON reply (uid, place);
CREATE TABLE dead (
  number INTEGER PRIMARY KEY, uid TEXT NOT NULL, component TEXT NOT NULL,
  kind TEXT NOT NULL, from_ TEXT NOT NULL, to_ TEXT NOT NULL, id TEXT, lang TEXT,
  received REAL NOT NULL, attempts TEXT NOT NULL, weight INTEGER NOT NULL, died REAL NOT NULL,
  reason TEXT NOT NULL, reply BLOB, xml TEXT NOT NULL);
CREATE INDEX dead_uid ON dead (uid);
CREATE TABLE probe (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
INSERT INTO probe VALUES (1, zeroblob({_PROBE_BYTES}));
"""
_CLAIM: Final = """
CREATE TABLE claim (
  number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, uid TEXT NOT NULL,
  made REAL NOT NULL, state TEXT NOT NULL, weight INTEGER NOT NULL, lang TEXT, answer TEXT);
"""
_STEPS: Final = (_SCHEMA, _CLAIM)
"""What makes of a file of each version, from 0 (empty), one of the next."""
PROBE: Final = f"UPDATE probe SET data = randomblob({_PROBE_BYTES})"
"""Writes what a batch of 64 stanzas may: one page alone finds room on many a full disk. Bytes that
are random, since SQLite does not write what is there already.
"""


def open_file(
    file: Path, durability: Literal["power", "process"], *, busy_timeout_s: float
) -> sqlite3.Connection:
    """Open the journal, or begin one (mode 0600, in a directory of mode 0700).

    Raises:
        JournalError: it cannot be; the message says why, and what helps.
    """
    _create(file)
    with explained(file):
        database = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            cached_statements=_STATEMENTS,
            check_same_thread=False,  # its calls come one after the other, whatever the thread
        )
    try:
        with explained(file):
            _prepare(database, file, "FULL" if durability == "power" else "NORMAL")
    except JournalError:
        database.close()
        raise
    return database


def _create(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never opened where it exists: closing it would give up the locks that SQLite has on it.
        if not file.exists():
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:  # made by another at this moment, or the parent is no directory
        if not file.exists():
            raise JournalError(f"{file.parent} is no directory", "give another one") from None
    except OSError as error:
        raise JournalError(f"cannot make {file}: {error.strerror}", _writable(file)) from error


def _prepare(database: sqlite3.Connection, file: Path, synchronous: str) -> None:
    [application], [version], [tables] = (
        database.execute(query).fetchone()
        for query in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_schema",
        )
    )
    if application == APPLICATION_ID and version > VERSION:
        raise JournalError(
            f"{file} is from a newer version: its format is {version}, this program's {VERSION}",
            "run the newer version, or move the file away: a new one is begun",
        )
    if tables and application != APPLICATION_ID:
        raise JournalError(f"{file} is a database, but no journal", "give another directory")
    [mode] = database.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(
            f"{file} cannot have a write-ahead log there", "use a disk of this machine"
        )
    database.execute(f"PRAGMA synchronous = {synchronous}")
    database.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("PRAGMA temp_store = MEMORY")
    if tables:
        check = [str(one) for (one,) in database.execute("PRAGMA quick_check(1)")]
        if check != ["ok"]:
            raise JournalError(f"{file} is damaged ({check})", _replace(file))
    # Done also where there is nothing to do: opened for reading only, SQLite says so at the first
    # writing. All or nothing: a file is never between two versions.
    steps = "".join(_STEPS[version if tables else 0 :])
    database.executescript(
        f"BEGIN IMMEDIATE; {steps} PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn what SQLite raises into a `JournalError` for the operator."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise explain(error, file) from error


def explain(error: sqlite3.Error | OverflowError | UnicodeError, file: Path) -> JournalError:
    """Say what is wrong with the file and what helps."""
    # Of the errors of Python's own module, those about values have no code.
    if not isinstance(error, sqlite3.OperationalError) and not _code(error):
        return ImpossibleOperation(str(error))
    match _code(error) & 0xFF:
        case sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_TOOBIG | sqlite3.SQLITE_MISMATCH:
            return ImpossibleOperation(str(error))
        case sqlite3.SQLITE_FULL:
            return JournalError(
                f"no room for {file}: its disk is full", f"make room on {_disk(file)}"
            )
        case sqlite3.SQLITE_IOERR if _is_full(file):
            return JournalError(
                f"no room for {file}: its disk is full", f"make room on {_disk(file)}"
            )
        case sqlite3.SQLITE_IOERR:
            name = error.sqlite_errorname if isinstance(error, sqlite3.Error) else ""
            return JournalError(
                f"cannot write or read {file}: {error} ({name})",
                "look for a fault of the disk (dmesg) or a limit on files' sizes (ulimit -f)",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return JournalError(f"cannot write {file}: it is read-only", _writable(file))
        case sqlite3.SQLITE_CANTOPEN:
            return JournalError(f"cannot open {file}", _writable(file))
        case sqlite3.SQLITE_NOTADB:
            return JournalError(f"{file} is no database, or damaged", _replace(file))
        case sqlite3.SQLITE_CORRUPT:
            return JournalError(f"{file} is damaged ({error})", _replace(file))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            owners = ", ".join(holders(file)) or "another process"
            return JournalError(f"{file} is locked by {owners}", "end what holds it")
    return JournalError(f"cannot use {file}: {error}", "please report this")


def _code(error: Exception) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _disk(file: Path) -> str:
    """Name the mount point of a file."""
    path = file.absolute().parent
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return str(path)


def _is_full(file: Path) -> bool:
    with suppress(OSError):
        return os.statvfs(file.parent).f_bavail == 0
    return False


def _writable(file: Path) -> str:
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"make {file.parent} and all in it writable for user {user}, or give another directory"


def _replace(file: Path) -> str:
    return (
        f"move {file} (and {file.name}-wal) away: a new one is begun at the next start; "
        f"`sqlite3 {file.name} .recover` shows what can be saved"
    )


def holders(file: Path) -> list[str]:
    """Name the other processes that have a file open, as far as we may know (Linux)."""
    found, target = [], str(file.absolute())
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or is not ours to know
            if any(os.readlink(one) == target for one in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                found.append(f"process {process.name} ({name})")
    return found
