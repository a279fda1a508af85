"""Bugs of those who share a log: fencing, transactions, and restoring what others have written."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from unittest.mock import patch

from commands.group import Decider
from commands.handler import Handler
from commands.outbox import Outbox
from commands.restore import Restorer, _Restoring
from commands.state import PartitionState
from events.codec import EventCodec
from events.follow import Record
from events.log import LogLost, Outgoing
from tests.simulation.planted import Bugs
from tests.support.fake_cluster import FakeCluster, Transaction
from tests.support.fake_log import FakeLog
from tests.support.samples import TOPICS

BUGS = Bugs()


# Fencing and transactions.


@BUGS.plant
def a_member_of_an_old_generation_commits() -> AbstractContextManager[object]:
    """The group's generation is not that of the last poll, but whatever it is now."""
    original = FakeLog.commit

    def commit(self: FakeLog, consumed: Mapping[int, int]) -> None:
        self._generation = self._cluster.generation
        original(self, consumed)

    return patch.object(FakeLog, "commit", commit)


@BUGS.plant
def a_predecessor_of_the_same_name_is_not_fenced() -> AbstractContextManager[object]:
    """Each process has a transactional id of its own."""

    def may_write(self: FakeCluster, transaction: Transaction) -> bool:
        return transaction.open

    return patch.object(FakeCluster, "may_write", may_write)


@BUGS.plant
def a_lost_commit_is_taken_for_done() -> AbstractContextManager[object]:
    """After a time-out the handler goes on with the same producer, as if nothing were."""
    original = FakeLog.commit

    def commit(self: FakeLog, consumed: Mapping[int, int]) -> None:
        with suppress(LogLost):
            original(self, consumed)
        self._lost, self._transaction = False, None

    return patch.object(FakeLog, "commit", commit)


@BUGS.plant
def outcomes_are_told_before_the_commit() -> AbstractContextManager[object]:
    """Outcomes are sent outside of the transaction."""
    original = FakeLog.append

    def append(self: FakeLog, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if message.topic == TOPICS.outcomes:
                self._cluster.produce(TOPICS.outcomes, message.key, message.value)
        original(self, [message for message in messages if message.topic != TOPICS.outcomes])

    return patch.object(FakeLog, "append", append)


@BUGS.plant
def offsets_are_committed_after_the_transaction() -> AbstractContextManager[object]:
    """The offsets are not in the transaction but follow it."""
    original = FakeLog.commit

    def commit(self: FakeLog, consumed: Mapping[int, int]) -> None:
        original(self, {})
        self._cluster._committed.update(consumed)

    return patch.object(FakeLog, "commit", commit)


@BUGS.plant
def an_aborted_group_is_not_taken_again() -> AbstractContextManager[object]:
    """After an abort the handler goes on with the next commands."""

    def go_back(self: Handler, partitions: Iterable[int]) -> None:
        pass

    return patch.object(Handler, "_go_back", go_back)


@BUGS.plant
def state_is_kept_before_the_commit() -> AbstractContextManager[object]:
    """What was decided is in the state, aborted or not."""
    original = Decider.decide

    def decide(self: Decider, *given: Any, **named: Any) -> Outbox:
        out, draft = original(self, *given, **named), given[1]
        draft.commit()
        vars(draft)["commit"] = lambda: None  # once is enough
        return out

    return patch.object(Decider, "decide", decide)


@BUGS.plant
def a_writer_goes_by_the_epoch_of_the_last() -> AbstractContextManager[object]:
    """Nobody can tell their events apart."""
    original = Handler._take_up

    def take_up(self: Handler, states: Sequence[PartitionState]) -> None:
        original(self, states)
        self._epochs.update({restored.partition: restored.position.writer_epoch for restored in states})

    return patch.object(Handler, "_take_up", take_up)


@BUGS.plant
def what_comes_again_is_handled_again() -> AbstractContextManager[object]:
    """Commands are not compared with how far the partition has come."""

    def is_next(self: Handler, record: Record) -> bool:
        return record.partition in self._ready

    return patch.object(Handler, "_is_next", is_next)


# Restoring.


@BUGS.plant
def restoring_does_not_await_open_transactions() -> AbstractContextManager[object]:
    """It stops at the last stable offset, which is short of the high watermark."""

    def stable_ends(self: FakeLog, partitions: Collection[int]) -> dict[int, int]:
        return {p: self._cluster.stable_end(TOPICS.events, p) for p in partitions}

    return patch.object(FakeLog, "stable_ends", stable_ends)


@BUGS.plant
def the_committed_offset_is_not_awaited() -> AbstractContextManager[object]:
    """It is taken as it was before a transaction that is still open."""

    def committed(self: FakeLog, partitions: Collection[int]) -> dict[int, int]:
        return {p: self._cluster._committed.get(p, -1) for p in partitions}

    return patch.object(FakeLog, "committed", committed)


@BUGS.plant
def restoring_stops_short_of_the_end() -> AbstractContextManager[object]:
    """The last event is taken for a marker."""

    def is_read(self: _Restoring) -> bool:
        return self.end is not None and self.position >= self.end - 2

    return patch.object(_Restoring, "is_read", property(is_read))


@BUGS.plant
def a_store_is_trusted_without_the_log() -> AbstractContextManager[object]:
    """What is on the disk is taken for all that there is."""
    original = Restorer._begin

    def begin(self: Restorer, partition: int) -> _Restoring:
        work = original(self, partition)
        if work.state.position.next_sequence:
            work.verified, work.end = True, work.position
        return work

    return patch.object(Restorer, "_begin", begin)


@BUGS.plant
def a_store_ahead_of_the_log_is_kept() -> AbstractContextManager[object]:
    """State is kept before the commit, and what it had seen last is not looked up in the log."""

    def take(self: _Restoring, codec: EventCodec, records: Sequence[Record]) -> None:
        self.verified = True
        new = [r for r in records if codec.decode(r.value).sequence >= self.state.position.next_sequence]
        self.state.replay([self.check.decode(codec, record) for record in new])

    def begin_anew_what_is_ahead(self: Restorer) -> None:
        for work in self._restoring.values():
            work.verified = True

    @contextmanager
    def all_of_it() -> Iterator[None]:
        with (
            state_is_kept_before_the_commit(),
            patch.object(_Restoring, "take", take),
            patch.object(Restorer, "_begin_anew_what_is_ahead", begin_anew_what_is_ahead),
        ):
            yield

    return all_of_it()
