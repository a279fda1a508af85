"""Following the checkpoints: each is held against the tree that the tiles have, and kept with its note.

The topic of checkpoints has one partition, and a position of its own among those of the projections; a checkpoint and
the position after it are written together. It waits for the tiles, which the proofs projection writes beside it. At
the first checkpoint that is not of the log, it halts for good: no later one is believed, whoever it is of.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
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
        PartitionsHalted: after `stop`, when a checkpoint was not one of the log.
    """
    follower = _Follower(
        Store(database, Checkpoints(), name=instance),
        PartitionReader(clients, topics.checkpoints),
        lambda: Reader(origin, partition_count, verifiers()),
        Outage(give_up_after),
    )
    await follower.run(stop)


@dataclass(slots=True)
class _Follower:
    store: Store[Sequence[Published]]
    topic: PartitionReader
    notes: Callable[[], Reader]
    outage: Outage
    at: Position = field(default_factory=lambda: Position(0, 0, 0))
    waiting: list[Published] = field(default_factory=list)
    """Read, and not written yet."""
    refused: CheckpointRefused | None = None
    """What was found behind those that wait."""
    halted: str | None = None
    conflicts: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                await self._follow_until_trouble(stop)
        finally:
            await asyncio.to_thread(self.topic.close)
            await self.store.close()
        if self.halted:
            raise PartitionsHalted({_ONLY: self.halted})

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
        """Wait until the position is ours, and begin where it is; return whether it is before `stop`."""
        while not await self.store.take_over():
            await _pause(stop, RESERVE_WAIT)
            if stop.is_set():
                return False
        self.at = (await self.store.positions(1))[_ONLY]
        self.topic.start({_ONLY: self.at.next_offset})
        self.waiting, self.refused, self.halted = [], None, None
        return True

    async def _follow(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self.halted:
                await stop.wait()
                return
            await self._read()
            written = await self._write_what_is_ready()
            if self.refused is not None and not self.waiting:
                await self._halt(str(self.refused))
            elif self.waiting and not written:
                await _pause(stop, TILES_WAIT)

    async def _read(self) -> None:
        room = BATCH - len(self.waiting)
        if room <= 0 or self.refused is not None:
            return
        records = await asyncio.to_thread(self.topic.poll, 0 if self.waiting else POLL, limit=room)
        notes = self.notes() if records else None
        for record in records:
            assert notes is not None
            try:
                self.waiting.append(notes.take(record))
            except CheckpointRefused as refused:
                self.refused = refused
                return

    async def _write_what_is_ready(self) -> bool:
        """Write the checkpoints whose trees are there, up to one that is refused; return whether there was one."""
        if not self.waiting:
            return False
        rows = await self.store.fetch(statements.TREE_SIZES, PROOFS)
        found = ready(self.waiting, {row["partition"]: row["next_sequence"] for row in rows})
        checked = await self._checked(found, {row["partition"]: row["newest"] for row in rows if row["newest"]})
        if checked:
            last = checked[-1]
            move = Advance(_ONLY, last.offset + 1, self.at.next_sequence + len(checked), 0, last.published_at)
            await self.store.put(checked, [move], {_ONLY: self.at.next_offset})
            self.at = Position(move.next_offset, move.next_sequence, 0)
            self.conflicts = 0
            self.outage.over()
        self.waiting = [] if len(checked) < len(found) else self.waiting[len(found) :]
        return bool(checked)

    async def _checked(self, found: Sequence[Published], newest: dict[int, int]) -> list[Published]:
        wanted = tiles_wanted(found)
        keys = [(partition, *tile) for partition, tiles in wanted.items() for tile in tiles]
        tiles = tiles_in_rows(await self.store.fetch(statements.TILES, *columns_of(keys)) if keys else ())
        checked: list[Published] = []
        for each in found:
            try:
                check(each, newest, tiles)
            except CheckpointRefused as refused:
                self.refused = refused
                break
            newest[each.partition] = each.checkpoint.size
            checked.append(each)
        return checked

    async def _halt(self, reason: str) -> None:
        log.error("checkpoints are halted: %s", reason)
        await self.store.halt(_ONLY, self.at.next_offset, reason[:2000])
        self.halted = reason


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
