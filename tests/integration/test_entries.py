"""Entries and balances through the front door, with a handler and a projection that run as processes."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from partita import (
    EntryNotFound,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    InvalidCursor,
    LedgerEngine,
    LedgerEntry,
    LedgerEntryType,
    LedgerError,
    VersionConflict,
)
from tests.support.services import Ledger

Account = Callable[[], str]
ROUNDS = 200
RIVALS = 8


async def test_an_entry_is_told_as_it_was_posted(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    when = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    entry = await engine.create_entry(
        account_id=alice,
        amount="12.50",
        entry_type=LedgerEntryType.CREDIT,
        reference="order 7",
        metadata={"b": [1, 2.5, None], "a": "é"},
        asset="EUR",
        command_id="first",
        expected_version=0,
        effective_at=when,
    )
    assert entry.entry_id == f"{entry.partition}-{entry.sequence}"
    assert (entry.account_id, entry.asset, entry.entry_type) == (alice, "EUR", "CREDIT")
    assert (entry.amount, entry.running_balance, entry.version) == (Decimal("12.5"), Decimal("12.5"), 1)
    assert (entry.reference, entry.metadata) == ("order 7", {"a": "é", "b": [1, 2.5, None]})
    assert (entry.effective_at, entry.command_id, entry.replayed) == (when, "first", False)
    assert entry.recorded_at.tzinfo is not None
    assert await engine.get_entry(entry.entry_id) == entry


async def test_it_reads_its_own_writes(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    for i in range(1, 21):
        await engine.create_entry(alice, i, "credit")
        assert await engine.get_balance(alice) == i * (i + 1) // 2
    assert await engine.get_balance(alice, "EUR") == 0
    assert await engine.get_balance(account()) == 0


async def test_a_tenth_and_two_tenths_less_three_tenths_is_nothing(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    await engine.create_entry(alice, "0.1", "credit")
    await engine.create_entry(alice, Decimal("0.2"), "credit")
    entry = await engine.create_entry(alice, "0.3", "debit")
    assert entry.running_balance == 0
    assert await engine.get_balance(alice) == 0


@pytest.mark.parametrize("total", [10**10, 10**18])
async def test_an_account_passes_a_large_total_and_lives(engine: LedgerEngine, account: Account, total: int) -> None:
    alice = account()
    await engine.create_entry(alice, total - 1, "credit")
    await engine.create_entry(alice, "1.000000000000000001", "credit")
    entry = await engine.create_entry(alice, "0.01", "debit")
    assert entry.running_balance == Decimal(f"{total - 1}.990000000000000001")
    assert await engine.get_balance(alice) == entry.running_balance
    (first, second, third) = (await engine.list_entries(alice)).entries
    assert second.amount == Decimal("1.000000000000000001")
    assert (first.running_balance, third.running_balance) == (Decimal(total - 1), entry.running_balance)


async def test_an_overdraft_is_refused_with_its_numbers(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    await engine.create_entry(alice, "10", "credit")
    with pytest.raises(InsufficientFunds) as refused:
        await engine.create_entry(alice, "10.000000000000000001", "debit")
    error = refused.value
    assert (error.account_id, error.available, error.requested) == (
        alice,
        Decimal(10),
        Decimal("10.000000000000000001"),
    )
    assert await engine.get_balance(alice) == 10


async def test_the_assets_scale_is_the_handlers(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    with pytest.raises(InvalidAmount):
        await engine.create_entry(alice, "0.001", "credit", asset="CENT")
    with pytest.raises(InvalidAmount):
        await engine.create_entry(alice, "1.5", "credit", asset="JPY")
    assert (await engine.create_entry(alice, "0.01", "credit", asset="CENT")).version == 1


async def test_compare_and_set_by_version(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    attempts = [engine.create_entry(alice, 1, "credit", expected_version=0) for _ in range(RIVALS)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert Counter(type(outcome) for outcome in outcomes) == {LedgerEntry: 1, VersionConflict: RIVALS - 1}


async def _one_wins(debit: Callable[[str, int], object], accounts: list[str]) -> None:
    """Let eight debits of the whole balance of each account race, all accounts at once."""
    attempts = [debit(alice, rival) for alice in accounts for rival in range(RIVALS)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)  # type: ignore[call-overload]
    for i in range(len(accounts)):
        kinds = Counter(type(outcome) for outcome in outcomes[i * RIVALS : (i + 1) * RIVALS])
        assert kinds == {LedgerEntry: 1, InsufficientFunds: RIVALS - 1}


async def test_one_of_eight_debits_of_the_whole_balance_succeeds(engine: LedgerEngine, account: Account) -> None:
    accounts = [account() for _ in range(ROUNDS)]
    await asyncio.gather(*(engine.create_entry(alice, 100, "credit") for alice in accounts))
    await _one_wins(lambda alice, _: engine.create_entry(alice, 100, "debit"), accounts)
    assert set(await asyncio.gather(*(engine.get_balance(alice) for alice in accounts))) == {Decimal(0)}


async def test_one_of_eight_debits_from_two_processes_succeeds(
    running: Ledger, engine: LedgerEngine, account: Account
) -> None:
    """Both processes begin at once, when the accounts are full: the second is told on its stdin."""
    accounts = [account() for _ in range(ROUNDS)]
    argv = (sys.executable, "-m", "tests.integration.rival", json.dumps(accounts), str(RIVALS // 2))
    rival = await asyncio.create_subprocess_exec(
        *argv, env=running.environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert rival.stdin is not None
    assert rival.stdout is not None
    async with asyncio.timeout(60):
        assert await rival.stdout.readline() == b"ready\n"
        await asyncio.gather(*(engine.create_entry(alice, 100, "credit") for alice in accounts))
        rival.stdin.write(b"go\n")
        attempts = [engine.create_entry(alice, 100, "debit") for alice in accounts for _ in range(RIVALS // 2)]
        mine = await asyncio.gather(*attempts, return_exceptions=True)
        told, _ = await rival.communicate()
    assert all(isinstance(outcome, LedgerEntry | InsufficientFunds) for outcome in mine)
    won = Counter(outcome.account_id for outcome in mine if isinstance(outcome, LedgerEntry))
    theirs = json.loads(told)
    assert theirs.pop("refused") + sum(theirs["won"].values()) == ROUNDS * RIVALS // 2
    won.update(theirs["won"])
    assert won == dict.fromkeys(accounts, 1)
    assert set(await asyncio.gather(*(engine.get_balance(alice) for alice in accounts))) == {Decimal(0)}


async def test_a_repeat_is_the_same_entry(engine: LedgerEngine, running: Ledger, account: Account) -> None:
    alice = account()
    first = await engine.create_entry(alice, "5", "credit", command_id="id", metadata={"a": 1, "b": 2})
    again = await engine.create_entry(alice, "5.00", "CREDIT", command_id="id", metadata={"b": 2, "a": 1})
    assert again.replayed
    async with running.engine() as another:
        elsewhere = await another.create_entry(alice, 5, "credit", command_id="id", metadata={"b": 2, "a": 1})
    assert elsewhere == again
    assert first.to_dict() | {"replayed": True} == again.to_dict()
    assert await engine.get_balance(alice) == 5


async def test_an_id_for_another_payload_is_a_conflict_every_time(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    await engine.create_entry(alice, 5, "credit", command_id="id")
    for _ in range(2):
        with pytest.raises(IdempotencyConflict) as refused:
            await engine.create_entry(alice, 6, "credit", command_id="id")
        assert (refused.value.account_id, refused.value.command_id) == (alice, "id")
    assert (await engine.create_entry(alice, 5, "credit", command_id="id")).replayed
    assert await engine.get_balance(alice) == 5


async def test_the_same_command_asked_many_times_at_once_is_done_once(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    entries = await asyncio.gather(*(engine.create_entry(alice, 1, "credit", command_id="id") for _ in range(100)))
    assert Counter(entry.replayed for entry in entries) == {False: 1, True: 99}
    assert len({entry.entry_id for entry in entries}) == 1
    assert await engine.get_balance(alice) == 1


async def test_two_payloads_under_one_id_at_once_get_an_answer_each(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    attempts = [engine.create_entry(alice, 1 + i % 2, "credit", command_id="id") for i in range(50)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert Counter(type(outcome) for outcome in outcomes) == {LedgerEntry: 25, IdempotencyConflict: 25}
    amounts = {outcome.amount for outcome in outcomes if isinstance(outcome, LedgerEntry)}
    assert amounts == {await engine.get_balance(alice)}


async def test_three_thousand_calls_are_awaited_at_once(engine: LedgerEngine, account: Account) -> None:
    accounts = [account() for _ in range(100)]
    async with asyncio.timeout(60):
        entries = await asyncio.gather(*(engine.create_entry(accounts[i % 100], 1, "credit") for i in range(3000)))
        balances = await asyncio.gather(*(engine.get_balance(accounts[i % 100]) for i in range(3000)))
    assert len({entry.entry_id for entry in entries}) == 3000
    assert set(balances) == {Decimal(30)}


async def test_a_statement_is_listed_page_by_page(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    for i in range(1, 12):
        await engine.create_entry(alice, i, "credit", asset="USD" if i % 2 else "EUR")
    seen: list[LedgerEntry] = []
    cursor = None
    while True:
        page = await engine.list_entries(alice, cursor=cursor, limit=4)
        seen += page.entries
        cursor = page.next_cursor
        await engine.create_entry(alice, 100, "credit", asset="LATE") if len(seen) == 4 else None
        if cursor is None:
            break
    assert [entry.version for entry in seen] == list(range(1, 13))
    assert [entry.amount for entry in seen] == [*range(1, 12), 100]
    newest = await engine.list_entries(alice, asset="EUR", limit=2, newest_first=True)
    assert [entry.amount for entry in newest.entries] == [10, 8]
    with pytest.raises(InvalidCursor):
        await engine.list_entries(account(), cursor=newest.next_cursor)
    with pytest.raises(InvalidCursor):
        await engine.list_entries(alice, cursor="nonsense")


async def test_an_entry_that_is_not_there_is_not_found(engine: LedgerEngine) -> None:
    for entry_id in ("0-999999", "nonsense", "", "0-0", "a\0b", "-1--1"):
        with pytest.raises(EntryNotFound):
            await engine.get_entry(entry_id)


async def test_a_cancelled_call_leaves_the_others_alone(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    calls = [asyncio.create_task(engine.create_entry(alice, 1, "credit", command_id="id")) for _ in range(10)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, LedgerEntry) for outcome in outcomes[1::2])
    assert not any(isinstance(outcome, LedgerError) for outcome in outcomes)
