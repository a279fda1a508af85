"""The SQL that writes the balances projection; each has a place for the `schema`.

What replaces rows replaces each from an earlier version only, so that the number of rows that it finds tells whether
something was not there, or was there already.
"""

from typing import Final

OPEN: Final = """
INSERT INTO {schema}.positions (projection, partition, next_offset, next_sequence, writer_epoch, partition_count)
SELECT $1, n, 0, 0, 0, $2 FROM generate_series(0, $2 - 1) AS n
ON CONFLICT DO NOTHING
"""
TAKE_OVER: Final = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
READ: Final = """
SELECT partition, next_offset, next_sequence, writer_epoch, halted, partition_count
FROM {schema}.positions WHERE projection = $1 ORDER BY partition
"""
STAY: Final = "LOCK TABLE {schema}.entries, {schema}.snapshot_balances, {schema}.tiles IN ACCESS SHARE MODE"
"""What a transaction that sees one moment begins with, before it has seen any: tables that a rebuild puts in place of
others have rows that are younger than it. It keeps no reader and no writer waiting.
"""
PROJECTIONS: Final = """
SELECT DISTINCT projection FROM {schema}.positions
WHERE projection <> 'checkpoints'  -- the position in another topic than that of the events
ORDER BY projection
"""
HALTED: Final = """
SELECT projection, partition, halted FROM {schema}.positions WHERE halted IS NOT NULL ORDER BY projection, partition
"""
MOVE: Final = """
UPDATE {schema}.positions AS p
SET next_offset = n.next_offset, next_sequence = n.next_sequence, writer_epoch = n.writer_epoch,
    recorded_at = n.recorded_at, halted = n.halted
FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::text[])
    AS n(partition, expected, next_offset, next_sequence, writer_epoch, recorded_at, halted)
WHERE p.projection = $1 AND p.partition = n.partition AND p.next_offset = n.expected
"""
UPSERT: Final = """
WITH done AS (
INSERT INTO {schema}.balances AS b (account_id, asset, balance, version, partition, sequence, updated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[], $4::bigint[], $5::int[], $6::bigint[], $7::timestamptz[])
ON CONFLICT (account_id, asset) DO UPDATE
SET balance = excluded.balance, version = excluded.version, partition = excluded.partition,
    sequence = excluded.sequence, updated_at = excluded.updated_at
WHERE b.version < excluded.version
RETURNING account_id, xmax = 0 AS made
)
SELECT count(*) AS found, coalesce(array_agg(account_id) FILTER (WHERE made), '{{}}') AS made FROM done
"""
OPEN_ACCOUNTS: Final = """
INSERT INTO {schema}.accounts (account_id, status, permanent, floor, assets, version, partition, sequence, opened_at,
    updated_at)
SELECT DISTINCT ON (account_id) account_id, 'OPEN', false, 0, '{{}}', version, partition, sequence, recorded_at,
    recorded_at
FROM {schema}.entries WHERE account_id = ANY($1::text[]) ORDER BY account_id, version
ON CONFLICT DO NOTHING
"""
HELD: Final = """
UPDATE {schema}.balances AS b SET held = n.held
FROM unnest($1::text[], $2::text[], $3::numeric[]) AS n(account_id, asset, held)
WHERE b.account_id = n.account_id AND b.asset = n.asset
"""
STATUS: Final = """
UPDATE {schema}.accounts AS a
SET status = n.status, permanent = n.permanent, version = n.version, partition = n.partition, sequence = n.sequence,
    updated_at = n.updated_at
FROM unnest($1::text[], $2::text[], $3::bool[], $4::bigint[], $5::int[], $6::bigint[], $7::timestamptz[])
    AS n(account_id, status, permanent, version, partition, sequence, updated_at)
WHERE a.account_id = n.account_id AND a.version < n.version
"""
TAKE: Final = """
UPDATE {schema}.holds AS h
SET remaining = n.remaining, status = n.status, ended_at = n.ended_at, partition = n.partition,
    sequence = n.sequence, version = n.version
FROM unnest($1::text[], $2::text[], $3::numeric[], $4::text[], $5::timestamptz[], $6::int[], $7::bigint[],
        $8::bigint[])
    AS n(account_id, hold_id, remaining, status, ended_at, partition, sequence, version)
WHERE h.account_id = n.account_id AND h.hold_id = n.hold_id AND h.version < n.version
"""
BATCH: Final = """
INSERT INTO {schema}.batches AS b (batch_id, status, command_type, reversal_of, entries, reference, metadata, code,
    message, details, leg, partition, sequence, started_at, ended_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::jsonb[], $8::text[],
    $9::text[], $10::jsonb[], $11::int[], $12::int[], $13::bigint[], $14::timestamptz[], $15::timestamptz[])
ON CONFLICT (batch_id) DO UPDATE
SET status = excluded.status, command_type = excluded.command_type, reversal_of = excluded.reversal_of,
    entries = excluded.entries, reference = excluded.reference, metadata = excluded.metadata, code = excluded.code,
    message = excluded.message, details = excluded.details, leg = excluded.leg, sequence = excluded.sequence,
    started_at = least(b.started_at, excluded.started_at), ended_at = excluded.ended_at
WHERE b.partition = excluded.partition AND b.sequence < excluded.sequence
"""
COMMIT: Final = """
UPDATE {schema}.batches AS b SET status = 'COMMITTED', sequence = n.sequence
FROM unnest($1::text[], $2::int[], $3::bigint[]) AS n(batch_id, partition, sequence)
WHERE b.batch_id = n.batch_id AND b.partition = n.partition AND b.sequence < n.sequence AND b.status = 'PENDING'
"""
REFUSE: Final = """
INSERT INTO {schema}.batches AS b (batch_id, status, command_type, reversal_of, code, message, details, leg,
    partition, sequence, started_at, ended_at)
SELECT batch_id, 'REJECTED', command_type, reversal_of, code, message, details, leg, partition, sequence, ended_at,
    ended_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::int[], $8::int[],
        $9::bigint[], $10::timestamptz[])
    AS n(batch_id, command_type, reversal_of, code, message, details, leg, partition, sequence, ended_at)
ON CONFLICT (batch_id) DO UPDATE
SET status = excluded.status, command_type = excluded.command_type, reversal_of = excluded.reversal_of,
    entries = CASE WHEN b.ended_at IS NULL THEN b.entries END,
    reference = CASE WHEN b.ended_at IS NULL THEN b.reference END,
    metadata = CASE WHEN b.ended_at IS NULL THEN b.metadata END,
    code = excluded.code, message = excluded.message, details = excluded.details, leg = excluded.leg,
    sequence = excluded.sequence, ended_at = excluded.ended_at
WHERE b.partition = excluded.partition AND b.sequence < excluded.sequence
"""
HALT: Final = """
UPDATE {schema}.positions SET halted = $4 WHERE projection = $1 AND partition = $2 AND next_offset = $3
"""
