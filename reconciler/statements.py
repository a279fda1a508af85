"""The SQL of the reconciler's tables; each has a place for the `schema`."""

from typing import Final

_LAST: Final = (
    "NOT EXISTS (SELECT FROM {schema}.findings AS n WHERE n.finding_id = f.finding_id AND n.version = f.version + 1)"
)
_EXPECTATION: Final = """
e.entry_id, e.account_id, e.entry_type, e.amount, e.asset, e.chain, e.tx_hash, e.token, e.sender, e.recipient,
e.log_index, e.problem, (extract(epoch FROM e.recorded_at) * 1000000)::bigint AS recorded_at
"""
_FINDING: Final = """
f.finding_id, f.version, f.chain_id, f.kind, f.discrepancy_id, f.entry_id, f.tx_hash, f.log_index, f.block_number,
f.block_hash, f.token, f.sender, f.recipient, f.value, f.description
"""

LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
EXPECTED: Final = f"""
SELECT {_EXPECTATION} FROM {{schema}}.expectations AS e
WHERE e.chain = ANY($1::text[]) AND e.tx_hash = ANY($2::text[])
"""  # noqa: S608  # parts of these very statements
COUNT_EXPECTED: Final = """
SELECT count(*) FROM {schema}.expectations WHERE chain = ANY($1::text[]) AND tx_hash = ANY($2::text[])
"""
TAKE_UP: Final = """
WITH named AS (
    SELECT n.chain, coalesce(t.up_to, 0) AS after FROM unnest($2::text[]) AS n (chain)
    LEFT JOIN {schema}.taken_up AS t ON t.chain_id = $1 AND t.chain = n.chain
), new AS (
    SELECT e.entry_id, e.chain, e.number
    FROM named CROSS JOIN LATERAL (
        SELECT * FROM {schema}.expectations AS e WHERE e.chain = named.chain AND e.number > named.after
        ORDER BY e.number LIMIT $4
    ) AS e
), up_to AS (
    INSERT INTO {schema}.taken_up (chain_id, chain, up_to) SELECT $1, chain, max(number) FROM new GROUP BY chain
    ON CONFLICT (chain_id, chain) DO UPDATE SET up_to = excluded.up_to
), taken AS (
    INSERT INTO {schema}.open_entries (chain_id, entry_id, missing_id)
    SELECT $1, new.entry_id, CASE f.kind WHEN 'missing_on_chain' THEN f.discrepancy_id END FROM new
    LEFT JOIN LATERAL (
        SELECT * FROM {schema}.findings AS f WHERE f.finding_id = $1::bigint || ':' || new.entry_id
        ORDER BY f.version DESC LIMIT 1
    ) AS f ON true
    WHERE f.kind IS NULL OR f.kind = ANY($3::text[])
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM new
"""
OPEN: Final = """
INSERT INTO {schema}.open_entries AS o (chain_id, entry_id, missing_id)
SELECT $1, * FROM unnest($2::text[], $3::text[])
ON CONFLICT (chain_id, entry_id) DO UPDATE SET missing_id = excluded.missing_id
WHERE o.missing_id IS DISTINCT FROM excluded.missing_id
"""
SHUT: Final = "DELETE FROM {schema}.open_entries WHERE chain_id = $1 AND entry_id = ANY($2::text[])"
PENDING: Final = f"""
SELECT {_EXPECTATION} FROM {{schema}}.open_entries AS o JOIN {{schema}}.expectations AS e USING (entry_id)
WHERE o.chain_id = $1 AND o.entry_id > $2 AND e.chain = ANY($3::text[]) AND ($4 OR coalesce((
    SELECT r.action FROM {{schema}}.resolutions AS r WHERE r.discrepancy_id = o.missing_id
    ORDER BY r.position DESC LIMIT 1
), 'open') IN ('open', 'reopened'))
ORDER BY o.entry_id LIMIT $5
"""  # noqa: S608  # parts of these very statements
OURS: Final = """
SELECT max(number) AS up_to, CASE entry_type WHEN 'CREDIT' THEN recipient ELSE sender END AS address
FROM {schema}.expectations WHERE chain = ANY($1::text[]) AND number > $2
GROUP BY 2 ORDER BY 1 LIMIT $3
"""
IN_BLOCKS: Final = f"""
SELECT {_FINDING} FROM {{schema}}.findings AS f
WHERE f.chain_id = $1 AND f.block_number BETWEEN $2 AND $3 AND {_LAST}
"""  # noqa: S608  # parts of these very statements
OF_TRANSACTIONS: Final = f"""
SELECT {_FINDING} FROM {{schema}}.findings AS f
WHERE f.chain_id = $1 AND f.tx_hash = ANY($2::text[]) AND {_LAST}
"""  # noqa: S608  # parts of these very statements
LACKING: Final = f"""
SELECT {_FINDING} FROM {{schema}}.findings AS f
JOIN {{schema}}.discrepancies AS d USING (discrepancy_id)
WHERE f.chain_id = $1 AND f.kind = 'missing_in_ledger' AND f.recipient = ANY($2::text[]) AND {_LAST}
AND d.state IN ('open', 'reopened') ORDER BY f.block_number, f.log_index LIMIT $3
"""  # noqa: S608  # parts of these very statements
CURSOR: Final = "SELECT block_number, block_hash FROM {schema}.cursors WHERE chain_id = $1"
BEGIN_CURSOR: Final = """
INSERT INTO {schema}.cursors (chain_id, block_number, block_hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
MOVE_CURSOR: Final = """
UPDATE {schema}.cursors SET block_number = $2, block_hash = $3, updated_at = now()
WHERE chain_id = $1 AND block_number = $4 AND block_hash = $5
"""
MARK: Final = """
INSERT INTO {schema}.marks (chain_id, block_number, block_hash) VALUES ($1, $2, $3)
ON CONFLICT (chain_id, block_number) DO UPDATE SET block_hash = excluded.block_hash
"""
MARKS: Final = """
SELECT block_number, block_hash FROM {schema}.marks WHERE chain_id = $1 ORDER BY block_number DESC
"""
UNMARK: Final = "DELETE FROM {schema}.marks WHERE chain_id = $1 AND block_number > $2"
FORGET_MARKS: Final = """
DELETE FROM {schema}.marks WHERE chain_id = $1 AND block_number < (
    SELECT block_number FROM {schema}.marks WHERE chain_id = $1 ORDER BY block_number DESC OFFSET $2 LIMIT 1)
"""
OFFSETS: Final = """
SELECT partition, next_offset, next_sequence, writer_epoch FROM {schema}.offsets WHERE topic = $1
"""
OPEN_OFFSET: Final = """
INSERT INTO {schema}.offsets (topic, partition, next_offset, next_sequence, writer_epoch)
SELECT $1, n, 0, 0, 0 FROM generate_series(0, $2 - 1) AS n ON CONFLICT DO NOTHING
"""
MOVE_OFFSET: Final = """
UPDATE {schema}.offsets SET next_offset = $4, next_sequence = $5, writer_epoch = $6
WHERE topic = $1 AND partition = $2 AND next_offset = $3
"""
RESOLVE: Final = """
INSERT INTO {schema}.resolutions
    (event_id, discrepancy_id, action, reason, batch_id, actor, recorded_at, position)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""
STATES: Final = """
SELECT DISTINCT ON (discrepancy_id) discrepancy_id, action FROM {schema}.resolutions
WHERE discrepancy_id = ANY($1::text[]) ORDER BY discrepancy_id, position DESC
"""
DISCREPANCIES: Final = """
SELECT * FROM {schema}.discrepancies
WHERE chain_id = $1 AND ($2 OR state IN ('open', 'reopened')) AND ($3::text IS NULL OR discrepancy_id = $3)
ORDER BY found_at, discrepancy_id LIMIT $4
"""
ANCHORED: Final = """
INSERT INTO {schema}.anchors
    (anchor_id, chain_id, root, block_number, block_hash, tx_hash, sender, notes, recorded_at, position)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING
"""
ANCHORED_HEAD: Final = """
INSERT INTO {schema}.anchored_heads (anchor_id, leaf, origin, size) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
IS_THERE: Final = "SELECT to_regclass('{schema}.anchored_heads') IS NOT NULL AS is_there"
OLDEST_ANCHOR: Final = """
SELECT a.*, h.leaf FROM {schema}.anchored_heads AS h JOIN {schema}.anchors AS a USING (anchor_id)
WHERE h.origin = $1 AND h.size > $2 ORDER BY a.position LIMIT 1
"""
ANCHOR: Final = "SELECT * FROM {schema}.anchors WHERE anchor_id = $1"
LAST_ANCHOR: Final = "SELECT root FROM {schema}.anchors WHERE chain_id = $1 ORDER BY position DESC LIMIT 1"
OPEN_ANCHOR: Final = "SELECT * FROM {schema}.anchors_on_their_way WHERE chain_id = $1 AND sender = $2"
ATTEMPT: Final = """
INSERT INTO {schema}.anchors_on_their_way AS a (chain_id, sender, root, notes, nonce, tx_hashes, fee, tip)
VALUES ($1, $2, $3, $4, $5, ARRAY[$6::text], $7, $8)
ON CONFLICT (chain_id, sender) DO UPDATE SET nonce = excluded.nonce, fee = excluded.fee, tip = excluded.tip,
    tx_hashes = a.tx_hashes || excluded.tx_hashes
"""
END_ANCHOR: Final = "DELETE FROM {schema}.anchors_on_their_way WHERE chain_id = $1 AND sender = $2"
