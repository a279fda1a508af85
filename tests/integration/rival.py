"""Debits accounts from a process of its own: `python -m tests.integration.rival <accounts as JSON> <times each>`.

Says "ready" when it is connected, begins at a line on stdin, and prints what came of it as JSON.
"""

import asyncio
import json
import sys
from collections import Counter

from partita import InsufficientFunds, LedgerEngine, LedgerEntry


async def main(accounts: list[str], times: int) -> None:
    async with LedgerEngine() as engine:
        await engine.create_entry(f"rival-{accounts[0]}", 1, "credit")
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        attempts = [engine.create_entry(account, 100, "debit") for account in accounts for _ in range(times)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    won = Counter(outcome.account_id for outcome in outcomes if isinstance(outcome, LedgerEntry))
    refused = sum(isinstance(outcome, InsufficientFunds) for outcome in outcomes)
    print(json.dumps({"won": won, "refused": refused}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), int(sys.argv[2])))
