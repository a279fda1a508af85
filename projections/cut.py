"""Where to cut what was read, so that no batch is shown in part. Pure.

The entries of a batch are in several partitions, and these are read independently: one is ahead of the other. What is
written in one database transaction must hold all entries of a batch or none. So each partition is cut before the
first event that can't come yet; what is behind it waits.

- An entry of a batch comes with all the others.
- One that was not promised before was posted in one Kafka transaction with all the others and with the answer of the
  batch, `BatchPosted`: it comes with that, too.
- `BatchPosted` comes with the entries that it tells, or after them.

Cutting one partition takes an entry away, so another may have to be cut before an entry of that batch, and so on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from events.follow import StoredEvent
from events.types import BatchEntryPosted, BatchPosted

_TOLD: Final = frozenset({BatchEntryPosted, BatchPosted})
"""Types of events that may have to wait for others."""

Place = tuple[int, BatchEntryPosted | BatchPosted]
"""An event and its index in what waits of its partition."""


def consistent_cut(waiting: Mapping[int, Sequence[StoredEvent]], written: Mapping[int, int]) -> dict[int, int]:
    """Return how many events of each partition may be written together: the most with which no batch is in part.

    `waiting` are the events of each partition that were read and not written, in order; `written` is the sequence
    that comes next in each, of those that are written.
    """
    cut = {partition: len(events) for partition, events in waiting.items()}
    places = {partition: found for partition, events in waiting.items() if (found := _places(events))}
    if places:
        _cut_batches(places, written, cut)
    return cut


def _places(events: Sequence[StoredEvent]) -> list[Place]:
    return [(index, stored.event) for index, stored in enumerate(events) if type(stored.event) in _TOLD]  # type: ignore[misc]  # narrowed by `in`


@dataclass(slots=True)
class _Batch:
    """What waits of one batch: its entries and its answer, each by partition and index."""

    entries: list[tuple[int, int]] = field(default_factory=list)
    answer: tuple[int, int] | None = None
    legs: int = 0
    promised: bool = True
    told: BatchPosted | None = None

    def take(self, partition: int, index: int, event: BatchEntryPosted | BatchPosted) -> None:
        if isinstance(event, BatchPosted):
            self.answer, self.told = (partition, index), event
        else:
            self.entries.append((partition, index))
            self.legs, self.promised = event.legs, event.reserved

    def is_whole(self, written: Mapping[int, int]) -> bool:
        """Whether what waits can be written together, without anything that was not read yet."""
        if self.entries:
            return len(self.entries) == self.legs and (self.promised or self.answer is not None)
        assert self.told is not None
        return all(entry.sequence < written.get(entry.partition, 0) for entry in self.told.entries)


def _cut_batches(places: dict[int, list[Place]], written: Mapping[int, int], cut: dict[int, int]) -> None:
    """Cut before all that can't come. Each event is looked at once when it is found and once when it is cut off."""
    batches: dict[str, _Batch] = {}
    for partition, found in places.items():
        for index, event in found:
            batches.setdefault(event.command_id, _Batch()).take(partition, index, event)
    cut_off = [batch_id for batch_id, batch in batches.items() if not batch.is_whole(written)]
    while cut_off:
        batch = batches.pop(cut_off.pop(), None)
        if batch is None:  # cut off before
            continue
        for partition, index in (*batch.entries, *([batch.answer] if batch.answer else [])):
            if index < cut[partition]:
                cut[partition] = index
                cut_off += _behind(places[partition], index, batches)


def _behind(found: list[Place], index: int, batches: Mapping[str, _Batch]) -> list[str]:
    """Take what is not before `index` out of `found`, and return the batches that can't come without it."""
    batch_ids = []
    while found and found[-1][0] >= index:
        _, event = found.pop()
        batch = batches.get(event.command_id)
        if batch is not None and (isinstance(event, BatchEntryPosted) or not batch.promised):
            batch_ids.append(event.command_id)
    return batch_ids
