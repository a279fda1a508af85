"""The invariants of batches as SQL over the tables, in the terms of `projections.invariants`.

They hold at every moment, with batches in flight too: a reader that looks at any time sees batches whole.
"""

from typing import Final

from projections.invariants import Invariant

BATCH_INVARIANTS: Final = (
    Invariant(
        "I6 batches",
        "of a batch all entries are there or none: all when it is posted, none when it broke a rule",
        "SELECT count(*) FROM {schema}.batches",
        """
        WITH there AS (
            SELECT batch_id, count(*) AS entries, max(legs) AS legs, min(legs) = max(legs) AS agree
            FROM {schema}.entries WHERE batch_id IS NOT NULL GROUP BY batch_id
        )
        SELECT format('batch %s is %s: %s of its %s entries are there', batch_id, coalesce(b.status, 'unknown'),
            coalesce(t.entries, 0), coalesce(b.entries, t.legs, 0))
        FROM {schema}.batches AS b FULL JOIN there AS t USING (batch_id)
        WHERE t.entries <> t.legs OR NOT t.agree OR t.legs <> b.entries
            OR (b.status = 'POSTED' AND coalesce(t.entries, 0) <> b.entries)
            OR (b.status = 'REJECTED' AND b.code NOT IN ({passing}) AND t.entries > 0)
        ORDER BY batch_id LIMIT 1
        """,
    ),
    Invariant(
        "I6 promises",
        "no account has a promise left for a batch that is posted",
        "SELECT count(*) FROM {schema}.changes WHERE batch_id IS NOT NULL",
        """
        SELECT format('account %s still promises entry %s of batch %s', account_id, p.leg, batch_id)
        FROM {promises} AS p JOIN {schema}.batches AS b USING (batch_id)
        WHERE kept > 0 AND b.status = 'POSTED' AND NOT EXISTS (
            SELECT FROM {schema}.entries AS e
            WHERE e.batch_id = p.batch_id AND e.leg = p.leg AND e.account_id = p.account_id
        )
        ORDER BY batch_id, p.leg LIMIT 1
        """,
    ),
    Invariant(
        "I7 batches",
        "every batch is what its steps and its rejection make it",
        "SELECT count(*) FROM {schema}.batches",
        """
        WITH steps AS (
            SELECT batch_id, partition, sequence, step, entries, reversal_of, reference, metadata, NULL AS code,
                NULL AS message, NULL::jsonb AS details, NULL::integer AS leg, recorded_at
            FROM {schema}.batch_steps WHERE step IN ('BatchStarted', 'BatchCommitted', 'BatchPosted')
            UNION ALL
            SELECT command_id, partition, sequence, 'BatchRejected', NULL, reversal_of, NULL, NULL, code, message,
                details, leg, recorded_at
            FROM {schema}.rejections WHERE account_id IS NULL AND code NOT IN ({of_the_command})
        ), linked AS (
            SELECT *, min(recorded_at) OVER of_batch AS started_at,
                lag(step) OVER (of_batch ORDER BY sequence) AS before,
                max(sequence) FILTER (WHERE step = 'BatchStarted') OVER (of_batch ORDER BY sequence) AS start
            FROM steps WINDOW of_batch AS (PARTITION BY batch_id)
        ), last AS (
            SELECT DISTINCT ON (batch_id) *,
                CASE WHEN step = 'BatchPosted' THEN sequence WHEN step = 'BatchRejected' AND before IS DISTINCT FROM
                    'BatchStarted' THEN NULL ELSE start END AS told
            FROM linked ORDER BY batch_id, sequence DESC
        ), folded AS (
            SELECT l.batch_id, l.partition, l.sequence, upper(substr(l.step, 6)) AS status, l.code, l.message,
                l.details, l.leg, coalesce(l.reversal_of, t.reversal_of) AS reversal_of, t.entries, t.reference,
                t.metadata, l.started_at,
                CASE WHEN l.step IN ('BatchPosted', 'BatchRejected') THEN l.recorded_at END AS ended_at
            FROM last AS l LEFT JOIN {schema}.batch_steps AS t ON t.partition = l.partition AND t.sequence = l.told
        )
        SELECT format('batch %s: %s at sequence %s, its steps say %s at sequence %s', batch_id, b.status, b.sequence,
            f.status, f.sequence)
        FROM {schema}.batches AS b FULL JOIN folded AS f USING (batch_id)
        WHERE (b.partition, b.sequence, replace(b.status, 'PENDING', 'STARTED'), b.code, b.message, b.details, b.leg,
                b.reversal_of, b.entries, b.reference, b.metadata, b.started_at, b.ended_at)
            IS DISTINCT FROM (f.partition, f.sequence, f.status, f.code, f.message, f.details, f.leg,
                f.reversal_of, f.entries, f.reference, f.metadata, f.started_at, f.ended_at)
        ORDER BY batch_id LIMIT 1
        """,
    ),
)
