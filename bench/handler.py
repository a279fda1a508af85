"""The handler alone: how fast it drains a full topic, and how fast it comes back, with its disk and without."""

import gc
import time
from typing import Any

from bench.cpu import CpuMeter
from bench.ledger import Bench, fill
from commands.rocks_store import RocksStores
from commands.store import Stores
from partita.services import GC_THRESHOLDS
from partita.wiring import Wiring


def run(bench: Bench, commands: int = 300_000, accounts: int = 1_000) -> dict[str, Any]:
    """Measure commands/s over a topic of `commands`, filled before; then how soon it is back."""
    gc.set_threshold(*GC_THRESHOLDS)
    wiring = Wiring(bench.settings())
    count = wiring.ensure_topics()
    fill(wiring, commands, accounts)
    stores = RocksStores(wiring.settings.stores_dir("bench"))
    log = wiring.log("bench")
    handler = wiring.handler(log, stores, count)
    while handler.turn().ready < count:
        pass
    meter, began, turns, done = CpuMeter(bench.processes()), time.monotonic(), 0, 0
    while done < commands:
        done += handler.turn().commands
        turns += 1
    elapsed = time.monotonic() - began
    shares = meter.shares()
    handler.close()
    log.close()
    restart = _start(wiring, stores, count)
    rebuild = _start(wiring, RocksStores(wiring.settings.stores_dir("another")), count)
    return {
        "commands": commands,
        "accounts": accounts,
        "partitions": count,
        "commands_per_second": round(commands / elapsed),
        "commands_per_transaction": round(commands / turns),
        "restart_seconds": round(restart, 2),
        "rebuilt_events_per_second": round(commands / rebuild),
        "processors_busy": shares,
        "limit": "the handler's one interpreter thread: `this` is near 1.0 processor",
    }


def _start(wiring: Wiring, stores: Stores, count: int) -> float:
    """Return the seconds until a handler on these stores is ready."""
    log = wiring.log("bench")
    handler = wiring.handler(log, stores, count)
    began = time.monotonic()
    while handler.turn().ready < count:
        pass
    elapsed = time.monotonic() - began
    handler.close()
    log.close()
    return elapsed
