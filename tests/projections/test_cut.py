"""The law of the cut, for any log in any state of being read: never a batch in part, and never less than could be."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.follow import StoredEvent
from events.types import BatchEntryPosted, BatchPosted, BatchResult, EntryType, Event
from projections.buffer import Buffer
from tests.projections.log import NOON
from tests.support.samples import UNIT, posted

Log = dict[int, list[StoredEvent]]
"""The events of each partition, from sequence 0."""


def leg(batch_id: str, number: int, legs: int, *, promised: bool) -> BatchEntryPosted:
    told: dict[str, Any] = dict.fromkeys(BatchEntryPosted._fields)
    told |= {"account_id": "a", "command_id": batch_id, "batch_id": batch_id, "leg": number, "legs": legs}
    return BatchEntryPosted(**{**told, "reserved": promised})


def answer(batch_id: str) -> BatchPosted:
    return BatchPosted(0, 1, NOON, batch_id, 0, b"", [], None, None, None)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Draw partitions with batches and other entries, in any order: the log may be as unlucky as it likes."""
    count = draw(st.integers(1, 4))
    partition = st.integers(0, count - 1)
    places: list[tuple[int, Event]] = []
    for number in range(draw(st.integers(0, 8))):
        batch_id, promised = f"b-{number}", draw(st.booleans())
        of = draw(st.lists(partition, min_size=1, max_size=4))
        places += [(p, leg(batch_id, n, len(of), promised=promised)) for n, p in enumerate(of)]
        places.append((draw(partition), answer(batch_id)))
    places += [(p, posted()) for p in draw(st.lists(partition, max_size=12))]
    draw(st.randoms(use_true_random=False)).shuffle(places)
    return _numbered(count, places)


def _numbered(count: int, places: Sequence[tuple[int, Event]]) -> Log:
    """Return the log with its sequences, and these in the answers of batches."""
    log: Log = {p: [] for p in range(count)}
    results: dict[str, list[BatchResult]] = {}
    for partition, event in places:
        sequence = len(log[partition])
        log[partition].append(StoredEvent(partition, sequence, b"", event._replace(sequence=sequence)))
        if isinstance(event, BatchEntryPosted):
            result = BatchResult(partition, sequence, 1, UNIT, "a", EntryType.CREDIT, UNIT, "USD")
            results.setdefault(event.batch_id, []).append(result)
    for events in log.values():
        for index, stored in enumerate(events):
            if isinstance(stored.event, BatchPosted):
                told = stored.event._replace(entries=results[stored.event.command_id])
                events[index] = stored._replace(event=told)
    return log


def most(log: Log, read: Mapping[int, int]) -> dict[int, int]:
    """Return how much of what was read may be there at most, found by trying: cut before what can't be, and again."""
    cut = dict(read)
    while True:
        before = dict(cut)
        for partition, events in log.items():
            for index in range(cut[partition]):
                if not _may_be(events[index].event, log, cut):
                    cut[partition] = index
                    break
        if cut == before:
            return cut


def _may_be(event: Event, log: Log, cut: Mapping[int, int]) -> bool:
    if not isinstance(event, BatchEntryPosted | BatchPosted):
        return True
    alone = isinstance(event, BatchPosted) or event.reserved
    kinds = BatchEntryPosted if alone else BatchEntryPosted | BatchPosted
    return all(
        stored.event.sequence < cut[partition]
        for partition, events in log.items()
        for stored in events
        if isinstance(stored.event, kinds) and stored.event.command_id == event.command_id
    )


@given(logs(), st.integers(0, 2**32), st.integers(1, 6))
def test_however_a_log_is_read_its_batches_come_whole_and_as_soon_as_they_can(log: Log, seed: int, step: int) -> None:
    chance = random.Random(seed)
    buffer = Buffer(room=100, most=1000)
    buffer.begin(dict.fromkeys(log, 0))
    read, written = dict.fromkeys(log, 0), dict.fromkeys(log, 0)
    while read != {p: len(events) for p, events in log.items()}:
        for partition in chance.sample(sorted(log), chance.randint(1, len(log))):
            upto = min(read[partition] + chance.randint(0, step), len(log[partition]))
            buffer.add(log[partition][read[partition] : upto])
            read[partition] = upto
        for stored in buffer.take():
            assert stored.event.sequence == written[stored.partition], "in order, each once"
            written[stored.partition] += 1
        assert written == most(log, read)
    assert written == read, "once all was read, all is there"


def test_what_comes_of_one_partition_alone_waits_for_nobody() -> None:
    log = _numbered(2, [(0, posted()), (0, leg("b", 0, 2, promised=True)), (1, posted()), (1, posted())])
    buffer = Buffer(room=100, most=1000)
    buffer.begin({0: 0, 1: 0})
    buffer.add([*log[0], *log[1]])
    assert [(stored.partition, stored.offset) for stored in buffer.take()] == [(0, 0), (1, 0), (1, 1)]
    assert (buffer.waits_for(0), buffer.waits_for(1)) == ("b", None)


def test_a_partition_that_waits_is_not_read_beyond_its_room_until_there_is_more() -> None:
    log = _numbered(2, [(0, leg("b", 0, 2, promised=True)), *[(0, posted())] * 9, (1, posted())])
    buffer = Buffer(room=4, most=8)
    buffer.begin({0: 0, 1: 0})
    fullness = []
    for stored in log[0][:8]:
        buffer.add([stored])
        assert buffer.take() == []
        fullness.append(bool(buffer.full))
        if buffer.full:
            buffer.grow()
    assert fullness == [False, False, False, True, False, False, False, True]
    assert buffer.is_at_its_bound
    assert buffer.full == {0}
    buffer.add(log[1])
    assert [stored.partition for stored in buffer.take()] == [1], "others go on"


def test_what_was_taken_can_be_put_back_and_dropped() -> None:
    log = _numbered(2, [(0, posted()), (0, leg("b", 0, 2, promised=True)), (0, posted()), (1, posted())])
    log[1].append(StoredEvent(1, 1, b"", leg("b", 1, 2, promised=True)._replace(sequence=1)))
    buffer = Buffer(room=100, most=1000)
    buffer.begin({0: 0, 1: 0})
    buffer.add([*log[0], *log[1]])
    taken = buffer.take()
    assert len(taken) == 5
    buffer.put_back(taken)
    buffer.drop(0, 1)
    assert [(stored.partition, stored.offset) for stored in buffer.take()] == [(0, 0), (1, 0)]
