"""The balances projection as a service: the log into the tables of entries, balances and rejections.

The next stretch of the log is fetched and decoded in a thread while this one is being written. Whatever goes wrong
with PostgreSQL, the way back is the same: forget what was fetched, read the positions again, go on from there.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

import asyncpg

from events.clients import KafkaClients
from events.codec import EventCodec
from events.errors import LedgerError
from events.follow import StoredEvent
from events.topics import Topics, check_partition_count
from projections.database import LOST, REFUSED, Database
from projections.errors import PartitionsHalted, PositionConflict, ReadModelUnavailable
from projections.feed import Feed, Fetched
from projections.rows import rows_of
from projections.store import PROJECTION, BalancesStore, Position

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH: Final = 5000
GIVE_UP_AFTER: Final = 300.0
MOST_CONFLICTS: Final = 6
"""So many conflicts without a write between them mean that another instance has all our partitions."""
_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 2.0
_QUIET: Final = 60.0
"""Seconds without trouble that end an outage even when there was nothing to write."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the service has done since it started; `halted` says by partition why it stopped there."""

    events: int
    halted: dict[int, str]


async def run_balances(
    clients: KafkaClients,
    topics: Topics,
    codec: EventCodec,
    database: Database,
    *,
    ledger: str,
    stop: asyncio.Event,
    instance: str | None = None,
    batch_size: int = BATCH,
    give_up_after: float = GIVE_UP_AFTER,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Project the events of `ledger` until `stop` is set, and return what was done.

    `instance` names this one among those that share the partitions, so that it is known when it comes back.
    The tables must be there (`projections.migrate.upgrade`). A PostgreSQL that goes away later is waited for,
    `give_up_after` seconds at most. A partition that can't go on is halted, the others go on.

    Raises:
        ReadModelUnavailable: PostgreSQL is not there at the start, or for too long.
        TopicMissing, PartitionCountMismatch, BrokerUnavailable: the topics are not what the ledger needs.
        PositionConflict: another instance, outside the group, writes the same partitions.
        PartitionsHalted: after `stop`, when a partition had been halted.
    """
    partition_count = await asyncio.to_thread(check_partition_count, clients, topics)
    store = BalancesStore(database)
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
            poll_interval=give_up_after + 60,
            instance=instance,
        )
        service = _Balances(feed, store, partition_count, Outage(give_up_after), on_progress or (lambda _: None))
        return await service.run(stop)
    finally:
        await store.close()


@dataclass(slots=True)
class Outage:
    """Counts the time since PostgreSQL or the registry was last of use, and says when it has been too long."""

    give_up_after: float
    _since: float = float("-inf")
    _last: float = float("-inf")
    _delay: float = _FIRST_DELAY

    def over(self) -> None:
        """Note that something was written."""
        self._last = float("-inf")

    async def wait(self, error: LedgerError, stop: asyncio.Event) -> None:
        """Wait before the next try, longer each time, not beyond `stop`; raises `error` when it has been too long."""
        now = time.monotonic()
        if now - self._last > _QUIET:  # another outage
            self._since, self._delay = now, _FIRST_DELAY
        self._last = now
        if now - self._since >= self.give_up_after:
            raise error
        log.warning("%s (%s); trying again", error.message, error.details.get("cause", ""))
        try:
            await asyncio.wait_for(stop.wait(), self._delay)
        except TimeoutError:
            self._delay = min(self._delay * 2, _LONGEST_DELAY)


@dataclass(slots=True)
class _Balances:
    feed: Feed
    store: BalancesStore
    partition_count: int
    outage: Outage
    on_progress: Callable[[Progress], None]
    at: dict[int, Position] = field(default_factory=dict)
    halted: dict[int, str] = field(default_factory=dict)
    events: int = 0
    conflicts: int = 0
    to_halt: set[int] = field(default_factory=set)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "balances"))

    async def run(self, stop: asyncio.Event) -> Progress:
        try:
            while not stop.is_set():
                await self._follow_until_trouble(stop)
        finally:
            await self._in_thread(self.feed.close)
            self.thread.shutdown(wait=False)
        if self.halted:
            raise PartitionsHalted(self.halted)
        return self._progress()

    async def _follow_until_trouble(self, stop: asyncio.Event) -> None:
        try:
            await self._follow(stop)
        except PositionConflict as conflict:
            self.conflicts += 1
            log.warning("%s", conflict.message)
            if self.conflicts >= MOST_CONFLICTS:
                raise
            await self._start_over()
        except LOST as error:
            await self._start_over()
            await self._reconnect(error, stop)
        except asyncpg.PostgresError as error:  # no trouble that passes, and no fault of an event's
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

    async def _start_over(self) -> None:
        await self._in_thread(self.feed.displace)

    async def _follow(self, stop: asyncio.Event) -> None:
        """Write what is fetched; with nothing else to see to, the next fetch runs beside the writing of this one."""
        fetched = await self._fetch()
        while not stop.is_set():
            if fetched.is_plain:
                coming = asyncio.create_task(self._fetch())
                try:
                    await self._write(fetched.events)
                finally:
                    fetched = await coming
            else:
                await self._write(fetched.events)
                await self._see_to(fetched, stop)
                fetched = await self._fetch()
            while self.to_halt:  # not from within the writing: a fetch may be waiting for its end
                await self._in_thread(self.feed.halt, self.to_halt.pop())

    async def _see_to(self, fetched: Fetched, stop: asyncio.Event) -> None:
        for partition, reason in fetched.halts.items():
            if partition not in self.halted:
                await self._halt(partition, reason)
        if fetched.trouble:
            await self.outage.wait(fetched.trouble, stop)
        if fetched.unplaced:
            positions = await self.store.positions(self.partition_count)
            self.at |= {partition: positions[partition] for partition in fetched.unplaced}
            for partition in fetched.unplaced:
                self.halted.pop(partition, None)
            await self._in_thread(self.feed.place, {p: positions[p] for p in fetched.unplaced})

    async def _write(self, events: Sequence[StoredEvent]) -> None:
        if not events:
            return
        self.feed.idle.clear()
        try:
            await self._write_what_can_be(events)
        finally:
            self.feed.idle.set()
        self.on_progress(self._progress())

    async def _write_what_can_be(self, events: Sequence[StoredEvent]) -> None:
        """Write `events`; if PostgreSQL refuses one, all before it of its partition, and halt that partition."""
        events = [stored for stored in events if stored.partition not in self.halted]
        if not events:
            return
        try:
            await self._write_together(events)
        except REFUSED as error:
            partitions = defaultdict(list)
            for stored in events:
                partitions[stored.partition].append(stored)
            if len(partitions) > 1:
                for part in partitions.values():
                    await self._write_what_can_be(part)
            elif len(events) > 1:
                await self._write_what_can_be(events[: len(events) // 2])
                await self._write_what_can_be(events[len(events) // 2 :])
            else:
                await self._halt_at(events[0], error)

    async def _write_together(self, events: Sequence[StoredEvent]) -> None:
        rows = rows_of(events)
        await self.store.write(rows, {a.partition: self.at[a.partition].next_offset for a in rows.advances})
        for advance in rows.advances:
            self.at[advance.partition] = Position(advance.next_offset, advance.next_sequence, advance.writer_epoch)
        self.feed.written({advance.partition: advance.next_offset for advance in rows.advances})
        self.events += len(events)
        self.conflicts = 0
        self.outage.over()

    async def _halt_at(self, stored: StoredEvent, error: Exception) -> None:
        where = f"partition {stored.partition}, offset {stored.offset}, sequence {stored.event.sequence}"
        await self._halt(stored.partition, f"{where}: PostgreSQL refuses it: {type(error).__name__}: {error}"[:2000])
        self.to_halt.add(stored.partition)

    async def _halt(self, partition: int, reason: str) -> None:
        self.halted[partition] = reason
        log.error("partition %d is halted: %s", partition, reason)
        await self.store.halt(partition, self.at[partition].next_offset, reason)
        self.on_progress(self._progress())

    async def _fetch(self) -> Fetched:
        return await self._in_thread(self.feed.fetch)

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, call, *args)

    def _progress(self) -> Progress:
        return Progress(self.events, dict(self.halted))
