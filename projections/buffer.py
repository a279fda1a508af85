"""What was read and not written yet, by partition; most of the time nothing is left in it.

It hands out what may be written together. A partition that waits for another, since a batch has entries in both, is
not read further when much of it waits; the others go on. That can end in each waiting for what the other has further
on: then there is more room for all, up to a bound.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from events.follow import StoredEvent
from events.types import BatchEntryPosted, BatchPosted
from projections.cut import consistent_cut


@dataclass(slots=True)
class Buffer:
    """Holds `room` events of each partition and `most` in all, by some that were on their way when it was full.

    `grow` doubles the room; it is as it was once nothing waits.
    """

    room: int
    most: int
    whole_batches: bool = True
    """Whether a batch is handed out as a whole; otherwise nothing waits."""
    _waiting: dict[int, list[StoredEvent]] = field(default_factory=dict)
    _taken: dict[int, int] = field(default_factory=dict)
    """The sequence that is to be taken next."""
    _now: int = 0
    """The room there is now."""

    def begin(self, sequences: Mapping[int, int]) -> None:
        """Forget everything; these sequences (by partition) come next."""
        self._waiting = {partition: [] for partition in sequences}
        self._taken = dict(sequences)
        self._now = self.room

    def add(self, events: Iterable[StoredEvent]) -> None:
        """Take in what comes next of any partitions."""
        for stored in events:
            self._waiting[stored.partition].append(stored)

    def take(self) -> list[StoredEvent]:
        """Return all that may be written together now, each partition's events in order, and forget it."""
        if self.whole_batches:
            cut = consistent_cut(self._waiting, self._taken)
        else:
            cut = {partition: len(events) for partition, events in self._waiting.items()}
        taken: list[StoredEvent] = []
        for partition, count in cut.items():
            if count:
                events = self._waiting[partition]
                taken += events[:count]
                self._waiting[partition] = events[count:]
                self._taken[partition] += count
        if not any(self._waiting.values()):
            self._now = self.room
        return taken

    def put_back(self, events: Iterable[StoredEvent]) -> None:
        """Take in again, in front, what was taken last."""
        before: dict[int, list[StoredEvent]] = {}
        for stored in events:
            before.setdefault(stored.partition, []).append(stored)
        for partition, back in before.items():
            self._waiting[partition] = back + self._waiting[partition]
            self._taken[partition] = back[0].event.sequence

    def drop(self, partition: int, sequence: int) -> None:
        """Forget the events of `partition` from `sequence` on: they will never come."""
        del self._waiting[partition][sequence - self._taken[partition] :]

    @property
    def full(self) -> frozenset[int]:
        """The partitions that are not to be read further for now: all that wait, when there is no more room."""
        room = 1 if self.is_at_its_bound else self._now
        return frozenset(partition for partition, events in self._waiting.items() if len(events) >= room)

    @property
    def is_at_its_bound(self) -> bool:
        """Whether there is no more room in all."""
        return sum(map(len, self._waiting.values())) >= self.most

    def grow(self) -> None:
        """Make more room for each partition, up to the bound of all."""
        self._now = min(self._now * 2, self.most)

    def waits_for(self, partition: int) -> str | None:
        """Return the batch that is not whole yet, for which `partition` waits; None when it doesn't."""
        events = self._waiting[partition]
        event = events[0].event if events else None
        return event.command_id if isinstance(event, BatchEntryPosted | BatchPosted) else None
