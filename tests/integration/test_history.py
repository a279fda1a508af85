"""Balances at any time through the front door: what was is told, whatever came after."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from partita import InvalidPointInTime, LedgerEngine
from projections.snapshots.queries import Clock
from tests.support.services import Ledger

Account = Callable[[], str]


def told_by(ledger: Ledger, *arguments: str) -> Any:
    """Return what the command line prints as JSON."""
    command = [sys.executable, "-m", "partita", *arguments]
    done = subprocess.run(command, env=ledger.environment(), capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


async def test_a_reversal_and_a_late_entry_change_nothing_of_what_was_recorded(
    engine: LedgerEngine, account: Account
) -> None:
    world, alice, asset = account(), account(), f"H{uuid.uuid4().hex[:8]}".upper()
    await engine.open_account(world, floor=None)
    first = await engine.transfer(world, alice, 100, asset=asset)
    before = first.recorded_at
    await engine.rollback_batch(first.batch_id, "by mistake")
    late = await engine.create_entry(alice, 7, "credit", asset=asset, effective_at=before - timedelta(days=40))
    told = {
        (clock, when): await engine.get_balance(alice, asset, at=when, time=clock)
        for clock in Clock
        for when in (before - timedelta(days=41), before - timedelta(days=1), before, late.recorded_at)
    }
    assert [told[Clock.RECORDED, when] for _, when in list(told)[:4]] == [0, 0, 100, 7]
    assert [told[Clock.EFFECTIVE, when] for _, when in list(told)[:4]] == [0, 7, 107, 7]
    [trial] = [row for row in await engine.trial_balance(before) if row.asset == asset]
    assert [trial.floorless, trial.others, trial.balance] == [-100, 100, 0]
    [trial] = [row for row in await engine.trial_balance(late.recorded_at) if row.asset == asset]
    assert [trial.credits, trial.debits, trial.balance] == [207, 200, 7]
    assert trial.floorless == 0
    found: dict[str, Decimal] = {}
    cursor: str | None = None
    while True:
        page = await engine.snapshot(before, cursor=cursor, limit=50)
        found |= {row.account_id: row.balance for row in page.balances if row.asset == asset}
        if (cursor := page.next_cursor) is None:
            break
    assert found == {world: Decimal(-100), alice: Decimal(100)}
    with pytest.raises(InvalidPointInTime):
        await engine.get_balance(alice, asset, at=before, time="yesterday")


async def test_from_the_command_line(running: Ledger, engine: LedgerEngine, account: Account) -> None:
    alice = account()
    entry = await engine.create_entry(alice, 5, "credit", asset="CLI")
    await engine.create_entry(alice, 6, "credit", asset="CLI")
    await engine.trial_balance(datetime.now(UTC))  # the snapshots have got there
    at = entry.recorded_at.isoformat()
    shown = told_by(running, "balance", alice, "--asset", "CLI", "--at", at, "--json")
    assert (shown["balance"], shown["at"], shown["time"]) == ("5", at, "recorded")
    shown = told_by(running, "snapshot", "--at", at, "--json", "--limit", "1000")
    assert {"account_id": alice, "asset": "CLI", "balance": "5"} in shown["balances"]
    shown = told_by(running, "trial-balance", "--at", at, "--time", "effective", "--json")
    assert {row["asset"]: row["balance"] for row in shown["assets"]}["CLI"] == "5"
