"""Holding the log against the tables that only grow, row by row: every event has its row, and that row says the same.

What an event's row must be is made by the code that the projection writes with, put into tables of this session's
own, and compared by PostgreSQL. A row without an event is no business of this: it takes a sequence that another has,
or that nobody has, and `projections.invariants` (I5) sees that.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from io import BytesIO
from types import TracebackType
from typing import Final, NamedTuple, Self

import asyncpg

from events.follow import StoredEvent
from projections.batches import STEP_COLUMNS
from projections.changes import CHANGE_COLUMNS
from projections.database import LOST, Database
from projections.rows import ENTRY_COLUMNS, REJECTION_COLUMNS, rows_of
from projections.statements import HALTED, PROJECTIONS, READ, STAY

TIMEOUT: Final = 600.0
"""Most seconds for one statement."""


class _Table(NamedTuple):
    """One of the tables, its columns, and those by which a row is found."""

    name: str
    columns: Sequence[str]
    key: str


_ENTRIES: Final = _Table("entries", ENTRY_COLUMNS, "entry_id")
_CHANGES: Final = _Table("changes", CHANGE_COLUMNS, "partition, sequence")
_REJECTIONS: Final = _Table("rejections", REJECTION_COLUMNS, "partition, sequence")
_STEPS: Final = _Table("batch_steps", STEP_COLUMNS, "partition, sequence")
_TABLES: Final = (_ENTRIES, _CHANGES, _REJECTIONS, _STEPS)

_MAKE: Final = """
CREATE TEMPORARY TABLE expected_{name} ON COMMIT DROP AS SELECT {columns} FROM {schema}.{name} LIMIT 0
"""
_FIRST: Final = """
SELECT e.partition, e.sequence, to_jsonb(e) AS expected, to_jsonb(f) AS found
FROM expected_{name} AS e LEFT JOIN LATERAL (
    SELECT {columns} FROM {schema}.{name} AS t WHERE {same}
) AS f ON true
WHERE to_jsonb(e) IS DISTINCT FROM to_jsonb(f)
ORDER BY e.partition, e.sequence LIMIT 1
"""


class Difference(NamedTuple):
    """An event whose row is not as it must be: which table, where in the log, and what is wrong."""

    table: str
    partition: int
    sequence: int
    what: str

    def __str__(self) -> str:
        return f"partition {self.partition}, sequence {self.sequence}: {self.what} ({self.table})"


class Comparison(AbstractAsyncContextManager["Comparison"]):
    """One moment of the tables, as long as it is open; it writes nothing but tables of its own session.

    Every call raises `ReadModelUnavailable` when PostgreSQL does not answer or the tables are not there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = f'"{database.schema}"'
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await self._database.connect(command_timeout=TIMEOUT)
        try:
            await self._pg.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await self._pg.execute(STAY.format(schema=self._schema))
            for table in _TABLES:
                await self._pg.execute(
                    _MAKE.format(name=table.name, columns=", ".join(table.columns), schema=self._schema)
                )
        except (*LOST, asyncpg.PostgresError) as error:
            self._pg.terminate()
            raise self._database.unavailable(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pg.terminate()

    @property
    def _pg(self) -> asyncpg.Connection:
        assert self._connection is not None, "it is not open"
        return self._connection

    @property
    def connection(self) -> asyncpg.Connection:
        """The connection, within the transaction that sees this moment; for other checks of the same."""
        return self._pg

    async def projections(self) -> list[str]:
        """Return the projections that were ever started."""
        return [row["projection"] for row in await self.fetch(PROJECTIONS)]

    async def halted(self) -> list[str]:
        """Return which partitions of which projections have stopped, and why."""
        rows = await self.fetch(HALTED)
        return [f"{row['projection']}, partition {row['partition']}: {row['halted']}" for row in rows]

    async def next_sequences(self, projection: str) -> dict[int, int]:
        """Return, by partition, the sequence that a projection takes next; nothing when it was never started."""
        return {row["partition"]: row["next_sequence"] for row in await self.fetch(READ, projection)}

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Return the rows of a statement that has a place for the `schema`."""
        try:
            rows: Sequence[asyncpg.Record] = await self._pg.fetch(statement.format(schema=self._schema), *arguments)
        except (*LOST, asyncpg.PostgresError) as error:
            raise self._database.unavailable(error) from error
        return rows

    async def first_difference(self, events: Sequence[StoredEvent]) -> Difference | None:
        """Return the first of these events, contiguous in each partition, whose row is not as it must be."""
        try:
            return await self._first_difference(events)
        except (*LOST, asyncpg.PostgresError) as error:
            raise self._database.unavailable(error) from error

    async def _first_difference(self, events: Sequence[StoredEvent]) -> Difference | None:
        rows = rows_of(events)
        found = []
        if rows.entries:
            lines = BytesIO("".join(rows.entries).encode())
            await self._pg.copy_to_table("expected_entries", columns=ENTRY_COLUMNS, source=lines)
            found.append(await self._first(_ENTRIES))
        for table, records in ((_CHANGES, rows.changes), (_REJECTIONS, rows.rejections), (_STEPS, rows.steps)):
            if records:
                name = f"expected_{table.name}"
                await self._pg.copy_records_to_table(name, columns=table.columns, records=records)
                found.append(await self._first(table))
        return min((each for each in found if each), key=lambda each: each[1:3], default=None)

    async def _first(self, table: _Table) -> Difference | None:
        same = " AND ".join(f"t.{column} = e.{column}" for column in table.key.split(", "))
        columns = ", ".join(f"t.{column}" for column in table.columns)
        query = _FIRST.format(name=table.name, columns=columns, schema=self._schema, same=same)
        row = await self._pg.fetchrow(query)
        await self._pg.execute(f"TRUNCATE expected_{table.name}")
        if row is None:
            return None
        return Difference(table.name, row["partition"], row["sequence"], _what(row["expected"], row["found"]))


def _what(expected: str, found: str | None) -> str:
    if found is None:
        return "its row is not there"
    wanted, there = (json.loads(row, parse_float=str) for row in (expected, found))
    name = next(name for name in wanted if wanted[name] != there[name])
    return f"{name} is {there[name]} in the table, {wanted[name]} in the log"[:500]
