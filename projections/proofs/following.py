"""Following the checkpoints: each is held against the tree that the tiles have, and kept with its note.

The topic of checkpoints has one partition. Each partition of the ledger has a position there of its own, among those
of the projections; a checkpoint and the position after it are written together. It waits for the tiles, which the
proofs projection writes beside it. At the first checkpoint that is not of the log, its partition halts: no later one
of it is believed, whoever has signed it. The others go on. What is of no partition that there is proves nothing of
any, and is passed over.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from events.checkpoint import Verifier
from events.clients import KafkaClients
from events.errors import LedgerError
from events.follow import PartitionReader, StoredEvent
from events.topics import Topics
from projections.database import LOST, Database
from projections.errors import PartitionsHalted, PositionConflict, ReadModelUnavailable
from projections.outage import Outage
from projections.proofs import statements
from projections.proofs.checkpoints import CheckpointRefused, Published, Reader, check, ready, tiles_wanted
from projections.proofs.projection import PROOFS, tiles_in_rows
from projections.service import GIVE_UP_AFTER, MOST_CONFLICTS, RESERVE_WAIT
from projections.store import Advance, Position, Store, columns_of, run

log = logging.getLogger(__name__)

CHECKPOINTS: Final = "checkpoints"
BATCH: Final = 500
POLL: Final = 0.1
"""Seconds that a read waits for the first checkpoint."""
MOST_READ_AGAIN: Final = 1000
"""Checkpoints that a start may read for a partition that has none of its own among them."""
TILES_WAIT: Final = 0.05
"""Seconds until the tiles are looked at again when they are behind the checkpoints."""
_ONLY: Final = 0
"""The partition of the topic."""


class Checkpoints:
    """See `projections.store.Projection`."""

    name = CHECKPOINTS
    whole_batches = False
    tables: tuple[str, ...] = ()
    passing: tuple[type[LedgerError], ...] = ()

    async def prepare(self, _events: Sequence[StoredEvent], /) -> Sequence[Published]:
        """Return nothing: events add nothing here, checkpoints have a topic of their own."""
        return ()

    async def write(self, connection: asyncpg.Connection, schema: str, prepared: Sequence[Published]) -> None:
        """Append checkpoints that were held against the tree."""
        rows = [
            (
                each.partition,
                each.checkpoint.size,
                each.checkpoint.root,
                each.note,
                each.public_key,
                each.published_at,
            )
            for each in prepared
        ]
        if rows:
            await run(connection, schema, statements.PUT_CHECKPOINTS, *columns_of(rows))


async def follow_checkpoints(
    clients: KafkaClients,
    topics: Topics,
    database: Database,
    verifiers: Callable[[], Sequence[Verifier]],
    *,
    origin: str,
    partition_count: int,
    stop: asyncio.Event,
    instance: str | None = None,
    give_up_after: float = GIVE_UP_AFTER,
) -> None:
    """Keep the checkpoints of the ledger that is called `origin` until `stop` is set.

    `verifiers` gives the keys that may have signed, and is asked again and again, since keys are rotated. While it
    gives none, signatures are not looked at, and only roots are.

    Raises:
        ReadModelUnavailable: PostgreSQL is away for longer than `give_up_after` seconds.
        BrokerUnavailable: the consumer can't go on.
        PositionConflict: something else moves the position again and again.
        PartitionCountMismatch: the tables were made for another number of partitions.
        PartitionsHalted: after `stop`, when a checkpoint was not one of the log.
    """
    follower = _Follower(
        Store(database, Checkpoints(), name=instance),
        PartitionReader(clients, topics.checkpoints),
        lambda: Reader(origin, partition_count, verifiers()),
        partition_count,
        Outage(give_up_after),
    )
    await follower.run(stop)


@dataclass(slots=True)
class _Follower:
    store: Store[Sequence[Published]]
    topic: PartitionReader
    notes: Callable[[], Reader]
    partition_count: int
    outage: Outage
    at: dict[int, Position] = field(default_factory=dict)
    """Of each partition of the ledger, the offset from which its checkpoints are not written yet."""
    waiting: list[Published] = field(default_factory=list)
    """Read, and not written yet."""
    refused: dict[int, CheckpointRefused] = field(default_factory=dict)
    """What was found behind those that wait, and halts the partition."""
    behind: dict[int, int] = field(default_factory=dict)
    """Partitions whose checkpoints are read again once their trees have so many events."""
    halted: dict[int, str] = field(default_factory=dict)
    conflicts: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                await self._follow_until_trouble(stop)
        finally:
            await asyncio.to_thread(self.topic.close)
            await self.store.close()
        if self.halted:
            raise PartitionsHalted(self.halted)

    async def _follow_until_trouble(self, stop: asyncio.Event) -> None:
        try:
            await self.store.open()
            if await self._take_over(stop):
                await self._follow(stop)
        except PositionConflict as conflict:
            self.conflicts += 1
            log.warning("%s", conflict.message)
            if self.conflicts >= MOST_CONFLICTS:
                raise
        except ReadModelUnavailable as error:
            await self.outage.wait(error, stop)
        except LOST as error:
            await self.outage.wait(self.store.database.unavailable(error), stop)
        except asyncpg.PostgresError as error:  # no trouble that passes
            raise self.store.database.unavailable(error) from error

    async def _take_over(self, stop: asyncio.Event) -> bool:
        """Wait until the positions are ours, and begin where they are; return whether it is before `stop`."""
        while not await self.store.take_over():
            await _pause(stop, RESERVE_WAIT)
            if stop.is_set():
                return False
        self.at = await self.store.positions(self.partition_count)
        self.halted = {}
        self._begin()
        return True

    def _begin(self) -> None:
        """Read from the first position on; what was written already is passed over."""
        self.topic.start({_ONLY: min(at.next_offset for p, at in self.at.items() if p not in self.halted)})
        self.waiting, self.refused, self.behind = [], {}, {}

    async def _follow(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if len(self.halted) == self.partition_count:
                await stop.wait()
                return
            await self._read()
            written = await self._write_what_is_ready()
            for partition in self.refused.keys() - {each.partition for each in self.waiting}:
                await self._halt(partition, str(self.refused.pop(partition)))
            if self.waiting and not written:
                await _pause(stop, TILES_WAIT)

    async def _read(self) -> None:
        room = BATCH - len(self.waiting)
        if room == 0:
            return
        records = await asyncio.to_thread(self.topic.poll, 0 if self.waiting else POLL, limit=room)
        notes = self.notes() if records else None
        for record in records:
            assert notes is not None
            try:
                published = notes.take(record)
            except CheckpointRefused as refused:
                self._refuse(record.offset, refused)
            else:
                if self._wants(published.partition, record.offset):
                    self.waiting.append(published)

    def _wants(self, partition: int, offset: int) -> bool:
        """Whether a checkpoint of a partition is one of those that come next."""
        is_on = partition not in self.halted.keys() | self.refused.keys() | self.behind.keys()
        return is_on and offset >= self.at[partition].next_offset

    def _refuse(self, offset: int, refused: CheckpointRefused) -> None:
        if refused.partition is None:
            log.error("%s; it is passed over", refused)
        elif self._wants(refused.partition, offset):
            self.refused[refused.partition] = refused

    async def _write_what_is_ready(self) -> bool:
        """Write the checkpoints whose trees are there, up to one that is refused; return whether there was one."""
        if not (self.waiting or self.behind):
            return False
        rows = await self.store.fetch(statements.TREE_SIZES, PROOFS)
        sizes = {row["partition"]: row["next_sequence"] for row in rows}
        if any(sizes.get(partition, 0) >= size for partition, size in self.behind.items()):
            self._begin()
            return True
        found = ready(self.waiting, sizes)
        checked = await self._checked(found, {row["partition"]: row["newest"] for row in rows if row["newest"]})
        if checked:
            await self._put(checked)
        done = {each.offset for each in found}
        self.waiting = [each for each in self.waiting if each.offset not in done]
        self._leave_behind({row["partition"] for row in rows if row["halted"]})
        return bool(checked)

    def _leave_behind(self, stopped: Collection[int]) -> None:
        """Don't let those wait whose trees have stopped: they would take the place of the others."""
        for each in self.waiting:
            if each.partition in stopped and each.partition not in self.behind:
                self.behind[each.partition] = each.checkpoint.size
                self.refused.pop(each.partition, None)
        self.waiting = [each for each in self.waiting if each.partition not in self.behind]

    async def _checked(self, found: Sequence[Published], newest: dict[int, int]) -> list[Published]:
        """Return those that are of the trees, of each partition up to one that is not, behind which nothing waits."""
        wanted = tiles_wanted(found)
        keys = [(partition, *tile) for partition, tiles in wanted.items() for tile in tiles]
        tiles = tiles_in_rows(await self.store.fetch(statements.TILES, *columns_of(keys)) if keys else ())
        checked: list[Published] = []
        broken: set[int] = set()
        for each in found:
            if each.partition in broken:
                continue
            try:
                check(each, newest, tiles)
            except CheckpointRefused as refused:
                self.refused[each.partition] = refused
                broken.add(each.partition)
            else:
                newest[each.partition] = each.checkpoint.size
                checked.append(each)
        self.waiting = [each for each in self.waiting if each.partition not in broken]
        return checked

    async def _put(self, checked: Sequence[Published]) -> None:
        counts, last = Counter(each.partition for each in checked), {each.partition: each for each in checked}
        moves = [
            Advance(p, each.offset + 1, self.at[p].next_sequence + counts[p], 0, each.published_at)
            for p, each in last.items()
        ]
        read_to, now = self.topic.position(_ONLY), checked[-1].published_at
        waiting = {each.partition for each in self.waiting}
        moves += [
            Advance(p, read_to, at.next_sequence, 0, now)
            for p, at in self.at.items()
            if read_to - at.next_offset > MOST_READ_AGAIN and p not in waiting and self._wants(p, read_to)
        ]
        await self.store.put(checked, moves, {move.partition: self.at[move.partition].next_offset for move in moves})
        self.at |= {move.partition: Position(move.next_offset, move.next_sequence, 0) for move in moves}
        self.conflicts = 0
        self.outage.over()

    async def _halt(self, partition: int, reason: str) -> None:
        log.error("the checkpoints of partition %d are halted: %s", partition, reason)
        await self.store.halt(partition, self.at[partition].next_offset, reason[:2000])
        self.halted[partition] = reason


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
