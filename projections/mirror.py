"""The mirror as a service: the log into immudb, every event once, each transaction verified.

An event is in immudb before the mirror's position, which is in PostgreSQL, is behind it. So what a crash cuts short
is done again, and is found to be there. An event that immudb has otherwise halts its partition; proofs that do not
hold end the service. One instance reads all partitions, and others wait in reserve.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import asyncpg

from events.clients import KafkaClients
from events.codec import EventCodec
from events.follow import StoredEvent
from events.topics import Topics, check_partition_count
from projections.balances import GIVE_UP_AFTER, MOST_CONFLICTS, RESERVE_WAIT, Progress
from projections.database import LOST, Database
from projections.errors import PartitionsHalted, PositionConflict, ReadModelUnavailable
from projections.feed import Feed, Fetched
from projections.immudb.errors import ImmudbConflict, ImmudbUnavailable, TrustedStateBusy
from projections.immudb.mirror import Mirror
from projections.immudb.shown import MOST_ENTRIES
from projections.immudb.verified import VerifiedDatabase
from projections.outage import Outage
from projections.rows import Advance
from projections.store import BalancesStore, Position
from projections.times import clipped, timestamp

log = logging.getLogger(__name__)

T = TypeVar("T")

PROJECTION: Final = "mirror"
BATCH: Final = 4 * MOST_ENTRIES


async def run_mirror(
    clients: KafkaClients,
    topics: Topics,
    codec: EventCodec,
    database: Database,
    immudb: VerifiedDatabase,
    *,
    ledger: str,
    stop: asyncio.Event,
    instance: str | None = None,
    batch_size: int = BATCH,
    give_up_after: float = GIVE_UP_AFTER,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Mirror the events of `ledger` until `stop` is set, and return what was done.

    The read model's tables must be there. A PostgreSQL or an immudb that goes away later is waited for,
    `give_up_after` seconds at most.

    Raises:
        ReadModelUnavailable: PostgreSQL is not there at the start, or for too long.
        ImmudbUnavailable, TrustedStateBusy: immudb is not there, or its trusted state is held, for too long.
        ImmudbTampered, ImmudbRefused, TrustedStateInvalid: immudb is not to be trusted, or says no.
        TopicMissing, PartitionCountMismatch, BrokerUnavailable: the topics are not what the ledger needs.
        PositionConflict: something else moves the positions again and again.
        PartitionsHalted: after `stop`, when a partition had been halted.
    """
    partition_count = await asyncio.to_thread(check_partition_count, clients, topics)
    store = BalancesStore(database, name=instance, projection=PROJECTION)
    await store.open()
    try:
        await store.positions(partition_count)
        feed = Feed(
            clients,
            topics.events,
            codec,
            group=f"{ledger}.{PROJECTION}",
            partition_count=partition_count,
            batch_size=batch_size,
        )
        outage = Outage(give_up_after)
        mirror = Mirror(immudb, topics.events)
        service = _Mirroring(feed, mirror, store, partition_count, outage, on_progress or (lambda _: None))
        return await service.run(stop)
    finally:
        await store.close()


@dataclass(slots=True)
class _Mirroring:
    feed: Feed
    mirror: Mirror
    store: BalancesStore
    partition_count: int
    outage: Outage
    on_progress: Callable[[Progress], None]
    at: dict[int, Position] = field(default_factory=dict)
    halted: dict[int, str] = field(default_factory=dict)
    events: int = 0
    conflicts: int = 0
    reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "mirror-feed"))
    writing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "mirror-immudb"))

    async def run(self, stop: asyncio.Event) -> Progress:
        try:
            while not stop.is_set():
                await self._follow_until_trouble(stop)
        finally:
            await self._in(self.reading, self.feed.close)
            self.reading.shutdown(wait=False)
            self.writing.shutdown(wait=False)
        if self.halted:
            raise PartitionsHalted(self.halted)
        return self._progress()

    async def _follow_until_trouble(self, stop: asyncio.Event) -> None:
        try:
            if await self._take_over(stop):
                await self._follow(stop)
        except PositionConflict as conflict:
            self.conflicts += 1
            log.warning("%s", conflict.message)
            if self.conflicts >= MOST_CONFLICTS:
                raise
        except LOST as error:
            await self._reconnect(error, stop)
        except asyncpg.PostgresError as error:
            raise self.store.database.unavailable(error) from error

    async def _reconnect(self, error: BaseException, stop: asyncio.Event) -> None:
        trouble = error if isinstance(error, ReadModelUnavailable) else self.store.database.unavailable(error)
        while not stop.is_set():
            await self.outage.wait(trouble, stop)
            try:
                await self.store.open()
            except ReadModelUnavailable as still:
                trouble = still
            else:
                return

    async def _take_over(self, stop: asyncio.Event) -> bool:
        """Wait until the mirror is ours, and begin where it is; return whether it is before `stop`."""
        in_reserve = False
        while not await self.store.take_over():
            if not in_reserve:
                log.info("another instance has the mirror; this one waits in reserve")
            in_reserve = True
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RESERVE_WAIT)
            if stop.is_set():
                return False
        self.at = await self.store.positions(self.partition_count)
        self.halted.clear()
        await self._in(self.reading, self.feed.place, self.at.copy())
        return True

    async def _follow(self, stop: asyncio.Event) -> None:
        """Mirror what is fetched; the next stretch is fetched beside the writing of this one."""
        fetched = await self._fetch()
        while not stop.is_set():
            coming = asyncio.create_task(self._fetch())
            try:
                await self._take(fetched, stop)
            finally:
                fetched = await coming

    async def _fetch(self) -> Fetched:
        return await self._in(self.reading, self.feed.fetch)

    async def _take(self, fetched: Fetched, stop: asyncio.Event) -> None:
        events = [stored for stored in fetched.events if stored.partition not in self.halted]
        halts = {partition: why for partition, why in fetched.halts.items() if partition not in self.halted}
        kept, refused = await self._keep(events, stop)
        await self._move(kept)
        for partition, why in {**halts, **refused}.items():
            await self._halt(partition, why)
        if fetched.trouble:
            await self.outage.wait(fetched.trouble, stop)

    async def _keep(
        self, events: Sequence[StoredEvent], stop: asyncio.Event
    ) -> tuple[Sequence[StoredEvent], dict[int, str]]:
        """Put events into immudb; return those that are there, and for partitions with one that can't be, why.

        Of such a partition nothing from that event on is kept. After `stop`, nothing may be there.
        """
        refused: dict[int, str] = {}
        while events:
            try:
                await self._in(self.writing, self.mirror.keep, events)
            except ImmudbConflict as conflict:
                bad = self._by_key(events, conflict.details["key"])
                refused[bad.partition] = f"offset {bad.offset}, sequence {bad.event.sequence}: {conflict.message}"
                events = [e for e in events if e.partition != bad.partition or e.offset < bad.offset]
            except (ImmudbUnavailable, TrustedStateBusy) as trouble:
                await self.outage.wait(trouble, stop)
                if stop.is_set():
                    return [], {}
            else:
                break
        return events, refused

    def _by_key(self, events: Sequence[StoredEvent], key: str) -> StoredEvent:
        return next(stored for stored in events if self.mirror.key(stored) == key.encode())

    async def _move(self, events: Sequence[StoredEvent]) -> None:
        if not events:
            return
        advances = [_advance(stored) for stored in {stored.partition: stored for stored in events}.values()]
        expected = {advance.partition: self.at[advance.partition].next_offset for advance in advances}
        await self.store.move(advances, expected)
        for advance in advances:
            self.at[advance.partition] = Position(advance.next_offset, advance.next_sequence, advance.writer_epoch)
        self.feed.written({advance.partition: advance.next_offset for advance in advances})
        self.events += len(events)
        self.conflicts = 0
        self.outage.over()
        self.on_progress(self._progress())

    async def _halt(self, partition: int, reason: str) -> None:
        log.error("partition %d is halted: %s", partition, reason)
        await self.store.halt(partition, self.at[partition].next_offset, reason)
        self.halted[partition] = reason
        await self._in(self.reading, self.feed.halt, partition)
        self.on_progress(self._progress())

    def _progress(self) -> Progress:
        return Progress(self.events, dict(self.halted))

    async def _in(self, thread: ThreadPoolExecutor, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, call, *arguments)


def _advance(stored: StoredEvent) -> Advance:
    """Return how far a partition is read behind an event; whatever time that tells, it is mirrored."""
    event = stored.event
    recorded_at = timestamp(clipped(event.recorded_at))
    return Advance(stored.partition, stored.offset + 1, event.sequence + 1, event.writer_epoch, recorded_at)
