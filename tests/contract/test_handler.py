"""The handler by itself: what a turn does, and what a crash at any point of it leaves behind.

Where it is cheap, a test shows that it can fail: the same story with a log that skips the remedy ends badly.
"""

from collections.abc import Mapping

import pytest

from commands.deadletter import DeadLetter, TooManyDeadLetters
from events.errors import LogCorrupt
from events.follow import Record
from events.log import Aborted, LogLost, Polled
from events.types import PartitionOpened
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import FakeLog, Loss
from tests.support.samples import CODECS, TOPICS, UNIT, an_account, post

ALICE = {"alice": an_account(1, {"USD": UNIT})}


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


def test_a_dead_letter_says_why_and_the_handler_goes_on(ledger: FakeLedger) -> None:
    member = ledger.member().ready()
    ledger.cluster.produce(TOPICS.commands, b"alice", b"\0\0\0\x30\x39junk")
    ledger.ask(post())
    member.run()
    (letter,) = ledger.cluster.visible(TOPICS.deadletter, 0)
    assert (letter.key, letter.value) == (b"alice", b"\0\0\0\x30\x39junk")
    assert dict(letter.headers or [])["reason"] == b"Undecodable"
    assert ledger.accounts() == ALICE


def test_a_command_too_large_for_the_dead_letter_is_told_by_size_and_hash(ledger: FakeLedger) -> None:
    """A broker bounds what comes in compressed; what comes out of it may be larger than anything we can send."""
    bomb = b"x" * (3 * 1024 * 1024)
    ledger.cluster.produce(TOPICS.commands, b"k", bomb)
    ledger.ask(post(command_id="after"))
    ledger.member().run()
    (letter,) = (record for p in range(2) for record in ledger.cluster.visible(TOPICS.deadletter, p))
    assert letter.value is None
    assert dict(letter.headers or [])["left-out-bytes"] == b"%d" % len(bomb)
    assert ledger.accounts()["alice"].version == 1


def test_a_handler_that_can_read_nothing_stops_before_it_has_thrown_all_away() -> None:
    """As after a bad deploy: what it has not consumed is there for a handler that can read it."""
    ledger = FakeLedger(partitions=1, group_size=4, most_dead_letters=6)
    for number in range(20):
        ledger.cluster.produce(TOPICS.commands, b"alice", b"junk %d" % number)
    error = ledger.member().fails()
    assert isinstance(error, TooManyDeadLetters)
    assert not error.retriable
    assert error.details["offset"] == 6
    assert len(ledger.cluster.visible(TOPICS.deadletter, 0)) == 4, "the group that passes the bound is not committed"
    assert ledger.cluster.committed_offset(0) == 4
    assert ledger.cluster.stable_end(TOPICS.deadletter, 0) == ledger.cluster.high_end(TOPICS.deadletter, 0)
    ledger.most_dead_letters = 0
    ledger.member().run()
    values = [letter.value for letter in ledger.cluster.visible(TOPICS.deadletter, 0)]
    assert values == [b"junk %d" % number for number in range(20)]


class RefusedOnce(FakeLog):
    """Its second commit, the first being that of the opening, is refused."""

    commits = 0

    def commit(self, consumed: Mapping[int, int]) -> None:
        self.commits += 1
        if self.commits == 2:
            self.abort()
            raise Aborted("the group has a new generation")
        super().commit(consumed)


def test_an_aborted_group_is_not_counted_twice() -> None:
    ledger = FakeLedger(partitions=1, most_dead_letters=6)
    member = ledger.member(make_log=RefusedOnce).ready()
    for number in range(5):
        ledger.cluster.produce(TOPICS.commands, b"alice", b"junk %d" % number)
    member.run()
    assert len(ledger.cluster.visible(TOPICS.deadletter, 0)) == 5


class SlowToComeBack(RefusedOnce):
    """Delivers nothing in the poll after it was started again."""

    starts = 0
    slow = False

    def start(self, partition: int, offset: int) -> None:
        self.starts += 1
        self.slow = self.starts == 2
        super().start(partition, offset)

    def poll(self, timeout: float, limit: int) -> Polled:
        if self.slow:
            self.slow = False
            return Polled()
        return super().poll(timeout, limit)


def test_the_end_that_came_with_an_aborted_group_is_not_committed() -> None:
    """Commands are before it again: to commit it would be to skip them."""
    ledger = FakeLedger(partitions=1)
    member = ledger.member(make_log=SlowToComeBack).ready()
    ledger.ask(post())
    assert [member.turn().appended for _ in range(2)] == [0, 0]
    assert ledger.cluster.committed_offset(0) == 0
    member.run()
    assert ledger.accounts() == ALICE


def test_a_dead_letter_that_was_requeued_says_how_often(ledger: FakeLedger) -> None:
    ledger.cluster.produce(TOPICS.commands, b"alice", b"junk", 0)
    ledger.member().run()
    (record,) = ledger.cluster.visible(TOPICS.deadletter, 0)
    again = DeadLetter.read(record).command(TOPICS)
    ledger.cluster.produce(again.topic, again.key, again.value, again.partition, again.headers)
    ledger.member().run()
    letters = [DeadLetter.read(record) for record in ledger.cluster.visible(TOPICS.deadletter, 0)]
    assert [(letter.value, letter.requeued) for letter in letters] == [(b"junk", 0), (b"junk", 1)]


def test_requeueing_twice_applies_once(ledger: FakeLedger) -> None:
    """The dead letter of a handler that could not read the command; one that can gets it twice."""
    sent = CODECS.commands.encode(post())
    letter = DeadLetter.read(Record(0, 7, b"alice", sent))
    for _ in range(2):
        again = letter.command(TOPICS)
        ledger.cluster.produce(again.topic, again.key, again.value, again.partition, again.headers)
    ledger.member().run()
    assert [outcome.replayed for outcome in ledger.outcomes()] == [False, True]
    assert ledger.accounts() == ALICE
