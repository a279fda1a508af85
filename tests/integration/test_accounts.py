"""Accounts, holds, dry runs and many entries at once, through the front door and from a terminal."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commands.decide import TRIED
from partita import (
    AccountIsClosed,
    AccountIsFrozen,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotInReadModel,
    AccountStatus,
    HoldExceeded,
    HoldNotExpired,
    HoldNotFound,
    HoldStatus,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    LedgerEngine,
    LedgerEntry,
    LedgerError,
    OutcomeUnknown,
    Rejected,
)
from partita.cli import app
from tests.support.services import Ledger, eventually

Account = Callable[[], str]
MANY = 5000


def of(record: object, *names: str) -> tuple[Any, ...]:
    """Return these fields of a record."""
    return tuple(getattr(record, name) for name in names)


async def test_the_life_of_an_account(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    rules: dict[str, Any] = {"assets": ["USD", "EUR"], "account_type": "customer", "metadata": {"tier": 2}}
    opened = await engine.open_account(alice, floor="-50", **rules, command_id="open")
    assert of(opened, "account_id", "status", "version", "replayed") == (alice, "OPEN", 1, False)
    assert (await engine.open_account(alice, floor=-50, **rules, command_id="open")).replayed
    await engine.create_entry(alice, 30, "debit", expected_version=1)
    assert await engine.get_balance(alice) == -30
    assert await engine.get_available(alice) == 20
    assert await engine.get_available(alice, "EUR") == 50

    await engine.create_entry(alice, 100, "credit")
    frozen = await engine.freeze_account(alice, reason="court order")
    assert of(frozen, "status", "version") == ("FROZEN", 4)
    with pytest.raises(AccountIsFrozen):
        await engine.create_entry(alice, 1, "credit")
    found = await engine.get_account(alice)
    assert of(found, "status", "version", "floor", "assets") == ("FROZEN", 4, -50, ("USD", "EUR"))
    assert of(found, "account_type", "metadata") == ("customer", {"tier": 2})
    assert [of(row, "asset", "balance", "held") for row in found.balances] == [("USD", 70, 0)]
    assert (await engine.unfreeze_account(alice, expected_version=4)).status is AccountStatus.OPEN

    with pytest.raises(AccountNotEmpty) as refused:
        await engine.close_account(alice)
    assert of(refused.value, "asset", "balance") == ("USD", 70)
    await engine.create_entry(alice, 70, "debit")
    await engine.close_account(alice, reason="moved")
    with pytest.raises(AccountIsClosed):
        await engine.create_entry(alice, 1, "credit")
    assert (await engine.reopen_account(alice)).status is AccountStatus.OPEN
    assert (await engine.close_account(alice, permanent=True)).version == 9
    with pytest.raises(AccountIsClosed, match="for ever"):
        await engine.reopen_account(alice)
    assert (await engine.get_account(alice)).permanent


async def test_the_life_of_a_hold(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    await engine.create_entry(alice, 100, "credit")
    hold = await engine.place_hold(alice, "80.50", reference="room 7", metadata={"nights": 2}, command_id="room")
    assert of(hold, "hold_id", "status") == ("room", "PLACED")
    assert of(hold, "amount", "remaining") == (Decimal("80.5"), Decimal("80.5"))
    assert of(hold, "balance", "held") == (100, Decimal("80.5"))
    assert await engine.get_available(alice) == Decimal("19.5")
    with pytest.raises(InsufficientFunds):
        await engine.create_entry(alice, 20, "debit")
    with pytest.raises(HoldExceeded):
        await engine.settle_hold(alice, "room", 81)

    entry = await engine.settle_hold(alice, "room", "60", reference="bill", command_id="bill")
    assert of(entry, "hold_id", "entry_type", "amount", "running_balance") == ("room", "DEBIT", 60, 40)
    assert await engine.get_entry(entry.entry_id) == entry
    (found,) = (await engine.list_holds(alice)).holds
    assert (found.hold_id, found.remaining, found.reference) == ("room", Decimal("20.5"), "room 7")

    released = await engine.release_hold(alice, "room", reason="left early")
    assert of(released, "status", "amount", "remaining", "held") == ("RELEASED", Decimal("20.5"), 0, 0)
    with pytest.raises(HoldNotFound):
        await engine.settle_hold(alice, "room")
    assert not (await engine.list_holds(alice)).holds
    assert [hold.status for hold in (await engine.list_holds(alice, status=None)).holds] == [HoldStatus.RELEASED]
    assert await engine.get_balance(alice) == await engine.get_available(alice) == 40


async def test_a_hold_expires_when_it_is_asked_to_and_its_time_has_come(
    engine: LedgerEngine, account: Account
) -> None:
    alice = account()
    await engine.create_entry(alice, 10, "credit")
    now = datetime.now(UTC)
    await engine.place_hold(alice, 5, expires_at=now + timedelta(days=1), command_id="later")
    await engine.place_hold(alice, 5, expires_at=now - timedelta(days=1), command_id="over")
    with pytest.raises(HoldNotExpired):
        await engine.expire_hold(alice, "later")
    assert (await engine.expire_hold(alice, "over")).status is HoldStatus.EXPIRED
    assert await engine.get_available(alice) == 5
    (expired,) = (await engine.list_holds(alice, status=HoldStatus.EXPIRED)).holds
    assert (expired.hold_id, expired.ended_at is None) == ("over", False)


async def test_an_account_without_floor_lets_money_in(engine: LedgerEngine, account: Account) -> None:
    world = account()
    await engine.open_account(world, floor=None, account_type="world")
    entry = await engine.create_entry(world, 10**12, "debit")
    assert entry.running_balance == -(10**12)
    assert await engine.get_available(world) is None


async def test_an_account_that_there_is_not(engine: LedgerEngine, account: Account) -> None:
    with pytest.raises(AccountNotFound):
        await engine.freeze_account(account())
    with pytest.raises(AccountNotInReadModel):
        await engine.get_account(account())
    assert await engine.get_available(account()) == 0
    assert not (await engine.list_holds(account())).holds


async def test_a_dry_run_tells_all_and_changes_nothing(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    tried = await engine.open_account(alice, command_id="open", dry_run=True)
    assert (tried.status, tried.version, tried.sequence, tried.dry_run) == (AccountStatus.OPEN, 1, TRIED, True)
    assert (await engine.open_account(alice, command_id="open")).version == 1
    credit: dict[str, Any] = {"account_id": alice, "amount": 10, "entry_type": "credit", "command_id": "credit"}
    for _ in range(2):
        dry = await engine.create_entry(**credit, dry_run=True)
        assert of(dry, "entry_id", "sequence", "running_balance", "replayed") == ("dry-run", TRIED, 10, False)
    with pytest.raises(InsufficientFunds):
        await engine.place_hold(alice, 5, command_id="hold", dry_run=True)
    entry = await engine.create_entry(**credit)
    assert (entry.version, entry.replayed, entry.dry_run) == (2, False, False)
    assert (await engine.place_hold(alice, 5, command_id="hold", dry_run=True)).held == 5
    assert (await engine.place_hold(alice, 5, command_id="hold")).version == 3
    assert (await engine.settle_hold(alice, "hold", dry_run=True)).running_balance == 5
    assert (await engine.release_hold(alice, "hold", dry_run=True)).held == 0
    assert (await engine.freeze_account(alice, dry_run=True)).status is AccountStatus.FROZEN

    answered = await engine.create_entry(**credit, dry_run=True)
    assert (answered.entry_id, answered.replayed, answered.dry_run) == (entry.entry_id, True, False)
    with pytest.raises(IdempotencyConflict):
        await engine.create_entry(**credit | {"amount": 11}, dry_run=True)
    found = await engine.get_account(alice)
    assert of(found, "status", "version") == ("OPEN", 3)
    assert [of(row, "balance", "held") for row in found.balances] == [(10, 5)]
    assert len((await engine.list_entries(alice)).entries) == 1


async def test_a_dry_run_and_the_command_at_once_get_an_answer_each(engine: LedgerEngine, account: Account) -> None:
    alice = account()
    asked = [engine.create_entry(alice, 1, "credit", command_id="id", dry_run=i % 2 == 0) for i in range(40)]
    entries = await asyncio.gather(*asked)
    assert [entry.dry_run for entry in entries[1::2]] == [False] * 20
    assert Counter(entry.replayed for entry in entries[1::2]) == {False: 1, True: 19}
    assert await engine.get_balance(alice) == 1


async def test_five_thousand_entries_are_one_call(engine: LedgerEngine, account: Account) -> None:
    accounts = [account() for _ in range(50)]
    entries: list[dict[str, Any]] = [
        {"account_id": accounts[i % 50], "amount": "1", "entry_type": "credit", "command_id": f"many-{i}"}
        for i in range(MANY)
    ]
    entries[7]["amount"] = 0.1
    entries[8] |= {"entry_type": "debit", "amount": 10**9}
    entries[9] |= {"command_id": "many-59", "amount": "2"}
    answers = await engine.create_entries(entries)
    assert [type(answers[i]) for i in (7, 8, 59)] == [InvalidAmount, InsufficientFunds, IdempotencyConflict]
    posted = [entry for entry in answers if isinstance(entry, LedgerEntry)]
    assert len(posted) == MANY - 3
    for asked, entry in zip(entries, answers, strict=True):
        assert isinstance(entry, LedgerError) or entry.command_id == asked["command_id"]
    of_one = [entry.running_balance for entry in posted if entry.account_id == accounts[0]]
    assert of_one == list(range(1, MANY // 50 + 1))
    again = await engine.create_entries(entries)
    assert all(entry.replayed for entry in again if isinstance(entry, LedgerEntry))
    assert [type(item) for item in again] == [type(item) for item in answers]
    assert await engine.get_balance(accounts[0]) == MANY // 50
    assert await engine.create_entries([]) == []


def run(ledger: Ledger, *words: str, status: int = 0, stdin: str = "") -> str:
    """Run `partita` in this process, and return what it printed on stdout."""
    done = CliRunner().invoke(app, words, input=stdin, env=ledger.environment())
    assert done.exit_code == status, done.output
    return done.stdout


def told(ledger: Ledger, *words: str, status: int = 0, stdin: str = "") -> Any:
    """Run `partita`, and return what it printed as JSON."""
    return json.loads(run(ledger, *words, "--json", status=status, stdin=stdin))


def test_accounts_and_holds_from_a_terminal(running: Ledger, account: Account) -> None:
    alice = account()
    opened = told(running, "account", "open", alice, "--floor=-50", "--asset", "EUR", "--metadata", '{"a": 1}')
    assert (opened["status"], opened["version"]) == ("OPEN", 1)
    assert told(running, "post", alice, "10", "--credit", "--asset", "EUR", "--dry-run")["entry_id"] == "dry-run"
    placed = told(running, "hold", "place", alice, "30", "--asset", "EUR", "--command-id", "h")
    assert (placed["hold_id"], placed["held"]) == ("h", "30")
    assert told(running, "hold", "settle", alice, "h", "10")["running_balance"] == "-10"
    assert told(running, "hold", "expire", alice, "h", status=3)["error"] == "HoldNotExpired"
    assert told(running, "account", "freeze", alice, "--reason", "why")["status"] == "FROZEN"
    assert told(running, "hold", "release", alice, "h")["status"] == "RELEASED"
    assert told(running, "account", "close", alice, status=3)["error"] == "AccountNotEmpty"


def test_what_a_terminal_shows(running: Ledger, account: Account) -> None:
    alice = account()
    told(running, "account", "open", alice, "--floor=-50")
    told(running, "hold", "place", alice, "30", "--command-id", "h", "--reference", "[room] 7")
    eventually(lambda: told(running, "hold", "list", alice)["holds"])  # another process writes the tables
    shown = told(running, "account", "show", alice)
    assert (shown["floor"], shown["version"]) == ("-50", 2)
    (usd,) = shown["balances"]
    assert (usd["balance"], usd["held"], usd["available"]) == ("0", "30", "20")
    assert "30" in run(running, "account", "show", alice)
    assert "[room] 7" in run(running, "hold", "list", alice, "--status", "any")
    assert told(running, "account", "show", account(), status=1)["error"] == "AccountNotInReadModel"


def test_a_file_of_entries_is_posted_and_can_be_posted_again(
    running: Ledger, account: Account, tmp_path: Path
) -> None:
    alice, results = account(), tmp_path / "results.jsonl"
    good = {"account_id": alice, "amount": "12.50", "entry_type": "credit", "metadata": {"f": 1.5}}
    lines = [
        json.dumps(good | {"command_id": "l-1", "effective_at": "2026-01-01T00:00:00Z"}),
        "",
        json.dumps(good | {"command_id": "l-2", "entry_type": "debit", "amount": "100"}),
        json.dumps(good),
        "{",
        json.dumps(good | {"command_id": "l-3"}),
    ]
    text = "\n".join(lines) + "\n"
    tried = told(running, "post-many", "-", "--dry-run", status=3, stdin=text)
    assert (tried["posted"], tried["dry_run"]) == (2, True)
    failed = {"InsufficientFunds": 1, "InvalidCommandId": 1, "InvalidCommand": 1}
    done = told(running, "post-many", "-", "--results", str(results), status=3, stdin=text)
    assert done == {
        "dry_run": False, "lines": 5, "posted": 2, "replayed": 0, "failed": failed, "stopped_at_line": None,
    }  # fmt: skip
    written = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(line["line"], line.get("error")) for line in written] == [
        (1, None), (3, "InsufficientFunds"), (4, "InvalidCommandId"), (5, "InvalidCommand"), (6, None),
    ]  # fmt: skip
    assert written[-1]["running_balance"] == "25"
    assert told(running, "post-many", "-", status=3, stdin=text)["replayed"] == 2


async def test_an_operator_may_have_accounts_opened_first(ledger: Ledger) -> None:
    handler = ledger.service("handler", implicit_opening=False).start()
    ledger.await_handler(handler)
    async with ledger.engine() as engine:
        with pytest.raises(Rejected) as refused:
            await engine.create_entry("alice", 1, "credit")
        assert refused.value.code == "AccountNotFound"
        await engine.open_account("alice")
        assert (await engine.create_entry("alice", 1, "credit")).version == 2


async def test_entries_without_an_answer_are_unknown_and_are_posted_once(ledger: Ledger, tmp_path: Path) -> None:
    handler = ledger.service("handler").start()
    ledger.await_handler(handler)
    handler.kill()
    entries = [
        {"account_id": "alice", "amount": "1", "entry_type": "credit", "command_id": f"c-{i}"} for i in range(9)
    ]
    file = tmp_path / "entries.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    async with ledger.engine() as engine:
        unknown = await engine.create_entries(entries, timeout=0.5)
        assert [error.details["command_id"] for error in unknown if isinstance(error, OutcomeUnknown)] == [
            entry["command_id"] for entry in entries
        ]
        told_of = await asyncio.to_thread(told, ledger, "post-many", str(file), "--timeout", "0.5", status=5)
        assert (told_of["failed"], told_of["stopped_at_line"]) == ({"OutcomeUnknown": 9}, 1)
        handler.start()
        posted, again = [await engine.create_entries(entries) for _ in range(2)]
    assert [entry.running_balance for entry in posted if isinstance(entry, LedgerEntry)] == list(range(1, 10))
    assert [entry.to_dict() | {"replayed": True} for entry in posted] == [entry.to_dict() for entry in again]
