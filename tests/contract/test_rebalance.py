"""The handler when partitions move: rebalances, zombies, a predecessor whose transaction is still open.

Where it is cheap, a test shows that it can fail: the same story with a log that skips the remedy ends badly.
"""

from collections.abc import Collection, Mapping

import pytest

from events.errors import Fenced, LogCorrupt
from events.log import LogLost
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import FakeLog, Loss
from tests.support.samples import DEBIT, TOPICS, UNIT, an_account, post


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
    assert member.turn().appended == 0
    assert ledger.outcomes() == []
    member.run()
    assert [outcome.event.sequence for outcome in ledger.outcomes()] == [1, 2, 3, 4, 5]
    assert ledger.accounts() == {"alice": an_account(5, {"USD": 5 * UNIT})}


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
    assert ledger.accounts() == {f"account-{i}": an_account(2, {"USD": 2 * UNIT}) for i in range(40)}
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
    assert ledger.accounts() == {"alice": an_account(2, {"USD": 0})}
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
    assert ledger.accounts() == {"alice": an_account(2, {"USD": UNIT + 7})}


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
    assert ledger.accounts() == {"alice": an_account(2, {"USD": 0})}
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
    assert ledger.accounts() == {account: an_account(1, {"USD": UNIT}) for account in accounts}


def test_the_handler_that_was_replaced_ends(ledger: FakeLedger) -> None:
    first = ledger.member("a").ready()
    ledger.member("a").ready()
    assert isinstance(first.fails(), Fenced)
