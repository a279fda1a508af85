"""The handler: commands in, one transaction out. It owns partitions; no two handlers own the same.

One turn polls once, brings newly assigned partitions a step nearer, and decides what came as one group: begin, append
events and outcomes, commit them together with the offsets. Only then is the state what was decided.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from commands.group import Decider, Reading
from commands.restore import Restorer
from commands.state import Draft, PartitionState
from events.codec import EventCodec
from events.errors import PartitionCountMismatch
from events.follow import Record
from events.log import Aborted, Log, Outgoing
from events.topics import Topics, mismatch
from events.types import PartitionOpened

log = logging.getLogger(__name__)

IDLE: Final = 0.5
_RESTORING: Final = 0.01
_APPEND_EVERY: Final = 500


def now_micros() -> int:
    """Return the time in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn did: `commands` and `appended` count what was committed."""

    commands: int = 0
    appended: int = 0
    ready: int = 0
    restoring: int = 0


class Handler:
    """Handles the commands of the partitions that `log` is assigned.

    `group_size` bounds the commands of one transaction; `now` gives microseconds since 1970 UTC.
    """

    def __init__(
        self,
        *,
        log: Log,
        topics: Topics,
        events: EventCodec,
        decider: Decider,
        partition_count: int,
        group_size: int,
        restorer: Restorer,
        now: Callable[[], int] = now_micros,
    ) -> None:
        self._log = log
        self._topics = topics
        self._events = events
        self._decider = decider
        self._partition_count = partition_count
        self._group_size = group_size
        self._now = now
        self._restorer = restorer
        self._ready: dict[int, PartitionState] = {}

    def turn(self, timeout: float = IDLE) -> Turn:
        """Do one turn; waits up to `timeout` seconds when there is nothing to do.

        Raises:
            LogLost: start over with a new log.
            LedgerError: something that starting over does not mend.
        """
        polled = self._log.poll(min(timeout, _RESTORING) if self._restorer else timeout, self._group_size)
        self._restorer.drop(polled.revoked)
        for partition in polled.revoked:
            self._ready.pop(partition, None)
        self._restorer.add(polled.assigned)
        if self._restorer:
            self._take_up(self._restorer.step())
        records = [record for record in polled.records if self._is_next(record)]
        appended = self._handle(records) if records else 0
        return Turn(
            commands=len(records) if appended else 0,  # each is answered; nothing appended means an aborted group
            appended=appended,
            ready=len(self._ready),
            restoring=len(self._restorer),
        )

    def _is_next(self, record: Record) -> bool:
        state = self._ready.get(record.partition)
        return state is not None and record.offset >= state.next_command_offset

    def _take_up(self, states: Sequence[PartitionState]) -> None:
        """Start on partitions that are restored; a new one begins with the event that records the partition count."""
        new = [state for state in states if state.next_sequence == 0]
        for state in states:
            if state not in new and state.partition_count != self._partition_count:
                raise _recorded(state, self._partition_count)
        if new:
            self._open(new)
        for state in states:
            state.writer_epoch += 1
            self._ready[state.partition] = state
            where = state.partition, state.next_sequence, state.next_command_offset
            log.info("partition %d is taken up: sequence %d, command %d come next", *where)
            self._log.start(state.partition, state.next_command_offset)

    def _open(self, states: Sequence[PartitionState]) -> None:
        opened = [PartitionOpened(0, 0, self._now(), state.partition, self._partition_count) for state in states]
        self._log.begin()
        self._log.append(
            [Outgoing(self._topics.events, event.partition, None, self._events.encode(event)) for event in opened]
        )
        self._log.commit({state.partition: state.next_command_offset for state in states})
        for state, event in zip(states, opened, strict=True):
            state.open(event)

    def _handle(self, records: Sequence[Record]) -> int:
        by_partition: defaultdict[int, list[Reading]] = defaultdict(list)
        for record in records:
            by_partition[record.partition].append(self._decider.read(record))
        now = self._now()
        drafts = {p: Draft(self._ready[p], recorded_at=now) for p in by_partition}
        self._log.begin()
        appended = 0
        for p, group in by_partition.items():
            for i in range(0, len(group), _APPEND_EVERY):
                out = self._decider.decide(drafts[p], group[i : i + _APPEND_EVERY])
                self._log.append(out)
                appended += len(out)
        try:
            self._log.commit({p: draft.next_command_offset for p, draft in drafts.items()})
        except Aborted:
            self._go_back(drafts)
            return 0
        for draft in drafts.values():
            draft.commit()
        return appended

    def _go_back(self, drafts: dict[int, Draft]) -> None:
        """Take the commands of an aborted group again, as far as their partitions are still owned."""
        for p in drafts:
            self._log.start(p, self._ready[p].next_command_offset)


def _recorded(state: PartitionState, configured: int) -> PartitionCountMismatch:
    return mismatch(expected=state.partition_count, found=configured)
