"""The journal's file: opening it, its schema, and SQLite's errors in an operator's words.

The lock of the state directory (`directory`) reserves the file for one daemon. SQLite's exclusive
locking is not used, so an operator may open the file with `sqlite3` while the daemon runs.
"""

import errno
import os
import pwd
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from bridge.journal.sqlite.statement import STATEMENTS
from bridge.journal.store import ImpossibleOperation, JournalError

APPLICATION_ID: Final = 0x584D5042  # "XMPB"
VERSION: Final = 6
_WAL_LIMIT_BYTES: Final = 8 * 1024 * 1024
_CACHE_KIB: Final = 16 * 1024
_PROBE_BYTES: Final = 64 * 1024
_STATEMENTS: Final = 10 * STATEMENTS  # the `Bulk`s, and room for all others

# The writer assigns the numbers: AUTOINCREMENT would cost 2 µs a row. Long columns come last, so a
# scan of the others need not read them. `attempts` is JSON without its outer brackets, so appending
# is one concatenation.
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
# `open_s` is how long the journal has been open, in all processes together; `since` is its value
# when a row was written. The age of rows that are there already begins with the conversion.
_AGE: Final = """
CREATE TABLE age (open_s REAL NOT NULL);
INSERT INTO age VALUES (0);
ALTER TABLE dead ADD COLUMN since REAL NOT NULL DEFAULT 0;
ALTER TABLE claim ADD COLUMN since REAL NOT NULL DEFAULT 0;
"""
_STATE: Final = """
CREATE TABLE state (
  component TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (component, kind, key)) WITHOUT ROWID;
"""
_EVENT: Final = """
ALTER TABLE pending ADD COLUMN event TEXT;
ALTER TABLE dead ADD COLUMN event TEXT;
"""
# Where the log begins that the tables do not have (`log`). `id` is in the log, too.
_LOG: Final = """
CREATE TABLE log (
  id BLOB NOT NULL, generation INTEGER NOT NULL, begin INTEGER NOT NULL, is_open INTEGER NOT NULL);
INSERT INTO log VALUES (randomblob(16), 1, 24, 0);
"""
_STEPS: Final = (_SCHEMA, _CLAIM, _AGE, _STATE, _EVENT, _LOG)
"""The SQL that upgrades a file from each version, starting at 0 (empty), to the next."""
PROBE: Final = f"UPDATE probe SET data = randomblob({_PROBE_BYTES})"
"""Writes as much as a batch of 64 stanzas may: a single page fits even on many a full disk. The
bytes are random, because SQLite does not write a page that has not changed.
"""


def open_file(
    file: Path, synchronous: Literal["FULL", "NORMAL"], *, busy_timeout_s: float
) -> sqlite3.Connection:
    """Open the journal, or create one (mode 0600, in a directory of mode 0700). An existing one is
    given that mode. A symbolic link is refused: the lock beside it would not protect its target.

    Raises:
        JournalError: if that fails; the message names the cause and a remedy.
    """
    _create(file)
    with explained(file):
        database = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            cached_statements=_STATEMENTS,
            check_same_thread=False,  # calls come one at a time, whatever the thread
        )
    try:
        with explained(file):
            _prepare(database, file, synchronous)
    except JournalError:
        database.close()
        raise
    return database


def _create(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # An existing file is not opened: closing it would release SQLite's locks on it.
        if file.is_symlink():
            raise JournalError(
                f"{file} is a symbolic link", "name the directory that it leads to with --state-dir"
            )
        if file.exists():
            _make_private(file)
        else:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:  # another process has just made it, or the parent is a file
        if not file.exists():
            raise JournalError(f"{file.parent} is not a directory", "use another one") from None
    except OSError as error:
        raise JournalError(f"cannot create {file}: {error.strerror}", _writable(file)) from error


def _make_private(file: Path) -> None:
    for path in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))):
        # What is missing is created by SQLite, with the mode of the database.
        with suppress(FileNotFoundError, PermissionError):  # the latter: another user's
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
                path.chmod(0o600)


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
            "run the newer version, or move the file away: a new one is created",
        )
    if tables and application != APPLICATION_ID:
        raise JournalError(f"{file} is a database, but not a journal", "use another directory")
    [mode] = database.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(f"{file} cannot have a write-ahead log there", "use a local disk")
    database.execute(f"PRAGMA synchronous = {synchronous}")
    database.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("PRAGMA temp_store = MEMORY")
    if tables:
        check = [str(one) for (one,) in database.execute("PRAGMA quick_check(1)")]
        if check != ["ok"]:
            raise JournalError(f"{file} is damaged ({check})", _replace(file))
    # Executed even without steps, because SQLite reports a read-only file only when it
    # writes. In one transaction, so a file is never between two versions.
    steps = "".join(_STEPS[version if tables else 0 :])
    database.executescript(
        f"BEGIN IMMEDIATE; {steps} PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Translate SQLite's exceptions to a `JournalError` for the operator."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise explain(error, file) from error


def explain(error: sqlite3.Error | OverflowError | UnicodeError, file: Path) -> JournalError:
    """Return a `JournalError` that names the cause and a remedy."""
    # The sqlite3 module's own errors about values have no code.
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
                "check for a fault of the disk (dmesg) or a limit on file sizes (ulimit -f)",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return JournalError(f"cannot write {file}: it is read-only", _writable(file))
        case sqlite3.SQLITE_CANTOPEN:
            return JournalError(f"cannot open {file}", _writable(file))
        case sqlite3.SQLITE_NOTADB:
            return JournalError(f"{file} is damaged, or not a database", _replace(file))
        case sqlite3.SQLITE_CORRUPT:
            return JournalError(f"{file} is damaged ({error})", _replace(file))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            owners = ", ".join(holders(file)) or "another process"
            return JournalError(f"{file} is locked by {owners}", "stop the process that holds it")
    return JournalError(f"cannot use {file}: {error}", "please report this")


def explain_os(error: OSError, file: Path) -> JournalError:
    """Return a `JournalError` for the log, which is written without SQLite."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return JournalError(
                f"no room for {file}: its disk is full", f"make room on {_disk(file)}"
            )
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return JournalError(f"cannot write {file}: {error.strerror}", _writable(file))
        case errno.ELOOP:
            return JournalError(f"{file} is a symbolic link", "move it away")
    return JournalError(
        f"cannot write or read {file}: {error.strerror}",
        "check for a fault of the disk (dmesg) or a limit on file sizes (ulimit -f)",
    )


def _code(error: Exception) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _disk(file: Path) -> str:
    """Return the mount point of a file."""
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
    return f"make {file.parent} and its files writable for user {user}, or use another directory"


def _replace(file: Path) -> str:
    return (
        f"move {file} (and {file.name}-wal) away: a new one is created at the next start; "
        f"`sqlite3 {file.name} .recover` shows the data that can be saved"
    )


def holders(file: Path) -> list[str]:
    """Return the other processes that have a file open, as far as /proc shows them (Linux)."""
    found, target = [], str(file.absolute())
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or we may not look
            if any(os.readlink(one) == target for one in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                found.append(f"process {process.name} ({name})")
    return found
