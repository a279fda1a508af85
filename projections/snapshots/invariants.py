"""The snapshots, recomputed from entries and changes as SQL; `projections.checks` runs them.

What is recomputed is what the snapshots have seen by their own positions. As long as the balances are behind them it
can't be, and nothing is checked.
"""

from typing import Final

from projections.invariants import Invariant

_SEEN: Final = """
positions_seen AS (
    SELECT partition, next_sequence FROM {schema}.positions WHERE projection = 'snapshots' AND NOT EXISTS (
        SELECT FROM {schema}.positions AS s JOIN {schema}.positions AS b USING (partition)
        WHERE s.projection = 'snapshots' AND b.projection = '{projection}' AND b.next_sequence < s.next_sequence
    )
), entries_seen AS (
    SELECT e.*, {change} AS change, max(recorded_at) OVER (PARTITION BY coalesce(batch_id, entry_id)) AS counted_at
    FROM {schema}.entries AS e JOIN positions_seen AS p USING (partition) WHERE e.sequence < p.next_sequence
), seen AS (
    SELECT *, CASE WHEN effective_at = recorded_at THEN counted_at ELSE effective_at END AS effective_from
    FROM entries_seen
), changes_seen AS (
    SELECT c.* FROM {schema}.changes AS c JOIN positions_seen AS p USING (partition)
    WHERE c.sequence < p.next_sequence
), levels AS (
    SELECT level FROM generate_series(0, 5) AS level
)
"""
_BUCKET: Final = "(extract(epoch FROM at) * 1000000)::bigint >> 10 * level"


def _invariant(name: str, title: str, count: str, first: str) -> Invariant:
    return Invariant(name, title, f"WITH {_SEEN} {count}", f"WITH {_SEEN} {first.replace('BUCKET', _BUCKET)}")


SNAPSHOT_INVARIANTS: Final = (
    _invariant(
        "I7 snapshot balances",
        "every balance of a time is the running balance of an entry",
        "SELECT count(*) FROM seen",
        """
        SELECT format('account %s, version %s: balance %s %s at %s, the entry says %s', account_id, version,
            b.balance, asset, recorded_at, e.running_balance)
        FROM (SELECT * FROM {schema}.snapshot_balances WHERE EXISTS (SELECT FROM positions_seen)) AS b
        FULL JOIN (SELECT account_id, asset, recorded_at, version, running_balance FROM seen) AS e
            USING (account_id, asset, recorded_at, version)
        WHERE b.balance IS DISTINCT FROM e.running_balance ORDER BY account_id, version LIMIT 1
        """,
    ),
    _invariant(
        "I7 snapshot corrections",
        "corrections of balances are what entries of other times make them",
        "SELECT count(*) FROM seen WHERE counted_at <> recorded_at OR effective_from <> recorded_at",
        """
        , moves AS (
            SELECT account_id, asset, recorded_at AS at, -change AS recorded, 0 AS effective
                FROM seen WHERE counted_at <> recorded_at
            UNION ALL SELECT account_id, asset, counted_at, change, 0 FROM seen WHERE counted_at <> recorded_at
            UNION ALL SELECT account_id, asset, recorded_at, 0, -change
                FROM seen WHERE effective_from <> recorded_at
            UNION ALL SELECT account_id, asset, effective_from, 0, change
                FROM seen WHERE effective_from <> recorded_at
        ), sums AS (
            SELECT account_id, asset, level, BUCKET AS bucket, sum(recorded) AS recorded, sum(effective) AS effective
            FROM moves, levels GROUP BY 1, 2, 3, 4
        )
        SELECT format('account %s, level %s, bucket %s: %s and %s %s, entries make them %s and %s', account_id, level,
            bucket, c.recorded, c.effective, asset, s.recorded, s.effective)
        FROM (SELECT * FROM {schema}.snapshot_corrections WHERE EXISTS (SELECT FROM positions_seen)) AS c
        FULL JOIN sums AS s USING (account_id, asset, level, bucket)
        WHERE (coalesce(c.recorded, 0), coalesce(c.effective, 0))
            <> (coalesce(s.recorded, 0), coalesce(s.effective, 0))
        ORDER BY account_id, asset, level, bucket LIMIT 1
        """,
    ),
    _invariant(
        "I7 snapshot totals",
        "sums over all accounts are what entries, holds and promises make them",
        "SELECT count(*) FROM {schema}.snapshot_totals WHERE EXISTS (SELECT FROM positions_seen)",
        """
        , floorless AS (
            SELECT account_id FROM changes_seen WHERE change = 'AccountOpened' AND details ->> 'floor' IS NULL
        ), posted AS (
            SELECT e.*, entry_type = 'CREDIT' AS is_credit, batch_id IS NOT NULL AND entry_type = 'DEBIT' AND EXISTS (
                SELECT FROM {promises} AS p
                WHERE p.batch_id = e.batch_id AND p.leg = e.leg AND p.account_id = e.account_id AND p.kept > 0
            ) AS was_promised FROM seen AS e
        ), moves AS (
            SELECT asset, account_id, counted_at AS at, CASE WHEN is_credit THEN amount ELSE 0 END AS credits,
                CASE WHEN is_credit THEN 0 ELSE amount END AS debits, 0 AS effective_credits, 0 AS effective_debits,
                CASE WHEN hold_id IS NULL THEN 0 ELSE -amount END AS held,
                CASE WHEN was_promised THEN -amount ELSE 0 END AS in_flight
            FROM posted
            UNION ALL
            SELECT asset, account_id, effective_from, 0, 0, CASE WHEN is_credit THEN amount ELSE 0 END,
                CASE WHEN is_credit THEN 0 ELSE amount END, 0, 0
            FROM posted
            UNION ALL
            SELECT asset, account_id, recorded_at, 0, 0, 0, 0,
                CASE change WHEN 'HoldPlaced' THEN amount WHEN 'HoldReleased' THEN -amount ELSE 0 END,
                CASE WHEN details ->> 'entry_type' = 'DEBIT' THEN
                    CASE change WHEN 'EntryReserved' THEN amount WHEN 'EntryReleased' THEN -amount ELSE 0 END
                    ELSE 0 END
            FROM changes_seen WHERE change IN ('HoldPlaced', 'HoldReleased', 'EntryReserved', 'EntryReleased')
        ), sums AS (
            SELECT level, asset, account_id IN (SELECT account_id FROM floorless) AS floorless, BUCKET AS bucket,
                sum(credits) AS credits, sum(debits) AS debits, sum(effective_credits) AS effective_credits,
                sum(effective_debits) AS effective_debits, sum(held) AS held, sum(in_flight) AS in_flight
            FROM moves, levels GROUP BY 1, 2, 3, 4
        ), pairs AS (
            SELECT level, asset, floorless, bucket, n.there, s.there AS wanted
            FROM (SELECT level, asset, floorless, bucket, ARRAY[credits, debits, effective_credits, effective_debits,
                held, in_flight] AS there FROM {schema}.snapshot_totals WHERE EXISTS (SELECT FROM positions_seen)
            ) AS n
            FULL JOIN (SELECT level, asset, floorless, bucket, ARRAY[credits, debits, effective_credits,
                effective_debits, held, in_flight] AS there FROM sums
            ) AS s USING (level, asset, floorless, bucket)
        )
        SELECT format('asset %s, floorless %s, level %s, bucket %s: %s, entries and changes make it %s', asset,
            floorless, level, bucket, there, wanted)
        FROM pairs
        WHERE coalesce(there, ARRAY[0, 0, 0, 0, 0, 0]::numeric[])
            <> coalesce(wanted, ARRAY[0, 0, 0, 0, 0, 0]::numeric[])
        ORDER BY asset, floorless, level, bucket LIMIT 1
        """,
    ),
    _invariant(
        "I7 snapshot accounts",
        "all accounts that had entries are there, and all that have no floor",
        "SELECT count(*) FROM {schema}.snapshot_accounts WHERE EXISTS (SELECT FROM positions_seen)",
        """
        , wanted AS (
            SELECT DISTINCT account_id, asset FROM seen
            UNION ALL SELECT account_id, NULL FROM changes_seen
            WHERE change = 'AccountOpened' AND details ->> 'floor' IS NULL
        ), there AS (
            SELECT account_id, asset FROM {schema}.snapshot_accounts WHERE EXISTS (SELECT FROM positions_seen)
            UNION ALL SELECT account_id, NULL FROM {schema}.snapshot_floorless
            WHERE EXISTS (SELECT FROM positions_seen)
        )
        SELECT format('account %s, asset %s: %s', account_id, asset, what) FROM (
            SELECT *, 'not there' AS what FROM (SELECT * FROM wanted EXCEPT SELECT * FROM there) AS missing
            UNION ALL SELECT *, 'never had it' FROM (SELECT * FROM there EXCEPT SELECT * FROM wanted) AS added
        ) AS wrong
        ORDER BY account_id, asset LIMIT 1
        """,
    ),
)
