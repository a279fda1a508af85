"""The snapshots projection: what it takes from a stretch of the log, and how that goes into its tables.

It adds to rows that are there, so a stretch that came twice would be counted twice: what keeps it from coming twice
is that its positions move in the same transaction.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import asyncpg

from events.errors import LedgerError
from events.follow import StoredEvent
from projections.snapshots import statements
from projections.snapshots.rows import BALANCE_COLUMNS, accounts_of, added_by, opened_floorless
from projections.store import columns_of, run

SNAPSHOTS: Final = "snapshots"


class Snapshots:
    """See `projections.store.Projection`."""

    name = SNAPSHOTS
    whole_batches = True
    tables = (
        "snapshot_balances",
        "snapshot_corrections",
        "snapshot_totals",
        "snapshot_accounts",
        "snapshot_floorless",
    )
    passing: tuple[type[LedgerError], ...] = ()

    async def prepare(self, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Return the events: what they add depends on accounts that only the transaction sees."""
        return events

    async def write(self, connection: asyncpg.Connection, schema: str, prepared: Sequence[StoredEvent]) -> None:
        """Append balances, and add to corrections and totals."""
        known = await connection.fetch(statements.KNOWN.format(schema=f'"{schema}"'), accounts_of(prepared))
        added = added_by(prepared, {*opened_floorless(prepared), *(row["account_id"] for row in known)})
        if added.balances:
            await connection.copy_to_table(
                "snapshot_balances",
                schema_name=schema,
                columns=BALANCE_COLUMNS,
                source=BytesIO("".join(added.balances).encode()),
            )
        if added.floorless:
            await run(connection, schema, statements.FLOORLESS, added.floorless)
        for statement, rows in (
            (statements.ACCOUNTS, added.accounts),
            (statements.CORRECT, added.corrections),
            (statements.TOTAL, added.totals),
        ):
            if rows:
                await run(connection, schema, statement, *columns_of(rows))
