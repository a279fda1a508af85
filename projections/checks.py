"""The ledger's invariants, recomputed from PostgreSQL alone: what the tables say must agree with itself.

PostgreSQL does the work, so nothing is loaded here; all checks see the same moment. The numbers are those of the
design: I1 money is conserved, I3 nothing twice, I4 no overdraft, I5 no gap, I7 balances are what entries add up to.
"""

from dataclasses import dataclass
from typing import Final

import asyncpg

from events.checks import CheckResult
from projections.database import LOST, Database
from projections.store import PROJECTION

TIMEOUT: Final = 600.0
"""Most seconds for one check."""


@dataclass(frozen=True, slots=True)
class _Check:
    """`count` gives the number of records, `first` the first that is wrong, as text, or no row."""

    name: str
    title: str
    count: str
    first: str


_CHANGE: Final = "CASE entry_type WHEN 'CREDIT' THEN amount ELSE -amount END"

CHECKS: Final = (
    _Check(
        "I1",
        "per asset, balances add up to credits less debits",
        "SELECT count(DISTINCT asset) FROM {schema}.entries",
        """
        SELECT format('asset %s: balances add up to %s, entries to %s', asset, b.total, e.total)
        FROM (SELECT asset, sum(balance) AS total FROM {schema}.balances GROUP BY asset) AS b
        FULL JOIN (SELECT asset, sum({change}) AS total FROM {schema}.entries GROUP BY asset) AS e USING (asset)
        WHERE b.total IS DISTINCT FROM e.total ORDER BY asset LIMIT 1
        """,
    ),
    _Check(
        "I3",
        "no command has two entries",
        "SELECT count(*) FROM {schema}.entries",
        """
        SELECT format('account %s, command %s: %s entries, the first is %s', account_id, command_id, count(*),
            (array_agg(entry_id ORDER BY version))[1])
        FROM {schema}.entries GROUP BY account_id, command_id HAVING count(*) > 1
        ORDER BY account_id, command_id LIMIT 1
        """,
    ),
    _Check(
        "I4",
        "no balance was ever below zero",
        "SELECT count(*) FROM {schema}.entries",
        """
        (SELECT format('entry %s of account %s: balance %s', entry_id, account_id, running_balance)
        FROM {schema}.entries WHERE running_balance < 0 ORDER BY partition, sequence LIMIT 1)
        UNION ALL
        (SELECT format('account %s, asset %s: balance %s', account_id, asset, balance)
        FROM {schema}.balances WHERE balance < 0 ORDER BY account_id, asset LIMIT 1)
        LIMIT 1
        """,
    ),
    _Check(
        "I5",
        "sequences have neither gap nor duplicate",
        "SELECT coalesce(sum(next_sequence), 0) FROM {schema}.positions WHERE projection = '{projection}'",
        """
        WITH events AS (
            SELECT partition, sequence FROM {schema}.entries
            UNION ALL SELECT partition, sequence FROM {schema}.rejections
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
    _Check(
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
    _Check(
        "I7 versions",
        "an account's versions are 1, 2, 3, ...",
        "SELECT count(DISTINCT account_id) FROM {schema}.entries",
        """
        SELECT format('account %s: %s entries, versions %s to %s', account_id, count(*), min(version), max(version))
        FROM {schema}.entries GROUP BY account_id HAVING max(version) <> count(*) OR min(version) <> 1
        ORDER BY account_id LIMIT 1
        """,
    ),
    _Check(
        "I7 balances",
        "every balance is that of the last entry",
        "SELECT count(*) FROM {schema}.balances",
        """
        WITH last AS (
            SELECT DISTINCT ON (account_id, asset) account_id, asset, running_balance, version
            FROM {schema}.entries ORDER BY account_id, asset, version DESC
        )
        SELECT format('account %s, asset %s: balance %s at version %s, last entry %s at version %s', account_id,
            asset, b.balance, b.version, l.running_balance, l.version)
        FROM {schema}.balances AS b FULL JOIN last AS l USING (account_id, asset)
        WHERE b.balance IS DISTINCT FROM l.running_balance OR b.version IS DISTINCT FROM l.version
        ORDER BY account_id, asset LIMIT 1
        """,
    ),
)


async def check_all(database: Database) -> list[CheckResult]:
    """Run every check on one snapshot of the read model, and return what they found.

    Raises:
        ReadModelUnavailable: PostgreSQL does not answer, or the tables are not there.
    """
    connection = await database.connect(command_timeout=TIMEOUT)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return [await _run(check, connection, database.schema) for check in CHECKS]
    except (*LOST, asyncpg.PostgresError) as error:
        raise database.unavailable(error) from error
    finally:
        connection.terminate()


async def _run(check: _Check, connection: asyncpg.Connection, schema: str) -> CheckResult:
    names = {"schema": f'"{schema}"', "projection": PROJECTION, "change": _CHANGE}
    checked = int(await connection.fetchval(check.count.format(**names)))
    detail = await connection.fetchval(check.first.format(**names))
    return CheckResult(check.name, check.title, detail is None, checked, detail)
