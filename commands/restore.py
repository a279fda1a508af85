"""Bringing a partition back: from the log, before the first command is taken.

The order matters (a predecessor may still be writing). First the group's committed offset: the broker withholds it
while a transaction that moves it is open, and after it no older member can commit. Then the end of the events, once
no transaction is open on them. Then everything up to that end.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from commands.state import PartitionState
from events.codec import EventCodec
from events.errors import CommandsExpired, LogCorrupt
from events.follow import SequenceCheck
from events.log import Log, LogLost

PATIENCE: Final = 120.0
"""Seconds after which a predecessor's transaction or a read that stands still counts as a failure."""


@dataclass(slots=True)
class _Restoring:
    state: PartitionState
    check: SequenceCheck
    since: float
    committed: int | None = None
    end: int | None = None
    position: int = 0

    @property
    def waiting_for(self) -> str:
        """What has to come next, for an error message."""
        if self.committed is None:
            return "a transaction that moves its committed offset stays open"
        if self.end is None:
            return "a transaction on its events stays open (docs/operations.md, An open transaction)"
        return f"its events were read up to offset {self.position} of {self.end}"


@dataclass(slots=True)
class Restorer:
    """Restores partitions a bit at a time, so that its caller can go on polling and serving the others."""

    log: Log
    codec: EventCodec
    clock: Callable[[], float] = time.monotonic
    _restoring: dict[int, _Restoring] = field(default_factory=dict)

    def add(self, partitions: Iterable[int]) -> None:
        """Begin with these."""
        for p in partitions:
            self._restoring[p] = _Restoring(PartitionState(p), SequenceCheck(p), self.clock())

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget these."""
        if self._restoring:
            for p in partitions:
                self._restoring.pop(p, None)
            self._rest()

    def _rest(self) -> None:
        """Read nothing when nothing is left to restore: a log fetches what it was asked to read, read or not."""
        if not self._restoring:
            self.log.read({}, 0)

    def __len__(self) -> int:
        """How many partitions are not restored yet."""
        return len(self._restoring)

    def step(self) -> list[PartitionState]:
        """Go on for a moment, and return what is restored; their commands come after `next_command_offset`.

        Raises:
            LogCorrupt: the log has a gap, a duplicate or bytes that are no event.
            CommandsExpired: commands were deleted that had not been handled.
            LogLost: no progress for `PATIENCE` seconds.
        """
        self._locate()
        self._read()
        return self._finish([p for p in self._restoring if self._is_read(p)])

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
        reading = self._reading()
        if not reading:
            return
        for record in self.log.read({p: work.position for p, work in reading.items()}, 0.1):
            work = reading[record.partition]
            work.state.replay(work.check.decode(self.codec, record))
            work.since = self.clock()
        for p, work in reading.items():
            work.position = self.log.read_position(p)

    def _is_read(self, partition: int) -> bool:
        work = self._restoring[partition]
        return work.end is not None and work.position >= work.end

    def _finish(self, partitions: list[int]) -> list[PartitionState]:
        if not partitions:
            return []
        oldest = self.log.oldest_commands(partitions)
        restored = [_restored(self._restoring.pop(p), oldest[p]) for p in partitions]
        self._rest()
        return restored


def _restored(work: _Restoring, oldest_command: int) -> PartitionState:
    state = work.state
    if state.next_sequence and not state.partition_count:  # an end without events is an aborted transaction's
        raise LogCorrupt(
            f"partition {state.partition} does not begin with PartitionOpened", partition=state.partition
        )
    if not state.next_sequence and work.committed is not None and work.committed >= 0:
        raise LogCorrupt(
            f"partition {state.partition} has no events, though commands up to {work.committed} were handled: its "
            "events were deleted. They are the record: restore the topic, or begin a new ledger under another name",
            partition=state.partition,
            committed=work.committed,
        )
    state.next_command_offset = max(state.next_command_offset, work.committed or 0)
    if oldest_command > state.next_command_offset:
        raise CommandsExpired(
            f"partition {state.partition}: commands {state.next_command_offset} to {oldest_command - 1} were deleted "
            "before they were handled: retention of the commands topic is too short, or no handler ran for too long",
            partition=state.partition,
            first=state.next_command_offset,
            last=oldest_command - 1,
        )
    return state
