"""What the contract tests need beside a log: commands to read, a look at what is visible, and waiting."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pytest
from confluent_kafka import TopicPartition

from events.clients import KafkaClients
from events.follow import Ends, PartitionReader, Record
from events.kafka_log import KafkaLog
from events.log import Log, LogLost, Outgoing, Polled
from events.membership import GroupProtocol
from events.topics import Topics, ensure_topics
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_log import FakeLog, Loss

PARTITIONS = 4


class Harness(Protocol):
    """One ledger's topics, on the fake or on Kafka."""

    topics: Topics

    def log(self, instance: str = "a") -> Log:
        """Return a new log."""

    def abandon(self, log: Log, messages: Sequence[Outgoing], consumed: Mapping[int, int]) -> None:
        """Bring a transaction up to just before its commit, offsets sent, and leave it there."""

    def produce(self, topic: str, partition: int, values: Sequence[bytes]) -> None:
        """Append messages outside of any transaction."""

    def visible(self, topic: str) -> list[bytes]:
        """Return the values that a reader of committed records sees, partition by partition."""

    def stable_end(self, topic: str, partition: int) -> int:
        """Return the last stable offset."""

    def close(self) -> None:
        """Let go of everything."""


@dataclass
class FakeHarness:
    """On the fake."""

    topics: Topics = field(default_factory=lambda: Topics(prefix="t"))

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(self.topics, PARTITIONS)

    def log(self, instance: str = "a") -> Log:
        return FakeLog(self.cluster, instance, read_limit=1000)

    def abandon(self, log: Log, messages: Sequence[Outgoing], consumed: Mapping[int, int]) -> None:
        assert isinstance(log, FakeLog)
        log.begin()
        log.append(messages)
        log.lose_next_commit(Loss.BEFORE_COMMIT)
        with pytest.raises(LogLost):
            log.commit(consumed)

    def produce(self, topic: str, partition: int, values: Sequence[bytes]) -> None:
        for value in values:
            self.cluster.produce(topic, None, value, partition)

    def visible(self, topic: str) -> list[bytes]:
        return [record.value or b"" for record in self.cluster.all_visible(topic)]

    def stable_end(self, topic: str, partition: int) -> int:
        return self.cluster.stable_end(topic, partition)

    def close(self) -> None:
        pass


@dataclass
class KafkaHarness:
    """On a real cluster."""

    clients: KafkaClients
    protocol: GroupProtocol
    topics: Topics = field(default_factory=lambda: Topics(prefix=f"contract{uuid.uuid4().hex[:10]}"))
    logs: list[KafkaLog] = field(default_factory=list)

    def __post_init__(self) -> None:
        ensure_topics(self.clients, self.topics, partitions=PARTITIONS, replication=1)

    def log(self, instance: str = "a") -> Log:
        group = f"{self.topics.prefix}.handler"
        made = KafkaLog(self.clients, self.topics, group=group, instance=instance, timeout=20, protocol=self.protocol)
        self.logs.append(made)
        return self.logs[-1]

    def abandon(self, log: Log, messages: Sequence[Outgoing], consumed: Mapping[int, int]) -> None:
        assert isinstance(log, KafkaLog)
        log.begin()
        log.append(messages)
        offsets = [TopicPartition(self.topics.commands, p, offset) for p, offset in consumed.items()]
        log._producer.send_offsets_to_transaction(offsets, log._consumer.consumer_group_metadata())
        log._producer.flush(10)

    def produce(self, topic: str, partition: int, values: Sequence[bytes]) -> None:
        producer = self.clients.producer(linger_ms=5)
        for value in values:
            producer.produce(topic, value, partition=partition)
        assert producer.flush(20) == 0

    def visible(self, topic: str) -> list[bytes]:
        partitions = 1 if topic == self.topics.deadletter else PARTITIONS
        ends = Ends(self.clients).stable(topic, range(partitions), timeout=10)
        reader = PartitionReader(self.clients, topic)
        reader.start(dict.fromkeys(range(partitions), 0))
        records: list[Record] = []
        deadline = time.monotonic() + 20
        while any(reader.position(p) < end for p, end in ends.items()):
            assert time.monotonic() < deadline
            records += [record for record in reader.poll(0.5) if record.offset < ends[record.partition]]
        reader.close()
        return [record.value or b"" for record in sorted(records)]

    def stable_end(self, topic: str, partition: int) -> int:
        return Ends(self.clients).stable(topic, [partition], timeout=10)[partition]

    def close(self) -> None:
        """Close the logs; one that hangs in its client, as a fenced one may, must not hang the tests."""
        closing = [threading.Thread(target=log.close, daemon=True) for log in self.logs]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(20)
        assert not any(thread.is_alive() for thread in closing), "a log did not close within 20 s"


def eventually(condition: Callable[[], bool], *, within: float = 30.0) -> None:
    """Return when `condition()` is true; fail when it does not become so."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:.0f} s"
        time.sleep(0.005)


@dataclass
class Member:
    """A log that is polled, and what came of it."""

    log: Log
    owned: set[int] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    def poll(self, timeout: float = 0.05, limit: int = 10_000) -> Polled:
        polled = self.log.poll(timeout, limit)
        self.owned = (self.owned - set(polled.revoked)) | set(polled.assigned)
        self.records += polled.records
        self.ends.update(polled.ends)
        return polled

    def until(self, condition: Callable[["Member"], bool], *others: "Member") -> None:
        """Poll, and let the others poll, until it is so."""

        def tried() -> bool:
            for member in (self, *others):
                member.poll()
            return condition(self)

        eventually(tried)
