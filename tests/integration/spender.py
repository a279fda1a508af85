"""Spends under locks, from a process of its own: `python -m tests.integration.spender <accounts> <tasks> <seed>`.

Says "ready" when it is connected, begins at a line on stdin, and prints the running balances that it made.
"""

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from decimal import Decimal

from partita import LedgerEngine, LockManager

MANAGER = LockManager(lease=20, first_delay=0.01, longest_delay=0.3)
PATIENCE = 90.0


async def spend(engine: LedgerEngine, accounts: Sequence[str], tasks: int, seed: int) -> list[Decimal]:
    """Let many tasks read, check and write at once; return the balances of accounts after each debit."""
    drawn = random.Random(seed)
    picks = [drawn.sample(accounts, 2) if i % 2 else [drawn.choice(accounts)] for i in range(tasks)]
    return [b for b in await asyncio.gather(*(_spend(engine, *pick) for pick in picks)) if b is not None]


async def _spend(engine: LedgerEngine, source: str, target: str | None = None) -> Decimal | None:
    """Take 1 from `source`, to `target` if there is one, unless that takes it below zero: nobody else sees to it."""
    accounts = [source] if target is None else [source, target]
    async with engine.lock_accounts(*accounts, timeout=PATIENCE):
        if await engine.get_balance(source, timeout=PATIENCE) < 1:
            return None
        if target is None:
            return (await engine.create_entry(source, 1, "debit")).running_balance
        return (await engine.transfer(source, target, 1)).entries[0].running_balance


async def main(accounts: list[str], tasks: int, seed: int) -> None:
    async with LedgerEngine(lock_manager=MANAGER) as engine:
        await engine.create_entry(f"spender-{accounts[0]}", 1, "credit")
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps([str(balance) for balance in await spend(engine, accounts, tasks, seed)]))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
