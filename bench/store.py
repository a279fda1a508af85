"""The handler's state on disk: how much memory, how soon it is back, and how the rate depends on the accounts.

Every handler is a process of its own, so that its memory is its own. All goes the whole way: commands are put on the
topic, and a handler appends their events and keeps its store.
"""

import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from bench.ledger import Bench, fill
from bench.memory import memory
from commands.handler import Handler
from commands.rocks_store import RocksStores
from partita.services import GC_THRESHOLDS
from partita.settings import Settings
from partita.wiring import Wiring

_FEW: Final = 1_000
_SLICES: Final = 5
_TOO_LONG: Final = 600


def run(
    bench: Bench, *, accounts: int = 10_000, ids: int = 100_000, sample: int = 50_000, rounds: int = 3
) -> dict[str, Any]:
    """Grow a ledger to `accounts` and `ids` command ids and measure a handler on it, then ledgers of fewer accounts.

    A rate is the median of `rounds` times `sample` commands. Full size: 1,000,000 accounts and 5,000,000 ids.
    """
    grown = bench.settings()
    results = {"accounts": accounts, "command_ids": ids, "load_before": os.getloadavg()[0]}
    results |= _grown(grown, accounts, ids)
    small = {count: _new(bench, count) for count in _sizes(accounts)}
    ledgers = {**small, accounts: grown}
    taken: dict[int, list[tuple[int, float]]] = {count: [] for count in ledgers}
    for _ in range(rounds):  # by turns: what else the machine does then disturbs all of them alike
        for count, settings in ledgers.items():
            taken[count].append(_rate(settings, count, sample))
    medians = {count: round(statistics.median(rate for rate, _ in of)) for count, of in taken.items()}
    thread = {count: round(statistics.median(micros for _, micros in of), 1) for count, of in taken.items()}
    return results | {
        "commands_per_second_by_accounts": medians,
        "one_hot_account_to_1000": round(medians[1] / medians[_FEW], 2),
        "all_accounts_to_1000": round(medians[accounts] / medians[_FEW], 2),
        "thread_microseconds_per_command": thread,
        "rounds": taken,
        "load_after": os.getloadavg()[0],
        "limit": "the handler's one interpreter thread",
    }


def _sizes(accounts: int) -> list[int]:
    """Return 1, 10^3, 10^4, ... below `accounts`."""
    return [1, *(size for size in (10**power for power in range(3, 10)) if size < accounts)]


def _grown(settings: Settings, accounts: int, ids: int) -> dict[str, Any]:
    Wiring(settings).ensure_topics()
    fill(Wiring(settings), ids, accounts)
    growing = _handler(settings, "first", [ids // _SLICES] * _SLICES)
    again = _handler(settings, "first")
    anew = _handler(settings, "second")
    return {
        "growing": growing,
        "store_bytes_per_id": round(_size(settings.stores_dir("first")) / ids),
        "restart": again,
        "rebuild": {**anew, "events_per_second": round(ids / (anew["seconds_to_ready"] - again["seconds_to_ready"]))},
    }


def _new(bench: Bench, accounts: int) -> Settings:
    """Return a new ledger in which each account has an entry."""
    settings = bench.settings()
    Wiring(settings).ensure_topics()
    fill(Wiring(settings), accounts, accounts)
    _handler(settings, "first", [accounts])
    return settings


def _rate(settings: Settings, accounts: int, commands: int) -> tuple[int, float]:
    """Return commands/s, and the microseconds that a command takes of the handler's thread."""
    fill(Wiring(settings), commands, accounts)
    took = _handler(settings, "first", [commands])
    return took["commands_per_second"][0], took["thread_microseconds_per_command"]


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _handler(settings: Settings, instance: str, parts: Sequence[int] = ()) -> dict[str, Any]:
    """Start a handler in a new process, let it handle so many commands, and return what it took."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        took = process.submit(_handle, settings, instance, parts).result()
    sys.stderr.write(f"  {sum(parts):,} commands: {took}\n")
    return took


def _handle(settings: Settings, instance: str, parts: Sequence[int]) -> dict[str, Any]:
    gc.set_threshold(*GC_THRESHOLDS)
    began = time.monotonic()
    wiring = Wiring(settings)
    count = wiring.ensure_topics()
    log = wiring.log("bench")
    handler = wiring.handler(log, RocksStores(settings.stores_dir(instance)), count)
    done = 0
    while (turn := handler.turn()).ready < count:
        done += turn.commands
    ready = time.monotonic() - began
    busy = time.thread_time()
    rates = list(_rates(handler, done + turn.commands, parts))
    thread = time.thread_time() - busy
    now, most = memory()
    handler.close()
    log.close()
    return {
        "seconds_to_ready": round(ready, 2),
        "thread_seconds_to_ready": round(busy, 2),
        "commands_per_second": rates,
        "thread_microseconds_per_command": round(1e6 * thread / sum(parts), 1) if parts else None,
        "memory_megabytes": round(now / 1e6),
        "peak_megabytes": round(most / 1e6),
    }


def _rates(handler: Handler, done: int, parts: Sequence[int]) -> Iterator[int]:
    """Handle so many commands, which are there, `done` of them before; yield commands/s for each part of them."""
    for end in accumulate(parts):
        before, began = done, time.monotonic()
        while done < end:
            done += handler.turn().commands
            if time.monotonic() - began > _TOO_LONG:
                raise RuntimeError(f"{done} commands of {end} after {_TOO_LONG} s")
        yield round((done - before) / (time.monotonic() - began))
