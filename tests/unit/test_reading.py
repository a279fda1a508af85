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
    events.place({0: Position(5, 5, 1)})
    clients.fake.coming = [event(5), event(6)]
    assert [stored.offset for stored in events.fetch().events] == [5, 6]
    clients.fake.coming = [event(offset) for offset in range(9)]
    fetched = events.fetch()
    assert not fetched.halts
    assert [stored.offset for stored in fetched.events] == [7, 8]


def test_a_projection_reads_what_it_is_told_and_no_more() -> None:
    clients = FakeClients()
    events = feed(clients)
    events.fetch()
    assert clients.fake.reading == {}
    events.place({0: Position(5, 5, 1), 1: Position(0, 0, 0)})
    assert clients.fake.reading == {0: 5, 1: OFFSET_BEGINNING}
    events.halt(1)
    events.fetch()
    assert clients.fake.reading == {0: 5}
    events.place({0: Position(7, 7, 1), 1: Position(0, 0, 0)})
    assert clients.fake.reading == {0: 7, 1: OFFSET_BEGINNING}


def test_a_projection_goes_on_with_a_full_partition_where_it_was() -> None:
    clients = FakeClients()
    events = feed(clients)
    events.place({0: Position(5, 5, 1), 1: Position(3, 3, 1)})
    clients.fake.coming = [event(5)]
    events.fetch()
    clients.fake.coming = [event(6)]  # it was on its way
    assert events.fetch(frozenset({0})).events == []
    assert clients.fake.reading == {1: 3}
    clients.fake.coming = [event(6)]
    assert [stored.offset for stored in events.fetch().events] == [6]
    assert clients.fake.reading == {0: 6, 1: 3}


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
