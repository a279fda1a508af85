"""Bringing a partition back: from its store and the log, before the first command is taken.

The order matters (a predecessor may still be writing). First the group's committed offset: the broker withholds it
while a transaction that moves it is open, and after it no older member can commit. Then the end of the events, once
no transaction is open on them. Then everything up to that end, beginning with the last event that the store has seen:
it must be in the log as the store remembers it, or the store is thrown away and all is read.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from commands.state import MOST_CACHED, PartitionState
from commands.store import Stores
from events.codec import EventCodec, Undecodable
from events.errors import CommandsExpired, LogCorrupt
from events.follow import Record, SequenceCheck
from events.log import Log, LogLost

log = logging.getLogger(__name__)

PATIENCE: Final = 120.0
"""Seconds after which a predecessor's transaction or a read that stands still counts as a failure."""


class _Stale(Exception):
    """The store is not one of this log."""


@dataclass(slots=True)
class _Restoring:
    """`verified`: what the store had seen last was found in the log, or it is empty. `position` is an offset."""

    state: PartitionState
    check: SequenceCheck
    position: int
    verified: bool
    since: float
    committed: int | None = None
    end: int | None = None

    @property
    def waiting_for(self) -> str:
        """What has to come next, for an error message."""
        if self.committed is None:
            return "a transaction that moves its committed offset stays open"
        if self.end is None:
            return "a transaction on its events stays open (docs/operations.md, An open transaction)"
        return f"its events were read up to offset {self.position} of {self.end}"

    @property
    def is_read(self) -> bool:
        """Whether all events have been read."""
        return self.end is not None and self.position >= self.end

    def take(self, codec: EventCodec, records: Sequence[Record]) -> None:
        """Take in the next records; raises `LogCorrupt`, or `_Stale` when the store is to be thrown away."""
        rest = records if self.verified else self._after_last_seen(codec, records)
        if rest:
            self.state.replay([self.check.decode(codec, record) for record in rest])

    def _after_last_seen(self, codec: EventCodec, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records after the last event that the store has seen."""
        seen = self.state.position
        for i, record in enumerate(records):
            try:
                sequence = codec.decode(record.value).sequence
            except Undecodable as error:
                raise _Stale(f"there is no event at offset {record.offset}: {error.reason}") from error
            if sequence >= seen.next_sequence - 1:
                if sequence >= seen.next_sequence or sha256(record.value or b"").digest() != seen.last_event:
                    raise _Stale(f"the log has another event at sequence {sequence}")
                self.verified = True
                return records[i + 1 :]
        return ()


@dataclass(slots=True)
class Restorer:
    """Restores partitions a bit at a time, so that its caller can go on polling and serving the others."""

    log: Log
    codec: EventCodec
    stores: Stores
    clock: Callable[[], float] = time.monotonic
    most_cached: int = MOST_CACHED
    on_progress: Callable[[int, int, int], None] | None = None
    _restoring: dict[int, _Restoring] = field(default_factory=dict)

    def add(self, partitions: Iterable[int]) -> None:
        """Begin with these."""
        for p in partitions:
            self._restoring[p] = self._begin(p)

    def _begin(self, partition: int) -> _Restoring:
        state = PartitionState(partition, self.stores.open(partition), most_cached=self.most_cached)
        if not state.is_readable:
            return self._anew(state, "it is of another version")
        seen = state.position
        check = SequenceCheck(partition, seen.next_sequence, seen.writer_epoch)
        return _Restoring(state, check, seen.event_offset, seen.next_sequence == 0, self.clock())

    def _anew(self, state: PartitionState, why: str) -> _Restoring:
        """Begin with an empty store."""
        log.warning("partition %d: the store is thrown away and made from the log: %s", state.partition, why)
        state.close()
        self.stores.discard(state.partition)
        return self._begin(state.partition)

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget these."""
        if self._restoring:
            for p in partitions:
                if p in self._restoring:
                    self._restoring.pop(p).state.close()
            self._rest()

    def close(self) -> None:
        """Forget all."""
        for work in self._restoring.values():
            work.state.close()
        self._restoring.clear()

    def _rest(self) -> None:
        """Read nothing when nothing is left to restore: a log fetches what it was asked to read, read or not."""
        if not self._restoring:
            self.log.read({}, 0)

    def __len__(self) -> int:
        """How many partitions are not restored yet."""
        return len(self._restoring)

    def step(self) -> list[PartitionState]:
        """Go on for a moment, and return what is restored; their commands come at `next_command_offset`.

        Raises:
            LogCorrupt: the log has a gap, a duplicate or bytes that are no event.
            CommandsExpired: commands were deleted that had not been handled.
            LogLost: no progress for `PATIENCE` seconds.
        """
        self._locate()
        self._read()
        return self._finish([p for p, work in self._restoring.items() if work.is_read and work.verified])

    def _locate(self) -> None:
        """Ask for the committed offsets, and after them for the ends, of those that have none yet."""
        for p, work in self._restoring.items():
            if self.clock() - work.since > PATIENCE:
                raise LogLost(f"partition {p}: no progress in restoring for {PATIENCE:.0f} s: {work.waiting_for}")
        if unknown := [p for p, work in self._restoring.items() if work.committed is None]:
            for p, committed in self.log.committed(unknown).items():
                self._restoring[p].committed = committed
        if open_ended := [p for p, w in self._restoring.items() if w.committed is not None and w.end is None]:
            for p, end in self.log.stable_ends(open_ended).items():
                self._restoring[p].end = end

    def _reading(self) -> Mapping[int, _Restoring]:
        return {p: work for p, work in self._restoring.items() if work.end is not None}

    def _read(self) -> None:
        self._begin_anew_what_is_ahead()
        reading = self._reading()
        if not reading:
            return
        read: defaultdict[int, list[Record]] = defaultdict(list)
        for record in self.log.read({p: work.position for p, work in reading.items()}, 0.1):
            read[record.partition].append(record)
        for p, work in reading.items():
            try:
                self._take(work, read[p], self.log.read_position(p))
            except _Stale as reason:
                self._begin_again(work, str(reason))

    def _begin_anew_what_is_ahead(self) -> None:
        for work in list(self._restoring.values()):
            if work.is_read and not work.verified:
                last_seen = work.state.position.next_sequence - 1
                self._begin_again(work, f"the log ends before sequence {last_seen}, which it has seen")

    def _begin_again(self, work: _Restoring, why: str) -> None:
        again = self._anew(work.state, why)
        self._restoring[work.state.partition] = replace(again, committed=work.committed, end=work.end)

    def _take(self, work: _Restoring, records: Sequence[Record], position: int) -> None:
        work.take(self.codec, records)
        work.position = position
        if records:
            work.since = self.clock()
        if self.on_progress is not None:
            self.on_progress(work.state.partition, work.position, work.end or 0)

    def _finish(self, partitions: list[int]) -> list[PartitionState]:
        if not partitions:
            return []
        oldest = self.log.oldest_commands(partitions)
        restored = [_restored(self._restoring[p], oldest[p]) for p in partitions]
        for p in partitions:
            del self._restoring[p]
        self._rest()
        return restored


def _restored(work: _Restoring, oldest_command: int) -> PartitionState:
    state, partition = work.state, work.state.partition
    position = state.position
    if position.next_sequence and not position.partition_count:  # an end without events is an aborted transaction's
        raise LogCorrupt(f"partition {partition} does not begin with PartitionOpened", partition=partition)
    if not position.next_sequence and work.committed is not None and work.committed >= 0:
        raise LogCorrupt(
            f"partition {partition} has no events, though commands up to {work.committed} were handled: its "
            "events were deleted. They are the record: restore the topic, or begin a new ledger under another name",
            partition=partition,
            committed=work.committed,
        )
    next_command = max(position.next_command_offset, work.committed or 0)
    if oldest_command > next_command:
        raise _expired(work, next_command, oldest_command - 1)
    state.position = position._replace(next_command_offset=next_command)
    return state


def _expired(work: _Restoring, first: int, last: int) -> CommandsExpired:
    """Return the error for commands that are gone; a topic older than its ledger is no reason to skip any."""
    if work.state.position.next_sequence:
        why = "retention of the commands topic is too short, or no handler ran for too long"
    else:
        why = (
            "and the ledger has no events. Were its events deleted too? Then restore them. Else it is a new ledger "
            "on an old commands topic: begin under another name, or delete that topic"
        )
    partition = work.state.partition
    message = f"partition {partition}: commands {first} to {last} were deleted before they were handled: {why}"
    return CommandsExpired(message, partition=partition, first=first, last=last)
