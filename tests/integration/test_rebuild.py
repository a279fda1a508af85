"""Tables are rebuilt under a ledger that is in use, and whoever uses it notices nothing."""

import asyncio
import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from partita.verify.run import verify
from tests.support.services import Ledger


def rebuild(ledger: Ledger, projection: str, *options: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "partita", "rebuild", projection, "--json", *options]
    done = subprocess.run(argv, env=ledger.environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_both_are_rebuilt_while_money_moves_and_is_asked_for(ledger: Ledger) -> None:
    handler = ledger.service("handler").start()
    services = [ledger.service(name).start() for name in ("balances", "snapshots")]
    ledger.await_handler(handler)
    stop, moved = asyncio.Event(), 0
    async with ledger.engine() as engine:
        await engine.open_account("world", floor=None)
        await engine.transfer("world", "ann", 1000)

        async def pay() -> None:
            nonlocal moved
            while not stop.is_set():
                moved += 1
                await engine.transfer("ann", "ben", 1, command_id=f"pay-{moved}")
                assert await engine.get_balance("ben") == moved  # which waits for the tables to have it
                assert await engine.get_balance("ben", at=datetime.now(UTC)) == moved

        paying = asyncio.create_task(pay())
        for projection in ("balances", "snapshots"):
            done = await asyncio.to_thread(rebuild, ledger, projection)
            assert (done["differences"], done["halted"]) == ([], {})
            assert not paying.done()
        stop.set()
        await paying
        assert moved > 10
        assert await engine.get_balance("ann") == 1000 - moved
    with closing(ledger.wiring()) as wiring:
        found = await verify(wiring)
    assert [(place, each) for place, results in found.found.items() for each in results if not each.ok] == []
    assert all(service.alive() for service in services)
    assert "entries" in (await asyncio.to_thread(rebuild, ledger, "balances", "--drop-old"))["dropped"]
