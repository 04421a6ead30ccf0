"""The tables of a cluster, in a schema of their own, and their versions.

Long columns come last. `attempts` is JSON without its outer brackets, as in SQLite's file. `writer`
is an incarnation (`bridge.journal.cluster`). `since` is when a row was written, by the clock of the
database: times of two machines are never compared.

The functions raise errors with codes of our own, so a batch is decided by the server, and can be
complete before its first byte is sent. A node that is stopped in the middle of a batch would hold
the locks of what it has written.
"""

from typing import Any, Final

import psycopg
from psycopg import sql

from bridge.journal.store import JournalError

VERSION: Final = 1
LEASE_LOST: Final = "XB001"
KEY_TAKEN: Final = "XB002"
SCHEMA_LOCK: Final = 0x584D5042  # "XMPB"

_SCHEMA: Final = f"""
CREATE TABLE meta (version integer NOT NULL);
INSERT INTO meta VALUES (0);
CREATE SEQUENCE incarnation;
CREATE TABLE node (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text NOT NULL UNIQUE,
  incarnation bigint, batch bigint NOT NULL DEFAULT 0, pids integer[] NOT NULL DEFAULT '{{}}',
  version text NOT NULL DEFAULT '', components text[] NOT NULL DEFAULT '{{}}',
  digest text NOT NULL DEFAULT '', status bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
CREATE TABLE lease (
  component text NOT NULL, part smallint NOT NULL, node integer NOT NULL REFERENCES node,
  PRIMARY KEY (component, part));
CREATE INDEX lease_node ON lease (node);
CREATE TABLE pending (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, received float8 NOT NULL
  CHECK (received < 'NaN'), writer bigint NOT NULL, weight integer NOT NULL, part smallint NOT NULL,
  uid text COLLATE "C" NOT NULL UNIQUE, component text NOT NULL, kind text NOT NULL,
  from_ text NOT NULL, to_ text NOT NULL, id text, lang text, event text, attempts text NOT NULL,
  xml text NOT NULL);
CREATE INDEX pending_writer ON pending (component, writer, number);
CREATE TABLE reply (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, made float8 NOT NULL,
  writer bigint NOT NULL, place integer NOT NULL, written smallint NOT NULL DEFAULT 0,
  uid text COLLATE "C" NOT NULL, component text NOT NULL, kind text NOT NULL, from_ text NOT NULL,
  to_ text NOT NULL, id text, data bytea NOT NULL);
CREATE INDEX reply_uid ON reply (uid, place);
CREATE INDEX reply_writer ON reply (component, writer, number);
CREATE TABLE dead (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, received float8 NOT NULL,
  died float8 NOT NULL, since float8 NOT NULL, weight integer NOT NULL, part smallint NOT NULL,
  uid text COLLATE "C" NOT NULL, component text NOT NULL, kind text NOT NULL, from_ text NOT NULL,
  to_ text NOT NULL, id text, lang text, event text, reason text NOT NULL, attempts text NOT NULL,
  reply bytea, xml text NOT NULL);
CREATE INDEX dead_uid ON dead (uid);
CREATE TABLE claim (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL UNIQUE,
  writer bigint NOT NULL, node integer NOT NULL, made float8 NOT NULL, since float8 NOT NULL,
  weight integer NOT NULL, digest bytea NOT NULL, uid text NOT NULL, state text NOT NULL, lang text,
  answer text);
CREATE TABLE state (
  component text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL,
  value bytea NOT NULL, PRIMARY KEY (component, kind, key));
CREATE TABLE post (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, for_node integer NOT NULL,
  writer bigint NOT NULL, made timestamptz NOT NULL DEFAULT clock_timestamp(), kind text NOT NULL,
  body bytea NOT NULL);
CREATE INDEX post_for ON post (for_node, number);
CREATE FUNCTION fence(me integer, mine bigint, next bigint) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE node SET batch = next WHERE id = me AND incarnation = mine AND batch = next - 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = '{LEASE_LOST}', MESSAGE = 'this node is dead';
  END IF;
END $$;
CREATE FUNCTION expect(found bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF found <> expected THEN
    RAISE EXCEPTION USING ERRCODE = '{KEY_TAKEN}', MESSAGE = 'another node has that key';
  END IF;
END $$;
"""
_STEPS: Final = (_SCHEMA,)
"""The SQL that upgrades a schema from each version, starting at 0 (none), to the next."""


def prepare_schema(connection: psycopg.Connection[Any], name: str) -> None:
    """Create a schema, or upgrade it, while no other node does.

    Raises:
        JournalError: if it is from a newer version, or not a journal's.
        psycopg.Error: if PostgreSQL fails.
    """
    with connection.transaction(), connection.cursor() as cursor:
        # Three nodes that execute CREATE ... IF NOT EXISTS at once raise a UniqueViolation.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
        version = _version(cursor, name)
        if version > VERSION:
            raise JournalError(
                f'the schema "{name}" is from a newer version: its format is {version}, this'
                f" program's {VERSION}",
                "run the newer version, or name another schema as [node] cluster",
            )
        if version == VERSION:
            return
        schema = sql.Identifier(name)
        cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
        cursor.execute(sql.SQL("SET LOCAL search_path = {}").format(schema))
        for step in _STEPS[version:]:
            cursor.execute(step.encode())
        cursor.execute("UPDATE meta SET version = %s", (VERSION,))


def _version(cursor: psycopg.Cursor[Any], name: str) -> int:
    cursor.execute(
        "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname = %s AND relkind IN ('r', 'p', 'v')",
        (name,),
    )
    tables = {one for [one] in cursor.fetchall()}
    if not tables:
        return 0
    if not tables >= {"meta", "node", "pending"}:
        raise JournalError(
            f'the schema "{name}" has tables, but is not a journal',
            "name another schema as [node] cluster",
        )
    cursor.execute(sql.SQL("SELECT version FROM {}").format(sql.Identifier(name, "meta")))
    row = cursor.fetchone()
    return int(row[0]) if row else 0
