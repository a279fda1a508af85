"""Writing the balances projection: one PostgreSQL transaction for a stretch of the log and its new positions.

A position moves only from where this writer believes it to be, so that a second instance or a zombie, whatever it
has read, writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from typing import Any, Final

import asyncpg

from events.topics import mismatch
from projections import statements
from projections.batches import STEP_COLUMNS
from projections.changes import ACCOUNT_COLUMNS, CHANGE_COLUMNS, HOLD_COLUMNS, Row
from projections.database import LOST, Database
from projections.errors import PositionConflict
from projections.rows import ENTRY_COLUMNS, REJECTION_COLUMNS, Advance, Rows

PROJECTION: Final = "balances"
COMMAND_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition is to be read from."""

    next_offset: int
    next_sequence: int
    writer_epoch: int


class BalancesStore:
    """One connection to the tables of the balances projection, made again by `open` after it was lost."""

    def __init__(self, database: Database, *, name: str | None = None, projection: str = PROJECTION) -> None:
        self.database = database
        self._projection = projection
        self._settings = {
            "application_name": f"partita {projection} {name or ''}".strip()[:63],
            "tcp_keepalives_idle": "5",  # the lock of one whose machine is gone must not be held for hours
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
        }
        self._connection: asyncpg.Connection | None = None
        self._schema = f'"{database.schema}"'

    async def open(self) -> None:
        """Connect, in place of the connection there was.

        Raises:
            ReadModelUnavailable: PostgreSQL does not answer.
        """
        await self.close()
        self._connection = await self.database.connect(
            command_timeout=COMMAND_TIMEOUT, server_settings=self._settings
        )

    async def take_over(self) -> bool:
        """Take the read model for this connection, as long as it lasts; return whether nobody else has it.

        It is not what keeps two writers apart, which is that positions move from where they are expected to be. It
        says who of several may write, so that the others need not try.
        """
        ours: bool = await self._pg.fetchval(
            statements.TAKE_OVER, f"partita.{self._projection}.{self.database.schema}"
        )
        return ours

    async def close(self) -> None:
        """Let go of the connection; no more than a few seconds, and no error of a connection that was lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=3)
            except LOST:
                connection.terminate()

    @property
    def _pg(self) -> asyncpg.Connection:
        assert self._connection is not None, "open() comes first"
        return self._connection

    async def positions(self, partition_count: int) -> dict[int, Position]:
        """Return the position of each of the ledger's partitions; the first time they are all at the beginning.

        Raises:
            PartitionCountMismatch: the read model was made for another number of partitions.
            ReadModelUnavailable: the tables are not there.
        """
        try:
            async with self._pg.transaction():  # a count that is refused must not leave its positions behind
                return await self._opened(partition_count)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            raise self.database.unavailable(error) from error

    async def _opened(self, partition_count: int) -> dict[int, Position]:
        await self._run(statements.OPEN, self._projection, partition_count)
        rows = await self._pg.fetch(statements.READ.format(schema=self._schema), self._projection)
        for row in rows:
            if row["partition_count"] != partition_count:
                raise mismatch(expected=row["partition_count"], found=partition_count)
        return {
            row["partition"]: Position(row["next_offset"], row["next_sequence"], row["writer_epoch"]) for row in rows
        }

    async def write(self, rows: Rows, expected: Mapping[int, int], halted: Mapping[int, str] | None = None) -> None:
        """Add `rows` and move the positions from the `expected` offsets (by partition), all or nothing.

        `halted` says which of the partitions don't go on after these rows, and why.

        Raises:
            PositionConflict: a position is elsewhere; nothing was written.
            one of `database.LOST`: written or not, nobody knows; the positions tell.
            one of `database.REFUSED`: PostgreSQL takes a row for wrong; nothing was written.
        """
        async with self._pg.transaction():
            await self._write(rows, expected, halted or {})

    async def rehearse(self, rows: Rows, expected: Mapping[int, int]) -> None:
        """Do as `write` does, and undo it: raises what that would."""
        transaction = self._pg.transaction()
        await transaction.start()
        try:
            await self._write(rows, expected, {})
        finally:
            await transaction.rollback()

    async def _write(self, rows: Rows, expected: Mapping[int, int], halted: Mapping[int, str]) -> None:
        await self._advance(rows.advances, expected, halted)
        await self._append(rows)
        await self._balance(rows.balances)
        await self._replace("balances", statements.HELD, rows.held)
        await self._replace("accounts", statements.STATUS, rows.statuses)
        await self._replace("holds", statements.TAKE, rows.taken)
        await self._replace("batches", statements.BATCH, rows.batches)
        await self._replace("batches", statements.COMMIT, rows.committed)
        await self._replace("batches", statements.REFUSE, rows.refused)

    async def move(self, advances: Sequence[Advance], expected: Mapping[int, int]) -> None:
        """Move the positions only, of a projection whose rows are elsewhere; raises as `write`."""
        await self._advance(advances, expected, {})

    async def _advance(
        self, unsorted: Sequence[Advance], expected: Mapping[int, int], halted: Mapping[int, str]
    ) -> None:
        advances = sorted(unsorted)
        columns = _columns(advances)
        columns.insert(1, [expected[advance.partition] for advance in advances])
        columns.append([_storable(halted.get(advance.partition)) for advance in advances])
        moved = await self._run(statements.MOVE, self._projection, *columns)
        if moved != len(advances):
            partitions = [advance.partition for advance in advances]
            raise PositionConflict(
                f"{len(advances) - moved} of the partitions {partitions} are not where this instance left them: "
                "another one writes them",
                partitions=partitions,
            )

    async def _append(self, rows: Rows) -> None:
        schema = self.database.schema
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

    async def _balance(self, rows: Sequence[Row]) -> None:
        """Replace balances; who has one for the first time, and was not opened, is opened by its first entry."""
        if rows:
            statement = statements.UPSERT.format(schema=self._schema)
            found, made = await self._pg.fetchrow(statement, *_columns(sorted(rows)))
            _all_found("balances", len(rows), found)
            if made:
                await self._run(statements.OPEN_ACCOUNTS, made)

    async def _replace(self, table: str, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement that must find each of `rows` at an earlier version."""
        if rows:
            by_key = sorted(rows, key=itemgetter(0, 1))  # ids, so that writers lock in one order
            _all_found(table, len(rows), await self._run(statement, *_columns(by_key)))

    async def halt(self, partition: int, expected: int, reason: str) -> None:
        """Write down why `partition` stops at the `expected` offset; raises as `write`."""
        if await self._run(statements.HALT, self._projection, partition, expected, _storable(reason)) != 1:
            raise PositionConflict(
                f"partition {partition} is not where this instance left it: another one writes it",
                partitions=[partition],
            )

    async def _run(self, statement: str, *arguments: Any) -> int:
        """Run one of the statements above, and return how many rows it wrote."""
        status: str = await self._pg.execute(statement.format(schema=self._schema), *arguments)
        return int(status.rpartition(" ")[2])  # a line like "UPDATE 12"


def _all_found(table: str, wanted: int, found: int) -> None:
    if found != wanted:
        raise ValueError(f"{wanted - found} rows of {table} are not there, or at a later version already")


def _storable(reason: str | None) -> str | None:
    return None if reason is None else reason.replace("\0", "\\0")


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [list(column) for column in zip(*rows, strict=True)]
