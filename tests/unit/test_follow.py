"""A reader of the log stops at the first event that is not the next: it never skips."""

from dataclasses import replace

import pytest

from events.errors import LogCorrupt
from events.follow import Record, SequenceCheck
from events.types import Event, PartitionOpened
from tests.support.samples import CODECS, NOON, posted, rejected

OPENED = PartitionOpened(0, 1, NOON, 2, 12)


def stored(event: Event, offset: int = 40) -> Record:
    return Record(2, offset, None, CODECS.events.encode(event))


def test_events_in_their_order_pass() -> None:
    check = SequenceCheck(2)
    events: list[Event] = [OPENED, posted(sequence=1), rejected(sequence=2), posted(sequence=3)]
    for offset, event in enumerate(events):
        read = check.decode(CODECS.events, stored(event, 2 * offset))
        assert (read.partition, read.offset, read.event) == (2, 2 * offset, event)
        assert read.data == CODECS.events.encode(event)
    assert check == SequenceCheck(2, next_sequence=4, writer_epoch=1)


@pytest.mark.parametrize(
    ("sequence", "says"), [(7, "a gap"), (5, "a duplicate"), (0, "a duplicate"), (-1, "a duplicate")]
)
def test_a_gap_or_a_duplicate_stops_the_partition(sequence: int, says: str) -> None:
    check = SequenceCheck(2, next_sequence=6, writer_epoch=3)
    with pytest.raises(LogCorrupt, match=says) as stopped:
        check.decode(CODECS.events, stored(posted(sequence=sequence, writer_epoch=3)))
    assert stopped.value.details == {"partition": 2, "offset": 40, "sequence": sequence, "expected": 6}
    assert not stopped.value.retriable


def test_a_writer_that_was_fenced_stops_the_partition() -> None:
    check = SequenceCheck(2, next_sequence=6, writer_epoch=3)
    with pytest.raises(LogCorrupt, match="epoch 2 after epoch 3"):
        check.decode(CODECS.events, stored(posted(sequence=6, writer_epoch=2)))


@pytest.mark.parametrize("data", [None, b"", b"junk", b"\0\0\0\0\xff", b"\0\0\0\0\x02\x01"])
def test_bytes_that_are_no_event_stop_the_partition(data: bytes | None) -> None:
    with pytest.raises(LogCorrupt) as stopped:
        SequenceCheck(2).decode(CODECS.events, Record(2, 40, None, data))
    assert stopped.value.details["reason"]


def test_the_check_stays_where_it_was() -> None:
    check = SequenceCheck(2, next_sequence=6, writer_epoch=3)
    before = replace(check)
    for event in (posted(sequence=8, writer_epoch=9), posted(sequence=6, writer_epoch=1)):
        with pytest.raises(LogCorrupt):
            check.decode(CODECS.events, stored(event))
    assert check == before
    assert check.decode(CODECS.events, stored(posted(sequence=6, writer_epoch=4))).event.sequence == 6
