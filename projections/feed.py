"""Reading the log as a member of a consumer group, from positions that are kept elsewhere.

Owns the consumer: who has which partition is the group's affair, where to read from is PostgreSQL's. Offsets are
committed to Kafka only for tools that show lag. All of it is synchronous and for one thread; only `written` and
the `idle` flag are touched by another.
"""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from events.clients import KafkaClients, is_fatal, unavailable
from events.codec import EventCodec
from events.errors import Fenced, LogCorrupt, RegistryUnavailable
from events.follow import Record, SequenceCheck, StoredEvent, place
from events.types import PartitionOpened
from projections.store import Position

log = logging.getLogger(__name__)

POLL: Final = 0.1
"""Seconds that a fetch waits for the first event."""
COMMIT_EVERY: Final = 1.0
CLOSE_WAIT: Final = 4.0
REVOKE_WAIT: Final = 20.0
"""Most seconds that a partition is held back from its next owner while its last events are being written."""


@dataclass(slots=True)
class Fetched:
    """What one fetch brought: events in order, and what there is to do after they are written."""

    events: list[StoredEvent] = field(default_factory=list)
    halts: dict[int, str] = field(default_factory=dict)
    """Partitions whose next event can't be taken, and why."""
    unplaced: frozenset[int] = frozenset()
    """Partitions that wait to be told where to read from."""
    trouble: RegistryUnavailable | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there are events and nothing else to see to."""
        return not (self.halts or self.unplaced or self.trouble)


class Feed:
    """The events of the partitions that the group gives us.

    `idle` is set while nobody writes events that were fetched: a partition is given up only then.
    """

    def __init__(
        self,
        clients: KafkaClients,
        topic: str,
        codec: EventCodec,
        *,
        group: str,
        partition_count: int,
        batch_size: int,
        poll_interval: float,
        instance: str | None = None,
    ) -> None:
        self._clients = clients
        self._topic = topic
        self._codec = codec
        self._partition_count = partition_count
        self._batch_size = batch_size
        self._assigned: set[int] = set()
        self._checks: dict[int, SequenceCheck] = {}
        self._halted: set[int] = set()
        self._next: dict[int, int] = {}
        self._written: SimpleQueue[Mapping[int, int]] = SimpleQueue()
        self._last_commit = time.monotonic()
        self.idle = threading.Event()
        self.idle.set()
        # A member that comes back under its name takes its partitions at once (static membership, KIP-345).
        self._named = instance is not None
        named = {"group_instance_id": f"{group}-{instance}"} if self._named else {}
        self._consumer: Consumer = clients.consumer(
            group,
            **named,
            partition_assignment_strategy="cooperative-sticky",
            max_poll_interval_ms=int(poll_interval * 1000),
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
        )
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def fetch(self) -> Fetched:
        """Return what is there, up to the batch size, waiting a moment for the first event.

        Raises:
            BrokerUnavailable: the consumer can't go on.
        """
        self._commit()
        first = self._consumer.poll(POLL)
        messages = [] if first is None else [first, *self._consumer.consume(self._batch_size - 1, 0)]
        fetched = Fetched()
        for message in messages:
            self._take(message, fetched)
            if fetched.trouble:
                break
        fetched.unplaced = frozenset(self._assigned - self._checks.keys() - self._halted)
        return fetched

    def place(self, positions: Mapping[int, Position]) -> None:
        """Read `positions` (by partition) from there on; those that are no longer ours are left alone."""
        mine = {partition: at for partition, at in positions.items() if partition in self._assigned}
        if not mine:
            return
        self._leave(mine.keys() & self._checks.keys())
        spots = [TopicPartition(self._topic, p, at.next_offset or OFFSET_BEGINNING) for p, at in mine.items()]
        self._consumer.incremental_assign(spots)
        for partition, at in mine.items():
            self._next[partition] = at.next_offset
            self._checks[partition] = SequenceCheck(partition, at.next_sequence, at.writer_epoch)
        self.written({p: at.next_offset for p, at in mine.items()})  # the one before may have gone without telling

    def displace(self) -> None:
        """Stop reading every partition until it is placed again; halted ones get another try."""
        self._leave(set(self._checks))
        self._halted.clear()

    def halt(self, partition: int) -> None:
        """Stop reading `partition` until the group gives it anew or everything is displaced."""
        if partition in self._assigned:
            self._leave({partition} & self._checks.keys())
            self._halted.add(partition)

    def written(self, offsets: Mapping[int, int]) -> None:
        """Note the next offset of partitions, to be committed to Kafka sometime soon."""
        self._written.put(dict(offsets))

    def close(self) -> None:
        """Leave the group; without good-bye if Kafka does not answer, since nothing depends on it."""
        closing = threading.Thread(target=self._leave_group, name="balances-close", daemon=True)
        closing.start()
        closing.join(CLOSE_WAIT)
        if closing.is_alive():
            log.warning("Kafka does not answer: left the group without telling it")

    def _leave_group(self) -> None:
        self._last_commit = 0.0
        self._commit(wait=True)
        if self._named:  # as `events.kafka_log` does, and for its reasons
            with suppress(KafkaException):
                self._consumer.poll(0)
            del self._consumer
        else:
            self._consumer.close()

    def _take(self, message: Message, fetched: Fetched) -> None:
        error = message.error()
        if error is not None:
            partition_in_error = message.partition()
            self._take_error(error, -1 if partition_in_error is None else partition_in_error, fetched)
            return
        partition, offset = place(message)
        check = self._checks.get(partition)
        if check is None:  # given up, halted or waiting to be placed since it was fetched
            return
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
            self.displace()
        else:
            self._next[partition] = offset + 1
            fetched.events.append(stored)

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
            if partition in self._checks:
                self.halt(partition)
                fetched.halts[partition] = f"the log is not there at the position: {error.str()}"
        elif error.code() == KafkaError.FENCED_INSTANCE_ID:
            raise Fenced("another process goes by the same instance name and has taken over")
        elif is_fatal(error):
            raise unavailable(self._clients, KafkaException(error))
        else:
            log.warning("Kafka: %s", error.str())

    def _commit(self, *, wait: bool = False) -> None:
        if self._written.empty() or time.monotonic() - self._last_commit < COMMIT_EVERY:
            return
        self._last_commit = time.monotonic()
        written: dict[int, int] = {}
        while not self._written.empty():  # nobody else takes
            written |= self._written.get()
        offsets = [TopicPartition(self._topic, p, offset) for p, offset in written.items() if p in self._assigned]
        try:
            if offsets and wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            elif offsets:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:  # only tools that show lag look at these
            log.info("offsets were not committed to Kafka: %s", error)

    def _leave(self, partitions: set[int]) -> None:
        """Stop fetching partitions that are being read. In a callback it must be said even of none."""
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition) for partition in partitions])
        for partition in partitions:
            del self._checks[partition]

    def _on_assign(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        # Not fetched before it is placed. Never held at a logical offset meanwhile: librdkafka may ask for that one
        # again later, and go there from wherever it is by then.
        consumer.incremental_assign([])
        self._assigned.update(tp.partition for tp in given)
        log.info("given partitions %s of %s", sorted(tp.partition for tp in given), self._topic)

    def _on_revoke(self, _: Consumer, taken: list[TopicPartition]) -> None:
        if not self.idle.wait(REVOKE_WAIT):
            log.warning("giving up partitions while their events are still being written")
        self._forget(taken)

    def _on_lost(self, _: Consumer, lost: list[TopicPartition]) -> None:
        log.warning("the group gave our partitions to others while we were away")
        self._forget(lost)

    def _forget(self, gone: list[TopicPartition]) -> None:
        partitions = {tp.partition for tp in gone}
        self._leave(partitions & self._checks.keys())
        self._assigned -= partitions
        self._halted -= partitions
        log.info("gave up partitions %s of %s", sorted(partitions), self._topic)
