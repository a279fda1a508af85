"""Questions to the read model: balances, entries, accounts, holds, batches, and waiting until it has got to an event.

They run on a small pool of connections. Any number of calls may wait at once: they queue for the pool, each for a
bounded time.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
from sqlalchemy import Select

from projections.balances import BALANCES
from projections.cursors import VERSION, Cursor, Kinds, Place, Question
from projections.database import LOST, Database
from projections.errors import AccountNotInReadModel, BatchNotInReadModel, EntryNotFound, HoldNotInReadModel
from projections.records import (
    AccountRow,
    BalanceRow,
    BatchRow,
    EntryRow,
    HoldPage,
    HoldRow,
    HoldStatus,
    Page,
    PositionRow,
)
from projections.selects import SELECTS, Compiled, compiled
from projections.waiting import Waiting

MOST_ROWS: Final = 1000
"""Most entries or holds of one page."""
_FIRST_RETRY: Final = 0.05
_RETRY_FOR: Final = 3.0
"""Seconds within which a lost connection is made again, without the caller's noticing."""

_NEWEST: Final = 2**63 - 1


class ReadModel:
    """A ledger's read model. Close it, or use it as an async context manager.

    `projection` is the one whose positions are read and waited for: that of the tables, unless it is another.
    Every call raises `ReadModelUnavailable` when PostgreSQL has not answered within `timeout` seconds.
    """

    def __init__(
        self, database: Database, *, connections: int = 4, timeout: float = 10.0, projection: str = BALANCES
    ) -> None:
        self._database = database
        self._projection = projection
        self._connections = connections
        self._timeout = timeout
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._queries = {name: compiled(query, database.schema) for name, query in SELECTS.items()}
        self._waiting: dict[str, Waiting] = {}

    @property
    def schema(self) -> str:
        """The name of the schema that the tables are in."""
        return self._database.schema

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections; calls that still wait end with `ReadModelUnavailable`."""
        for waiting in self._waiting.values():
            await waiting.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 3)
            except LOST:
                pool.terminate()

    async def balance(
        self,
        account_id: str,
        asset: str,
        *,
        at_least: Mapping[int, int] | None = None,
        timeout: float = 10.0,  # it bounds a wait that many calls share
    ) -> BalanceRow:
        """Return the balance of an account in `asset`; balance and version are 0 when it has no entry of it.

        `at_least` (partition to sequence) is what the answer must have seen: see `wait_for`.

        Raises:
            ReadModelBehind: it has not been seen within `timeout` seconds.
        """
        if at_least:
            await self.wait_for(at_least, timeout)
        rows = await self._rows("balance", account_id=account_id, asset=asset)
        return BalanceRow.of(rows[0]) if rows else BalanceRow.none(account_id, asset)

    async def account(
        self,
        account_id: str,
        *,
        at_least: Mapping[int, int] | None = None,
        timeout: float = 10.0,  # as in balance
    ) -> AccountRow:
        """Return an account with its balances, all as they were at one moment; `at_least` as in `balance`.

        Raises:
            AccountNotInReadModel: nothing has opened it yet.
            ReadModelBehind: `at_least` has not been seen within `timeout` seconds.
        """
        if at_least:
            await self.wait_for(at_least, timeout)
        rows = await self._rows("account", account_id=account_id)
        if not rows:
            raise AccountNotInReadModel(account_id)
        return AccountRow.of(rows)

    async def holds(
        self,
        account_id: str,
        *,
        status: HoldStatus | None = HoldStatus.PLACED,
        after: str | None = None,
        limit: int = 100,
        at_least: Mapping[int, int] | None = None,
        timeout: float = 10.0,  # as in balance
    ) -> HoldPage:
        """Return up to `limit` (1 to 1,000) holds of an account, oldest first: those that are open, unless told.

        With `status` None they are of every status. `after` is the `next_cursor` of the page before; it goes with the
        same account and status only. Holds that are placed or end meanwhile neither shift nor repeat what comes.

        Raises:
            InvalidCursor: `after` is none of ours, or another question's.
            ReadModelBehind: `at_least` has not been seen within `timeout` seconds.
            ValueError: `limit` is out of range.
        """
        question = ("holds", account_id, status)
        (version,) = start(question, after, limit) or (0,)
        if at_least:
            await self.wait_for(at_least, timeout)
        match status:
            case None:
                name = "holds"
            case HoldStatus.PLACED:
                name = "holds open"
            case _:
                name = "holds of status"
        rows = await self._rows(name, account_id=account_id, status=status, version=version, limit=limit + 1)
        found = tuple(HoldRow.of(row) for row in rows[:limit])
        if len(rows) <= limit:
            return HoldPage(found, None)
        return HoldPage(found, Cursor(question, (found[-1].placed_version,)).encode())

    async def hold(self, account_id: str, hold_id: str) -> HoldRow:
        """Return one hold of an account; raises `HoldNotInReadModel`."""
        rows = await self._rows("hold", account_id=account_id, hold_id=hold_id)
        if not rows:
            raise HoldNotInReadModel(account_id, hold_id)
        return HoldRow.of(rows[0])

    async def entry(self, entry_id: str) -> EntryRow:
        """Return the entry with this id; raises `EntryNotFound`."""
        rows = await self._rows("entry", entry_id=entry_id)
        if not rows:
            raise EntryNotFound(entry_id)
        return EntryRow.of(rows[0])

    async def entries(
        self,
        account_id: str,
        *,
        asset: str | None = None,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Page:
        """Return up to `limit` (1 to 1,000) entries of an account, in the order of its versions.

        `after` is the `next_cursor` of the page before; it goes with the same account, asset and order only.
        Entries that are posted meanwhile neither shift nor repeat what comes.

        Raises:
            InvalidCursor: `after` is none of ours, or another question's.
            ValueError: `limit` is out of range.
        """
        question = ("entries", account_id, asset, newest_first)
        (version,) = start(question, after, limit) or (_NEWEST if newest_first else 0,)
        name = f"entries {'down' if newest_first else 'up'}{' of asset' if asset is not None else ''}"
        rows = await self._rows(name, account_id=account_id, asset=asset, version=version, limit=limit + 1)
        found = tuple(EntryRow.of(row) for row in rows[:limit])
        if len(rows) <= limit:
            return Page(found, None)
        return Page(found, Cursor(question, (found[-1].version,)).encode())

    async def batch(
        self,
        batch_id: str,
        *,
        at_least: Mapping[int, int] | None = None,
        timeout: float = 10.0,  # as in balance
    ) -> BatchRow:
        """Return a batch with its entries, all as they were at one moment; `at_least` as in `balance`.

        Raises:
            BatchNotInReadModel: nothing is known of it yet.
            ReadModelBehind: `at_least` has not been seen within `timeout` seconds.
        """
        if at_least:
            await self.wait_for(at_least, timeout)
        rows = await self._rows("batch", batch_id=batch_id)
        if not rows:
            raise BatchNotInReadModel(batch_id)
        return BatchRow.of(rows)

    async def positions(self, projection: str | None = None) -> dict[int, PositionRow]:
        """Return how far a projection has got, by partition; empty before its first start. None: the model's own."""
        rows = await self._rows("positions", projection=projection or self._projection)
        return {row["partition"]: PositionRow(*row) for row in rows}

    async def wait_for(
        self,
        wanted: Mapping[int, int],
        timeout: float,  # as in balance
        projection: str | None = None,
    ) -> None:
        """Return when a projection has seen the event at each sequence of `wanted` (partition to sequence).

        Raises:
            ReadModelBehind: not within `timeout` seconds, or at once if a partition has halted before it.
        """
        of = projection or self._projection
        if of not in self._waiting:
            self._waiting[of] = Waiting(lambda: self.positions(of))
        await self._waiting[of].wait_for(wanted, timeout)

    async def _rows(self, query: str, **values: object) -> Sequence[asyncpg.Record]:
        return await self.fetch(self._queries[query], values)

    async def select(self, query: Select[Any], **values: object) -> Sequence[asyncpg.Record]:
        """Return the rows of a query that is made for the occasion; `projections.search` has those."""
        return await self.fetch(compiled(query, self._database.schema), values)

    async def fetch(self, query: Compiled, values: Mapping[str, object]) -> Sequence[asyncpg.Record]:
        """Run a query, for a while again and again if the connection is lost. What can't be stored finds nothing."""
        statement, names = query
        arguments = [values[name] for name in names]
        if not all(_can_be_stored(argument) for argument in arguments):
            return []
        begun = time.monotonic()
        delay = _FIRST_RETRY
        while True:
            try:
                return await self._once(statement, arguments, begun + self._timeout - time.monotonic())
            except LOST as error:
                self._forget()  # a PostgreSQL that crashed may come back with less than it had
                if time.monotonic() + delay - begun >= min(_RETRY_FOR, self._timeout):
                    raise self._database.unavailable(error) from error
            except asyncpg.PostgresError as error:
                raise self._database.unavailable(error) from error
            except ValueError as error:  # the address can't be read, and the text may hold the password
                raise self._database.unavailable(error) from None
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)

    def _forget(self) -> None:
        for waiting in self._waiting.values():
            waiting.forget()

    async def _once(self, statement: str, arguments: list[object], remaining: float) -> Sequence[asyncpg.Record]:
        async with asyncio.timeout(max(remaining, 0.01)):
            pool = self._pool or await self._open()
            async with pool.acquire() as connection:
                rows: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
                return rows

    async def _open(self) -> asyncpg.Pool:
        """Make the pool, once; it connects when it is first used."""
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._database.url,
                    min_size=0,
                    max_size=self._connections,
                    timeout=self._database.connect_timeout,
                    command_timeout=self._timeout,
                )
            return self._pool


def start(question: Question, after: str | None, limit: int, kinds: Kinds = VERSION) -> Place | None:
    """Return the place after which a page of up to `limit` begins; None for the first page.

    Raises:
        InvalidCursor: `after` is none of ours, or another question's.
        ValueError: `limit` is out of range.
    """
    if not 1 <= limit <= MOST_ROWS:
        raise ValueError(f"limit is {limit}, not 1 to {MOST_ROWS}")
    return None if after is None else Cursor.decode(after).expect(question, kinds)


def _can_be_stored(value: object) -> bool:
    """Whether PostgreSQL can hold `value`; what it can't, no row has."""
    if not isinstance(value, str):
        return True
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
