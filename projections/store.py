"""Writing a projection: one PostgreSQL transaction for what a stretch of the log adds and its new positions.

What is written is the projection's own affair. A position moves only from where this writer believes it to be, so
that a second instance or a zombie, whatever it has read, writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import asyncpg

from events.errors import LedgerError
from events.follow import StoredEvent
from events.topics import mismatch
from projections import statements
from projections.database import KEEPALIVE, LOST, Database
from projections.errors import PositionConflict
from projections.times import clipped, timestamp

COMMAND_TIMEOUT: Final = 60.0

R = TypeVar("R")


class Projection(Protocol[R]):
    """What one projection makes of the log. It keeps nothing but what it writes: all is gone after a crash."""

    @property
    def name(self) -> str:
        """Its name among the positions, and the end of its group's name."""

    @property
    def whole_batches(self) -> bool:
        """Whether a stretch must have all entries of a batch or none; otherwise it is what was read."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Its own tables in PostgreSQL, which a rebuild makes anew; none when it writes elsewhere."""

    @property
    def passing(self) -> tuple[type[LedgerError], ...]:
        """Errors of what it writes to beside PostgreSQL that can pass by themselves; they are waited for."""

    async def prepare(self, events: Sequence[StoredEvent], /) -> R:
        """Return what `events` add, and do what is to be done before the transaction, outside of PostgreSQL.

        The same events may come again, alone or with others, so doing it again must change nothing.

        Raises:
            one of `database.REFUSED`, for instance `EventRefused`: an event can't be taken, now or later.
            one of `passing`: it is tried again after a while.
        """

    async def write(self, connection: asyncpg.Connection, schema: str, prepared: R) -> None:
        """Write what was prepared into the tables of `schema`, within the transaction of `connection`."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition is to be read from."""

    next_offset: int
    next_sequence: int
    writer_epoch: int


class Advance(NamedTuple):
    """How far one partition has been read after a stretch of events. `recorded_at` is that of its last event."""

    partition: int
    next_offset: int
    next_sequence: int
    writer_epoch: int
    recorded_at: datetime


def advances_of(events: Iterable[StoredEvent]) -> list[Advance]:
    """Return how far `events` go, each partition's in order; one that tells no time of our calendar moves on too."""
    last = {stored.partition: stored for stored in events}
    return [
        Advance(
            stored.partition,
            stored.offset + 1,
            stored.event.sequence + 1,
            stored.event.writer_epoch,
            timestamp(clipped(stored.event.recorded_at)),
        )
        for stored in last.values()
    ]


class Store(Generic[R]):
    """One connection to the tables of a projection, made again by `open` after it was lost.

    `name` is that of the instance that writes.
    """

    def __init__(self, database: Database, projection: Projection[R], *, name: str | None = None) -> None:
        self.database = database
        self.projection = projection
        self._settings = {
            **KEEPALIVE,
            "application_name": f"partita {projection.name} {name or ''}".strip()[:63],
        }
        self._connection: asyncpg.Connection | None = None
        self._schema = database.schema
        self._lock = f"partita.{projection.name}.{database.schema}"

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
        """Take the projection for this connection, as long as it lasts; return whether nobody else has it.

        It is not what keeps two writers apart, which is that positions move from where they are expected to be. It
        says who of several may write, so that the others need not try.
        """
        ours: bool = await self._pg.fetchval(statements.TAKE_OVER, self._lock)
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
        await self._run(statements.OPEN, self.projection.name, partition_count)
        rows = await self.fetch(statements.READ, self.projection.name)
        for row in rows:
            if row["partition_count"] != partition_count:
                raise mismatch(expected=row["partition_count"], found=partition_count)
        return {
            row["partition"]: Position(row["next_offset"], row["next_sequence"], row["writer_epoch"]) for row in rows
        }

    async def halted(self) -> set[int]:
        """Return the partitions of which it is written that the projection has stopped there."""
        rows = await self.fetch(statements.READ, self.projection.name)
        return {row["partition"] for row in rows if row["halted"] is not None}

    async def write(
        self, events: Sequence[StoredEvent], expected: Mapping[int, int], halted: Mapping[int, str] | None = None
    ) -> list[Advance]:
        """Write what `events` add and move the positions from the `expected` offsets (by partition), all or nothing.

        `halted` says which of the partitions don't go on after these events, and why. Return how far they go.

        Raises:
            PositionConflict: a position is elsewhere; nothing was written.
            one of `database.LOST`: written or not, nobody knows; the positions tell.
            one of `database.REFUSED`: the projection or PostgreSQL takes an event for wrong; nothing was written.
        """
        advances = advances_of(events)
        await self.put(await self.projection.prepare(events), advances, expected, halted)
        return advances

    async def put(
        self,
        prepared: R,
        advances: Sequence[Advance],
        expected: Mapping[int, int],
        halted: Mapping[int, str] | None = None,
    ) -> None:
        """Write what was prepared and move the positions as `write` does, and raise what that raises."""
        async with self._pg.transaction():
            await self._write(prepared, advances, expected, halted or {})

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Return the rows of a statement that has a place for the `schema`."""
        rows: Sequence[asyncpg.Record] = await self._pg.fetch(
            statement.format(schema=f'"{self._schema}"'), *arguments
        )
        return rows

    async def rehearse(self, events: Sequence[StoredEvent], expected: Mapping[int, int]) -> None:
        """Do as `write` does, and undo it: raises what that would."""
        advances = advances_of(events)
        prepared = await self.projection.prepare(events)
        transaction = self._pg.transaction()
        await transaction.start()
        try:
            await self._write(prepared, advances, expected, {})
        finally:
            await transaction.rollback()

    async def _write(
        self, prepared: R, advances: Sequence[Advance], expected: Mapping[int, int], halted: Mapping[int, str]
    ) -> None:
        await self._advance(sorted(advances), expected, halted)
        await self.projection.write(self._pg, self._schema, prepared)

    async def _advance(
        self, advances: Sequence[Advance], expected: Mapping[int, int], halted: Mapping[int, str]
    ) -> None:
        columns = columns_of(advances)
        columns.insert(1, [expected[advance.partition] for advance in advances])
        columns.append([_storable(halted.get(advance.partition)) for advance in advances])
        moved = await self._run(statements.MOVE, self.projection.name, *columns)
        if moved != len(advances):
            partitions = [advance.partition for advance in advances]
            raise PositionConflict(
                f"{len(advances) - moved} of the partitions {partitions} are not where this instance left them: "
                "another one writes them",
                partitions=partitions,
            )

    async def halt(self, partition: int, expected: int, reason: str) -> None:
        """Write down why `partition` stops at the `expected` offset; raises as `write`."""
        if await self._run(statements.HALT, self.projection.name, partition, expected, _storable(reason)) != 1:
            raise PositionConflict(
                f"partition {partition} is not where this instance left it: another one writes it",
                partitions=[partition],
            )

    async def _run(self, statement: str, *arguments: Any) -> int:
        return await run(self._pg, self._schema, statement, *arguments)


async def run(connection: asyncpg.Connection, schema: str, statement: str, *arguments: Any) -> int:
    """Run a statement that has a place for the `schema`, and return how many rows it wrote."""
    status: str = await connection.execute(statement.format(schema=f'"{schema}"'), *arguments)
    return int(status.rpartition(" ")[2])  # a line like "UPDATE 12"


def columns_of(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return the columns of `rows`, as UNNEST takes them."""
    return [list(column) for column in zip(*rows, strict=True)]


def _storable(reason: str | None) -> str | None:
    return None if reason is None else reason.replace("\0", "\\0")
