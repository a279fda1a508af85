"""The SQL of the snapshots projection; each has a place for the `schema`."""

from typing import Final

KNOWN: Final = "SELECT account_id FROM {schema}.snapshot_floorless WHERE account_id = ANY($1::text[])"
FLOORLESS: Final = """
INSERT INTO {schema}.snapshot_floorless (account_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING
"""
ACCOUNTS: Final = """
INSERT INTO {schema}.snapshot_accounts (account_id, asset) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT DO NOTHING
"""
CORRECT: Final = """
INSERT INTO {schema}.snapshot_corrections AS c (account_id, asset, level, bucket, recorded, effective)
SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::numeric[], $6::numeric[])
ON CONFLICT (account_id, asset, level, bucket) DO UPDATE
SET recorded = c.recorded + excluded.recorded, effective = c.effective + excluded.effective
"""
TOTAL: Final = """
INSERT INTO {schema}.snapshot_totals AS t (level, asset, floorless, bucket, credits, debits, effective_credits,
    effective_debits, held, in_flight)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::bool[], $4::bigint[], $5::numeric[], $6::numeric[],
    $7::numeric[], $8::numeric[], $9::numeric[], $10::numeric[])
ON CONFLICT (level, asset, floorless, bucket) DO UPDATE
SET credits = t.credits + excluded.credits, debits = t.debits + excluded.debits,
    effective_credits = t.effective_credits + excluded.effective_credits,
    effective_debits = t.effective_debits + excluded.effective_debits, held = t.held + excluded.held,
    in_flight = t.in_flight + excluded.in_flight
"""

_BALANCE: Final = """
    SELECT balance FROM {schema}.snapshot_balances AS b
    WHERE b.account_id = a.account_id AND b.asset = a.asset AND b.recorded_at <= $1
    ORDER BY b.recorded_at DESC, b.version DESC LIMIT 1
"""
_CORRECTION: Final = """
    SELECT sum(c.part) AS correction
    FROM unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS s(level, first, last),
        LATERAL (
            SELECT sum(CASE WHEN $5 THEN effective ELSE recorded END) AS part
            FROM {schema}.snapshot_corrections AS c
            WHERE c.account_id = a.account_id AND c.asset = a.asset AND c.level = s.level
                AND c.bucket BETWEEN s.first AND s.last
        ) AS c
"""
_AT: Final = f"""
LEFT JOIN LATERAL ({_BALANCE}) AS b ON true LEFT JOIN LATERAL ({_CORRECTION}) AS c ON true
"""
BALANCE_AT: Final = (
    """
SELECT coalesce(b.balance, 0) + coalesce(c.correction, 0) AS balance
FROM (SELECT $6::text AS account_id, $7::text AS asset) AS a
"""
    + _AT
)
_PAGE: Final = """
    SELECT account_id, asset FROM {schema}.snapshot_accounts
    WHERE (account_id, asset) > ($6::text, $7::text) ORDER BY account_id, asset LIMIT $8
"""
SNAPSHOT_AT: Final = "".join(
    (
        "SELECT a.account_id, a.asset, b.balance IS NOT NULL OR c.correction IS NOT NULL AS there, ",
        "coalesce(b.balance, 0) + coalesce(c.correction, 0) AS balance FROM (",
        _PAGE,
        ") AS a",
        _AT,
        "ORDER BY a.account_id, a.asset",
    )
)
TRIAL_BALANCE_AT: Final = """
SELECT k.asset, k.floorless, sum(t.credits) AS credits, sum(t.debits) AS debits, sum(t.held) AS held,
    sum(t.in_flight) AS in_flight
FROM (SELECT DISTINCT asset, floorless FROM {schema}.snapshot_totals WHERE level = 5) AS k,
    unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS s(level, first, last),
    LATERAL (
        SELECT sum(CASE WHEN $4 THEN effective_credits ELSE credits END) AS credits,
            sum(CASE WHEN $4 THEN effective_debits ELSE debits END) AS debits, sum(held) AS held,
            sum(in_flight) AS in_flight
        FROM {schema}.snapshot_totals AS t
        WHERE t.level = s.level AND t.asset = k.asset AND t.floorless = k.floorless
            AND t.bucket BETWEEN s.first AND s.last
    ) AS t
GROUP BY k.asset, k.floorless ORDER BY k.asset, k.floorless
"""
