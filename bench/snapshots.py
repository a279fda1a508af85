"""How fast the snapshots are: written by themselves, and asked for balances at any time as the ledger grows."""

import asyncio
import itertools
import random
import statistics
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from events.follow import StoredEvent
from events.types import EntryPosted, EntryType
from projections.database import Database
from projections.migrate import upgrade
from projections.queries import ReadModel
from projections.snapshots.projection import Snapshots
from projections.snapshots.queries import Clock, History
from projections.store import Store

ACCOUNTS: Final = 1000
STRETCH: Final = 5000
SIZES: Final = (10_000, 100_000, 1_000_000)
QUESTIONS: Final = 1000
UNIT: Final = 10**18
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGUN: Final = 1_790_000_000_000_000
_STEP: Final = 3_000_000
"""Microseconds between two transactions of the handler: a million entries take a fortnight."""
_GROUP: Final = 5
"""Entries of one transaction, which have one time."""


def run(
    addresses: Mapping[str, str], sizes: Sequence[int] = SIZES, late: float = 0.1, hot: bool = True
) -> dict[str, Any]:
    """Measure on the PostgreSQL of `addresses` (postgres_url), without Kafka, and return what was found.

    A part of the entries is `late`: it counts from up to a year before. With `hot` half of all are one account's.
    """
    return asyncio.run(_Bench(addresses["postgres_url"], late, hot).run(sizes))


class _Bench:
    def __init__(self, url: str, late: float, hot: bool) -> None:
        self._database = Database(url=url, schema=f"bench{uuid.uuid4().hex[:8]}")
        self._late, self._hot = late, hot
        self._versions = [0] * ACCOUNTS
        self._chance = random.Random(7)
        self._events = self._made()

    def _made(self) -> Iterator[StoredEvent]:
        for n in itertools.count():
            i = 0 if self._hot and n % 2 else n * 7919 % ACCOUNTS
            self._versions[i] += 1
            version = self._versions[i]
            recorded = _BEGUN + n // _GROUP * _STEP
            is_late = self._chance.random() < self._late
            effective = recorded - self._chance.randrange(365 * 86_400 * 10**6) if is_late else None
            head = (n, 1, recorded, f"c-{n}", n, b"", f"account-{i:05d}", version)
            entry = EntryPosted(*head, EntryType.CREDIT, UNIT, "USD", version * UNIT, None, None, effective)
            yield StoredEvent(0, n, b"", entry)

    async def run(self, sizes: Sequence[int]) -> dict[str, Any]:
        await upgrade(self._database)
        store = Store(self._database, Snapshots())
        await store.open()
        try:
            await store.positions(1)
            found: dict[str, Any] = {"late": self._late, "hot": self._hot}
            done = 0
            for size in sizes:
                written = await self._fill(store, done, size)
                found[f"{size:,}"] = {"written_per_second": written, **await self._ask(size)}
                done = size
            return found
        finally:
            await store.close()
            connection = await self._database.connect()
            await connection.execute(f'DROP SCHEMA "{self._database.schema}" CASCADE')
            await connection.close()

    async def _fill(self, store: Store[Any], done: int, size: int) -> int:
        taken = 0.0
        for start in range(done, size, STRETCH):
            events = list(itertools.islice(self._events, STRETCH))
            begun = time.perf_counter()
            await store.write(events, {0: start})
            taken += time.perf_counter() - begun
        return round((size - done) / taken)

    async def _ask(self, size: int) -> dict[str, Any]:
        found = {}
        async with ReadModel(self._database) as model:
            history = History(model)
            for clock in Clock:
                found[f"balance_{clock}"] = await self._times(
                    size, lambda at, clock=clock: history.balance(self._account(), "USD", at, clock)
                )
                found[f"trial_balance_{clock}"] = await self._times(
                    size, lambda at, clock=clock: history.trial_balance(at, clock), QUESTIONS // 5
                )
            found["page_of_100"] = await self._times(size, history.snapshot, QUESTIONS // 10)
        return found

    def _account(self) -> str:
        return f"account-{0 if self._chance.random() < 0.5 else self._chance.randrange(ACCOUNTS):05d}"

    async def _times(self, size: int, ask: Any, questions: int = QUESTIONS) -> dict[str, float]:
        taken = []
        for _ in range(questions):
            at = _EPOCH + timedelta(microseconds=_BEGUN + self._chance.randrange(size // _GROUP * _STEP + 1))
            begun = time.perf_counter()
            await ask(at)
            taken.append((time.perf_counter() - begun) * 1000)
        cuts = statistics.quantiles(taken, n=100)
        return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}


def _main() -> None:
    import json  # noqa: PLC0415
    import sys  # noqa: PLC0415

    print(json.dumps(run(json.loads(sys.argv[1])), indent=2))


if __name__ == "__main__":
    _main()
