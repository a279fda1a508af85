"""Batches, told once for one handler that has all partitions, and once for several that have to agree."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from commands.codec import Outcome
from commands.decide import TRIED
from commands.errors import (
    AccountIsClosed,
    AccountIsFrozen,
    BalanceOutOfRange,
    BatchNotFound,
    BatchUnbalanced,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAccountId,
    InvalidAmount,
    InvalidBatch,
    InvalidMetadata,
    Rejected,
    VersionConflict,
    WrongPartition,
)
from commands.rejections import from_event
from commands.types import (
    CloseAccount,
    Command,
    FreezeAccount,
    LockAccount,
    OpenAccount,
    PlaceHold,
    PostBatch,
    ReserveBatch,
    ReverseBatch,
    SettleBatch,
    UnlockAccount,
)
from commands.validation import MAX_METADATA_BYTES
from events.account import Account
from events.follow import Record
from events.money import MAX_UNITS
from events.partitioner import home_of
from events.types import BatchEntry, BatchEntryPosted, BatchPosted, BatchRejected, EntryReserved, LockToken
from tests.support.fake_ledger import FakeLedger, Member
from tests.support.samples import CODECS, CREDIT, DEBIT, TOPICS, UNIT, post, repeats

PARTITIONS = 4
ACCOUNTS = ("alice", "bob", "carol", "dave", "erin", "frank")


def credit(account_id: str, amount: int = UNIT, **fields: Any) -> BatchEntry:
    return BatchEntry(account_id, CREDIT, amount, "USD")._replace(**fields)


def debit(account_id: str, amount: int = UNIT, **fields: Any) -> BatchEntry:
    return BatchEntry(account_id, DEBIT, amount, "USD")._replace(**fields)


def batch(*entries: BatchEntry, batch_id: str = "b-1", **fields: Any) -> PostBatch:
    return PostBatch(batch_id, None, entries)._replace(**fields)


@dataclass
class Bank:
    """A ledger with several handlers, and money on its accounts."""

    handlers: int
    ledger: FakeLedger = field(default_factory=lambda: FakeLedger(partitions=PARTITIONS, group_size=5))
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.members = [self.ledger.member(name) for name in "abc"[: self.handlers]]
        self.settle()
        self.do(*(post(name, 10 * UNIT, command_id="first") for name in ACCOUNTS))

    def settle(self) -> None:
        """Turn all handlers until none has anything to do."""
        idle = 0
        for _ in range(2000):
            turns = [member.turn() for member in self.members]
            idle = 0 if any(turn.commands or turn.restoring for turn in turns) else idle + 1
            if idle == 4:
                return
        raise AssertionError("it does not come to rest")

    def do(self, *commands: Command) -> list[Outcome]:
        """Ask, wait until all is done, check everything, and return the new outcomes."""
        before = set(self._told())
        for command in commands:
            self.ledger.ask(command)
        self.settle()
        self.ledger.accounts()
        return [CODECS.outcomes.decode(record.value or b"") for record in self._told() if record not in before]

    def _told(self) -> list[Record]:
        return self.ledger.cluster.all_visible(TOPICS.outcomes)

    def posted(self, command: Command) -> BatchPosted:
        (outcome,) = self.do(command)
        assert isinstance(outcome.event, BatchPosted), outcome
        return outcome.event

    def rejected(self, command: Command, rule: type[Rejected], leg: int | None = None) -> Rejected:
        """See that the command is rejected for this rule, and leaves everything as it was."""
        before = self.ledger.accounts()
        (outcome,) = self.do(command)
        assert isinstance(outcome.event, BatchRejected), outcome
        assert (outcome.event.leg, outcome.event.command_type) == (leg, type(command).__name__)
        error = from_event(outcome.event)
        assert type(error) is rule
        after = self.ledger.accounts()
        assert {name: _money(account) for name, account in after.items()} == {
            name: _money(account) for name, account in before.items()
        }
        return error

    def balances(self) -> dict[str, int]:
        return {name: account.balance("USD") // UNIT for name, account in self.ledger.accounts().items()}

    @property
    def entries(self) -> list[BatchEntryPosted]:
        return [item.event for item in self.ledger.events() if isinstance(item.event, BatchEntryPosted)]


def _money(account: Account) -> Account:
    return account._replace(version=0)


@pytest.fixture(params=[1, 3], ids=["one-handler", "three-handlers"])
def bank(request: pytest.FixtureRequest) -> Bank:
    return Bank(request.param)


def test_all_entries_are_posted_and_told_in_their_order(bank: Bank) -> None:
    event = bank.posted(
        batch(
            debit("alice", 3 * UNIT),
            credit("bob", UNIT, reference="r", metadata='{"b":1, "a":2}'),
            credit("carol", 2 * UNIT),
        )
    )
    assert [(e.account_id, e.amount, e.running_balance) for e in event.entries] == [
        ("alice", 3 * UNIT, 7 * UNIT),
        ("bob", UNIT, 11 * UNIT),
        ("carol", 2 * UNIT, 12 * UNIT),
    ]
    assert (event.entries[1].reference, event.entries[1].metadata) == ("r", '{"a":2,"b":1}')
    assert sorted(e.leg for e in bank.entries) == [0, 1, 2]
    assert all((e.batch_id, e.legs, e.forced) == ("b-1", 3, False) for e in bank.entries)


def test_several_handlers_reserve_first_and_one_does_not() -> None:
    alone, several = Bank(1), Bank(3)
    for bank in (alone, several):
        bank.posted(batch(*(credit(name) for name in ACCOUNTS)))
    promised = [
        [item.event for item in bank.ledger.events() if isinstance(item.event, EntryReserved)]
        for bank in (alone, several)
    ]
    assert [len(events) for events in promised] == [0, len(ACCOUNTS)]
    assert alone.balances() == several.balances()


@pytest.mark.parametrize("failing", range(4))
def test_a_failing_entry_leaves_nothing_behind_whichever_it_is(bank: Bank, failing: int) -> None:
    entries = [debit(name) for name in ACCOUNTS[:4]]
    entries[failing] = debit(ACCOUNTS[failing], 11 * UNIT)
    error = bank.rejected(batch(*entries), InsufficientFunds, leg=failing)
    assert error.details["available"] == Decimal(10)
    assert error.details["leg"] == failing
    assert bank.entries == []


def test_funds_that_were_promised_are_there_again_after_a_rejection(bank: Bank) -> None:
    bank.rejected(batch(debit("alice", 10 * UNIT), debit("bob", 11 * UNIT)), InsufficientFunds, leg=1)
    bank.posted(batch(debit("alice", 10 * UNIT), credit("bob", 10 * UNIT), batch_id="b-2"))
    assert bank.balances()["alice"] == 0


def test_credits_of_a_batch_do_not_pay_for_its_debits(bank: Bank) -> None:
    for order in ((credit("new"), debit("new")), (debit("new"), credit("new"))):
        leg = [entry.entry_type for entry in order].index(DEBIT)
        bank.rejected(batch(*order, batch_id=f"b-{leg}"), InsufficientFunds, leg=leg)


def test_several_entries_of_one_account_add_up(bank: Bank) -> None:
    bank.rejected(batch(debit("alice", 6 * UNIT), debit("alice", 6 * UNIT)), InsufficientFunds, leg=1)
    event = bank.posted(batch(debit("alice", 6 * UNIT), debit("alice", 4 * UNIT), credit("alice"), batch_id="b-2"))
    assert [entry.running_balance // UNIT for entry in event.entries] == [4, 0, 1]
    assert len({entry.version for entry in event.entries}) == 3


def test_money_comes_in_from_an_account_without_floor(bank: Bank) -> None:
    bank.do(OpenAccount("open", None, "world", None))
    bank.posted(batch(debit("world", 100 * UNIT), credit("new", 100 * UNIT), balanced=True))
    assert (bank.balances()["world"], bank.balances()["new"]) == (-100, 100)


RULES: list[tuple[tuple[Command, ...], PostBatch, type[Rejected], int | None]] = [
    ((), batch(), InvalidBatch, None),
    ((), batch(*[credit("alice")] * 1001), InvalidBatch, None),
    ((), batch(*[credit("alice", metadata=f'{{"a":"{"é" * 8000}"}}')] * 33), InvalidBatch, None),
    ((), batch(credit("alice"), credit("", UNIT)), InvalidAccountId, 1),
    ((), batch(credit("alice"), credit("bob", 0)), InvalidAmount, 1),
    ((), batch(credit("alice"), credit("bob", UNIT // 2, asset="JPY")), InvalidAmount, 1),
    ((), batch(credit("alice"), credit("bob", metadata="[]")), InvalidMetadata, 1),
    ((), batch(credit("alice"), metadata="[]"), InvalidMetadata, None),
    ((), batch(debit("alice"), credit("bob", 2 * UNIT), balanced=True), BatchUnbalanced, None),
    ((), batch(debit("alice"), credit("bob", asset="EUR"), balanced=True), BatchUnbalanced, None),
    ((), batch(credit("alice"), credit("bob", expected_version=7)), VersionConflict, 1),
    ((), batch(credit("alice"), credit("bob", MAX_UNITS)), BalanceOutOfRange, 1),
    ((), batch(credit("new", MAX_UNITS), credit("new", 1)), BalanceOutOfRange, 1),
    ((FreezeAccount("f", None, "bob"),), batch(credit("alice"), credit("bob")), AccountIsFrozen, 1),
    ((PlaceHold("h", None, "bob", 5 * UNIT, "USD"),), batch(debit("bob", 6 * UNIT)), InsufficientFunds, 0),
    (
        (OpenAccount("o", None, "gone"), CloseAccount("c", None, "gone")),
        batch(credit("alice"), credit("gone")),
        AccountIsClosed,
        1,
    ),
]


@pytest.mark.parametrize(("before", "command", "rule", "leg"), RULES)
def test_the_broken_rule_and_its_entry_are_named(
    bank: Bank, before: tuple[Command, ...], command: PostBatch, rule: type[Rejected], leg: int | None
) -> None:
    bank.do(*before)
    bank.rejected(command, rule, leg)


def test_a_batch_of_a_thousand_entries(bank: Bank) -> None:
    entries = [debit("alice", UNIT // 100) for _ in range(500)] + [
        credit(f"account-{i}", UNIT // 100) for i in range(500)
    ]
    event = bank.posted(batch(*entries, balanced=True))
    assert len(event.entries) == 1000
    assert bank.balances()["alice"] == 5


def test_a_batch_with_as_much_text_as_it_may_have_fits_into_messages(bank: Bank) -> None:
    """Its events hold all of it, and a message that the broker refuses would stop the handler for ever."""
    metadata = f'{{"a":"{"x" * 16_000}"}}'
    bank.posted(batch(*(credit(f"{number}-{'a' * 250}", metadata=metadata) for number in range(32))))
    sizes = [
        len(record.value or b"")
        for topic in (TOPICS.events, TOPICS.commands, TOPICS.outcomes)
        for record in bank.ledger.cluster.all_visible(topic)
    ]
    assert 500_000 < max(sizes) < 900_000
    bank.posted(batch(*(credit(f"{number}-{'a' * 250}") for number in range(1000)), batch_id="b-2"))
    assert max(len(record.value or b"") for record in bank.ledger.cluster.all_visible(TOPICS.events)) < 900_000


def test_a_repeat_is_answered_the_same_and_posts_nothing(bank: Bank) -> None:
    command = batch(debit("alice"), credit("bob"))
    (first,) = bank.do(command)
    (again,) = bank.do(command._replace(reply_key="another"))
    assert repeats(again, first)
    assert len(bank.entries) == 2


def test_a_rejection_is_repeated_though_the_funds_are_there_now(bank: Bank) -> None:
    command = batch(debit("alice", 11 * UNIT), credit("bob"))
    (first,) = bank.do(command)
    bank.do(post("alice", 5 * UNIT, command_id="more"))
    (again,) = bank.do(command)
    assert repeats(again, first)


def test_a_repeat_in_flight_is_answered_when_the_batch_is(bank: Bank) -> None:
    command = batch(debit("alice"), credit("bob"), credit("carol"), credit("dave"))
    outcomes = bank.do(command, command, command._replace(reply_key="another"))
    assert len({outcome.event for outcome in outcomes}) == 1
    assert [outcome.replayed for outcome in outcomes].count(False) == 1
    assert len(bank.entries) == 4
    keys = Counter(record.key for record in bank.ledger.cluster.all_visible(TOPICS.outcomes))
    assert (keys[b"b-1"], keys[b"another"]) == (2, 1), "a requester waits for one outcome each time that it asks"


@pytest.mark.parametrize("together", [True, False])
def test_an_id_used_for_another_batch_is_a_conflict(bank: Bank, together: bool) -> None:
    first, other = batch(debit("alice"), credit("bob")), batch(debit("alice"), credit("carol"))
    outcomes = bank.do(first, other, other) if together else [*bank.do(first), *bank.do(other), *bank.do(other)]
    posted = [o for o in outcomes if isinstance(o.event, BatchPosted)]
    conflicts = [o for o in outcomes if isinstance(o.event, BatchRejected)]
    assert len(posted) == 1
    assert [o.replayed for o in conflicts] == [False, True]
    assert all(
        isinstance(from_event(o.event), IdempotencyConflict) for o in conflicts if isinstance(o.event, BatchRejected)
    )
    assert len(bank.entries) == 2
    (again,) = bank.do(first)
    assert repeats(again, posted[0])


def test_a_batch_in_the_wrong_partition_is_rejected_by_name(bank: Bank) -> None:
    command = batch(credit("alice"))
    home = bank.ledger.cluster.all_visible(TOPICS.commands)
    assert home
    for partition in range(PARTITIONS):
        bank.ledger.ask(command._replace(command_id="misplaced"), partition)
    bank.settle()
    codes = [getattr(o.event, "code", "posted") for o in bank.ledger.outcomes()[-PARTITIONS:]]
    assert sorted(codes) == ["WrongPartition"] * (PARTITIONS - 1) + ["posted"]
    assert WrongPartition.__name__ == "WrongPartition"


def test_a_dry_run_tells_what_the_batch_would_come_to_and_records_nothing(bank: Bank) -> None:
    command = batch(*(debit(name) if n % 2 else credit(name) for n, name in enumerate(ACCOUNTS)), debit("alice"))
    before = bank.ledger.accounts()
    (outcome,) = bank.do(command._replace(dry_run=True))
    dry = outcome.event
    assert isinstance(dry, BatchPosted)
    assert (outcome.replayed, outcome.partition) == (False, home_of(command.command_id, PARTITIONS))
    assert {dry.sequence, *(entry.sequence for entry in dry.entries)} == {TRIED}
    assert bank.ledger.accounts() == before
    assert bank.entries == []
    told = bank.posted(command)
    assert [entry.version for entry in dry.entries] == [2, 2, 2, 2, 2, 2, 3]  # as if posted at once
    versions = [entry.version for entry in told.entries]
    assert [e._replace(sequence=TRIED) for e in told.entries] == [
        e._replace(version=version) for e, version in zip(dry.entries, versions, strict=True)
    ]
    assert (dry.command_id, dry.payload_hash) == (told.command_id, told.payload_hash)


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_dry_run_tells_which_entry_would_be_refused_and_why(bank: Bank, name: str) -> None:
    entries = [debit(account, 11 * UNIT if account == name else UNIT) for account in ACCOUNTS]
    fault = bank.rejected(batch(*entries, dry_run=True), InsufficientFunds, leg=ACCOUNTS.index(name))
    assert fault.details["account_id"] == name
    assert bank.entries == []


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_dry_run_is_refused_for_a_lock_as_the_batch_would_be(bank: Bank, name: str) -> None:
    bank.do(LockAccount("lock", None, name, 3_600_000_000))
    command = batch(*(credit(account) for account in ACCOUNTS))
    for dry_run in (True, False):
        (outcome,) = bank.do(command._replace(dry_run=dry_run))
        assert isinstance(outcome.event, BatchRejected)
        assert (outcome.event.code, outcome.event.leg) == ("AccountLocked", ACCOUNTS.index(name))
        assert (outcome.event.sequence == TRIED) is dry_run


def test_metadata_that_grow_in_canonical_form_are_refused_before_any_account_is_asked(bank: Bank) -> None:
    growing = f'{{"a":[{",".join(["1e15"] * 2000)}]}}'
    assert len(growing) < MAX_METADATA_BYTES
    command = batch(*(credit(name) for name in ACCOUNTS[:-1]), credit(ACCOUNTS[-1], metadata=growing))
    bank.rejected(command, InvalidMetadata, leg=len(ACCOUNTS) - 1)
    bank.rejected(batch(credit("alice"), batch_id="b-2", metadata=growing), InvalidMetadata)


def test_a_dry_run_of_a_reversal_tells_what_it_would_come_to(bank: Bank) -> None:
    posted = bank.posted(batch(*(credit(name) for name in ACCOUNTS), batch_id="given"))
    undo = ReverseBatch("given~undo", None, "given", "a mistake", dry_run=True)
    dry = bank.posted(undo)
    assert [entry.running_balance // UNIT for entry in dry.entries] == [10] * len(ACCOUNTS)
    assert dry.reversal_of == posted.command_id
    bank.do(post("frank", 11 * UNIT, DEBIT, command_id="spent"))
    bank.rejected(undo, InsufficientFunds, leg=0)
    forced = bank.posted(undo._replace(force=True))
    assert forced.entries[0].running_balance == -UNIT


def _reverse(command_id: str = "undo", **fields: Any) -> ReverseBatch:
    return ReverseBatch(f"b-1~{command_id}", None, "b-1", "a mistake")._replace(**fields)


def test_a_reversal_undoes_a_batch_and_leaves_it_as_it_was(bank: Bank) -> None:
    original = bank.posted(batch(debit("alice", 3 * UNIT), credit("bob", 3 * UNIT)))
    before = bank.balances()
    reversal = bank.posted(_reverse(effective_at=5))
    assert bank.balances() == dict.fromkeys(ACCOUNTS, 10) != before
    assert reversal.reversal_of == "b-1"
    assert [(e.account_id, e.entry_type, e.effective_at) for e in reversal.entries] == [
        ("bob", DEBIT, 5),
        ("alice", CREDIT, 5),
    ]
    (again,) = bank.do(batch(debit("alice", 3 * UNIT), credit("bob", 3 * UNIT)))
    assert again.event == original


@pytest.mark.parametrize("together", [True, False])
def test_a_batch_has_one_reversal_whoever_asks(bank: Bank, together: bool) -> None:
    bank.posted(batch(debit("alice"), credit("bob"), credit("carol")))
    asks = [_reverse("undo-1"), _reverse("undo-2"), _reverse("undo-1")]
    outcomes = bank.do(*asks) if together else [outcome for ask in asks for outcome in bank.do(ask)]
    assert [outcome.event for outcome in outcomes] == [outcomes[0].event] * 3
    assert isinstance(outcomes[0].event, BatchPosted)
    assert len(bank.entries) == 6


def test_a_reversal_whose_funds_are_gone_is_refused_unless_forced(bank: Bank) -> None:
    bank.posted(batch(debit("alice", 3 * UNIT), credit("new", 3 * UNIT)))
    bank.do(post("new", 2 * UNIT, DEBIT, command_id="spent"))
    bank.rejected(_reverse("undo-1"), InsufficientFunds, leg=0)
    bank.posted(_reverse("undo-2", force=True))
    assert (bank.balances()["new"], bank.balances()["alice"]) == (-2, 10)
    (refused,) = bank.do(post("new", 1, DEBIT, command_id="more"))
    assert getattr(refused.event, "code", None) == "InsufficientFunds"
    bank.do(post("new", UNIT, command_id="back"))


def test_a_reversal_refused_once_may_succeed_later(bank: Bank) -> None:
    bank.posted(batch(credit("new", 3 * UNIT)))
    bank.do(post("new", 3 * UNIT, DEBIT, command_id="spent"))
    bank.rejected(_reverse("undo-1"), InsufficientFunds, leg=0)
    bank.do(post("new", 3 * UNIT, command_id="back"))
    bank.posted(_reverse("undo-2"))


def test_what_is_no_posted_batch_is_not_reversed(bank: Bank) -> None:
    bank.rejected(_reverse(), BatchNotFound)
    bank.rejected(batch(debit("alice", 11 * UNIT)), InsufficientFunds, leg=0)
    bank.rejected(_reverse("undo-2"), BatchNotFound)


def test_an_account_that_has_promised_is_not_closed_and_keeps_its_promise() -> None:
    """Between promise and posting: the account can't be closed or emptied, and being frozen does not matter."""
    bank = Bank(3)
    bank.do(OpenAccount("o", None, "new"))
    bank.ledger.ask(batch(debit("alice", 10 * UNIT), credit("new", 10 * UNIT), *(credit(n) for n in ACCOUNTS[2:])))
    for _ in range(60):
        if any(isinstance(item.event, EntryReserved) for item in bank.ledger.events()):
            break
        for member in bank.members:
            member.turn()
    bank.ledger.ask(CloseAccount("c", None, "new"))
    bank.ledger.ask(post("alice", UNIT, DEBIT, command_id="late"))
    bank.ledger.ask(FreezeAccount("f", None, "alice"))
    bank.settle()
    assert bank.balances()["alice"] == 0
    assert set(bank.ledger.rejections()) <= {"AccountNotEmpty", "InsufficientFunds"}


@pytest.mark.parametrize("copies", [2, 3])
def test_a_step_that_comes_again_changes_nothing(copies: int) -> None:
    bank = Bank(3)
    bank.posted(batch(debit("alice"), *(credit(name) for name in ACCOUNTS[1:])))
    _deliver_again(bank, copies)
    assert len(bank.entries) == len(ACCOUNTS)
    bank.rejected(batch(*(debit(name, 10 * UNIT) for name in ACCOUNTS), batch_id="b-2"), InsufficientFunds, leg=0)
    _deliver_again(bank, copies)
    assert len(bank.entries) == len(ACCOUNTS)


def _deliver_again(bank: Bank, copies: int) -> None:
    """Put every message that is on the commands topic there again, in the same order, several times."""
    records = bank.ledger.cluster.all_visible(TOPICS.commands)
    for _ in range(copies):
        for record in records:
            bank.ledger.cluster.produce(TOPICS.commands, record.key, record.value, record.partition)
    bank.settle()
    bank.ledger.accounts()


def test_a_batch_is_undone_by_the_one_who_has_its_accounts_locked(bank: Bank) -> None:
    bank.posted(batch(debit("alice"), credit("bob")))
    before = bank.balances()
    bank.do(LockAccount("lock", None, "bob", 3_600_000_000), LockAccount("lock", None, "alice", 3_600_000_000))
    tokens = {name: account.lock_token for name, account in bank.ledger.accounts().items() if account.lock_token}
    held = [LockToken(name, token) for name, token in tokens.items()]
    bank.do(_reverse(), _reverse(locks=[held[0], LockToken("carol", 1)]))
    assert bank.balances() == before
    assert bank.posted(_reverse(locks=held)).reversal_of == "b-1"


def test_a_locked_account_refuses_a_batch_until_it_is_free(bank: Bank) -> None:
    """The refusal passes: the same id is posted when the lock is over, or by the one who has it."""
    bank.do(LockAccount("lock", None, "bob", 3_600_000_000))
    token = bank.ledger.accounts()["bob"].lock_token
    command = batch(debit("alice"), credit("bob"), credit("carol"))
    for _ in range(2):
        (refused,) = bank.do(command)
        assert isinstance(refused.event, BatchRejected)
        assert (refused.event.code, refused.event.leg, refused.replayed) == ("AccountLocked", 1, False)
        assert bank.entries == []
    bank.posted(batch(debit("alice"), credit("bob", lock_token=token), batch_id="b-2"))
    bank.do(UnlockAccount("unlock", None, "bob", token))
    bank.posted(command)
    (again,) = bank.do(command)
    assert again.replayed


def test_a_conflict_with_a_batch_that_did_not_use_up_its_id_stays_a_conflict() -> None:
    bank = Bank(3)
    bank.do(LockAccount("lock", None, "bob", 3_600_000_000))
    first, other = batch(debit("alice"), credit("bob"), credit("carol")), batch(debit("alice"), credit("carol"))
    outcomes = bank.do(first, other)
    assert {getattr(o.event, "code", None) for o in outcomes} == {"AccountLocked", "IdempotencyConflict"}
    (again,) = bank.do(other)
    assert (getattr(again.event, "code", None), again.replayed) == ("IdempotencyConflict", True)
    assert bank.entries == []


def test_a_promise_of_an_attempt_that_is_over_is_taken_back_by_the_next() -> None:
    """A step comes again after its attempt was refused; the account is free, and the batch is asked again."""
    bank = Bank(3)
    bank.do(LockAccount("lock", None, "alice", 3_600_000_000))
    command = batch(debit("alice"), *(credit(name) for name in ACCOUNTS[1:]))
    bank.do(command)
    bank.do(UnlockAccount("unlock", None, "alice", bank.ledger.accounts()["alice"].lock_token))
    cluster = bank.ledger.cluster
    for record in cluster.all_visible(TOPICS.commands):
        if isinstance(CODECS.commands.decode(record.value), ReserveBatch):
            cluster.produce(TOPICS.commands, record.key, record.value, record.partition)
    bank.posted(command)
    assert bank.balances()["alice"] == 9
    assert not any(account.held or account.expected for account in bank.ledger.accounts().values())


def test_a_step_for_accounts_of_another_partition_is_a_dead_letter() -> None:
    bank = Bank(1)
    steps: Sequence[ReserveBatch | SettleBatch] = (
        ReserveBatch("x", 5, 0, b"h" * 32, 1, False, []),
        SettleBatch("x", 5, 0),
    )
    for step in steps:
        bank.ledger.cluster.produce(TOPICS.commands, b"x", CODECS.commands.encode(step), 0)
    bank.settle()
    assert bank.entries == []
