"""The SQL of the operations of a batch.

The rows of a statement are one JSON text; their columns have names of one letter. All statements
share `node` and `writer` (this node and its incarnation) and `now`, which is NULL unless a test has
a clock of its own.
"""

from typing import Final

_HEAD: Final = "uid, component, kind, from_, to_, id, lang, event"
_NOW: Final = "coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp()))"

ACCEPT: Final = f"""
INSERT INTO pending ({_HEAD}, received, since, writer, weight, part, attempts, xml)
SELECT u, c, k, f, t, i, l, e, r, extract(epoch FROM clock_timestamp()) - coalesce(g, 0),
%(writer)s, w, p, a, x FROM json_to_recordset(%(rows)s::json)
AS given(u text, c text, k text, f text, t text, i text, l text, e text, r float8, g float8, w int,
p int, a text, x text)"""
_REPLIES: Final = """
INSERT INTO reply (uid, place, component, made, writer, kind, from_, to_, id, data)
SELECT u, p, c, m, %(writer)s, {head}, decode(d, 'base64')
FROM json_to_recordset(%(replies)s::json) AS given(o int, s text, u text, p int, c text,
m float8, k text, f text, t text, i text, d text)"""
SEND: Final = _REPLIES.format(head="k, f, t, i") + " ORDER BY o"
_GONE: Final = """
WITH ended AS MATERIALIZED (
  SELECT * FROM json_to_recordset(%(rows)s::json) AS given(o int, u text, d float8, z text)),
gone AS (
  DELETE FROM pending WHERE uid = ANY (ARRAY(SELECT u FROM ended)) RETURNING {columns})"""
_REPLY: Final = (
    _REPLIES.format(
        head="coalesce(k, kind), coalesce(f, from_), coalesce(t, to_),"
        " CASE WHEN s IS NULL THEN i ELSE id END"
    )
    + " LEFT JOIN gone ON uid = s WHERE s IS NULL OR uid IS NOT NULL ORDER BY o"
)
SETTLE: Final = _GONE.format(columns="uid, kind, from_, to_, id") + _REPLY
BURY: Final = f"""{_GONE.format(columns="*")}, buried AS (
  INSERT INTO dead ({_HEAD}, part, received, attempts, weight, died, reason, xml, since)
  SELECT {_HEAD}, part, received, attempts, weight, d, z, xml, {_NOW}
  FROM ended JOIN gone ON uid = u WHERE z IS NOT NULL ORDER BY o)
{_REPLY}"""
# A uid and place can occur twice, if a dead letter was revived before the error that answered it
# was confirmed. The reply that was written first is confirmed first.
CONFIRM: Final = """
DELETE FROM reply WHERE number = ANY (ARRAY(
  SELECT (SELECT min(number) FROM reply WHERE uid = u AND place = p)
  FROM json_to_recordset(%(rows)s::json) AS given(u text, p int)))"""
COUNT_WRITTEN: Final = """
UPDATE reply SET written = greatest(written, least(w, 32767))
FROM json_to_recordset(%(rows)s::json) AS given(u text, p int, w int) WHERE uid = u AND place = p"""
ATTEMPTED: Final = """
UPDATE pending SET attempts = CASE attempts WHEN '' THEN %(attempt)s::text
ELSE attempts || ',' || %(attempt)s::text END WHERE uid = %(uid)s"""
ABANDON: Final = f"""
WITH gone AS (
  DELETE FROM reply WHERE number = (
    SELECT min(number) FROM reply WHERE uid = %(uid)s AND place = %(place)s) RETURNING *)
INSERT INTO dead (uid, component, kind, from_, to_, id, part, received, attempts, weight, died,
  reason, reply, xml, since)
SELECT uid, component, kind, from_, to_, id, 0, made, '', length(data), %(died)s, %(reason)s, data,
  '', {_NOW} FROM gone"""
REVIVE: Final = f"""
WITH gone AS (
  DELETE FROM dead WHERE number = (
    SELECT number FROM dead WHERE uid = %(uid)s AND kind <> 'iq' AND reply IS NULL
    AND NOT EXISTS (SELECT FROM pending WHERE uid = %(uid)s) ORDER BY number LIMIT 1)
  RETURNING *)
INSERT INTO pending ({_HEAD}, part, received, writer, attempts, weight, xml)
SELECT {_HEAD}, part, %(received)s, %(writer)s, attempts, weight, xml FROM gone"""
DROP_ALL: Final = "DELETE FROM dead"
DROP: Final = "DELETE FROM dead WHERE uid = ANY (%(uids)s::text[])"
# Sorted by name, so two nodes never wait for each other's keys; numbered in the given order. This
# node's own keys are replaced: only it knows whether they are in use.
CLAIM: Final = f"""
WITH given AS MATERIALIZED (
  SELECT nextval(pg_get_serial_sequence('claim', 'number')) AS number, * FROM (
    SELECT decode(n, 'base64') AS name, m, w, decode(g, 'base64') AS g, u, s, l, a
    FROM json_to_recordset(%(rows)s::json) AS row(o int, n text, m float8, w int, g text, u text,
    s text, l text, a text) ORDER BY o) AS sorted),
kept AS (
  INSERT INTO claim (number, name, writer, node, made, since, weight, digest, uid, state, lang,
    answer)
  SELECT number, name, %(writer)s, %(node)s, m, {_NOW}, w, g, u, s, l, a FROM given ORDER BY name
  ON CONFLICT (name) DO UPDATE SET number = excluded.number, writer = excluded.writer,
    node = excluded.node, made = excluded.made, since = excluded.since, weight = excluded.weight,
    digest = excluded.digest, uid = excluded.uid, state = excluded.state, lang = excluded.lang,
    answer = excluded.answer
  WHERE claim.node = excluded.node OR claim.since < {_NOW} - %(claim_s)s
  RETURNING 1)
SELECT expect((SELECT count(*) FROM kept), (SELECT count(*) FROM given))"""
ANSWER: Final = """
UPDATE claim SET state = %(state)s, answer = %(answer)s::text, lang = %(lang)s, weight =
length(name) + length(digest) + octet_length(uid) + coalesce(octet_length(%(answer)s::text), 0)
WHERE name = %(name)s"""
RELEASE: Final = "DELETE FROM claim WHERE name = %(name)s"
PUT: Final = """
INSERT INTO state (component, kind, key, value) SELECT c, k, y, decode(v, 'base64')
FROM json_to_recordset(%(rows)s::json) AS given(c text, k text, y text, v text)
ORDER BY c COLLATE "C", k COLLATE "C", y COLLATE "C"
ON CONFLICT (component, kind, key) DO UPDATE SET value = excluded.value"""
DELETE: Final = """
DELETE FROM state USING json_to_recordset(%(rows)s::json) AS given(c text, k text, y text)
WHERE component = c AND kind = k AND key = y"""

# The oldest go first: everything up to the newest one that exceeds a limit.
TRIM: Final = f"""
DELETE FROM {{table}} WHERE number <= (
  SELECT max(number) FROM (
    SELECT number, since, count(*) OVER newer AS counted, sum(weight) OVER newer AS weighed
    FROM {{table}} WINDOW newer AS (ORDER BY number DESC ROWS UNBOUNDED PRECEDING)) AS kept
  WHERE counted > %(count)s OR weighed > %(bytes)s OR since < {_NOW} - %(age_s)s)"""

EXCEEDS: Final = f"""
SELECT count(*) > %(count)s OR coalesce(sum(weight) > %(bytes)s, false)
  OR coalesce(min(since) < {_NOW} - %(age_s)s, false) FROM {{table}}"""
