"""Writing the balances projection: one PostgreSQL transaction for a stretch of the log and its new positions.

A position moves only from where this writer believes it to be, so that a second instance or a zombie, whatever it
has read, writes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import asyncpg

from events.topics import mismatch
from projections.database import LOST, Database
from projections.errors import PositionConflict
from projections.rows import BALANCE_COLUMNS, ENTRY_COLUMNS, REJECTION_COLUMNS, Rows

PROJECTION: Final = "balances"
COMMAND_TIMEOUT: Final = 60.0

_OPEN: Final = """
INSERT INTO {schema}.positions (projection, partition, next_offset, next_sequence, writer_epoch, partition_count)
SELECT $1, n, 0, 0, 0, $2 FROM generate_series(0, $2 - 1) AS n
ON CONFLICT DO NOTHING
"""
_READ: Final = """
SELECT partition, next_offset, next_sequence, writer_epoch, halted, partition_count
FROM {schema}.positions WHERE projection = $1 ORDER BY partition
"""
_MOVE: Final = """
UPDATE {schema}.positions AS p
SET next_offset = n.next_offset, next_sequence = n.next_sequence, writer_epoch = n.writer_epoch,
    recorded_at = n.recorded_at, halted = NULL
FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[])
    AS n(partition, expected, next_offset, next_sequence, writer_epoch, recorded_at)
WHERE p.projection = $1 AND p.partition = n.partition AND p.next_offset = n.expected
"""
_UPSERT: Final = """
INSERT INTO {schema}.balances AS b (account_id, asset, balance, version, partition, sequence, updated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[], $4::bigint[], $5::int[], $6::bigint[], $7::timestamptz[])
ON CONFLICT (account_id, asset) DO UPDATE
SET balance = excluded.balance, version = excluded.version, partition = excluded.partition,
    sequence = excluded.sequence, updated_at = excluded.updated_at
WHERE b.version < excluded.version
"""
_HALT: Final = """
UPDATE {schema}.positions SET halted = $4 WHERE projection = $1 AND partition = $2 AND next_offset = $3
"""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition is to be read from."""

    next_offset: int
    next_sequence: int
    writer_epoch: int


class BalancesStore:
    """One connection to the tables of the balances projection, made again by `open` after it was lost."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._connection: asyncpg.Connection | None = None
        statements = (_OPEN, _READ, _MOVE, _UPSERT, _HALT)
        named = (statement.format(schema=f'"{database.schema}"') for statement in statements)
        self._open, self._read, self._move, self._upsert, self._halt = named

    async def open(self) -> None:
        """Connect, in place of the connection there was.

        Raises:
            ReadModelUnavailable: PostgreSQL does not answer.
        """
        await self.close()
        self._connection = await self.database.connect(command_timeout=COMMAND_TIMEOUT)

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
        await self._pg.execute(self._open, PROJECTION, partition_count)
        rows = await self._pg.fetch(self._read, PROJECTION)
        for row in rows:
            if row["partition_count"] != partition_count:
                raise mismatch(expected=row["partition_count"], found=partition_count)
        return {
            row["partition"]: Position(row["next_offset"], row["next_sequence"], row["writer_epoch"]) for row in rows
        }

    async def write(self, rows: Rows, expected: Mapping[int, int]) -> None:
        """Add `rows` and move the positions from the `expected` offsets (by partition), all or nothing.

        Raises:
            PositionConflict: a position is elsewhere; nothing was written.
            one of `database.LOST`: written or not, nobody knows; the positions tell.
            one of `database.REFUSED`: PostgreSQL takes a row for wrong; nothing was written.
        """
        async with self._pg.transaction():
            await self._advance(rows, expected)
            schema = self.database.schema
            if rows.entries:
                lines = BytesIO("".join(rows.entries).encode())
                await self._pg.copy_to_table("entries", schema_name=schema, columns=ENTRY_COLUMNS, source=lines)
                await self._replace_balances(rows)
            if rows.rejections:
                await self._pg.copy_records_to_table(
                    "rejections", schema_name=schema, columns=REJECTION_COLUMNS, records=rows.rejections
                )

    async def _advance(self, rows: Rows, expected: Mapping[int, int]) -> None:
        advances = sorted(rows.advances)
        columns = _columns(advances)
        columns.insert(1, [expected[advance.partition] for advance in advances])
        moved = _count(await self._pg.execute(self._move, PROJECTION, *columns))
        if moved != len(advances):
            partitions = [advance.partition for advance in advances]
            raise PositionConflict(
                f"{len(advances) - moved} of the partitions {partitions} are not where this instance left them: "
                "another one writes them",
                partitions=partitions,
            )

    async def _replace_balances(self, rows: Rows) -> None:
        balances = sorted(rows.balances)
        assert len(balances[0]) == len(BALANCE_COLUMNS)
        replaced = _count(await self._pg.execute(self._upsert, *_columns(balances)))
        if replaced != len(balances):
            raise ValueError(
                f"{len(balances) - replaced} balances were already at a later version than their entries"
            )

    async def halt(self, partition: int, expected: int, reason: str) -> None:
        """Write down why `partition` stops at the `expected` offset; raises as `write`."""
        done = await self._pg.execute(self._halt, PROJECTION, partition, expected, reason.replace("\0", "\\0"))
        if _count(done) != 1:
            raise PositionConflict(
                f"partition {partition} is not where this instance left it: another one writes it",
                partitions=[partition],
            )


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [list(column) for column in zip(*rows, strict=True)]


def _count(status: str) -> int:
    """Return the row count of a status line like "UPDATE 12"."""
    return int(status.rpartition(" ")[2])
