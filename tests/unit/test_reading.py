"""Where readers of Kafka read from, and what they make of a consumer that goes back by itself.

librdkafka does: it may ask for a logical offset once more, half a second after it was told of another one, and go
there. A reader that took what comes for new would see duplicates in a log that has none.
"""

from typing import Any, cast

from confluent_kafka import OFFSET_BEGINNING

from events.follow import PartitionReader
from events.kafka_log import KafkaLog
from projections.feed import Feed
from projections.store import Position
from tests.support.fake_consumer import FakeClients, FakeMessage
from tests.support.samples import CODECS, TOPICS, posted


def feed(clients: FakeClients) -> Feed:
    return Feed(
        cast(Any, clients),
        TOPICS.events,
        CODECS.events,
        group="g",
        partition_count=2,
        batch_size=100,
        poll_interval=60,
    )


def event(offset: int) -> FakeMessage:
    return FakeMessage(offset, CODECS.events.encode(posted(sequence=offset)))


def test_a_reader_leaves_out_what_comes_twice() -> None:
    clients = FakeClients()
    reader = PartitionReader(cast(Any, clients), "t")
    reader.read_only({0: 5})
    clients.fake.coming = [FakeMessage(5), FakeMessage(6)]
    assert [record.offset for record in reader.poll(0)] == [5, 6]
    clients.fake.coming = [FakeMessage(0), FakeMessage(5), FakeMessage(6), FakeMessage(8), FakeMessage(0, of=1)]
    assert [record.offset for record in reader.poll(0)] == [8]
    assert reader.position(0) == 9


def test_a_projection_leaves_out_what_comes_twice() -> None:
    clients = FakeClients()
    events = feed(clients)
    clients.fake.give(0)
    events.place({0: Position(5, 5, 1)})
    clients.fake.coming = [event(5), event(6)]
    assert [stored.offset for stored in events.fetch().events] == [5, 6]
    clients.fake.coming = [event(offset) for offset in range(9)]
    fetched = events.fetch()
    assert not fetched.halts
    assert [stored.offset for stored in fetched.events] == [7, 8]


def test_a_projection_reads_no_partition_before_it_is_placed() -> None:
    """Not even from the beginning, paused: that beginning may come back later."""
    clients = FakeClients()
    events = feed(clients)
    clients.fake.give(0, 1)
    assert clients.fake.reading == {}
    assert events.fetch().unplaced == {0, 1}
    events.place({0: Position(5, 5, 1), 1: Position(0, 0, 0)})
    assert clients.fake.reading == {0: 5, 1: OFFSET_BEGINNING}
    events.halt(1)
    assert clients.fake.reading == {0: 5}
    clients.fake.take(0, 1)
    assert clients.fake.reading == {}


def test_a_handler_reads_no_partition_before_it_is_restored() -> None:
    clients = FakeClients()
    log = KafkaLog(cast(Any, clients), TOPICS, group="g", instance="a", timeout=1)
    clients.fake.give(0, 1)
    assert log.poll(0, 10).assigned == [0, 1]
    assert clients.fake.reading == {}
    log.start(0, 7)
    assert clients.fake.reading == {0: 7}
    log.start(0, 6)
    assert clients.fake.reading == {0: 6}
    clients.fake.take(0, 1)
    assert clients.fake.reading == {}
    assert sorted(log.poll(0, 10).revoked) == [0, 1]


def test_the_consumer_of_a_log_that_is_closed_is_let_go_without_a_callback() -> None:
    """Closing it would call back, and librdkafka may never answer what the callback asks."""
    clients = FakeClients()
    log = KafkaLog(cast(Any, clients), TOPICS, group="g", instance="a", timeout=1)
    log.close()
    assert clients.fake.closed == 1, "only the reader, which is in no group"
    assert not hasattr(log, "_consumer")
