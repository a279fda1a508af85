"""What could leave a batch half posted, a promise without end, or a handler that can't go on."""

from typing import Any

import pytest

from commands.decide import TRIED
from commands.types import (
    AccountCommand,
    LockAccount,
    OpenAccount,
    PlaceHold,
    PostBatch,
    ReportReservation,
    ReportSettlement,
    ReserveBatch,
    ReverseBatch,
    Step,
    TryBatch,
    UnlockAccount,
)
from events.money import MAX_UNITS
from events.partitioner import home_of
from events.types import (
    BatchEntryPosted,
    BatchPosted,
    BatchRejected,
    BatchStarted,
    EntryReserved,
    EntryResult,
    PlacedEntry,
)
from tests.contract.test_batches import ACCOUNTS, PARTITIONS, Bank, batch, credit, debit
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import Loss
from tests.support.samples import CODECS, CREDIT, DEBIT, TOPICS, UNIT, post


@pytest.fixture(params=[1, 3], ids=["one-handler", "three-handlers"])
def bank(request: pytest.FixtureRequest) -> Bank:
    return Bank(request.param)


def _id_at(partition: int, stem: str = "batch") -> str:
    """Return an id whose home is `partition`."""
    return next(f"{stem}-{i}" for i in range(1000) if home_of(f"{stem}-{i}", PARTITIONS) == partition)


def _send(bank: Bank, step: Step, partition: int) -> None:
    bank.ledger.cluster.produce(TOPICS.commands, b"x", CODECS.commands.encode(step), partition)


def _dead(bank: Bank) -> int:
    return len(bank.ledger.cluster.all_visible(TOPICS.deadletter))


def test_two_batches_never_share_the_id_of_a_reversal() -> None:
    """Each is answered by the partition of the batch that it reverses, so that neither would know of the other."""
    bank = Bank(3)
    ids = [_id_at(partition) for partition in range(PARTITIONS)]
    for batch_id in ids:
        bank.posted(batch(*(credit(name) for name in ACCOUNTS), batch_id=batch_id))
    assert (
        bank.do(*(ReverseBatch("undo", None, batch_id) for batch_id in ids), batch(credit("bob"), batch_id="b-1~x"))
        == []
    )
    dead = bank.ledger.cluster.all_visible(TOPICS.deadletter)
    assert len(dead) == PARTITIONS + 1
    for batch_id in ids:
        bank.posted(ReverseBatch(f"{batch_id}~undo", None, batch_id))
    assert set(bank.balances().values()) == {10}


def test_a_reversal_of_many_entries_with_a_long_reason_fits_into_messages() -> None:
    for handlers in (1, 3):
        bank = Bank(handlers)
        bank.posted(batch(*(credit(f"{number}-{'a' * 200}") for number in range(1000))))
        (outcome,) = bank.do(ReverseBatch("b-1~undo", None, "b-1", "ü" * 1024))
        assert isinstance(outcome.event, BatchPosted)
        sizes = [
            len(record.value or b"")
            for topic in (TOPICS.events, TOPICS.commands, TOPICS.outcomes)
            for record in bank.ledger.cluster.all_visible(topic)
        ]
        assert max(sizes) < 900_000


def test_who_takes_over_a_partition_waits_for_a_batch_that_is_being_posted_there() -> None:
    """No command of it is in the transaction, so its offset has to be, or nothing tells of the open transaction."""
    ledger = FakeLedger(partitions=PARTITIONS, group_size=5)
    member = ledger.member().ready().run()
    names = {home_of(name, PARTITIONS): name for name in ACCOUNTS}
    ledger.ask(PostBatch(_id_at(0), None, [credit(name) for name in names.values()]))
    member.log.lose_next_commit(Loss.BEFORE_COMMIT)
    member.fails()
    assert len(names) > 1
    assert [ledger.cluster.committed_offset(p) for p in names] == [None] * len(names)


def test_that_anothers_reversal_is_rejected_is_no_answer_to_who_forces_its_own() -> None:
    bank = Bank(3)
    bank.posted(batch(*(credit(f"new-{name}", 3 * UNIT) for name in ACCOUNTS)))
    bank.do(post("new-bob", 2 * UNIT, DEBIT, command_id="spent"))
    forced = ReverseBatch("b-1~2", None, "b-1", force=True)
    (told,) = bank.do(ReverseBatch("b-1~1", None, "b-1"), forced)
    assert (told.event.command_id, type(told.event)) == ("b-1~1", BatchRejected)
    bank.posted(forced)


def test_each_of_those_who_ask_at_once_is_told_though_they_share_a_reply_key() -> None:
    bank = Bank(3)
    command = batch(*(credit(name) for name in ACCOUNTS), reply_key="engine")
    outcomes = bank.do(command, command, command)
    assert sorted(outcome.replayed for outcome in outcomes) == [False, True, True]
    undo = ReverseBatch("b-1~1", "engine", "b-1")
    assert len(bank.do(undo, undo._replace(command_id="b-1~2"), undo)) == 3


def test_a_conflict_stays_one_when_the_first_batch_is_refused_for_a_lock() -> None:
    bank = Bank(3)
    bank.do(LockAccount("lock", None, "bob", 3_600_000_000))
    token = bank.ledger.accounts()["bob"].lock_token
    first = batch(debit("alice"), credit("bob"), credit("carol"), credit("dave"))
    other = batch(debit("alice"), credit("carol"))
    outcomes = [outcome.event for outcome in bank.do(first, other)]
    assert sorted(getattr(event, "code", "") for event in outcomes) == ["AccountLocked", "IdempotencyConflict"]
    (again,) = bank.do(other)
    assert again.replayed
    assert again.event in outcomes
    bank.do(UnlockAccount("unlock", None, "bob", token))
    bank.posted(first)


def _reserve(**fields: Any) -> ReserveBatch:
    entry = PlacedEntry(0, home_of("alice", PARTITIONS), "alice", CREDIT, UNIT, "USD")
    return ReserveBatch("x", 5, 0, b"h" * 32, 1, False, [entry._replace(**fields)])


def _try(**fields: Any) -> TryBatch:
    entry = PlacedEntry(0, home_of("alice", PARTITIONS), "alice", CREDIT, UNIT, "USD")
    return TryBatch("x", "me", 0, 5, b"h" * 32, [entry], **fields)


_ALICE = _try().entries[0]
_ELSEWHERE = _ALICE._replace(leg=1, account_id="dave", partition=home_of("dave", PARTITIONS))

FORGED: list[Step] = [
    _try()._replace(batch_id=""),
    _try()._replace(reply_key=""),
    _try()._replace(home=PARTITIONS),
    _try()._replace(entries=[]),
    _try()._replace(payload_hash=b"short"),
    _try()._replace(entries=[_ALICE._replace(leg=1)]),
    _try()._replace(entries=[_ALICE._replace(amount=0)]),
    _try()._replace(entries=[_ALICE._replace(partition=_ELSEWHERE.partition)]),
    _try()._replace(entries=[_ALICE, _ELSEWHERE._replace(partition=_ALICE.partition)]),
    _try()._replace(entries=[_ELSEWHERE._replace(leg=0)]),
    _try(results=[EntryResult(0, TRIED, 1, UNIT)]),
    _try(results=[EntryResult(1, TRIED, 1, UNIT)]),
    _try(results=[EntryResult(1, TRIED, 1, UNIT)] * 2)._replace(entries=[_ALICE, _ELSEWHERE]),
    _try(results=[EntryResult(1, TRIED, 1, 10**5000)])._replace(entries=[_ALICE, _ELSEWHERE]),
    _try(results=[EntryResult(1, 7, 1, UNIT)])._replace(entries=[_ALICE, _ELSEWHERE]),
    _try(reference="r" * 3_000_000),
    _try(reversal_of="r" * 3_000_000),
    _try(metadata="no json"),
    _try()._replace(entries=[_ALICE._replace(leg=leg, reference="r" * 600) for leg in range(1000)]),
    _reserve()._replace(home=PARTITIONS),
    _reserve()._replace(home=-1),
    _reserve()._replace(batch_id=""),
    _reserve()._replace(batch_id="a\0b"),
    _reserve()._replace(entries=[]),
    _reserve()._replace(payload_hash=b"short"),
    _reserve(amount=0),
    _reserve(amount=-UNIT),
    _reserve(amount=10**5000),
    _reserve(asset=""),
    _reserve(metadata="no json"),
    _reserve(reference="a\0b"),
    _reserve(effective_at=-1),
    _reserve(leg=1),
    _reserve(leg=-1),
    ReportReservation("x", 5, PARTITIONS),
    ReportReservation("x", 5, -1),
]


@pytest.mark.parametrize("step", FORGED)
def test_a_step_that_no_handler_sends_is_a_dead_letter(step: Step) -> None:
    bank = Bank(1)
    before = bank.ledger.accounts()
    _send(bank, step, home_of("alice", PARTITIONS))
    bank.settle()
    assert bank.ledger.accounts() == before
    assert _dead(bank) == 1


def test_a_settlement_of_entries_that_are_not_the_partitions_changes_nothing() -> None:
    """Counted among the results, they would end the batch before its entries are posted."""
    bank = Bank(3)
    command = batch(debit("alice"), *(credit(name) for name in ACCOUNTS[1:]))
    bank.ledger.ask(command)
    home = home_of(command.command_id, PARTITIONS)
    for _ in range(200):
        for member in bank.members:
            member.turn()
        started = [item.event for item in bank.ledger.events() if isinstance(item.event, BatchStarted)]
        if started:
            forged = [EntryResult(leg, 1, 1, 1) for leg in range(7, 13)]
            for partition in range(PARTITIONS):
                _send(bank, ReportSettlement("b-1", started[0].sequence, partition, forged), home)
    bank.settle()
    bank.ledger.accounts()
    assert len([item for item in bank.ledger.events() if isinstance(item.event, BatchEntryPosted)]) == len(ACCOUNTS)


def test_a_promise_that_came_again_late_ends_with_the_next_attempt() -> None:
    bank = Bank(3)
    bank.do(LockAccount("lock", None, "bob", 3_600_000_000))
    token = bank.ledger.accounts()["bob"].lock_token
    command = batch(debit("alice"), credit("bob"), credit("carol"), credit("dave"))
    bank.do(command)
    bank.do(UnlockAccount("unlock", None, "bob", token))
    bob = home_of("bob", PARTITIONS)
    again = [
        record
        for record in bank.ledger.cluster.visible(TOPICS.commands, bob)
        if isinstance(CODECS.commands.decode(record.value), ReserveBatch)
    ]
    assert again
    for record in again:
        bank.ledger.cluster.produce(TOPICS.commands, record.key, record.value, bob)
    bank.posted(command)


def test_each_partition_judges_a_lock_by_its_own_time() -> None:
    """It may be ahead of the time of the batch's partition, if its handler's clock was before."""
    ledger = FakeLedger(partitions=PARTITIONS)
    member = ledger.member().ready().run()
    bob = home_of("bob", PARTITIONS)
    home = (bob + 1) % PARTITIONS
    ledger.ask(LockAccount("lock", None, "bob", 1_000_000))
    member.run()
    token = ledger.accounts()["bob"].lock_token
    noon, ledger.now = ledger.now, ledger.now + 2_000_000
    ledger.ask(post("bob", command_id="another's"))
    member.run()
    ledger.now = noon
    ledger.ask(PostBatch(_id_at(home), None, [credit("bob", lock_token=token)]))
    member.run()
    assert [outcome.event.code for outcome in ledger.outcomes() if isinstance(outcome.event, BatchRejected)] == [
        "LockLost"
    ]


def test_an_account_that_has_promised_a_credit_is_not_opened_for_other_assets() -> None:
    bank = Bank(3)
    bank.ledger.ask(batch(debit("alice"), credit("new"), *(credit(name) for name in ACCOUNTS[2:])))
    for _ in range(100):
        if any(isinstance(e.event, EntryReserved) and e.event.account_id == "new" for e in bank.ledger.events()):
            break
        for member in bank.members:
            member.turn()
    bank.ledger.ask(OpenAccount("open", None, "new", assets=["EUR"]))
    bank.settle()
    new = bank.ledger.accounts()["new"]
    assert new.balance("USD") == UNIT
    assert not new.assets
    assert bank.ledger.rejections() == ["AccountAlreadyOpen"]


def test_what_is_held_has_at_most_38_digits() -> None:
    bank = Bank(1)
    commands: list[AccountCommand] = [
        OpenAccount("open", None, "world", None),
        post("world", MAX_UNITS, command_id="all"),
        PlaceHold("h-1", None, "world", MAX_UNITS, "USD"),
        PlaceHold("h-2", None, "world", 1, "USD"),
    ]
    bank.do(*commands)
    assert bank.ledger.accounts()["world"].held == {"USD": MAX_UNITS}
    assert bank.ledger.rejections() == ["BalanceOutOfRange"]


def test_a_command_and_a_batch_may_have_the_same_id() -> None:
    bank = Bank(1)
    bank.posted(batch(credit("alice"), batch_id="first"))
    assert bank.balances()["alice"] == 11


def test_large_batches_that_come_together_are_spread_over_several_transactions(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they outlast the transaction's time-out, and so again when they are taken again, for ever."""
    monkeypatch.setattr("commands.handler._MOST_APPENDED", 5_000)
    bank.ledger.group_size = 100
    commands = [batch(*(credit(name) for name in ACCOUNTS * 2), batch_id=f"b-{i}") for i in range(30)]
    outcomes = bank.do(*commands, *(post(f"p-{i}") for i in range(30)), *commands)
    assert len(outcomes) == 90
    assert {bank.balances()[name] for name in ACCOUNTS} == {70}
    most = max(turn.appended for member in bank.members for turn in member.turns)
    assert most < 40 + 14
