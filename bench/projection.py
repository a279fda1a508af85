"""How fast the balances projection is by itself: fills a topic with events, then measures it being projected."""

import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import asyncpg

from events.clients import KafkaClients
from events.codec import EventCodec, event_codec
from events.partitioner import partition_of
from events.registry import Registry
from events.topics import Topics, ensure_topics
from events.types import EntryPosted, EntryType, Event, PartitionOpened
from projections.balances import Balances
from projections.database import Database
from projections.migrate import upgrade
from projections.queries import ReadModel
from projections.service import Progress, run_projection
from projections.store import Projection

PARTITIONS: Final = 12
ACCOUNTS: Final = 1000
UNIT: Final = 10**18


def run(addresses: Mapping[str, str], events: int = 200_000, singles: int = 500) -> dict[str, Any]:
    """Measure on a stack and return `events_per_second` and, for `singles` events one by one, visibility in ms.

    `addresses` has kafka_bootstrap, schema_registry_url and postgres_url. Topics and schema are made for this run,
    and dropped after it.
    """
    return measure(addresses, Balances(), events, singles)


def measure(
    addresses: Mapping[str, str],
    projection: Projection[Any],
    events: int,
    singles: int,
    after: "Callable[[ProjectionBench], Awaitable[dict[str, Any]]] | None" = None,
) -> dict[str, Any]:
    """Measure any projection, and return the same as `run`, and besides what is measured `after` it."""
    return asyncio.run(ProjectionBench(addresses, projection).run(events, singles, after))


class _Log:
    """Makes the events of a handler that accepts everything."""

    def __init__(self) -> None:
        self._partitions = [partition_of(self.account(i), PARTITIONS) for i in range(ACCOUNTS)]
        self.sequences = dict.fromkeys(range(PARTITIONS), 0)
        self._versions = [0] * ACCOUNTS
        self._commands = itertools.count()

    @staticmethod
    def account(i: int) -> str:
        return f"account-{i:05d}"

    def next_sequence(self, partition: int) -> int:
        self.sequences[partition] += 1
        return self.sequences[partition] - 1

    def opened(self) -> Iterator[tuple[int, Event]]:
        now = time.time_ns() // 1000
        for p in range(PARTITIONS):
            yield p, PartitionOpened(self.next_sequence(p), 1, now, p, PARTITIONS)

    def entry(self) -> tuple[int, EntryPosted]:
        n = next(self._commands)
        i = n * 7919 % ACCOUNTS
        partition = self._partitions[i]
        self._versions[i] += 1
        version = self._versions[i]
        return partition, EntryPosted(
            sequence=self.next_sequence(partition),
            writer_epoch=1,
            recorded_at=time.time_ns() // 1000,
            command_id=str(uuid.UUID(int=n)),
            command_offset=n,
            payload_hash=b"\1" * 32,
            account_id=self.account(i),
            version=version,
            entry_type=EntryType.CREDIT,
            amount=UNIT + UNIT // 4,
            asset="USD",
            running_balance=version * (UNIT + UNIT // 4),
            reference=f"order-{n}",
            metadata='{"channel":"web","lines":3}' if n % 4 == 0 else None,
            effective_at=None,
        )


class ProjectionBench:
    """A ledger of its own, whose log is filled and projected."""

    def __init__(self, addresses: Mapping[str, str], projection: Projection[Any]) -> None:
        self._projection = projection
        self.name = f"bench{uuid.uuid4().hex[:8]}"
        self.clients = KafkaClients(bootstrap=addresses["kafka_bootstrap"])
        self.topics = Topics(prefix=self.name)
        registry = Registry(addresses["schema_registry_url"])
        self.codec: EventCodec = event_codec(registry.register(), registry.lookup)
        self.database = Database(url=addresses["postgres_url"], schema=self.name)
        self._log = _Log()

    async def run(
        self, events: int, singles: int, after: "Callable[[ProjectionBench], Awaitable[dict[str, Any]]] | None" = None
    ) -> dict[str, Any]:
        """Fill, measure, do what comes `after`, and drop it all."""
        ensure_topics(self.clients, self.topics, partitions=PARTITIONS, replication=1)
        await upgrade(self.database)
        try:
            self._fill(events)
            measured = {"events": events, **await self._measure(events, singles)}
            return measured | (await after(self) if after else {})
        finally:
            await self._drop()

    def _fill(self, events: int) -> None:
        producer = self.clients.producer(linger_ms=20, queue_buffering_max_messages=1_000_000)
        everything = itertools.chain(self._log.opened(), (self._log.entry() for _ in range(events)))
        for i, (partition, event) in enumerate(everything):
            producer.produce(self.topics.events, self.codec.encode(event), partition=partition)
            if i % 10_000 == 0:
                producer.flush(60)
        assert producer.flush(60) == 0

    async def _measure(self, events: int, singles: int) -> dict[str, Any]:
        stop, done = asyncio.Event(), asyncio.Event()
        first: list[float] = []

        def note(progress: Progress) -> None:
            first.append(time.perf_counter())
            if progress.events >= events + PARTITIONS:
                done.set()

        begun = time.perf_counter()
        cpu = time.process_time()
        service = asyncio.create_task(
            run_projection(
                self.clients,
                self.topics,
                self.codec,
                self.database,
                self._projection,
                ledger=self.name,
                stop=stop,
                on_progress=note,
            )
        )
        done_task = asyncio.create_task(done.wait())
        await asyncio.wait([service, done_task], timeout=300, return_when=asyncio.FIRST_COMPLETED)
        if service.done():
            service.result()  # it has failed: say why
        assert done.is_set(), "not all events were projected in time"
        seconds = time.perf_counter() - begun
        result = {
            "events_per_second": round(events / seconds),
            "seconds_with_start": round(seconds, 3),
            "events_per_second_after_start": round(events / (time.perf_counter() - first[0])),
            "processor_seconds": round(time.process_time() - cpu, 2),
        }
        latencies = await self._singles(singles)
        stop.set()
        await service
        done_task.cancel()
        return result | latencies

    async def _singles(self, singles: int) -> dict[str, float]:
        """Append events one by one, and measure until a reader sees each."""
        producer = self.clients.producer(linger_ms=0)
        taken: list[float] = []
        async with ReadModel(self.database, projection=self._projection.name) as reader:
            await reader.positions()
            for _ in range(singles):
                partition, event = self._log.entry()
                begun = time.perf_counter()
                producer.produce(self.topics.events, self.codec.encode(event), partition=partition)
                producer.poll(0)
                await reader.wait_for({partition: event.sequence}, 10)
                taken.append((time.perf_counter() - begun) * 1000)
        producer.flush(10)
        cuts = statistics.quantiles(taken, n=100)
        return {"visible_p50_ms": round(cuts[49], 2), "visible_p99_ms": round(cuts[98], 2)}

    async def _drop(self) -> None:
        connection: asyncpg.Connection = await self.database.connect()
        try:
            schemas = await connection.fetch(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE $1", f"{self.name}%"
            )
            for (schema,) in schemas:
                await connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
        finally:
            await connection.close()
        admin = self.clients.admin()
        for dropped in admin.delete_topics(list(self.topics.settings())).values():
            dropped.result(30)


def _main() -> None:
    import json  # noqa: PLC0415
    import sys  # noqa: PLC0415

    print(json.dumps(run(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    _main()
