"""A projection as a service: the log into its tables.

One instance has the projection and reads all partitions, so that it can show batches whole; others wait in reserve.
The next stretch of the log is fetched and decoded in a thread while this one is being written. Whatever goes wrong
with PostgreSQL, the way back is the same: forget what was fetched, read the positions again, go on from there.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import asyncpg

from events.clients import KafkaClients
from events.codec import EventCodec
from events.errors import LedgerError
from events.follow import StoredEvent
from events.topics import Topics, check_partition_count
from projections.buffer import Buffer
from projections.database import LOST, REFUSED, Database
from projections.errors import EventRefused, PartitionsHalted, PositionConflict, ReadModelUnavailable
from projections.feed import Feed, Fetched
from projections.outage import Outage
from projections.store import Position, Projection, Store
from projections.until import Until

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH: Final = 5000
GIVE_UP_AFTER: Final = 300.0
MOST_WAITING: Final = 200_000
"""Most events in memory that wait for others of their batches: 170 MB of entries with little text."""
MOST_CONFLICTS: Final = 6
"""So many conflicts without a write between them mean that somebody writes who does not keep to the lock."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether a partition that is halted may go on."""
RESERVE_WAIT: Final = 0.5
"""Seconds between two tries to take over. Waiting within PostgreSQL would hold up its vacuum."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the service has done since it started; `halted` says by partition why it stopped there."""

    events: int
    halted: dict[int, str]


async def run_projection(
    clients: KafkaClients,
    topics: Topics,
    codec: EventCodec,
    database: Database,
    projection: Projection[Any],
    *,
    ledger: str,
    stop: asyncio.Event,
    instance: str | None = None,
    batch_size: int = BATCH,
    most_waiting: int = MOST_WAITING,
    give_up_after: float = GIVE_UP_AFTER,
    until: Mapping[int, int] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Let `projection` have the events of `ledger` until `stop` is set, and return what was done.

    With `until` it also ends where the position of each partition has come to the sequence given there, which it does
    not pass; or as soon as one is halted.

    `instance` names this one among those that wait to take over; PostgreSQL shows it as the application's name.
    The tables must be there (`projections.migrate.upgrade`). A PostgreSQL that goes away later is waited for,
    `give_up_after` seconds at most. A partition that can't go on is halted, the others go on.

    Raises:
        ReadModelUnavailable: PostgreSQL is not there at the start, or for too long.
        TopicMissing, PartitionCountMismatch, BrokerUnavailable: the topics are not what the ledger needs.
        PositionConflict: something else moves the positions again and again.
        PartitionsHalted: at the end, when a partition had been halted.
        EndNotReached: it can't stop at `until` with every batch whole, or nothing came for `give_up_after` seconds.
    """
    partition_count = await asyncio.to_thread(check_partition_count, clients, topics)
    store = Store(database, projection, name=instance)
    await store.open()
    try:
        await store.positions(partition_count)
        feed = Feed(
            clients,
            topics.events,
            codec,
            group=f"{ledger}.{projection.name}",
            partition_count=partition_count,
            batch_size=batch_size,
            until=until,
        )
        buffer = Buffer(room=2 * batch_size, most=most_waiting, whole_batches=projection.whole_batches)
        outage = Outage(give_up_after)
        tell = on_progress or (lambda _: None)
        end = None if until is None else Until(until, give_up_after)
        service = _Service(feed, buffer, store, partition_count, outage, tell, end)
        return await service.run(stop)
    finally:
        await store.close()


@dataclass(slots=True)
class _Service:
    feed: Feed
    buffer: Buffer
    store: Store[Any]
    partition_count: int
    outage: Outage
    on_progress: Callable[[Progress], None]
    end: Until | None = None
    at: dict[int, Position] = field(default_factory=dict)
    halted: dict[int, str] = field(default_factory=dict)
    events: int = 0
    conflicts: int = 0
    to_halt: set[int] = field(default_factory=set)
    looked_at: float = 0.0
    """When it was last looked whether what is halted may go on."""
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "projection"))

    async def run(self, stop: asyncio.Event) -> Progress:
        try:
            while self._goes_on(stop):
                await self._follow_until_trouble(stop)
        finally:
            await self._in_thread(self.feed.close)
            self.thread.shutdown(wait=False)
        if self.halted:
            raise PartitionsHalted(self.halted)
        return self._progress()

    def _goes_on(self, stop: asyncio.Event) -> bool:
        if stop.is_set():
            return False
        return self.end is None or not (self.halted or self.end.is_reached(self.at))

    async def _follow_until_trouble(self, stop: asyncio.Event) -> None:
        try:
            if await self._take_over(stop):
                await self._follow(stop)
        except PositionConflict as conflict:
            self.conflicts += 1
            log.warning("%s", conflict.message)
            if self.conflicts >= MOST_CONFLICTS:
                raise
        except (*LOST, *self.store.projection.passing) as error:
            await self._reconnect(error, stop)
        except asyncpg.PostgresError as error:  # no trouble that passes, and no fault of an event's
            raise self.store.database.unavailable(error) from error

    async def _reconnect(self, error: BaseException, stop: asyncio.Event) -> None:
        trouble = error if isinstance(error, LedgerError) else self.store.database.unavailable(error)
        while not stop.is_set():
            await self.outage.wait(trouble, stop)
            try:
                await self.store.open()
            except ReadModelUnavailable as still:
                trouble = still
            else:
                return

    async def _take_over(self, stop: asyncio.Event) -> bool:
        """Wait until the read model is ours, and begin where it is; return whether it is before `stop`."""
        in_reserve = False
        while not await self.store.take_over():
            if not in_reserve:
                log.info("another instance has the projection; this one waits in reserve")
            in_reserve = True
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RESERVE_WAIT)
            if stop.is_set():
                return False
        self.at = await self.store.positions(self.partition_count)
        self.halted.clear()
        self.to_halt.clear()
        self.buffer.begin({partition: at.next_sequence for partition, at in self.at.items()})
        await self._in_thread(self.feed.place, self.at.copy())
        return True

    async def _follow(self, stop: asyncio.Event) -> None:
        """Write what is fetched; with nothing else to see to, the next fetch runs beside the writing of this one."""
        fetched = await self._fetch()
        while self._goes_on(stop) and not await self._is_mended():
            self.buffer.add(stored for stored in fetched.events if stored.partition not in self.halted)
            events = self.buffer.take()
            if not (events or fetched.events):
                await self._make_room()
            if self.end is not None:
                self.end.expect_more(self.at, came=bool(events or fetched.events), comes=not self.feed.is_at_end)
            if fetched.is_plain:
                coming = asyncio.create_task(self._fetch())
                try:
                    await self._write(events)
                finally:
                    fetched = await coming
            else:
                await self._write(events)
                await self._see_to(fetched, stop)
                fetched = await self._fetch()
            while self.to_halt:  # not from within the writing: a fetch may be waiting for its end
                await self._in_thread(self.feed.halt, self.to_halt.pop())

    async def _is_mended(self) -> bool:
        """Whether somebody has put a partition right that is halted here: its position does not say so any more."""
        if not self.halted or time.monotonic() - self.looked_at < LOOK_EVERY:
            return False
        self.looked_at = time.monotonic()
        mended = self.halted.keys() - await self.store.halted()
        if mended:
            log.info("partitions %s are not halted any more: begins where the positions are", sorted(mended))
        return bool(mended)

    async def _see_to(self, fetched: Fetched, stop: asyncio.Event) -> None:
        for partition, reason in fetched.halts.items():
            if partition not in self.halted:
                await self._halt(partition, reason)
        if fetched.trouble:
            await self.outage.wait(fetched.trouble, stop)

    async def _make_room(self) -> None:
        """Read partitions further that were full, since nothing comes of the others; halt them if that can't be."""
        full = self.buffer.full
        if not full:
            return
        waits = {partition: self.buffer.waits_for(partition) for partition in sorted(full)}
        if not self.buffer.is_at_its_bound:
            log.warning("nothing to write: these partitions wait for these batches to be whole: %s", waits)
            self.buffer.grow()
        elif full >= self.at.keys() - self.halted.keys():
            for partition, batch_id in waits.items():
                await self._halt(
                    partition,
                    f"batch {batch_id} is not whole among the next {self.buffer.most} events of all partitions, and "
                    "no more are held in memory",
                )
                self.buffer.drop(partition, self.at[partition].next_sequence)
                self.to_halt.add(partition)

    async def _write(self, events: Sequence[StoredEvent]) -> None:
        """Write `events`; if PostgreSQL refuses one, halt its partition there and write what can be without it."""
        while events:
            try:
                await self._write_together(events)
            except REFUSED as error:
                self.buffer.put_back(events)
                await self._halt_what_is_refused(events, error)
                events = self.buffer.take()
            else:
                self.on_progress(self._progress())
                return

    async def _write_together(self, events: Sequence[StoredEvent]) -> None:
        advances = await self.store.write(events, self._expected(events), self.halted)
        for advance in advances:
            self.at[advance.partition] = Position(advance.next_offset, advance.next_sequence, advance.writer_epoch)
        self.feed.written({advance.partition: advance.next_offset for advance in advances})
        self.events += len(events)
        self.conflicts = 0
        self.outage.over()

    def _expected(self, events: Sequence[StoredEvent]) -> dict[int, int]:
        return {partition: self.at[partition].next_offset for partition in {stored.partition for stored in events}}

    async def _halt_what_is_refused(self, events: Sequence[StoredEvent], together: Exception) -> None:
        """Halt each partition at its first event that PostgreSQL refuses; all of them if it refuses none alone."""
        partitions: dict[int, list[StoredEvent]] = {}
        for stored in events:
            partitions.setdefault(stored.partition, []).append(stored)
        refused = [found for part in partitions.values() if (found := await self._first_refused(part))]
        for stored, error in refused or [(part[0], together) for part in partitions.values()]:
            where = f"partition {stored.partition}, offset {stored.offset}, sequence {stored.event.sequence}"
            why = str(error) if isinstance(error, EventRefused) else f"PostgreSQL refuses it: {_named(error)}"
            await self._halt(stored.partition, f"{where}: {why}"[:2000])
            self.buffer.drop(stored.partition, stored.event.sequence)
            self.to_halt.add(stored.partition)

    async def _first_refused(self, events: Sequence[StoredEvent]) -> tuple[StoredEvent, Exception] | None:
        """Return the first of a partition's events that is refused, and why. Nothing is written."""
        if (why := await self._refusal(events)) is None:
            return None
        taken, refused = 0, len(events)  # so many are taken, so many are refused
        while refused - taken > 1:
            middle = (taken + refused) // 2
            if (error := await self._refusal(events[:middle])) is None:
                taken = middle
            else:
                refused, why = middle, error
        return events[taken], why

    async def _refusal(self, events: Sequence[StoredEvent]) -> Exception | None:
        try:
            await self.store.rehearse(events, self._expected(events))
        except REFUSED as error:
            return error
        return None

    async def _halt(self, partition: int, reason: str) -> None:
        self.halted[partition] = reason
        log.error("partition %d is halted: %s", partition, reason)
        await self.store.halt(partition, self.at[partition].next_offset, reason)
        self.on_progress(self._progress())

    async def _fetch(self) -> Fetched:
        return await self._in_thread(self.feed.fetch, self.buffer.full)

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, call, *args)

    def _progress(self) -> Progress:
        return Progress(self.events, dict(self.halted))


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
