"""Batches on the real stack: of one handler that has all partitions, and of two that have to agree."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from events.partitioner import partition_of
from partita import (
    BatchNotFound,
    BatchNotInReadModel,
    BatchUnbalanced,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    InvalidBatch,
    InvalidCommand,
    LedgerBatch,
    LedgerEngine,
    LedgerEntryType,
)
from tests.integration.test_accounts import run, told
from tests.support.services import PARTITIONS, Ledger

Account = Callable[[], str]
MANY = 1000
TRANSFERS = 300


@dataclass
class Bank:
    """An engine, and its accounts: one in each partition."""

    engine: LedgerEngine
    accounts: list[str]

    async def fill(self, amount: int) -> None:
        await asyncio.gather(*(self.engine.create_entry(name, amount, "credit") for name in self.accounts))

    async def balances(self) -> list[Decimal]:
        """Return the balances as the handlers have them; see that nothing is held."""
        tried = [self.engine.create_entry(name, 1, "credit", dry_run=True) for name in self.accounts]
        balances = [entry.running_balance - 1 for entry in await asyncio.gather(*tried)]
        for name, balance in zip(self.accounts, balances, strict=True):
            if balance > 0:
                assert (await self.engine.place_hold(name, balance, dry_run=True)).held == balance
        return balances

    def entry(self, at: int, entry_type: str, amount: Any = 1, **fields: Any) -> dict[str, Any]:
        return {"account_id": self.accounts[at], "entry_type": entry_type, "amount": amount, **fields}


@pytest.fixture(params=["alone", "shared"], ids=["one handler", "two handlers"])
def handled(request: pytest.FixtureRequest) -> Ledger:
    ledger: Ledger = request.getfixturevalue(request.param)
    return ledger


@pytest.fixture
async def bank(handled: Ledger, account: Account) -> AsyncIterator[Bank]:
    of_partition: dict[int, str] = {}
    while len(of_partition) < PARTITIONS:
        name = account()
        of_partition.setdefault(partition_of(name, PARTITIONS), name)
    async with handled.engine() as engine:
        yield Bank(engine, list(of_partition.values()))


@dataclass
class Asked:
    """An entry as somebody else's object."""

    account_id: str
    amount: str
    entry_type: LedgerEntryType
    reference: str


async def test_a_batch_is_posted_whole_and_asked_again_it_is_the_same(bank: Bank) -> None:
    await bank.fill(10)
    batch: dict[str, Any] = {
        "entries": [
            bank.entry(0, "debit", "3.5", metadata={"b": 1, "a": 2}),
            Asked(bank.accounts[1], "3", LedgerEntryType.CREDIT, "object"),
            bank.entry(3, "credit", Decimal("0.5"), reference="dict"),
        ],
        "balanced": True,
        "reference": "rent",
        "command_id": f"rent-{bank.accounts[0]}",
    }
    posted = await bank.engine.create_batch(**batch)
    assert (posted.batch_id, posted.reference, posted.replayed) == (batch["command_id"], "rent", False)
    assert [entry.account_id for entry in posted.entries] == [bank.accounts[i] for i in (0, 1, 3)]
    assert [entry.running_balance for entry in posted.entries] == [Decimal("6.5"), 13, Decimal("10.5")]
    assert [entry.reference for entry in posted.entries] == [None, "object", "dict"]
    assert posted.entries[0].metadata == {"a": 2, "b": 1}
    assert {entry.batch_id for entry in posted.entries} == {posted.batch_id}
    assert len({entry.entry_id for entry in posted.entries}) == 3
    again = await bank.engine.create_batch(**batch)
    assert again.to_dict() == posted.to_dict() | {
        "replayed": True,
        "entries": [entry.to_dict() | {"replayed": True} for entry in posted.entries],
    }
    with pytest.raises(IdempotencyConflict):
        await bank.engine.create_batch(**batch | {"reference": "other"})
    assert await bank.balances() == [Decimal("6.5"), 13, 10, Decimal("10.5")]


@pytest.mark.parametrize("failing", [0, 3])
async def test_an_entry_that_fails_leaves_nothing_of_the_batch(bank: Bank, failing: int) -> None:
    await bank.fill(10)
    entries = [bank.entry(i, "debit", 11 if i == failing else 1) for i in range(PARTITIONS)]
    for _ in range(2):
        with pytest.raises(InsufficientFunds) as refused:
            await bank.engine.create_batch(entries, command_id=f"failing-{bank.accounts[0]}")
        assert refused.value.details["leg"] == failing
        assert (refused.value.account_id, refused.value.requested) == (bank.accounts[failing], Decimal(11))
    assert await bank.balances() == [10] * PARTITIONS


async def test_a_batch_that_is_asked_many_times_at_once_is_posted_once_and_answered_each_time(bank: Bank) -> None:
    await bank.fill(10)
    legs = [bank.entry(0, "debit"), *(bank.entry(i, "credit", "0.25") for i in range(PARTITIONS))]
    asked = [bank.engine.create_batch(legs, command_id=f"once-{bank.accounts[0]}") for _ in range(8)]
    batches = await asyncio.gather(*asked)
    assert Counter(batch.replayed for batch in batches) == {False: 1, True: 7}
    assert len({batch.sequence for batch in batches}) == 1
    assert await bank.balances() == [Decimal("9.25"), *[Decimal("10.25")] * 3]


async def test_a_batch_has_one_reversal_whoever_asks_for_it_at_once(bank: Bank) -> None:
    await bank.fill(10)
    posted = await bank.engine.transfer(bank.accounts[0], bank.accounts[1], "7", reference="rent")
    undoing = [bank.engine.rollback_batch(posted.batch_id, f"reason {i}") for i in range(6)]
    undone = await asyncio.gather(*undoing)
    assert len({batch.batch_id for batch in undone}) == 1
    reversal = undone[0]
    assert reversal.reversal_of == posted.batch_id
    assert [entry.entry_type for entry in reversal.entries] == ["DEBIT", "CREDIT"]
    assert await bank.balances() == [10] * PARTITIONS
    assert (await bank.engine.rollback_batch(posted.batch_id)).batch_id == reversal.batch_id
    for batch_id in (reversal.batch_id, "never posted"):
        with pytest.raises(BatchNotFound):
            await bank.engine.rollback_batch(batch_id)


async def test_a_reversal_whose_funds_are_gone_is_refused_unless_forced(bank: Bank) -> None:
    await bank.fill(10)
    posted = await bank.engine.transfer(bank.accounts[0], bank.accounts[1], 10)
    await bank.engine.create_entry(bank.accounts[1], 15, "debit")
    with pytest.raises(InsufficientFunds):
        await bank.engine.rollback_batch(posted.batch_id)
    assert await bank.balances() == [0, 5, 10, 10]
    forced = await bank.engine.rollback_batch(posted.batch_id, "fraud", force=True)
    assert forced.entries[0].running_balance == -5
    assert await bank.balances() == [10, -5, 10, 10]


async def test_transfers_at_once_in_all_directions_make_and_lose_no_money(bank: Bank) -> None:
    await bank.fill(20)
    drawn = random.Random(7)
    pairs = [drawn.sample(bank.accounts, 2) for _ in range(TRANSFERS)]
    transfers = [bank.engine.transfer(source, target, drawn.randrange(1, 15)) for source, target in pairs]
    outcomes = await asyncio.gather(*transfers, return_exceptions=True)
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds.keys() == {LedgerBatch, InsufficientFunds}
    assert kinds[LedgerBatch] > TRANSFERS // 10
    entries = [entry for outcome in outcomes if isinstance(outcome, LedgerBatch) for entry in outcome.entries]
    assert min(entry.running_balance for entry in entries) >= 0
    balances = await bank.balances()
    assert sum(balances) == 20 * PARTITIONS
    for name, balance in zip(bank.accounts, balances, strict=True):
        signed = (e.amount if e.entry_type == "CREDIT" else -e.amount for e in entries if e.account_id == name)
        assert balance == 20 + sum(signed)


async def test_a_thousand_entries_are_one_batch_and_one_more_is_too_many(bank: Bank) -> None:
    entries = [bank.entry(i % PARTITIONS, "credit") for i in range(MANY)]
    posted = await bank.engine.create_batch(entries)
    assert [entry.account_id for entry in posted.entries] == [entry["account_id"] for entry in entries]
    assert await bank.balances() == [MANY // PARTITIONS] * PARTITIONS
    with pytest.raises(InvalidBatch):
        await bank.engine.create_batch([*entries, entries[0]])


async def test_what_is_wrong_is_told_before_anything_is_sent(bank: Bank) -> None:
    good = bank.entry(0, "credit")
    for wrong, rule, leg in [
        ([good, bank.entry(1, "credit", 0.5)], InvalidAmount, 1),
        ([good, bank.entry(1, "credit", 0)], InvalidAmount, 1),
        ([{"account_id": "alice"}, good], InvalidCommand, 0),
        ([good, good, good | {"colour": "red"}], InvalidCommand, 2),
        ([], InvalidBatch, None),
    ]:
        with pytest.raises(rule) as refused:
            await bank.engine.create_batch(wrong, command_id="wrong")
        assert refused.value.details.get("leg") == leg
    with pytest.raises(BatchUnbalanced):
        await bank.engine.create_batch([good, bank.entry(1, "debit", 2)], balanced=True)
    assert await bank.balances() == [0] * PARTITIONS


async def test_a_dry_run_tells_what_would_come_of_it(alone: Ledger, account: Account) -> None:
    alice, bob = account(), account()
    async with alone.engine() as engine:
        await engine.create_entry(alice, 10, "credit")
        for _ in range(2):
            dry = await engine.transfer(alice, bob, 7, command_id=f"dry-{alice}", dry_run=True)
            assert [entry.running_balance for entry in dry.entries] == [3, 7]
            assert {entry.entry_id for entry in dry.entries} == {"dry-run"}
        with pytest.raises(InsufficientFunds):
            await engine.transfer(alice, bob, 11, dry_run=True)
        assert not (await engine.transfer(alice, bob, 7, command_id=f"dry-{alice}")).replayed


async def test_a_dry_run_goes_from_handler_to_handler(bank: Bank) -> None:
    for name in bank.accounts:
        await bank.engine.create_entry(name, 10, "credit")
    entries = [bank.entry(n, "debit" if n % 2 else "credit", 7) for n in range(PARTITIONS)]
    dry = await bank.engine.create_batch(entries, balanced=True, command_id=f"dry-{bank.accounts[0]}", dry_run=True)
    assert dry.dry_run
    assert [entry.running_balance for entry in dry.entries] == [3 if n % 2 else 17 for n in range(PARTITIONS)]
    for leg in range(PARTITIONS):
        refused = [bank.entry(n, "debit", 11 if n == leg else 7) for n in range(PARTITIONS)]
        with pytest.raises(InsufficientFunds) as error:
            await bank.engine.create_batch(refused, dry_run=True)
        assert error.value.details["leg"] == leg
    assert await bank.balances() == [10] * PARTITIONS
    posted = await bank.engine.create_batch(entries, balanced=True, command_id=f"dry-{bank.accounts[0]}")
    assert not posted.replayed
    assert [e.running_balance for e in posted.entries] == [e.running_balance for e in dry.entries]
    undone = await bank.engine.rollback_batch(posted.batch_id, "never mind", dry_run=True)
    assert [entry.running_balance for entry in undone.entries] == [10] * PARTITIONS


def test_batches_from_a_terminal(shared: Ledger, account: Account, tmp_path: Path) -> None:
    alice, bob, carol = account(), account(), account()
    file = tmp_path / "batch.json"
    entry = {"account_id": alice, "amount": "10", "entry_type": "credit", "effective_at": "2026-01-01T00:00:00Z"}
    file.write_text(json.dumps([entry, entry | {"account_id": bob}]))
    posted = told(shared, "batch", "post", str(file), "--command-id", f"open-{alice}", "--reference", "opening")
    assert (posted["batch_id"], posted["reference"]) == (f"open-{alice}", "opening")
    assert [line["running_balance"] for line in posted["entries"]] == ["10", "10"]
    assert posted["entries"][0]["effective_at"] == "2026-01-01T00:00:00+00:00"
    moved = told(shared, "transfer", alice, carol, "4", "--metadata", '{"a": 1}', "--command-id", f"move-{alice}")
    assert [line["running_balance"] for line in moved["entries"]] == ["6", "4"]
    assert told(shared, "transfer", alice, carol, "9", status=3)["error"] == "InsufficientFunds"
    undone = told(shared, "batch", "rollback", moved["batch_id"], "--reason", "twice")
    assert (undone["reversal_of"], undone["reference"]) == (moved["batch_id"], "twice")
    again = told(shared, "batch", "rollback", moved["batch_id"])
    assert (again["batch_id"], again["replayed"]) == (undone["batch_id"], True)
    shown = run(shared, "transfer", alice, carol, "4", "--metadata", '{"a": 1}', "--command-id", f"move-{alice}")
    assert all(text in shown for text in (alice, carol, "debit", "credit"))


@pytest.mark.parametrize(
    ("text", "error", "leg"),
    [
        ("{", "InvalidBatch", None),
        ('{"entries": []}', "InvalidBatch", None),
        ("[1]", "InvalidBatch", None),
        ("[]", "InvalidBatch", None),
        ('[{"account_id": "a", "amount": 1.5, "entry_type": "credit"}]', "InvalidAmount", 0),
        (
            '[{"account_id": "a", "amount": "1", "entry_type": "credit", "effective_at": "x"}]',
            "InvalidEffectiveTime",
            0,
        ),
    ],
)
def test_a_file_that_is_no_batch_is_refused(shared: Ledger, text: str, error: str, leg: int | None) -> None:
    refused = told(shared, "batch", "post", "-", status=3, stdin=text)
    assert (refused["error"], refused["details"].get("leg")) == (error, leg)


async def test_a_batch_can_be_looked_up_with_what_became_of_it(
    running: Ledger, engine: LedgerEngine, account: Account
) -> None:
    alice, bob = account(), account()
    await engine.create_entry(alice, 10, "credit")
    posted = await engine.transfer(alice, bob, 4, reference="rent")
    with pytest.raises(InsufficientFunds):
        await engine.transfer(alice, bob, 40, command_id=f"too-much-{alice}")
    reversal = await engine.rollback_batch(posted.batch_id, "twice")

    found, undone, refused = [
        await engine.get_batch(batch_id) for batch_id in (posted.batch_id, reversal.batch_id, f"too-much-{alice}")
    ]
    assert (found.status, found.size, found.reference, found.reversed_by) == ("POSTED", 2, "rent", reversal.batch_id)
    assert [entry.entry_id for entry in found.entries] == [entry.entry_id for entry in posted.entries]
    assert (undone.status, undone.reversal_of, undone.reference) == ("POSTED", posted.batch_id, "twice")
    assert (refused.status, refused.code, refused.leg, refused.entries) == ("REJECTED", "InsufficientFunds", 0, ())
    entry = await engine.get_entry(posted.entries[1].entry_id)
    assert (entry.batch_id, entry.leg, entry.account_id) == (posted.batch_id, 1, bob)
    assert [await engine.get_balance(name) for name in (alice, bob)] == [10, 0]

    with pytest.raises(BatchNotInReadModel):
        await engine.get_batch("never heard of")
    shown = await asyncio.to_thread(told, running, "batch", "show", posted.batch_id)
    assert (shown["status"], [line["amount"] for line in shown["entries"]]) == ("POSTED", ["4", "4"])
    assert alice in await asyncio.to_thread(run, running, "batch", "show", posted.batch_id)
    missing = await asyncio.to_thread(told, running, "batch", "show", "never heard of", status=1)
    assert missing["error"] == "BatchNotInReadModel"
