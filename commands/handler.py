"""The handler: commands in, one transaction out. It owns partitions; no two handlers own the same.

One turn polls once, brings newly assigned partitions a step nearer, and decides what came as one group: begin, append
events, checkpoints and outcomes, commit them together with the offsets. Only then is the state what was decided.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from commands.checkpoints import Checkpoints
from commands.codec import tree_head
from commands.deadletter import MOST_DEAD_LETTERS, Tally, TooManyDeadLetters
from commands.group import Codecs, Decider, Reading
from commands.restore import Restorer
from commands.state import Draft, PartitionState
from events.follow import Record
from events.log import Aborted, Log, Outgoing
from events.topics import Topics, mismatch
from events.types import PartitionOpened

log = logging.getLogger(__name__)

IDLE: Final = 0.5
_RESTORING: Final = 0.01
_APPEND_EVERY: Final = 500
_MOST_APPENDED: Final = 8 * 1024 * 1024
"""Bytes of one transaction, after which no command is begun: many large batches would outlast its time-out."""
_KEEP_UP_EVERY: Final = 60_000_000


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


class _Drafts:
    """The drafts of one transaction: of any partition that is ready, made when it is first asked for."""

    def __init__(self, ready: Mapping[int, PartitionState], epochs: Mapping[int, int], recorded_at: int) -> None:
        self._ready = ready
        self._epochs = epochs
        self._recorded_at = recorded_at
        self._drafts: dict[int, Draft] = {}

    def get(self, partition: int) -> Draft | None:
        """See `commands.state.Drafts`."""
        return self[partition] if partition in self._ready else None

    def __getitem__(self, partition: int) -> Draft:
        draft = self._drafts.get(partition)
        if draft is None:
            state, epoch = self._ready[partition], self._epochs[partition]
            draft = self._drafts[partition] = Draft(state, recorded_at=self._recorded_at, writer_epoch=epoch)
        return draft

    def consumed(self, taken: Iterable[int]) -> dict[int, int]:
        """Return by partition where its commands come next: of `taken`, and of all that may have been written to.

        Also of one whose accounts only had a part in a batch: its offset is withheld then while the transaction is
        open, which is what the handler that takes it over waits for.
        """
        return {p: self[p].next_command_offset for p in (*taken, *self._drafts)}

    def __iter__(self) -> Iterator[Draft]:
        return iter(self._drafts.values())

    def commit(self) -> None:
        """Make all of them the states. Only after the transaction is committed."""
        for draft in self._drafts.values():
            draft.commit()


class Handler:
    """Handles the commands of the partitions that `log` is assigned.

    `group_size` bounds the commands of one transaction, `most_dead_letters` those that can't be read among the last
    twice as many (0: no bound); `now` gives microseconds since 1970 UTC.
    """

    def __init__(
        self,
        *,
        log: Log,
        topics: Topics,
        codecs: Codecs,
        checkpoints: Checkpoints,
        decider: Decider,
        partition_count: int,
        group_size: int,
        restorer: Restorer,
        most_dead_letters: int = MOST_DEAD_LETTERS,
        now: Callable[[], int] = now_micros,
    ) -> None:
        self._log = log
        self._topics = topics
        self._codecs = codecs
        self._checkpoints = checkpoints
        self._decider = decider
        self._partition_count = partition_count
        self._group_size = group_size
        self._now = now
        self._restorer = restorer
        self._ready: dict[int, PartitionState] = {}
        self._epochs: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._keep_up_at = 0
        self._tally = Tally(topics=topics, most=most_dead_letters)

    def turn(self, timeout: float = IDLE) -> Turn:
        """Do one turn; waits up to `timeout` seconds when there is nothing to do.

        Raises:
            LogLost: start over with a new log.
            TooManyDeadLetters: most of the last commands can't be read; those of this turn stay where they are.
            LedgerError: something that starting over does not mend.
        """
        polled = self._log.poll(min(timeout, _RESTORING) if self._restorer else timeout, self._group_size)
        self._restorer.drop(polled.revoked)
        for state in [self._ready.pop(p) for p in polled.revoked if p in self._ready]:
            state.close()
            self._ends.pop(state.partition, None)
        self._restorer.add(polled.assigned)
        if self._restorer:
            self._take_up(self._restorer.step())
        self._ends.update((p, end) for p, end in polled.ends if p in self._ready)
        records = [record for record in polled.records if self._is_next(record)]
        commands, appended = self._handle(records) if records else (0, self._keep_up())
        return Turn(
            commands=commands,
            appended=appended,
            ready=len(self._ready),
            restoring=len(self._restorer),
        )

    def _is_next(self, record: Record) -> bool:
        state = self._ready.get(record.partition)
        return state is not None and record.offset >= state.position.next_command_offset

    def _take_up(self, states: Sequence[PartitionState]) -> None:
        """Start on partitions that are restored; a new one begins with the event that records the partition count."""
        new = [state for state in states if state.position.next_sequence == 0]
        self._ready.update({state.partition: state for state in states})
        for state in states:
            if state not in new and state.position.partition_count != self._partition_count:
                raise mismatch(expected=state.position.partition_count, found=self._partition_count)
        if new:
            self._open(new)
        for state in states:
            position = state.position
            self._epochs[state.partition] = position.writer_epoch + 1
            where = state.partition, position.next_sequence, position.next_command_offset
            log.info("partition %d is taken up: sequence %d, command %d come next", *where)
            self._log.start(state.partition, position.next_command_offset)

    def _open(self, states: Sequence[PartitionState]) -> None:
        drafts = [Draft(state, recorded_at=self._now()) for state in states]
        messages = []
        for draft in drafts:
            opened = PartitionOpened(0, 0, draft.recorded_at, draft.partition, self._partition_count)
            data = self._codecs.events.encode(opened)
            draft.open(opened, data)
            messages += [Outgoing(self._topics.events, draft.partition, None, data), self._checkpoints.of(draft)]
        self._log.begin()
        self._log.append(messages)
        self._log.commit({draft.partition: draft.next_command_offset for draft in drafts})
        for draft in drafts:
            draft.commit()

    def _handle(self, records: Sequence[Record]) -> tuple[int, int]:
        """Return how many commands were answered, and how many messages appended: none of an aborted group."""
        by_partition: defaultdict[int, list[Reading]] = defaultdict(list)
        for record in records:
            by_partition[record.partition].append(self._decider.read(record))
        drafts = _Drafts(self._ready, self._epochs, self._now())
        self._log.begin()
        try:
            appended, tally = self._append(drafts, by_partition)
        except TooManyDeadLetters:
            self._log.abort()
            raise
        try:
            self._log.commit(drafts.consumed(by_partition))
        except Aborted:
            self._go_back(by_partition)
            return 0, 0
        drafts.commit()
        self._tally = tally
        short = [p for p, group in by_partition.items() if self._is_next(group[-1][0])]  # the cap came before its end
        self._go_back(short)
        left = sum(self._is_next(record) for p in short for record, _ in by_partition[p])
        return len(records) - left, appended

    def _append(self, drafts: _Drafts, by_partition: dict[int, list[Reading]]) -> tuple[int, Tally]:
        """Decide and append; return how many messages, and the tally of dead letters when they are committed.

        Outcomes come last: they tell of the tree as it is when all is decided.
        """
        appended, size, tally, last = 0, 0, self._tally, self._topics.outcomes
        outcomes: list[Outgoing] = []
        for p, group in by_partition.items():
            draft = drafts[p]
            for i in range(0, len(group), _APPEND_EVERY):
                if size >= _MOST_APPENDED:
                    break
                out = self._decider.decide(drafts, draft, group[i : i + _APPEND_EVERY], most=_MOST_APPENDED - size)
                tally = tally.after(out.messages)
                self._log.append([message for message in out.messages if message.topic != last])
                outcomes += [message for message in out.messages if message.topic == last]
                appended += len(out.messages)
                size += out.size
        self._append_heads(drafts, outcomes)
        return appended, tally

    def _append_heads(self, drafts: _Drafts, outcomes: Sequence[Outgoing]) -> None:
        """Append the checkpoints of partitions that have new events, and outcomes with the heads of their trees."""
        heads = {draft.partition: tree_head(draft.next_sequence, draft.root) for draft in drafts}
        seal = self._codecs.outcomes.seal
        messages = [self._checkpoints.of(draft) for draft in drafts if draft.has_grown]
        messages += [Outgoing(topic, None, key, seal(value or b"", heads)) for topic, _, key, value, _ in outcomes]
        for i in range(0, len(messages), _APPEND_EVERY):
            self._log.append(messages[i : i + _APPEND_EVERY])

    def _go_back(self, partitions: Iterable[int]) -> None:
        """Take the commands of an aborted group again, or those for which there was no room."""
        for p in partitions:
            self._ends.pop(p, None)  # there are commands before it again
            self._log.start(p, self._ready[p].position.next_command_offset)

    def _keep_up(self) -> int:
        """Commit, once in a while when there is nothing else to do, where partitions end behind their last command.

        The markers there go unconsumed else, and when retention has deleted them nobody can tell that they were no
        commands.
        """
        states = self._ready
        ahead = {p: end for p, end in self._ends.items() if end > states[p].position.next_command_offset}
        if not ahead or (now := self._now()) < self._keep_up_at:
            return 0
        self._keep_up_at = now + _KEEP_UP_EVERY
        self._log.begin()
        try:
            self._log.commit(ahead)
        except Aborted:
            return 0
        for p, end in ahead.items():
            states[p].position = states[p].position._replace(next_command_offset=end)
        return 0

    def close(self) -> None:
        """Let go of the states of all partitions."""
        self._restorer.close()
        for state in self._ready.values():
            state.close()
        self._ready.clear()
