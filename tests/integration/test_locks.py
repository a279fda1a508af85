"""Locks on the real stack: read, check and write, by many tasks of two processes, and nobody in between."""

import asyncio
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from partita import AccountLocked, LedgerEngine, LockLost
from tests.integration.spender import MANAGER, spend
from tests.support.services import Ledger

Account = Callable[[], str]
TASKS = 64
FUNDS = 8


async def test_what_tasks_of_two_processes_check_under_locks_holds_and_they_all_get_their_turn(
    running: Ledger, account: Account
) -> None:
    """The accounts have no floor: only the check keeps them from going below zero. Pairs are named in any order."""
    accounts = [account() for _ in range(3)]
    argv = (sys.executable, "-m", "tests.integration.spender", json.dumps(accounts), str(TASKS // 2), "1")
    rival = await asyncio.create_subprocess_exec(
        *argv, env=running.environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert rival.stdin is not None
    assert rival.stdout is not None
    async with LedgerEngine(settings=running.settings(), lock_manager=MANAGER) as engine, asyncio.timeout(120):
        try:
            assert await rival.stdout.readline() == b"ready\n"
            for name in accounts:
                await engine.open_account(name, floor=None)
                await engine.create_entry(name, FUNDS, "credit")
            rival.stdin.write(b"go\n")
            mine = await spend(engine, accounts, TASKS // 2, 2)
        except BaseException:
            rival.kill()
            raise
        finally:
            told, _ = await rival.communicate()
        after = [*mine, *map(Decimal, json.loads(told))]
        async with engine.lock_accounts(*accounts):  # so that what the rival wrote is read, too
            balances = [await engine.get_balance(name) for name in accounts]
    assert min(after) == 0, "they all but emptied an account, and did not go on"
    assert min(balances) >= 0
    assert FUNDS * 3 - sum(balances) <= TASKS // 2


async def test_others_wait_until_the_lock_is_released(
    engine: LedgerEngine, running: Ledger, account: Account
) -> None:
    alice, bob = account(), account()
    async with running.engine() as other:
        await other.create_entry(alice, 10, "credit")
        async with engine.lock_account(alice, lease=60):
            waiting = [
                asyncio.create_task(other.create_entry(alice, 1, "credit")),
                asyncio.create_task(other.transfer(alice, bob, 2)),
            ]
            impatient: dict[str, Any] = {"command_id": f"impatient-{alice}", "timeout": 5}
            refused = await asyncio.gather(
                other.create_entry(alice, 1, "debit", **impatient),
                other.transfer(alice, bob, 1, **impatient),
                return_exceptions=True,
            )
            assert [type(error) for error in refused] == [AccountLocked, AccountLocked]
            assert (await engine.create_entry(alice, 5, "debit")).running_balance == 5
            assert (await engine.transfer(alice, bob, 1)).entries[0].running_balance == 4
            assert not any(task.done() for task in waiting)
        await asyncio.gather(*waiting)
        entry = await other.create_entry(alice, 1, "debit", command_id=f"impatient-{alice}")
        assert (entry.running_balance, entry.replayed) == (Decimal(2), False), (
            "a refusal that passes does not use up the id"
        )


async def test_an_expired_holder_writes_nothing(engine: LedgerEngine, running: Ledger, account: Account) -> None:
    alice = account()
    await engine.create_entry(alice, 10, "credit")
    async with engine.lock_account(alice, lease=0.3) as lock:
        async with running.engine() as other:
            await other.create_entry(alice, 1, "debit")  # as soon as the lease is over
        with pytest.raises(LockLost):
            await engine.create_entry(alice, 10, "debit")
        with pytest.raises(LockLost):
            await lock.renew()
        with pytest.raises(LockLost):
            await engine.transfer(alice, account(), 1)
    assert (await engine.create_entry(alice, 1, "debit")).running_balance == 8
