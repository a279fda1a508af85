"""The ledger's invariants as SQL over the tables; `projections.checks` runs them.

The numbers are those of the design: I1 money is conserved, I3 nothing twice, I4 no balance below its floor, I5 no
gap, I6 batches are whole and what is held is what holds and batches reserve, I7 rows that change are what the
append-only ones make them.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Invariant:
    """`count` gives the number of records, `first` the first that is wrong, as text, or no row.

    Both have places for `schema`, the `projection` whose positions count, and what is below.
    """

    name: str
    title: str
    count: str
    first: str


CHANGE: Final = "CASE entry_type WHEN 'CREDIT' THEN amount ELSE -amount END"
"""`change`: what an entry adds to the balance."""

PROMISES: Final = """(
    SELECT batch_id, leg, account_id, asset, max(amount) AS amount, max(details ->> 'entry_type') AS entry_type,
        count(*) FILTER (WHERE change = 'EntryReserved') - count(*) FILTER (WHERE change = 'EntryReleased') AS kept
    FROM {schema}.changes WHERE batch_id IS NOT NULL GROUP BY batch_id, leg, account_id, asset
)"""
"""`promises`: what accounts have promised for batches; `kept` is 1 when it was not taken back, posted or not."""

INVARIANTS: Final = (
    Invariant(
        "I1",
        "per asset, what is available and held adds up to credits less debits",
        "SELECT count(DISTINCT asset) FROM {schema}.entries",
        """
        SELECT format('asset %s: balances add up to %s, entries to %s', asset, b.total, e.total)
        FROM (SELECT asset, sum(available) + sum(held) AS total FROM {schema}.balances GROUP BY asset) AS b
        FULL JOIN (SELECT asset, sum({change}) AS total FROM {schema}.entries GROUP BY asset) AS e USING (asset)
        WHERE coalesce(b.total, 0) <> coalesce(e.total, 0) ORDER BY asset LIMIT 1
        """,
    ),
    Invariant(
        "I3",
        "no command has two entries or changes, and no batch the same entry twice",
        "SELECT (SELECT count(*) FROM {schema}.entries) + (SELECT count(*) FROM {schema}.changes)",
        """
        SELECT format('account %s, command %s: %s entries or changes, the first is %s', account_id, command_id,
            count(*), (array_agg(place ORDER BY version))[1])
        FROM (
            SELECT account_id, command_id, batch_id, leg, version, entry_id AS place FROM {schema}.entries
            UNION ALL SELECT account_id, command_id, NULL, NULL, version, partition || '-' || sequence
                FROM {schema}.changes WHERE batch_id IS NULL
        ) AS answers
        GROUP BY account_id, command_id, batch_id, leg HAVING count(*) > 1 ORDER BY account_id, command_id LIMIT 1
        """,
    ),
    Invariant(
        "I4",
        "nothing has taken a balance, less what was held, below its floor, unless it was forced",
        "SELECT (SELECT count(*) FROM {schema}.entries) + "
        "(SELECT count(*) FROM {schema}.changes WHERE held IS NOT NULL)",
        """
        WITH steps AS (
            SELECT account_id, e.asset, version, entry_id AS place, moved,
                CASE WHEN hold_id IS NOT NULL OR (e.entry_type = 'DEBIT' AND p.kept > 0) THEN -e.amount ELSE 0 END
                    AS held,
                forced
            FROM (SELECT *, {change} AS moved FROM {schema}.entries) AS e
            LEFT JOIN {promises} AS p USING (batch_id, leg, account_id)
            UNION ALL
            SELECT account_id, asset, version, partition || '-' || sequence, 0,
                CASE WHEN change IN ('HoldPlaced', 'EntryReserved') THEN amount ELSE -amount END,
                (details ->> 'forced')::boolean
            FROM {schema}.changes WHERE held IS NOT NULL
        ), sums AS (
            SELECT *, sum(moved - held) OVER (PARTITION BY account_id, asset ORDER BY version) AS available FROM steps
        )
        SELECT format('%s of account %s: available %s %s, floor %s', place, account_id, available, asset, floor)
        FROM sums JOIN {schema}.accounts USING (account_id)
        WHERE available < floor AND moved < held AND NOT coalesce(forced, false)
        ORDER BY account_id, sums.version LIMIT 1
        """,
    ),
    Invariant(
        "I5",
        "sequences have neither gap nor duplicate",
        "SELECT coalesce(sum(next_sequence), 0) FROM {schema}.positions WHERE projection = '{projection}'",
        """
        WITH events AS (
            SELECT partition, sequence FROM {schema}.entries
            UNION ALL SELECT partition, sequence FROM {schema}.rejections
            UNION ALL SELECT partition, sequence FROM {schema}.changes
            UNION ALL SELECT partition, sequence FROM {schema}.batch_steps
            UNION ALL SELECT partition, 0 FROM {schema}.positions  -- the opening is in no table
                WHERE projection = '{projection}' AND next_sequence > 0
            UNION ALL SELECT partition, next_sequence FROM {schema}.positions WHERE projection = '{projection}'
        ), pairs AS (
            SELECT partition, sequence,
                coalesce(lag(sequence) OVER (PARTITION BY partition ORDER BY sequence), -1) AS before
            FROM events
        )
        SELECT format('partition %s: sequence %s comes after %s', partition, sequence, before)
        FROM pairs WHERE sequence <> before + 1 ORDER BY partition, sequence LIMIT 1
        """,
    ),
    Invariant(
        "I6 held",
        "what is held of a balance is what open holds and batches in flight reserve",
        "SELECT count(*) FROM {schema}.balances",
        """
        WITH reserved AS (
            SELECT account_id, asset, sum(amount) AS held FROM (
                SELECT account_id, asset, remaining AS amount FROM {schema}.holds WHERE status = 'PLACED'
                UNION ALL
                SELECT account_id, asset, amount FROM {promises} AS p
                WHERE kept > 0 AND entry_type = 'DEBIT' AND NOT EXISTS (
                    SELECT FROM {schema}.entries AS e WHERE e.batch_id = p.batch_id AND e.leg = p.leg
                )
            ) AS each GROUP BY account_id, asset
        )
        SELECT format('account %s, asset %s: %s held, holds and batches reserve %s', account_id, asset, b.held,
            coalesce(r.held, 0))
        FROM {schema}.balances AS b FULL JOIN reserved AS r USING (account_id, asset)
        WHERE b.held IS DISTINCT FROM coalesce(r.held, 0) ORDER BY account_id, asset LIMIT 1
        """,
    ),
    Invariant(
        "I7 entries",
        "every running balance is the sum of the entries up to it",
        "SELECT count(*) FROM {schema}.entries",
        """
        WITH sums AS (
            SELECT entry_id, account_id, asset, version, running_balance,
                sum({change}) OVER (PARTITION BY account_id, asset ORDER BY version) AS total
            FROM {schema}.entries
        )
        SELECT format('entry %s of account %s: running balance %s %s, entries add up to %s', entry_id, account_id,
            running_balance, asset, total)
        FROM sums WHERE running_balance <> total ORDER BY account_id, version LIMIT 1
        """,
    ),
    Invariant(
        "I7 versions",
        "an account's entries and changes have the versions 1, 2, 3, ...",
        "SELECT count(*) FROM {schema}.accounts",
        """
        SELECT format('account %s: %s entries and changes, versions %s to %s', account_id, count(*), min(version),
            max(version))
        FROM (
            SELECT account_id, version FROM {schema}.entries
            UNION ALL SELECT account_id, version FROM {schema}.changes
        ) AS steps
        GROUP BY account_id
        HAVING max(version) <> count(*) OR min(version) <> 1 OR count(DISTINCT version) <> count(*)
        ORDER BY account_id LIMIT 1
        """,
    ),
    Invariant(
        "I7 balances",
        "every balance is that of the last entry, at its last change",
        "SELECT count(*) FROM {schema}.balances",
        """
        WITH steps AS (
            SELECT account_id, asset, version, running_balance FROM {schema}.entries
            UNION ALL SELECT account_id, asset, version, NULL FROM {schema}.changes WHERE held IS NOT NULL
        ), last AS (
            SELECT account_id, asset, max(version) AS version,
                coalesce((array_agg(running_balance ORDER BY version DESC)
                    FILTER (WHERE running_balance IS NOT NULL))[1], 0) AS balance
            FROM steps GROUP BY account_id, asset
        )
        SELECT format('account %s, asset %s: balance %s at version %s, last entry %s, last change at version %s',
            account_id, asset, b.balance, b.version, l.balance, l.version)
        FROM {schema}.balances AS b FULL JOIN last AS l USING (account_id, asset)
        WHERE (b.balance, b.version) IS DISTINCT FROM (l.balance, l.version)
        ORDER BY account_id, asset LIMIT 1
        """,
    ),
    Invariant(
        "I7 accounts",
        "every account is what its opening and its changes of status make it",
        "SELECT count(*) FROM {schema}.accounts",
        """
        WITH steps AS (
            SELECT account_id, version, change, details, reference, metadata, recorded_at
            FROM {schema}.changes WHERE change LIKE 'Account%'
            UNION ALL
            (SELECT DISTINCT ON (account_id) account_id, version, 'AccountOpened',
                '{{"floor": "0", "assets": []}}'::jsonb, NULL, NULL::jsonb, recorded_at
            FROM {schema}.entries AS e WHERE NOT EXISTS (
                SELECT FROM {schema}.changes AS c WHERE c.account_id = e.account_id AND c.change = 'AccountOpened'
            ) ORDER BY account_id, version)
        ), last AS (
            SELECT DISTINCT ON (account_id) account_id, version, recorded_at,
                CASE change WHEN 'AccountFrozen' THEN 'FROZEN' WHEN 'AccountClosed' THEN 'CLOSED' ELSE 'OPEN' END
                    AS status,
                coalesce((details ->> 'permanent')::boolean, false) AS permanent
            FROM steps ORDER BY account_id, version DESC
        ), folded AS (
            SELECT account_id, l.status, l.permanent, (o.details ->> 'floor')::numeric AS floor,
                o.details -> 'assets' AS assets, o.details ->> 'account_type' AS account_type, o.reference,
                o.metadata, l.version, o.recorded_at AS opened_at, l.recorded_at AS updated_at
            FROM last AS l LEFT JOIN (SELECT * FROM steps WHERE change = 'AccountOpened') AS o USING (account_id)
        )
        SELECT format('account %s: %s at version %s with floor %s, its changes say %s at version %s with floor %s',
            account_id, a.status, a.version, a.floor, f.status, f.version, f.floor)
        FROM {schema}.accounts AS a FULL JOIN folded AS f USING (account_id)
        WHERE (a.status, a.permanent, a.floor, to_jsonb(a.assets), a.account_type, a.reference, a.metadata, a.version,
                a.opened_at, a.updated_at)
            IS DISTINCT FROM (f.status, f.permanent, f.floor, f.assets, f.account_type, f.reference, f.metadata,
                f.version, f.opened_at, f.updated_at)
        ORDER BY account_id LIMIT 1
        """,
    ),
    Invariant(
        "I7 holds",
        "every hold is what its placing, its settlements and its release make it",
        "SELECT count(*) FROM {schema}.holds",
        """
        WITH steps AS (
            SELECT account_id, hold_id, version, change, asset, details, recorded_at,
                CASE change WHEN 'HoldPlaced' THEN amount ELSE -amount END AS reserved
            FROM {schema}.changes WHERE hold_id IS NOT NULL
            UNION ALL SELECT account_id, hold_id, version, 'HoldSettled', asset, NULL, recorded_at, -amount
                FROM {schema}.entries WHERE hold_id IS NOT NULL
        ), now AS (
            SELECT account_id, hold_id, max(version) AS version, sum(reserved) AS remaining,
                CASE WHEN sum(reserved) > 0 THEN NULL ELSE max(recorded_at) END AS ended_at,
                CASE WHEN bool_or((details ->> 'expired')::boolean) THEN 'EXPIRED'
                    WHEN bool_or(change = 'HoldReleased') THEN 'RELEASED'
                    WHEN sum(reserved) = 0 THEN 'SETTLED' ELSE 'PLACED' END AS status,
                count(DISTINCT asset) AS assets
            FROM steps GROUP BY account_id, hold_id
        ), folded AS (
            SELECT account_id, hold_id, p.asset, p.amount, n.remaining, n.status,
                (p.details ->> 'expires_at')::timestamptz AS expires_at, p.reference, p.metadata,
                p.recorded_at AS placed_at, p.version AS placed_version, n.ended_at, n.version, n.assets
            FROM now AS n
            LEFT JOIN (SELECT * FROM {schema}.changes WHERE change = 'HoldPlaced') AS p USING (account_id, hold_id)
        )
        SELECT format('hold %s of account %s: %s, %s remaining at version %s, its events say %s, %s at version %s',
            hold_id, account_id, h.status, h.remaining, h.version, f.status, f.remaining, f.version)
        FROM {schema}.holds AS h FULL JOIN folded AS f USING (account_id, hold_id)
        WHERE f.assets > 1 OR (h.asset, h.amount, h.remaining, h.status, h.expires_at, h.reference, h.metadata,
                h.placed_at, h.placed_version, h.ended_at, h.version)
            IS DISTINCT FROM (f.asset, f.amount, f.remaining, f.status, f.expires_at, f.reference, f.metadata,
                f.placed_at, f.placed_version, f.ended_at, f.version)
        ORDER BY account_id, hold_id LIMIT 1
        """,
    ),
)
