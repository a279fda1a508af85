"""Reading the log from positions that are kept elsewhere, all partitions in one process.

Owns the consumer. It is in no group: whoever has the read model reads everything, since a batch has entries in
several partitions (`projections.cut`). Offsets are committed to Kafka only for tools that show lag. All of it is
synchronous and for one thread; only `written` is called by another.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from events.clients import KafkaClients, is_fatal, unavailable
from events.codec import EventCodec
from events.errors import LogCorrupt, RegistryUnavailable
from events.follow import Record, SequenceCheck, StoredEvent, place
from events.types import PartitionOpened
from projections.store import Position

log = logging.getLogger(__name__)

POLL: Final = 0.1
"""Seconds that a fetch waits for the first event."""
COMMIT_EVERY: Final = 1.0
CLOSE_WAIT: Final = 4.0


@dataclass(slots=True)
class Fetched:
    """What one fetch brought: events in order, and what there is to do after they are written."""

    events: list[StoredEvent] = field(default_factory=list)
    halts: dict[int, str] = field(default_factory=dict)
    """Partitions whose next event can't be taken, and why."""
    trouble: RegistryUnavailable | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there are events and nothing else to see to."""
        return not (self.halts or self.trouble)


class Feed:
    """The events of all partitions."""

    def __init__(
        self,
        clients: KafkaClients,
        topic: str,
        codec: EventCodec,
        *,
        group: str,
        partition_count: int,
        batch_size: int,
        until: Mapping[int, int] | None = None,
    ) -> None:
        """Events of a partition at the sequence in `until`, or later ones, are not read."""
        self._clients = clients
        self._topic = topic
        self._codec = codec
        self._partition_count = partition_count
        self._batch_size = batch_size
        self._until = until or {}
        self._reading: set[int] = set()
        self._checks: dict[int, SequenceCheck] = {}
        self._next: dict[int, int] = {}
        self._written: SimpleQueue[Mapping[int, int]] = SimpleQueue()
        self._committed: dict[int, int] = {}
        self._last_commit = time.monotonic()
        self._consumer: Consumer = clients.consumer(group)

    def place(self, positions: Mapping[int, Position]) -> None:
        """Read `positions` (by partition) from there on, and nothing else."""
        self._leave(self._reading)
        self._next = {partition: at.next_offset for partition, at in positions.items()}
        self._checks = {
            p: SequenceCheck(p, at.next_sequence, at.writer_epoch)
            for p, at in positions.items()
            if not self._is_end(p, at.next_sequence)
        }
        self._read(set(self._checks))
        self.written(self._next)  # the one before may have gone without telling

    def fetch(self, full: frozenset[int] = frozenset()) -> Fetched:
        """Return what is there, up to the batch size, waiting a moment for the first event.

        Partitions that are `full` are not read, and go on where they were when they are not any more.

        Raises:
            BrokerUnavailable: the consumer can't go on.
        """
        self._commit()
        self._leave(self._reading & full)
        self._read(self._checks.keys() - self._reading - full)
        first = self._consumer.poll(POLL)
        messages = [] if first is None else [first, *self._consumer.consume(self._batch_size - 1, 0)]
        fetched = Fetched()
        for message in messages:
            self._take(message, fetched)
            if fetched.trouble:
                break
        return fetched

    def halt(self, partition: int) -> None:
        """Stop reading `partition` until everything is placed anew."""
        self._leave(self._reading & {partition})
        self._checks.pop(partition, None)

    def written(self, offsets: Mapping[int, int]) -> None:
        """Note the next offset of partitions, to be committed to Kafka sometime soon."""
        self._written.put(dict(offsets))

    def close(self) -> None:
        """Let go of the connection; within seconds, whether Kafka answers or not."""
        closing = threading.Thread(target=self._close, name="balances-close", daemon=True)
        closing.start()
        closing.join(CLOSE_WAIT)
        if closing.is_alive():
            log.warning("Kafka does not answer: left it without telling it how far this has read")

    def _close(self) -> None:
        self._last_commit = 0.0
        self._commit(wait=True)
        self._consumer.close()

    def _take(self, message: Message, fetched: Fetched) -> None:
        error = message.error()
        if error is not None:
            partition_in_error = message.partition()
            self._take_error(error, -1 if partition_in_error is None else partition_in_error, fetched)
            return
        partition, offset = place(message)
        if partition not in self._reading:  # halted or full since it was fetched
            return
        check = self._checks[partition]
        if offset < self._next[partition]:  # librdkafka may go back to the beginning when Kafka answers late
            return
        try:
            stored = check.decode(self._codec, Record(partition, offset, message.key(), message.value()))
            self._check_opening(stored)
        except LogCorrupt as corrupt:
            self.halt(partition)
            fetched.halts[partition] = corrupt.message
        except RegistryUnavailable as trouble:
            fetched.trouble = trouble
            self._leave(self._reading)  # what was not taken comes again
        else:
            self._next[partition] = offset + 1
            fetched.events.append(stored)
            if self._is_end(partition, check.next_sequence):
                self.halt(partition)

    @property
    def is_at_end(self) -> bool:
        """Whether nothing more is to come: every partition was read to its end, or is halted."""
        return not self._checks

    def _is_end(self, partition: int, next_sequence: int) -> bool:
        return partition in self._until and next_sequence >= self._until[partition]

    def _check_opening(self, stored: StoredEvent) -> None:
        event = stored.event
        if isinstance(event, PartitionOpened) and event[3:] != (stored.partition, self._partition_count):
            raise LogCorrupt(
                f"partition {stored.partition} was opened as partition {event.partition} of {event.partition_count}, "
                f"but the topic has {self._partition_count}",
                partition=stored.partition,
                partition_count=event.partition_count,
            )

    def _take_error(self, error: KafkaError, partition: int, fetched: Fetched) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition >= 0:  # noqa: SLF001  # the client's own name
            if partition in self._reading:
                self.halt(partition)
                fetched.halts[partition] = f"the log is not there at the position: {error.str()}"
        elif is_fatal(error):
            raise unavailable(self._clients, KafkaException(error))
        else:
            log.warning("Kafka: %s", error.str())

    def _commit(self, *, wait: bool = False) -> None:
        if self._written.empty() or time.monotonic() - self._last_commit < COMMIT_EVERY:
            return
        self._last_commit = time.monotonic()
        while not self._written.empty():  # nobody else takes
            self._committed |= self._written.get()
        # All of them, since Kafka forgets those that are not committed again for some days.
        offsets = [TopicPartition(self._topic, p, offset) for p, offset in self._committed.items()]
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:  # only tools that show lag look at these
            log.info("offsets were not committed to Kafka: %s", error)

    def _read(self, partitions: set[int]) -> None:
        """Read partitions, which are not being read, from where they come next."""
        if partitions:
            spots = [TopicPartition(self._topic, p, self._next[p] or OFFSET_BEGINNING) for p in sorted(partitions)]
            self._consumer.incremental_assign(spots)
            self._reading |= partitions

    def _leave(self, partitions: set[int] | frozenset[int]) -> None:
        """Stop reading partitions that are being read."""
        if partitions:
            self._consumer.incremental_unassign([TopicPartition(self._topic, p) for p in sorted(partitions)])
            self._reading -= partitions
