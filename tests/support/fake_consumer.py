"""A Kafka consumer that does as it is told: it delivers what a test says, and notes what it is asked to read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TopicPartition


@dataclass(frozen=True, slots=True)
class FakeMessage:
    """A message that was read."""

    at: int
    data: bytes = b""
    of: int = 0

    def error(self) -> None:
        return None

    def partition(self) -> int:
        return self.of

    def offset(self) -> int:
        return self.at

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return self.data

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, 0


@dataclass
class FakeConsumer:
    """`reading` is where it was told to read from, by partition; `coming` is what the next poll brings."""

    reading: dict[int, int] = field(default_factory=dict)
    coming: list[FakeMessage] = field(default_factory=list)
    callbacks: dict[str, Callable[..., None]] = field(default_factory=dict)
    closed: int = 0

    def close(self) -> None:
        self.closed += 1

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        self.callbacks = callbacks

    def give(self, *partitions: int) -> None:
        self.callbacks["on_assign"](self, [TopicPartition("t", p) for p in partitions])

    def take(self, *partitions: int) -> None:
        self.callbacks["on_revoke"](self, [TopicPartition("t", p) for p in partitions])

    def assign(self, spots: list[TopicPartition]) -> None:
        self.reading = {spot.partition: spot.offset for spot in spots}

    def incremental_assign(self, spots: list[TopicPartition]) -> None:
        new = {spot.partition: spot.offset for spot in spots}
        assert not new.keys() & self.reading.keys(), "assigned twice"
        self.reading |= new

    def incremental_unassign(self, spots: list[TopicPartition]) -> None:
        for spot in spots:
            del self.reading[spot.partition]

    def poll(self, timeout: float) -> FakeMessage | None:
        return self.coming.pop(0) if self.coming else None

    def consume(self, limit: int, timeout: float) -> list[FakeMessage]:
        brought, self.coming = self.coming[:limit], self.coming[limit:]
        return brought


@dataclass
class FakeClients:
    """Clients whose every consumer is the same fake, and whose producer takes everything."""

    fake: FakeConsumer = field(default_factory=FakeConsumer)

    def consumer(self, group: str, **settings: Any) -> FakeConsumer:
        return self.fake

    def producer(self, **settings: Any) -> Any:
        return _Producer()

    def admin(self) -> None:
        return None


class _Producer:
    def init_transactions(self, timeout: float) -> None:
        pass
