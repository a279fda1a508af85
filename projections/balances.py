"""The balances projection: what every account has now, and all that happened to it.

Owns how rows go into its tables; `projections.rows` makes them.
"""

from collections.abc import Sequence
from io import BytesIO
from operator import itemgetter
from typing import Final

import asyncpg

from events.errors import LedgerError
from events.follow import StoredEvent
from projections import statements
from projections.batches import STEP_COLUMNS
from projections.changes import ACCOUNT_COLUMNS, CHANGE_COLUMNS, HOLD_COLUMNS, Row
from projections.rows import ENTRY_COLUMNS, REJECTION_COLUMNS, Rows, rows_of
from projections.store import columns_of, run

BALANCES: Final = "balances"


class Balances:
    """See `projections.store.Projection`."""

    name = BALANCES
    whole_batches = True
    tables = ("entries", "rejections", "changes", "batch_steps", "accounts", "holds", "balances", "batches")
    passing: tuple[type[LedgerError], ...] = ()

    async def prepare(self, events: Sequence[StoredEvent]) -> Rows:
        """Return the rows of `events`."""
        return rows_of(events)

    async def write(self, connection: asyncpg.Connection, schema: str, prepared: Rows) -> None:
        """Append rows and replace rows; raises ValueError when one to replace is not as it must be."""
        tables = _Tables(connection, schema)
        await tables.append(prepared)
        await tables.balance(prepared.balances)
        await tables.replace("balances", statements.HELD, prepared.held)
        await tables.replace("accounts", statements.STATUS, prepared.statuses)
        await tables.replace("holds", statements.TAKE, prepared.taken)
        await tables.replace("batches", statements.BATCH, prepared.batches)
        await tables.replace("batches", statements.COMMIT, prepared.committed)
        await tables.replace("batches", statements.REFUSE, prepared.refused)


class _Tables:
    """The tables in one transaction."""

    def __init__(self, connection: asyncpg.Connection, schema: str) -> None:
        self._pg = connection
        self._schema = schema

    async def append(self, rows: Rows) -> None:
        schema = self._schema
        if rows.entries:
            lines = BytesIO("".join(rows.entries).encode())
            await self._pg.copy_to_table("entries", schema_name=schema, columns=ENTRY_COLUMNS, source=lines)
        for table, columns, records in (
            ("rejections", REJECTION_COLUMNS, rows.rejections),
            ("changes", CHANGE_COLUMNS, rows.changes),
            ("batch_steps", STEP_COLUMNS, rows.steps),
            ("accounts", ACCOUNT_COLUMNS, rows.accounts),
            ("holds", HOLD_COLUMNS, rows.holds),
        ):
            if records:
                await self._pg.copy_records_to_table(table, schema_name=schema, columns=columns, records=records)

    async def balance(self, rows: Sequence[Row]) -> None:
        """Replace balances; who has one for the first time, and was not opened, is opened by its first entry."""
        if rows:
            statement = statements.UPSERT.format(schema=f'"{self._schema}"')
            found, made = await self._pg.fetchrow(statement, *columns_of(sorted(rows)))
            _all_found("balances", len(rows), found)
            if made:
                await run(self._pg, self._schema, statements.OPEN_ACCOUNTS, made)

    async def replace(self, table: str, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement that must find each of `rows` at an earlier version."""
        if rows:
            by_key = sorted(rows, key=itemgetter(0, 1))  # ids, so that writers lock in one order
            _all_found(table, len(rows), await run(self._pg, self._schema, statement, *columns_of(by_key)))


def _all_found(table: str, wanted: int, found: int) -> None:
    if found != wanted:
        raise ValueError(f"{wanted - found} rows of {table} are not there, or at a later version already")
