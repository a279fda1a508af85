"""The handler when the ground moves: crashes, lost answers, rebalances, zombies, a log that is not as it should be.

Where it is cheap, a test shows that it can fail: the same story with a log that skips the remedy ends badly.
"""

from collections.abc import Collection, Mapping

import pytest

from commands.errors import IdempotencyConflict
from events.account import Account
from events.errors import CommandsExpired, Fenced, LogCorrupt, PartitionCountMismatch
from events.log import Aborted, LogLost
from events.types import EntryPosted, PartitionOpened
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import FakeLog, Loss
from tests.support.samples import CODECS, DEBIT, NOON, TOPICS, UNIT, post, posted

ALICE = {"alice": Account(1, {"USD": UNIT})}


@pytest.fixture
def ledger() -> FakeLedger:
    """A ledger that nobody has written to."""
    return FakeLedger()


def test_new_partitions_are_opened_with_the_partition_count(ledger: FakeLedger) -> None:
    ledger.member().ready()
    opened = [item.event for item in ledger.events()]
    assert [event[3:] for event in opened if isinstance(event, PartitionOpened)] == [(0, 2), (1, 2)]
    assert len(opened) == 2


def test_a_single_command_is_committed_in_the_turn_that_takes_it(ledger: FakeLedger) -> None:
    member = ledger.member().ready()
    ledger.ask(post())
    turn = member.turn()
    assert (turn.commands, turn.appended) == (1, 2)
    assert [outcome.replayed for outcome in ledger.outcomes()] == [False]
    assert ledger.accounts() == ALICE


def test_a_group_is_no_larger_than_it_may_be() -> None:
    ledger = FakeLedger(group_size=10)
    for i in range(25):
        ledger.ask(post(command_id=f"c-{i}"))
    member = ledger.member().run()
    assert [turn.commands for turn in member.turns if turn.commands] == [10, 10, 5]


def test_a_group_of_one_is_possible() -> None:
    ledger = FakeLedger(group_size=1)
    for i in range(3):
        ledger.ask(post(command_id=f"c-{i}"))
    ledger.member().run()
    assert ledger.accounts()["alice"].version == 3


@pytest.mark.parametrize("loss", [Loss.BEFORE_OFFSETS, Loss.BEFORE_COMMIT])
def test_a_crash_before_the_commit_is_as_if_nothing_had_been(ledger: FakeLedger, loss: Loss) -> None:
    member = ledger.member().ready()
    ledger.ask(post())
    member.log.lose_next_commit(loss)
    assert isinstance(member.fails(), LogLost)
    assert ledger.outcomes() == []
    ledger.member().run()
    assert [(o.replayed, o.event.sequence) for o in ledger.outcomes()] == [(False, 1)]
    assert ledger.accounts() == ALICE


def test_a_crash_after_the_commit_is_not_done_again(ledger: FakeLedger) -> None:
    member = ledger.member().ready()
    ledger.ask(post())
    member.log.lose_next_commit(Loss.AFTER_COMMIT)
    assert isinstance(member.fails(), LogLost)
    successor = ledger.member().run()
    assert sum(turn.commands for turn in successor.turns) == 0
    assert ledger.accounts() == ALICE
    ledger.ask(post())
    successor.run()
    assert [outcome.replayed for outcome in ledger.outcomes()] == [False, True]
    assert ledger.accounts() == ALICE


class CallsALossAnAbort(FakeLog):
    """Skips hazard 1's remedy: takes an unknown end for a refusal, and goes on with the same producer."""

    def commit(self, consumed: Mapping[int, int]) -> None:
        try:
            super().commit(consumed)
        except LogLost as lost:
            self._lost = False
            raise Aborted("not at all") from lost


def test_it_matters_that_an_unknown_end_is_no_abort(ledger: FakeLedger) -> None:
    member = ledger.member(make_log=CallsALossAnAbort).ready()
    ledger.ask(post())
    member.log.lose_next_commit(Loss.AFTER_COMMIT)
    member.run()
    with pytest.raises(LogCorrupt, match="duplicate"):
        ledger.accounts()


def test_a_crash_while_partitions_are_opened_does_no_harm(ledger: FakeLedger) -> None:
    """The end of the events is then past zero without an event: an aborted transaction takes offsets too."""
    member = ledger.member()
    member.log.lose_next_commit(Loss.BEFORE_COMMIT)
    assert isinstance(member.fails(), LogLost)
    ledger.ask(post())
    ledger.member().run()
    assert ledger.accounts() == ALICE


class Watching(FakeLog):
    """Looks at the outcomes just before each commit."""

    def commit(self, consumed: Mapping[int, int]) -> None:
        self.seen_before = len(self._cluster.all_visible(TOPICS.outcomes))
        super().commit(consumed)


def test_no_outcome_is_seen_before_the_commit(ledger: FakeLedger) -> None:
    member = ledger.member(make_log=Watching).ready()
    ledger.ask(post())
    member.run()
    assert isinstance(member.log, Watching)
    assert member.log.seen_before == 0
    assert len(ledger.outcomes()) == 1


class RebalancedBeforeCommit(FakeLog):
    """Another member joins just before the second commit, the first being that of the opening."""

    commits = 0

    def commit(self, consumed: Mapping[int, int]) -> None:
        self.commits += 1
        if self.commits == 2:
            FakeLog(self._cluster, "z")
        super().commit(consumed)


def test_an_aborted_group_is_taken_again_exactly_once() -> None:
    ledger = FakeLedger(partitions=1)
    member = ledger.member(make_log=RebalancedBeforeCommit).ready()
    for i in range(5):
        ledger.ask(post(command_id=f"c-{i}"))
    aborted = member.turn()
    assert (aborted.commands, aborted.appended) == (0, 0)
    assert ledger.outcomes() == []
    member.run()
    assert sum(turn.commands for turn in member.turns) == 5
    assert [outcome.event.sequence for outcome in ledger.outcomes()] == [1, 2, 3, 4, 5]
    assert ledger.accounts() == {"alice": Account(5, {"USD": 5 * UNIT})}


def test_partitions_move_without_loss_or_repeat() -> None:
    ledger = FakeLedger(partitions=4)
    first = ledger.member("a").ready()
    for i in range(40):
        ledger.ask(post(f"account-{i}"))
    first.turn()
    second = ledger.member("b")
    for i in range(40):
        ledger.ask(post(f"account-{i}", command_id="c-2"))
    for _ in range(20):
        first.turn()
        second.turn()
    assert (first.turns[-1].ready, second.turns[-1].ready) == (2, 2)
    assert ledger.accounts() == {f"account-{i}": Account(2, {"USD": 2 * UNIT}) for i in range(40)}
    assert len(ledger.outcomes()) == 80


class StandsStill(FakeLog):
    """Stands still before its third commit (opening, credit, debit) for so long that another takes over."""

    commits = 0

    def commit(self, consumed: Mapping[int, int]) -> None:
        self.commits += 1
        if self.commits == 3:
            self._cluster.expire_member(self.instance)
            FakeLog(self._cluster, "b").poll(0, 0)
        super().commit(consumed)


def test_a_zombie_that_wakes_up_can_not_commit() -> None:
    ledger = FakeLedger(partitions=1)
    zombie = ledger.member("zombie", StandsStill).ready()
    ledger.ask(post())
    zombie.run()
    ledger.ask(post(amount=UNIT, entry_type=DEBIT, command_id="d"))
    assert zombie.turn().appended == 0
    assert [outcome.event.command_id for outcome in ledger.outcomes()] == ["c-1"]
    assert zombie.turn().ready == 0, "it learns that its partition is another's"
    ledger.member("b").run()
    assert ledger.accounts() == {"alice": Account(2, {"USD": 0})}
    assert [outcome.event.command_id for outcome in ledger.outcomes()] == ["c-1", "d"]


def test_a_partition_that_comes_back_is_restored_from_its_beginning() -> None:
    ledger = FakeLedger(partitions=1)
    first = ledger.member("b").ready()
    ledger.ask(post())
    first.run()
    second = ledger.member("a")  # the assignment goes by name, so the partition goes to a
    first.turn()
    ledger.ask(post(amount=7, command_id="c-2"))
    second.run()
    second.log.close()
    ledger.ask(post())
    first.run()
    assert [(o.replayed, o.event.sequence) for o in ledger.outcomes()] == [(False, 1), (False, 2), (True, 1)]
    assert ledger.accounts() == {"alice": Account(2, {"USD": UNIT + 7})}


class KeepsItsOldGeneration(FakeLog):
    """Skips hazard 2's remedy: is not fenced by its generation when it commits."""

    def commit(self, consumed: Mapping[int, int]) -> None:
        self._generation = self._cluster.generation
        super().commit(consumed)


class DoesNotAwaitOpenTransactions(FakeLog):
    """Skips hazard 3's remedy: takes offsets and ends as they are, whatever is still open."""

    def committed(self, partitions: Collection[int]) -> dict[int, int]:
        return {p: self._cluster._committed.get(p, -1) for p in partitions}

    def stable_ends(self, partitions: Collection[int]) -> dict[int, int]:
        return {p: self._cluster.stable_end(TOPICS.events, p) for p in partitions}


def test_it_matters_that_a_zombie_is_fenced_and_its_transaction_awaited() -> None:
    ledger = FakeLedger(partitions=1)
    zombie = ledger.member("zombie", KeepsItsOldGeneration).ready()
    ledger.ask(post())
    zombie.run()
    ledger.ask(post(amount=UNIT, entry_type=DEBIT, command_id="d"))
    zombie.log.lose_next_commit(Loss.BEFORE_COMMIT)
    with pytest.raises(LogLost):
        zombie.turn()
    transaction = zombie.log._transaction
    assert transaction is not None
    ledger.cluster.expire_member("zombie")
    ledger.member("successor", DoesNotAwaitOpenTransactions).run()
    ledger.cluster.end(transaction, commit=True)  # the commit that was on its way arrives
    with pytest.raises(LogCorrupt, match="duplicate"):
        ledger.accounts()


def test_a_predecessors_open_transaction_is_awaited() -> None:
    """The same story with the remedy: the successor waits until the end is known, and takes it in."""
    ledger = FakeLedger(partitions=1)
    zombie = ledger.member("zombie").ready()
    ledger.ask(post())
    zombie.run()
    ledger.ask(post(amount=UNIT, entry_type=DEBIT, command_id="d"))
    zombie.log.lose_next_commit(Loss.BEFORE_COMMIT)
    with pytest.raises(LogLost):
        zombie.turn()
    transaction = zombie.log._transaction
    assert transaction is not None
    ledger.cluster.expire_member("zombie")
    successor = ledger.member("successor")
    for _ in range(10):
        assert (successor.turn().ready, successor.turns[-1].restoring) == (0, 1)
    ledger.cluster.end(transaction, commit=True)
    successor.run()
    assert ledger.accounts() == {"alice": Account(2, {"USD": 0})}
    assert len(ledger.outcomes()) == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_markers_that_arrive_one_by_one_are_awaited(order: tuple[int, int]) -> None:
    ledger = FakeLedger(partitions=2)
    member = ledger.member().ready()
    accounts = [f"account-{i}" for i in range(10)]
    for account in accounts:
        ledger.ask(post(account))
    ledger.cluster.hold_markers()
    member.turn()
    successor = ledger.member("a")
    for p in order:
        for _ in range(3):
            assert successor.turn().ready == 0
        ledger.cluster.release_markers([(TOPICS.events, p)])
    for _ in range(3):
        assert successor.turn().ready == 0, "the offsets are not known yet"
    ledger.cluster.release_markers()
    successor.run()
    for account in accounts:
        ledger.ask(post(account))
    successor.run()
    assert [outcome.replayed for outcome in ledger.outcomes()].count(True) == 10
    assert ledger.accounts() == {account: Account(1, {"USD": UNIT}) for account in accounts}


def test_the_handler_that_was_replaced_ends(ledger: FakeLedger) -> None:
    first = ledger.member("a").ready()
    ledger.member("a").ready()
    assert isinstance(first.fails(), Fenced)


def test_restore_brings_back_every_answer_and_a_new_epoch() -> None:
    ledger = FakeLedger(partitions=1)
    member = ledger.member().run()
    commands = [
        post(amount=3 * UNIT),
        post(amount=UNIT, entry_type=DEBIT, command_id="d"),
        post(amount=9 * UNIT, entry_type=DEBIT, command_id="too much"),
        post(amount=7),
        post(asset="JPY", amount=1, command_id="scale"),
    ]
    for command in commands:
        ledger.ask(command)
    member.run()
    first = ledger.outcomes()
    assert ledger.rejections() == ["InsufficientFunds", "IdempotencyConflict", "InvalidAmount"]
    successor = ledger.member(make_log=lambda cluster, instance: FakeLog(cluster, instance, read_limit=2)).ready()
    for command in commands:
        ledger.ask(command)
    successor.run()
    assert ledger.outcomes()[len(commands) :] == [outcome._replace(replayed=True) for outcome in first]
    ledger.ask(post(command_id="new"))
    successor.run()
    assert ledger.events()[-1].event.writer_epoch == first[0].event.writer_epoch + 1
    assert ledger.outcomes()[-1].event.sequence == 6


def test_what_is_restored_is_not_read_on(ledger: FakeLedger) -> None:
    """Else a handler would fetch all that it writes, and nobody would take it."""
    ledger.ask(post())
    ledger.member("b").run()
    assert ledger.member("b").ready().log._reading == {}


def test_what_is_given_up_half_restored_is_not_read_on() -> None:
    ledger = FakeLedger(partitions=1)
    for i in range(5):
        ledger.ask(post(command_id=f"c-{i}"))
    ledger.member("b").run()
    slow = ledger.member("b", lambda cluster, instance: FakeLog(cluster, instance, read_limit=1))
    assert slow.turn().restoring
    assert slow.log._reading
    ledger.member("a").turn()  # the assignment goes by name, so the partition goes to a
    assert slow.turn().restoring == 0
    assert slow.log._reading == {}


def test_an_answer_that_left_no_event_is_not_taken_twice(ledger: FakeLedger) -> None:
    """A dead letter and a repeat leave no event: the group's own offset says that they are done."""
    ledger.member().ready()
    ledger.ask(post())
    ledger.ask(post())
    ledger.cluster.produce(TOPICS.commands, b"alice", b"junk")
    ledger.member().run()
    successor = ledger.member().run()
    assert sum(turn.commands for turn in successor.turns) == 0
    assert len(ledger.cluster.visible(TOPICS.deadletter, 0)) == 1


def test_a_dead_letter_says_why_and_the_handler_goes_on(ledger: FakeLedger) -> None:
    member = ledger.member().ready()
    ledger.cluster.produce(TOPICS.commands, b"alice", b"\0\0\0\x30\x39junk")
    ledger.ask(post())
    member.run()
    (letter,) = ledger.cluster.visible(TOPICS.deadletter, 0)
    assert (letter.key, letter.value) == (b"alice", b"\0\0\0\x30\x39junk")
    assert ledger.cluster.headers(TOPICS.deadletter, letter)["reason"] == b"Undecodable"
    assert ledger.accounts() == ALICE


@pytest.mark.parametrize(
    ("sequence", "epoch", "says"), [(3, 1, "a gap"), (1, 1, "a duplicate"), (2, 0, "epoch 0 after epoch 1")]
)
def test_a_log_that_broke_its_promise_stops_the_handler(sequence: int, epoch: int, says: str) -> None:
    ledger = FakeLedger(partitions=1)
    ledger.ask(post())
    ledger.member().run()
    bad = CODECS.events.encode(posted(sequence=sequence, writer_epoch=epoch, command_id="other"))
    ledger.cluster.produce(TOPICS.events, b"alice", bad, 0)
    error = ledger.member().fails()
    assert isinstance(error, LogCorrupt)
    assert says in error.message
    assert not error.retriable


@pytest.mark.parametrize("value", [b"junk", None])
def test_an_event_that_is_none_stops_the_handler(ledger: FakeLedger, value: bytes | None) -> None:
    ledger.member().run()
    ledger.cluster.produce(TOPICS.events, b"alice", value, 0)
    assert isinstance(ledger.member().fails(), LogCorrupt)


def test_a_log_that_does_not_begin_with_its_opening_stops_the_handler(ledger: FakeLedger) -> None:
    ledger.cluster.produce(TOPICS.events, b"alice", CODECS.events.encode(posted(sequence=0)), 0)
    assert isinstance(ledger.member().fails(), LogCorrupt)


def test_a_partition_that_was_opened_as_another_stops_the_handler(ledger: FakeLedger) -> None:
    opened = CODECS.events.encode(PartitionOpened(0, 0, NOON, 1, 2))
    ledger.cluster.produce(TOPICS.events, None, opened, 0)
    assert isinstance(ledger.member().fails(), LogCorrupt)


def test_another_partition_count_than_the_recorded_is_refused(ledger: FakeLedger) -> None:
    for p in range(2):
        ledger.cluster.produce(TOPICS.events, None, CODECS.events.encode(PartitionOpened(0, 0, NOON, p, 12)), p)
    error = ledger.member().fails()
    assert isinstance(error, PartitionCountMismatch)
    assert not error.retriable
    assert error.details == {"expected": 12, "found": 2}


def test_commands_deleted_before_they_were_handled_are_not_skipped_in_silence(ledger: FakeLedger) -> None:
    ledger.member().run()
    for i in range(5):
        ledger.ask(post(command_id=f"c-{i}"))
    where = next(p for p in range(2) if ledger.cluster.visible(TOPICS.commands, p))
    ledger.cluster.delete_before(TOPICS.commands, where, 3)
    error = ledger.member().fails()
    assert isinstance(error, CommandsExpired)
    assert error.details == {"partition": where, "first": 0, "last": 2}
    assert not error.retriable


def test_commands_deleted_after_they_were_handled_are_no_loss(ledger: FakeLedger) -> None:
    for i in range(5):
        ledger.ask(post(command_id=f"c-{i}"))
    ledger.member().run()
    for p in range(2):
        ledger.cluster.delete_before(TOPICS.commands, p, ledger.cluster.high_end(TOPICS.commands, p))
    member = ledger.member().run()
    ledger.ask(post(command_id="new"))
    member.run()
    assert ledger.accounts()["alice"].version == 6


def test_recorded_time_does_not_fall_over_a_restart() -> None:
    ledger = FakeLedger(partitions=1)
    ledger.ask(post())
    ledger.member().run()
    ledger.now = NOON - 10**9
    ledger.ask(post(command_id="c-2"))
    ledger.member().run()
    times = [item.event.recorded_at for item in ledger.events()]
    assert times == sorted(times)


def test_a_conflict_stays_the_same_conflict_over_a_restart(ledger: FakeLedger) -> None:
    for amount in (1, 2):
        ledger.ask(post(amount=amount))
    ledger.member().run()
    for amount in (2, 3, 1):
        ledger.ask(post(amount=amount))
    ledger.member().run()
    outcomes = ledger.outcomes()
    assert [outcome.replayed for outcome in outcomes] == [False, False, True, False, True]
    assert ledger.rejections() == [IdempotencyConflict.__name__] * 2
    assert isinstance(outcomes[4].event, EntryPosted)


def test_events_that_were_deleted_are_not_taken_for_a_new_ledger(ledger: FakeLedger) -> None:
    """Otherwise every balance would be zero, and every old command id new."""
    ledger.ask(post(command_id="c"))
    ledger.member().run()
    for p in range(2):
        ledger.cluster.delete_before(TOPICS.events, p, ledger.cluster.high_end(TOPICS.events, p))
    error = ledger.member().fails()
    assert isinstance(error, LogCorrupt)
    assert "were deleted" in error.message


def test_a_command_too_large_for_the_dead_letter_is_told_by_size_and_hash(ledger: FakeLedger) -> None:
    """A broker bounds what comes in compressed; what comes out of it may be larger than anything we can send."""
    bomb = b"x" * (3 * 1024 * 1024)
    ledger.cluster.produce(TOPICS.commands, b"k", bomb)
    ledger.ask(post(command_id="after"))
    ledger.member().run()
    (letter,) = (record for p in range(2) for record in ledger.cluster.visible(TOPICS.deadletter, p))
    assert letter.value is None
    assert ledger.cluster.headers(TOPICS.deadletter, letter)["left-out-bytes"] == b"%d" % len(bomb)
    assert ledger.accounts()["alice"].version == 1
