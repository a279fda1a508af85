"""Entries that name a transaction, from the log into PostgreSQL, each exactly once.

Reads all partitions by position, in no consumer group: rows and positions are written in one transaction, guarded by
where the positions were. Two that read at once hinder each other and no more: who comes second starts over.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from events.clients import KafkaClients
from events.codec import EventCodec
from events.errors import BrokerUnavailable, LedgerError
from events.follow import Ends, PartitionReader, Record, SequenceCheck
from reconciler.errors import ReconciliationConflict
from reconciler.named import expectation
from reconciler.rounds import in_thread
from reconciler.store import ChainStore, Offset
from reconciler.transfers import Expectation

log = logging.getLogger(__name__)

TOPIC: Final = "events"
"""What the topic is called in the table of offsets."""
_MOST_CONFLICTS: Final = 10


@dataclass(slots=True)
class Expectations:
    """Brings the table of expectations up to the log."""

    clients: KafkaClients
    topic: str
    codec: EventCodec
    store: ChainStore
    partitions: int
    timeout: float = 30.0
    _checks: dict[int, SequenceCheck] = field(default_factory=dict)
    _offsets: dict[int, Offset] = field(default_factory=dict)

    async def catch_up(self) -> int:
        """Read the log up to where it ends now, and return how many new entries name a transaction.

        Raises:
            LogCorrupt: an event is none, or not the next one; nothing behind it was taken.
            BrokerUnavailable: Kafka does not answer.
            ReconciliationConflict: others read the same again and again.
        """
        ends = await asyncio.to_thread(
            Ends(self.clients).stable, self.topic, range(self.partitions), timeout=self.timeout
        )
        for _ in range(_MOST_CONFLICTS):
            try:
                return await self._read_up_to(ends)
            except ReconciliationConflict as conflict:
                log.info("%s; starting over from there", conflict.message)
        raise ReconciliationConflict(f"others read {self.topic} all the time")

    async def _read_up_to(self, ends: dict[int, int]) -> int:
        await self._place()
        behind = {p: offset.next_offset for p, offset in self._offsets.items() if offset.next_offset < ends[p]}
        if not behind:
            return 0
        reader = await in_thread(PartitionReader, self.clients, self.topic)
        try:
            reader.start(behind)
            return await self._drain(reader, {p: ends[p] for p in behind})
        finally:
            await in_thread(reader.close)

    async def _place(self) -> None:
        self._offsets = await self.store.offsets(TOPIC, self.partitions)
        self._checks = {
            p: SequenceCheck(p, offset.next_sequence, offset.writer_epoch) for p, offset in self._offsets.items()
        }

    async def _drain(self, reader: PartitionReader, ends: dict[int, int]) -> int:
        count, quiet = 0, 0.0
        while any(reader.position(p) < end for p, end in ends.items()):
            records = await in_thread(reader.poll, 1.0)
            if records:
                quiet = 0.0
                count += await self._take(records)
            elif (quiet := quiet + 1.0) > self.timeout:
                raise BrokerUnavailable(f"{self.topic}: nothing came for {self.timeout:.0f} s before its end")
        return count

    async def _take(self, records: Sequence[Record]) -> int:
        """Write what `records` say; what comes before one that can't be taken is written, then it is told."""
        before = {record.partition: self._offsets[record.partition].next_offset for record in records}
        found: list[Expectation] = []
        trouble: LedgerError | None = None
        for record in records:
            try:
                stored = self._checks[record.partition].decode(self.codec, record)
            except LedgerError as error:
                trouble = error
                break
            check = self._checks[record.partition]
            self._offsets[record.partition] = Offset(record.offset + 1, check.next_sequence, check.writer_epoch)
            if (expected := expectation(stored)) is not None:
                found.append(expected)
        moves = {p: (at, self._offsets[p]) for p, at in before.items() if self._offsets[p].next_offset != at}
        await self.store.expect(TOPIC, found, moves)
        if trouble is not None:
            raise trouble
        return len(found)
