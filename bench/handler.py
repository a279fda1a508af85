"""The handler alone: how fast it drains a full topic, and how fast it comes back from the log."""

import time
from typing import Any

from bench.cpu import CpuMeter
from bench.ledger import Bench, fill
from partita.wiring import Wiring


def run(bench: Bench, commands: int = 300_000, accounts: int = 1_000) -> dict[str, Any]:
    """Measure commands/s over a topic of `commands`, filled before, and events/s of a restart that replays them."""

    wiring = Wiring(bench.settings())
    count = wiring.ensure_topics()
    fill(wiring, commands, accounts)
    log = wiring.log("bench")
    handler = wiring.handler(log, count)
    while handler.turn().ready < count:
        pass
    meter, began, turns, done = CpuMeter(bench.processes()), time.monotonic(), 0, 0
    while done < commands:
        done += handler.turn().commands
        turns += 1
    elapsed = time.monotonic() - began
    shares = meter.shares()
    log.close()
    return {
        "commands": commands,
        "accounts": accounts,
        "partitions": count,
        "commands_per_second": round(commands / elapsed),
        "commands_per_transaction": round(commands / turns),
        "restored_events_per_second": round(commands / _restore(wiring, count)),
        "processors_busy": shares,
        "limit": "the handler's one interpreter thread: `this` is near 1.0 processor",
    }


def _restore(wiring: Wiring, count: int) -> float:
    log = wiring.log("bench")
    handler = wiring.handler(log, count)
    began = time.monotonic()
    while handler.turn().ready < count:
        pass
    log.close()
    return time.monotonic() - began
