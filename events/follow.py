"""Reading the log: decoded events of chosen partitions, in order, with the checks that nobody may skip.

Owns reading by position, not by consumer group. A reader says where it wants to start; whether it keeps that
position in PostgreSQL, in RocksDB or nowhere is its own affair.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported, if not by name

from events.clients import KafkaClients, is_fatal, unavailable
from events.codec import EventCodec, Undecodable
from events.errors import BrokerUnavailable, LogCorrupt
from events.types import Event

BATCH: Final = 5000
_TAIL: Final = 32
"""Records among which the last event of a partition is looked for first; the others are marks of transactions."""
_METADATA_LAG: Final = 0.05


Headers = list[tuple[str, str | bytes | None]]


class Record(NamedTuple):
    """One message of a topic. `timestamp` is in milliseconds since 1970 UTC, as the producer set it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: Headers | None = None


def place(message: Message) -> tuple[int, int]:
    """Return the partition and offset that every consumed message has."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset


def headers_of(message: Message) -> Headers | None:
    """Return the headers of a consumed message; they are in a list, since a name may come twice."""
    headers = message.headers()
    assert not isinstance(headers, dict)
    return headers


class StoredEvent(NamedTuple):
    """An event and where it is; `data` is its bytes as they are on the topic."""

    partition: int
    offset: int
    data: bytes
    event: Event


@dataclass(slots=True)
class SequenceCheck:
    """Sees that the events of one partition come without gap or duplicate, from writers in their order."""

    partition: int
    next_sequence: int = 0
    writer_epoch: int = 0

    def decode(self, codec: EventCodec, record: Record) -> StoredEvent:
        """Return the decoded event if it is the next one.

        Raises:
            LogCorrupt: it is not, or is no event at all. The check stays where it was.
        """
        where = {"partition": self.partition, "offset": record.offset}
        try:
            event = codec.decode(record.value)
        except Undecodable as error:
            raise LogCorrupt(
                f"partition {self.partition}, offset {record.offset}: {error.reason}", reason=error.reason, **where
            ) from error
        if event.sequence != self.next_sequence:
            found = "a gap" if event.sequence > self.next_sequence else "a duplicate"
            raise LogCorrupt(
                f"partition {self.partition}, offset {record.offset}: {found}: sequence {event.sequence} where "
                f"{self.next_sequence} comes next",
                sequence=event.sequence,
                expected=self.next_sequence,
                **where,
            )
        if event.writer_epoch < self.writer_epoch:
            raise LogCorrupt(
                f"partition {self.partition}, offset {record.offset}: written by epoch {event.writer_epoch} after "
                f"epoch {self.writer_epoch} had taken over",
                writer_epoch=event.writer_epoch,
                expected=self.writer_epoch,
                **where,
            )
        self.next_sequence = event.sequence + 1
        self.writer_epoch = event.writer_epoch
        return StoredEvent(record.partition, record.offset, record.value or b"", event)


class PartitionReader:
    """Reads chosen partitions of one topic, each from its own offset, without a group."""

    def __init__(self, clients: KafkaClients, topic: str) -> None:
        self._clients = clients
        self._topic = topic
        self._consumer: Consumer = clients.consumer("partita-reader", enable_partition_eof=True)
        self._positions: dict[int, int] = {}

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read `offsets` (partition to next offset) and no others from here on; 0 means the beginning."""
        self._positions = dict(offsets)
        self._consumer.assign(
            [TopicPartition(self._topic, p, offset or OFFSET_BEGINNING) for p, offset in offsets.items()]
        )

    def read_only(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions from these offsets and no others; goes on as it is where it has come to them.

        When Kafka is late to say where the beginning of a partition is, librdkafka may ask again half a second later,
        and go back there though it was told of another offset meanwhile: what comes twice is left out.
        """
        if offsets != self._positions:
            self.start(offsets)

    def poll(self, timeout: float, *, limit: int = BATCH) -> list[Record]:
        """Return what is there, up to `limit` records, waiting up to `timeout` seconds for the first.

        Raises:
            BrokerUnavailable: the consumer can't go on.
        """
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        records = []
        for message in (first, *self._consumer.consume(limit - 1, 0)):
            error = message.error()
            if error is None:
                partition, offset = place(message)
                if offset < self._positions.get(partition, math.inf):  # not asked for, or read: see `read_only`
                    continue
                at = message.timestamp()[1]
                records.append(Record(partition, offset, message.key(), message.value(), at, headers_of(message)))
                self._positions[partition] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # the client's own name
                partition, offset = place(message)
                self._positions[partition] = max(offset, self._positions.get(partition, 0))
            elif is_fatal(error):
                raise unavailable(self._clients, KafkaException(error))
        return records

    def position(self, partition: int) -> int:
        """Return the offset up to which the partition has been read, control records included."""
        return self._positions[partition]

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


class Ends:
    """Where partitions begin, and where they end: for readers of committed records, and for anyone."""

    def __init__(self, clients: KafkaClients) -> None:
        self._clients = clients
        self._admin: AdminClient = clients.admin()

    def oldest(self, topic: str, partitions: Collection[int], *, timeout: float) -> dict[int, int]:
        """Return the offset of the oldest record of each partition."""
        spec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        return self._offsets(topic, partitions, spec, IsolationLevel.READ_UNCOMMITTED, timeout)

    def since(self, topic: str, partitions: Collection[int], at: int, *, timeout: float) -> dict[int, int]:
        """Return the offset of each partition's first record of `at` (milliseconds) or later, -1 if there is none."""
        spec = OffsetSpec.for_timestamp(at)
        return self._offsets(topic, partitions, spec, IsolationLevel.READ_UNCOMMITTED, timeout)

    def stable(self, topic: str, partitions: Collection[int], *, timeout: float) -> dict[int, int]:
        """Return the last stable offset of each partition."""
        spec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offsets(topic, partitions, spec, IsolationLevel.READ_COMMITTED, timeout)

    def high(self, topic: str, partitions: Collection[int], *, timeout: float) -> dict[int, int]:
        """Return the high watermark of each partition."""
        spec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offsets(topic, partitions, spec, IsolationLevel.READ_UNCOMMITTED, timeout)

    def _offsets(
        self, topic: str, partitions: Collection[int], spec: OffsetSpec, level: IsolationLevel, timeout: float
    ) -> dict[int, int]:
        wanted = {TopicPartition(topic, p): spec for p in partitions}
        deadline = time.monotonic() + timeout
        while True:
            try:
                futures = self._admin.list_offsets(wanted, isolation_level=level, request_timeout=timeout)
                return {tp.partition: future.result().offset for tp, future in futures.items()}
            except KafkaException as error:  # a topic just created, a leader just moved: known a moment later
                if time.monotonic() > deadline:
                    raise unavailable(self._clients, error) from error
                time.sleep(_METADATA_LAG)


def end_sequences(
    clients: KafkaClients, topic: str, codec: EventCodec, partitions: Collection[int], *, timeout: float
) -> dict[int, int]:
    """Return the sequence after that of each partition's last committed event; 0 where there is none.

    Records that are no events are passed over: that they are there is for those to find who read all.

    Raises:
        BrokerUnavailable: Kafka has not answered within `timeout` seconds.
    """
    ends = Ends(clients).stable(topic, partitions, timeout=timeout)
    found = {p: 0 for p, end in ends.items() if end == 0}
    back = _TAIL
    while unknown := ends.keys() - found.keys():
        starts = {p: max(ends[p] - back, 0) for p in unknown}
        for records in read_between(clients, topic, starts, {p: ends[p] for p in unknown}, idle_timeout=timeout):
            for record in records:
                with suppress(Undecodable):
                    found[record.partition] = codec.decode(record.value).sequence + 1
        for p in unknown:
            if starts[p] == 0:
                found.setdefault(p, 0)
        back *= _TAIL
    return found


def find_event(
    clients: KafkaClients, topic: str, codec: EventCodec, start: tuple[int, int], sequence: int, *, timeout: float
) -> StoredEvent:
    """Return the event with this sequence, which is at `start` (partition and offset) or not far behind.

    Raises:
        LogCorrupt: what is there is not the log: no event, or a later one.
        BrokerUnavailable: it did not come within `timeout` seconds.
    """
    partition, offset = start
    reader, deadline = PartitionReader(clients, topic), time.monotonic() + timeout
    reader.start({partition: offset})
    try:
        while time.monotonic() < deadline:
            for record in reader.poll(0.2):
                stored = decoded(codec, record)
                if stored.event.sequence == sequence:
                    return stored
                if stored.event.sequence > sequence:
                    raise LogCorrupt(f"partition {partition}: event {sequence} is not behind offset {offset}")
    finally:
        reader.close()
    raise BrokerUnavailable(f"{topic}: event {sequence} of partition {partition} did not come in {timeout:.0f} s")


def decoded(codec: EventCodec, record: Record) -> StoredEvent:
    """Return the event in a record, whichever it is; raises `LogCorrupt` when it is none."""
    try:
        return StoredEvent(record.partition, record.offset, record.value or b"", codec.decode(record.value))
    except Undecodable as error:
        raise LogCorrupt(
            f"partition {record.partition}, offset {record.offset}: {error.reason}",
            reason=error.reason,
            partition=record.partition,
            offset=record.offset,
        ) from error


def read_all(
    clients: KafkaClients,
    topic: str,
    codec: EventCodec,
    partitions: range,
    *,
    idle_timeout: float = 30.0,
) -> Iterator[list[StoredEvent]]:
    """Yield every committed event of `partitions` up to where they end now, in batches, checked and decoded.

    Raises:
        LogCorrupt: at the first event that breaks the order or is none.
        BrokerUnavailable: nothing came for `idle_timeout` seconds before the end was reached.
    """
    ends = Ends(clients).stable(topic, partitions, timeout=idle_timeout)
    checks = {p: SequenceCheck(p) for p in partitions}
    for records in read_between(clients, topic, dict.fromkeys(partitions, 0), ends, idle_timeout=idle_timeout):
        yield [checks[r.partition].decode(codec, r) for r in records]


def read_between(
    clients: KafkaClients,
    topic: str,
    starts: Mapping[int, int],
    ends: Mapping[int, int],
    *,
    idle_timeout: float = 30.0,
) -> Iterator[list[Record]]:
    """Yield the committed records of each partition from its offset in `starts` up to that in `ends`, in batches.

    Raises:
        BrokerUnavailable: nothing came for `idle_timeout` seconds before the end was reached.
    """
    reader = PartitionReader(clients, topic)
    reader.start(starts)
    last_progress = time.monotonic()
    try:
        while any(reader.position(p) < end for p, end in ends.items()):
            before = [reader.position(p) for p in starts]
            records = [r for r in reader.poll(1.0) if r.offset < ends[r.partition]]
            if records:
                yield records
            if [reader.position(p) for p in starts] != before:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > idle_timeout:
                raise BrokerUnavailable(f"{topic}: nothing came for {idle_timeout:.0f} s before the end was reached")
    finally:
        reader.close()
