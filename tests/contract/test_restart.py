"""A handler that comes back, with its disk, with an old one, with none, and with one that is not of this log."""

from collections.abc import Callable, Mapping
from copy import deepcopy

import pytest

from commands.records import POSITION_KEY
from commands.store import StoreLost
from commands.types import PlaceHold, SettleHold
from events.follow import Record
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import FakeLog, Loss
from tests.support.memory_store import MemoryStores
from tests.support.samples import DEBIT, UNIT, post


class WatchedLog(FakeLog):
    """Remembers which events were read."""

    def __init__(self, cluster: FakeCluster, instance: str = "a") -> None:
        super().__init__(cluster, instance)
        self.seen: list[Record] = []

    def read(self, offsets: Mapping[int, int], timeout: float) -> list[Record]:
        records = super().read(offsets, timeout)
        self.seen += records
        return records


def _ledger(commands: int = 30) -> FakeLedger:
    """Return a ledger of one partition that has handled some commands in several groups; its handler is gone."""
    ledger = FakeLedger(partitions=1, group_size=7)
    for number in range(commands):
        ledger.ask(post(f"account-{number % 3}", UNIT, command_id=f"c-{number}"))
    ledger.ask(PlaceHold("hold", None, "account-0", UNIT, "USD"))
    ledger.member().run().log.close()
    return ledger


def _goes_on(ledger: FakeLedger) -> list[Record]:
    """See that a handler that starts now remembers all that it must, and return the events that it read."""
    before = len(ledger.events())
    log: list[WatchedLog] = []

    def watched(cluster: FakeCluster, instance: str) -> FakeLog:
        log.append(WatchedLog(cluster, instance))
        return log[0]

    member = ledger.member(make_log=watched).ready()
    seen = log[0].seen
    ledger.ask(post("account-0", UNIT, command_id="c-0"))
    ledger.ask(SettleHold("settle", None, "account-0", "hold"))
    ledger.ask(post("account-0", 10**9 * UNIT, DEBIT, command_id="too-much"))
    member.run()
    repeat, settled, refused = ledger.outcomes()[-3:]
    assert repeat.replayed
    assert (settled.replayed, settled.event.sequence) == (False, before)
    assert refused.event.sequence == before + 1
    assert ledger.rejections() == ["InsufficientFunds"]
    ledger.accounts()
    return seen


def test_with_its_disk_it_reads_nothing_but_the_last_event() -> None:
    seen = _goes_on(_ledger())
    assert len(seen) == 1


def test_after_aborted_transactions_it_reads_little_more() -> None:
    """An offset that is counted on is at or before the true one, whatever was in between."""
    ledger = _ledger()
    member = ledger.member()
    for number in range(5):
        ledger.ask(post("account-1", UNIT, command_id=f"later-{number}"))
        member.log.lose_next_commit(Loss.BEFORE_COMMIT)
        member.fails()
        member = ledger.member().run()
    member.handler.close()
    assert 1 <= len(_goes_on(ledger)) <= 7


def test_without_a_disk_it_reads_everything() -> None:
    ledger = _ledger()
    ledger.disks.clear()
    assert len(_goes_on(ledger)) == len(ledger.events()) - 2


@pytest.mark.parametrize("turns", range(1, 6))
def test_with_an_old_disk_it_reads_what_came_since(turns: int) -> None:
    ledger = _ledger()
    old = deepcopy(ledger.disks["a"])
    for number in range(turns):
        ledger.ask(post("account-2", UNIT, command_id=f"later-{number}"))
    ledger.member().run().log.close()
    ledger.disks["a"] = old
    assert len(_goes_on(ledger)) == 1 + turns


def test_what_another_handler_did_meanwhile_is_read() -> None:
    ledger = _ledger()
    ledger.ask(post("account-2", UNIT, command_id="elsewhere"))
    ledger.member("b").run().log.close()
    assert len(_goes_on(ledger)) == 2


def _another_ledgers(ledger: FakeLedger) -> None:
    other = FakeLedger(partitions=1, group_size=7, now=7)
    other.ask(post("account-0", 5 * UNIT))
    other.member().run()
    ledger.disks["a"] = other.disks["a"]


def _ahead_of_the_log(ledger: FakeLedger) -> None:
    ledger.disks["a"] = _ledger(300).disks["a"]


def _of_another_version(ledger: FakeLedger) -> None:
    ledger.disks["a"].kept[0][POSITION_KEY] = b'[0, "whatever"]'


def _of_no_version(ledger: FakeLedger) -> None:
    ledger.disks["a"].kept[0][POSITION_KEY] = b"\xff"


NOT_OURS: list[Callable[[FakeLedger], None]] = [
    _another_ledgers,
    _ahead_of_the_log,
    _of_another_version,
    _of_no_version,
]


@pytest.mark.parametrize("spoil", NOT_OURS)
def test_a_disk_that_is_not_of_this_log_is_thrown_away(
    spoil: Callable[[FakeLedger], None], caplog: pytest.LogCaptureFixture
) -> None:
    ledger = _ledger()
    events = len(ledger.events())
    spoil(ledger)
    assert len(_goes_on(ledger)) >= events
    assert "thrown away" in caplog.text


def test_a_ledger_begun_anew_under_the_same_name_begins_with_nothing(caplog: pytest.LogCaptureFixture) -> None:
    anew = FakeLedger(partitions=1)
    anew.disks = _ledger().disks
    anew.ask(post("account-0", UNIT, command_id="c-0"))
    anew.member().run()
    assert [outcome.replayed for outcome in anew.outcomes()] == [False]
    assert list(anew.accounts()) == ["account-0"]
    assert "thrown away" in caplog.text


def test_disks_that_were_mixed_up_are_thrown_away(caplog: pytest.LogCaptureFixture) -> None:
    ledger = FakeLedger(partitions=2)
    for number in range(10):
        ledger.ask(post(f"account-{number}"))
    ledger.member().run().log.close()
    kept = ledger.disks["a"].kept
    kept[0], kept[1] = kept[1], kept[0]
    before = ledger.accounts()
    for number in range(10):
        ledger.ask(post(f"account-{number}", command_id="more"))
    ledger.member().run()
    assert caplog.text.count("thrown away") == 2
    assert {name: account.version for name, account in ledger.accounts().items()} == dict.fromkeys(before, 2)


def test_work_that_was_aborted_is_not_on_the_disk() -> None:
    ledger = _ledger()
    member = ledger.member().ready()
    kept = deepcopy(ledger.disks["a"].kept)
    ledger.ask(post("account-0", UNIT, command_id="lost"))
    member.log.lose_next_commit(Loss.BEFORE_COMMIT)
    member.fails()
    assert ledger.disks["a"].kept == kept


def test_a_disk_that_fails_after_the_commit_loses_nothing() -> None:
    ledger = _ledger()
    member = ledger.member().ready()
    ledger.ask(post("account-0", UNIT, command_id="committed"))
    ledger.disks["a"].fail()
    assert isinstance(member.fails(), StoreLost)
    assert ledger.outcomes()[-1].event.command_id == "committed"
    _goes_on(ledger)


def test_a_handler_that_is_gone_keeps_nobody_out() -> None:
    """A handler that failed lets go of its stores, those that it was still restoring included."""
    ledger = _ledger()
    member = ledger.member()
    member.turn()
    member.handler.close()
    assert ledger.disks["a"].opened == {}
    member = ledger.member().ready()
    member.handler.close()
    assert ledger.disks["a"].opened == {}


def test_a_partition_that_is_taken_away_is_closed_and_comes_back_with_its_disk() -> None:
    ledger = FakeLedger(partitions=2)
    first = ledger.member("a").ready()
    for number in range(10):
        ledger.ask(post(f"account-{number}", UNIT, command_id=f"c-{number}"))
    first.run()
    second = ledger.member("b")
    for _ in range(10):
        second.turn()
        first.turn()
    assert len(ledger.disks["a"].opened) == len(ledger.disks["b"].opened) == 1
    second.log.close()
    first.ready()
    assert len(ledger.disks["a"].opened) == 2
    assert isinstance(ledger.disks["a"], MemoryStores)
