"""Keeping what is expected and what was found, in PostgreSQL: each step in one transaction, checked as it is written.

Nothing here decides. What was read before a decision is compared again in the transaction that writes it, under a
lock of the chain's, so that a second process or a zombie writes nothing that is not so any more.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from events.checkpoint import read
from events.money import to_scaled, to_units
from events.reconciliation import CheckpointsAnchored
from events.types import EntryType
from reconciler import statements
from reconciler.database import Database
from reconciler.errors import ReconciliationConflict
from reconciler.findings import Row, gone, revised
from reconciler.matching import Finding, Kind
from reconciler.transfers import Expectation

MOST_MARKS: Final = 1_000
ADDRESSES_AT_ONCE: Final = 10_000
ENTRIES_AT_ONCE: Final = 20_000
_COMMAND_TIMEOUT: Final = 60.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = Row._fields
_OPEN: Final = frozenset({Kind.MISSING_ON_CHAIN, Kind.NOT_YET_FINAL, Kind.REORGANISED})
"""What is found of an entry as long as its transaction may still come."""
_EXPECTATION: Final = (
    "entry_id", "account_id", "entry_type", "amount", "asset", "chain", "tx_hash", "token", "sender", "recipient",
    "log_index", "problem", "recorded_at",
)  # fmt: skip


class Cursor(NamedTuple):
    """A block up to which everything has been compared."""

    number: int
    hash: str


class Offset(NamedTuple):
    """From where a partition of a topic is to be read."""

    next_offset: int
    next_sequence: int
    writer_epoch: int


class Attempt(NamedTuple):
    """A transaction of an anchor: the sender's number that it uses, its hash, and what it offers (wei a gas)."""

    nonce: int
    tx_hash: str
    fee: int
    tip: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What was compared: all that is in these transactions, and in these blocks (first and last) if given.

    `expected` is how many entries named the transactions, for one may have come meanwhile.
    """

    names: Sequence[str]
    tx_hashes: Sequence[str]
    expected: int
    blocks: tuple[int, int] | None = None


class ChainStore:
    """One connection to the tables, made when it is first needed and again after it was lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = f'"{database.schema}"'
        self._connection: Any = None

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    @asynccontextmanager
    async def _pg(self) -> AsyncIterator[Any]:
        """Yield the connection; whatever PostgreSQL says that is no answer is told as it is elsewhere."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._database.connect(command_timeout=_COMMAND_TIMEOUT)
            yield self._connection
        except asyncpg.UniqueViolationError as error:
            raise ReconciliationConflict(f"another process wrote the same: {error.detail}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            await self.close()
            raise self._database.unavailable(error) from error

    async def _fetch(self, statement: str, *arguments: Any) -> Sequence[Mapping[str, Any]]:
        async with self._pg() as pg:
            found: Sequence[Mapping[str, Any]] = await pg.fetch(self._sql(statement), *arguments)
            return found

    def _sql(self, statement: str) -> str:
        return statement.format(schema=self._schema)

    async def expected(self, names: Sequence[str], tx_hashes: Collection[str]) -> list[Expectation]:
        """Return the entries that name one of these transactions, of the chain with these names."""
        found = await self._fetch(statements.EXPECTED, names, list(tx_hashes))
        return [_expectation(row) for row in found]

    async def take_up(self, names: Sequence[str], chain_id: int) -> int:
        """Have entries that are new, of the chain with these names, among those that are open.

        They are as many as come at once; returns how many entries that were, 0: none are left.
        """
        async with self._pg() as pg, pg.transaction():
            await self._lock(pg, chain_id)
            sql = self._sql(statements.TAKE_UP)
            return int(await pg.fetchval(sql, chain_id, names, sorted(_OPEN), ENTRIES_AT_ONCE))

    async def pending(
        self, names: Sequence[str], chain_id: int, after: str, limit: int, *, settled: bool
    ) -> list[Expectation]:
        """Return entries of which it is not known for good what became of their transaction, in the order of ids.

        With `settled` also those that are missing of which people have said that they may be so.
        """
        found = await self._fetch(statements.PENDING, chain_id, after, names, settled, limit)
        return [_expectation(row) for row in found]

    async def ours(self, names: Sequence[str], after: int) -> tuple[frozenset[str], int]:
        """Return addresses that entries name as ours: where credits went to, and where debits came from.

        They are of entries with a number above `after`, as many as come at once; the number to go on from is returned
        with them, which is `after` when there are no more.
        """
        found = await self._fetch(statements.OURS, names, after, ADDRESSES_AT_ONCE)
        named = frozenset(row["address"] for row in found if row["address"] is not None)
        return named, max((row["up_to"] for row in found), default=after)

    async def in_blocks(self, chain_id: int, first: int, last: int) -> list[Row]:
        """Return what holds of the transactions in these blocks."""
        return [_row(found) for found in await self._fetch(statements.IN_BLOCKS, chain_id, first, last)]

    async def places(self, chain_id: int, tx_hashes: Collection[str]) -> dict[str, Cursor]:
        """Return the blocks in which these transactions were found to be, of those that were found."""
        found = await self._fetch(statements.OF_TRANSACTIONS, chain_id, list(tx_hashes))
        placed = (row for row in found if row["block_hash"] is not None)
        return {row["tx_hash"]: Cursor(row["block_number"], row["block_hash"]) for row in placed}

    async def lacking(self, chain_id: int, recipients: Collection[str], limit: int) -> list[Row]:
        """Return transfers to these addresses that no entry names and that nobody has seen to, the oldest first."""
        found = await self._fetch(statements.LACKING, chain_id, list(recipients), limit)
        return [_row(row) for row in found]

    async def states(self, discrepancy_ids: Collection[str]) -> dict[str, str]:
        """Return what was last said of discrepancies: explained, ignored, resolved or reopened."""
        found = await self._fetch(statements.STATES, list(discrepancy_ids))
        return {row["discrepancy_id"]: row["action"] for row in found}

    async def discrepancies(
        self, chain_id: int, *, settled: bool = False, only: str | None = None, limit: int = 1000
    ) -> list[Mapping[str, Any]]:
        """Return discrepancies that hold now, the oldest first; with `settled` also those that were seen to."""
        return list(await self._fetch(statements.DISCREPANCIES, chain_id, settled, only, limit))

    async def cursor(self, chain_id: int) -> Cursor | None:
        """Return how far the chain has been compared; None: not begun."""
        for row in await self._fetch(statements.CURSOR, chain_id):
            return Cursor(row["block_number"], row["block_hash"])
        return None

    async def marks(self, chain_id: int) -> list[Cursor]:
        """Return where the cursor has been, the newest first."""
        found = await self._fetch(statements.MARKS, chain_id)
        return [Cursor(row["block_number"], row["block_hash"]) for row in found]

    async def begin(self, chain_id: int, at: Cursor) -> None:
        """Set the cursor if there is none."""
        async with self._pg() as pg, pg.transaction():
            await pg.execute(self._sql(statements.BEGIN_CURSOR), chain_id, *at)
            await pg.execute(self._sql(statements.MARK), chain_id, *at)

    async def write(
        self,
        chain_id: int,
        scope: Scope,
        found: Sequence[Finding],
        *,
        move: tuple[Cursor, Cursor] | None = None,
    ) -> list[Row]:
        """Add what is new of `found`, all that there is in `scope`, and move the cursor (from, to); all or nothing.

        Returns what holds in the scope afterwards.

        Raises:
            ReconciliationConflict: an entry has come, or the cursor is elsewhere; nothing was written.
        """
        async with self._pg() as pg, pg.transaction():
            await self._lock(pg, chain_id)
            count = await pg.fetchval(self._sql(statements.COUNT_EXPECTED), scope.names, scope.tx_hashes)
            if count != scope.expected:
                raise ReconciliationConflict("an entry that names one of the transactions has come meanwhile")
            current = await self._current(pg, chain_id, scope)
            new = revised(current, found, chain_id)
            rows = [*(current | {row.finding_id: row for row in new}).values()]
            await self._add(pg, new)
            await self._open_or_shut(pg, chain_id, rows)
            if move is not None:
                await self._move(pg, chain_id, *move)
        return rows

    async def _lock(self, pg: Any, of: int | str) -> None:
        await pg.execute(statements.LOCK, f"partita.chain.{self._schema}.{of}")

    async def _current(self, pg: Any, chain_id: int, scope: Scope) -> dict[str, Row]:
        found = await pg.fetch(self._sql(statements.OF_TRANSACTIONS), chain_id, scope.tx_hashes)
        if scope.blocks is not None:
            found += await pg.fetch(self._sql(statements.IN_BLOCKS), chain_id, *scope.blocks)
        return {row["finding_id"]: _row(row) for row in found}

    async def _add(self, pg: Any, rows: Sequence[Row]) -> None:
        if rows:
            await pg.copy_records_to_table(
                "findings", schema_name=self._database.schema, columns=_COLUMNS, records=rows
            )

    async def _open_or_shut(self, pg: Any, chain_id: int, rows: Sequence[Row]) -> None:
        """Have the entries of these rows, which hold now, among those that are open, or not."""
        open_rows = {row.entry_id: row for row in rows if row.entry_id and row.kind in _OPEN}
        shut = [row.entry_id for row in rows if row.entry_id and row.kind not in _OPEN]
        missing = [row.discrepancy_id if row.kind == Kind.MISSING_ON_CHAIN else None for row in open_rows.values()]
        if shut:
            await pg.execute(self._sql(statements.SHUT), chain_id, shut)
        if open_rows:
            await pg.execute(self._sql(statements.OPEN), chain_id, [*open_rows], missing)

    async def _move(self, pg: Any, chain_id: int, before: Cursor, after: Cursor) -> None:
        status = await pg.execute(self._sql(statements.MOVE_CURSOR), chain_id, *after, *before)
        if not status.endswith(" 1"):
            raise ReconciliationConflict(
                f"the cursor of chain {chain_id} is not at block {before.number} any more: another process moves it",
                chain_id=chain_id,
            )
        await pg.execute(self._sql(statements.MARK), chain_id, *after)
        await pg.execute(self._sql(statements.FORGET_MARKS), chain_id, MOST_MARKS)

    async def rewind(self, chain_id: int, before: Cursor, to: Cursor) -> list[Row]:
        """Go back to a block that is still there: what was found in later ones does not hold; return what it is now.

        Raises:
            ReconciliationConflict: the cursor is not at `before` any more; nothing was written.
        """
        async with self._pg() as pg, pg.transaction():
            await self._lock(pg, chain_id)
            found = await pg.fetch(self._sql(statements.IN_BLOCKS), chain_id, to.number + 1, 2**62)
            rows = [
                row._replace(version=before_row.version + 1)
                for before_row in map(_row, found)
                if (row := gone(before_row)).facts != before_row.facts
            ]
            await self._add(pg, rows)
            await self._open_or_shut(pg, chain_id, rows)
            await pg.execute(self._sql(statements.UNMARK), chain_id, to.number)
            await self._move(pg, chain_id, before, to)
        return rows

    async def offsets(self, topic: str, partitions: int) -> dict[int, Offset]:
        """Return from where each partition of a topic is to be read."""
        async with self._pg() as pg:
            await pg.execute(self._sql(statements.OPEN_OFFSET), topic, partitions)
            found = await pg.fetch(self._sql(statements.OFFSETS), topic)
        return {
            row["partition"]: Offset(row["next_offset"], row["next_sequence"], row["writer_epoch"]) for row in found
        }

    async def expect(
        self, topic: str, expectations: Sequence[Expectation], moves: Mapping[int, tuple[int, Offset]]
    ) -> None:
        """Add expectations, and move offsets (by partition, from and to); all or nothing.

        Raises:
            ReconciliationConflict: another process has read the same; nothing was written.
        """
        async with self._pg() as pg, pg.transaction():
            await self._advance(pg, topic, moves)
            if expectations:
                await self._lock(pg, "expectations")  # so that their numbers are in the order in which they are there
                await pg.copy_records_to_table(
                    "expectations",
                    schema_name=self._database.schema,
                    columns=_EXPECTATION,
                    records=[_record(expectation) for expectation in expectations],
                )

    async def fold(
        self,
        topic: str,
        said: Sequence[tuple[Any, ...]],
        anchored: Sequence[tuple[CheckpointsAnchored, int]],
        moves: Mapping[int, tuple[int, Offset]],
    ) -> None:
        """Add what was said of discrepancies and what was anchored, and move offsets, as `expect`."""
        async with self._pg() as pg, pg.transaction():
            await self._advance(pg, topic, moves)
            await pg.executemany(
                self._sql(statements.RESOLVE), [(*row[:6], timestamp(row[6]), row[7]) for row in said]
            )
            for event, position in anchored:
                fields = (event.block_number, event.block_hash, event.transaction_hash, event.sender)
                await pg.execute(
                    self._sql(statements.ANCHORED),
                    event.event_id,
                    event.chain_id,
                    event.root.hex(),
                    *fields,
                    list(event.notes),
                    timestamp(event.recorded_at),
                    position,
                )
                heads = [(event.event_id, leaf, *read(note)[:2]) for leaf, note in enumerate(event.notes)]
                await pg.executemany(self._sql(statements.ANCHORED_HEAD), heads)

    async def is_there(self) -> bool:
        """Return whether its tables were ever made: whether anything was compared with a chain, or anchored there."""
        (row,) = await self._fetch(statements.IS_THERE)
        return bool(row["is_there"])

    async def oldest_anchor(self, origin: str, index: int) -> tuple[Mapping[str, Any], int] | None:
        """Return the first anchor of a tree that has the leaf `index`, and which of its checkpoints is the tree's."""
        for row in await self._fetch(statements.OLDEST_ANCHOR, origin, index):
            return row, row["leaf"]
        return None

    async def anchor(self, anchor_id: str) -> Mapping[str, Any]:
        """Return an anchor that is recorded."""
        (row,) = await self._fetch(statements.ANCHOR, anchor_id)
        return row

    async def last_anchor(self, chain_id: int) -> str | None:
        """Return the root that was anchored last, in hexadecimal."""
        for row in await self._fetch(statements.LAST_ANCHOR, chain_id):
            return str(row["root"])
        return None

    async def open_anchor(self, chain_id: int, sender: str) -> Mapping[str, Any] | None:
        """Return the anchor of this sender that is on its way."""
        for row in await self._fetch(statements.OPEN_ANCHOR, chain_id, sender):
            return row
        return None

    async def keep_attempt(self, chain_id: int, sender: str, root: str, notes: Sequence[str], sent: Attempt) -> None:
        """Write down a transaction that is about to be sent, before it is: what was sent can then be found again."""
        async with self._pg() as pg:
            await pg.execute(self._sql(statements.ATTEMPT), chain_id, sender, root, list(notes), *sent)

    async def end_anchor(self, chain_id: int, sender: str) -> None:
        """Forget the anchor that was on its way: it is recorded."""
        async with self._pg() as pg:
            await pg.execute(self._sql(statements.END_ANCHOR), chain_id, sender)

    async def _advance(self, pg: Any, topic: str, moves: Mapping[int, tuple[int, Offset]]) -> None:
        for partition, (before, after) in sorted(moves.items()):
            status = await pg.execute(self._sql(statements.MOVE_OFFSET), topic, partition, before, *after)
            if not status.endswith(" 1"):
                raise ReconciliationConflict(
                    f"partition {partition} of {topic} has been read by another process", partition=partition
                )


def timestamp(micros: int) -> datetime:
    """Return microseconds since 1970 as a time, exactly."""
    return _EPOCH + timedelta(microseconds=micros)


def _record(expectation: Expectation) -> tuple[Any, ...]:
    fields = {name: getattr(expectation, name) for name in _EXPECTATION}
    fields["amount"] = to_scaled(expectation.amount)
    fields["recorded_at"] = timestamp(expectation.recorded_at)
    return tuple(value.replace("\0", "\\0") if isinstance(value, str) else value for value in fields.values())


def _expectation(row: Mapping[str, Any]) -> Expectation:
    fields = {name: row[name] for name in _EXPECTATION}
    fields["amount"] = to_units(fields["amount"])
    fields["entry_type"] = EntryType(fields["entry_type"])
    return Expectation(**fields)


def _row(found: Mapping[str, Any]) -> Row:
    value = found["value"]
    return Row(*(found[name] for name in _COLUMNS))._replace(value=None if value is None else int(value))
