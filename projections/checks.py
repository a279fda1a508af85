"""The ledger's invariants, recomputed from PostgreSQL alone: what the tables say must agree with itself.

PostgreSQL does the work, so nothing is loaded here; all checks see the same moment.
"""

from collections.abc import Collection
from typing import Final

import asyncpg

from events.batch import PASSING
from events.checks import CheckResult
from projections.balances import BALANCES
from projections.batch_invariants import BATCH_INVARIANTS
from projections.batches import OF_THE_COMMAND
from projections.database import LOST, Database
from projections.invariants import CHANGE, INVARIANTS, PROMISES, Invariant
from projections.snapshots.invariants import SNAPSHOT_INVARIANTS
from projections.statements import STAY

TIMEOUT: Final = 600.0
"""Most seconds for one check."""


async def check_all(database: Database) -> list[CheckResult]:
    """Run every check on one snapshot of the read model, and return what they found.

    Raises:
        ReadModelUnavailable: PostgreSQL does not answer, or the tables are not there.
    """
    connection = await database.connect(command_timeout=TIMEOUT)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(STAY.format(schema=f'"{database.schema}"'))
            return await checks_within(connection, database.schema)
    except (*LOST, asyncpg.PostgresError) as error:
        raise database.unavailable(error) from error
    finally:
        connection.terminate()


async def checks_within(connection: asyncpg.Connection, schema: str) -> list[CheckResult]:
    """Run every check within the transaction that `connection` is in, and return what they found there."""
    return [await _run(check, connection, schema) for check in (*INVARIANTS, *BATCH_INVARIANTS, *SNAPSHOT_INVARIANTS)]


async def _run(check: Invariant, connection: asyncpg.Connection, schema: str) -> CheckResult:
    names = {
        "schema": f'"{schema}"',
        "projection": BALANCES,
        "change": CHANGE,
        "promises": PROMISES.format(schema=f'"{schema}"'),
        "passing": _listed(PASSING),
        "of_the_command": _listed(OF_THE_COMMAND),
    }
    checked = int(await connection.fetchval(check.count.format(**names)))
    detail = await connection.fetchval(check.first.format(**names))
    return CheckResult(check.name, check.title, detail is None, checked, detail)


def _listed(codes: Collection[str]) -> str:
    return ", ".join(f"'{code}'" for code in sorted(codes))
