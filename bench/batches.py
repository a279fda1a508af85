"""Batches of two entries: by one handler, which posts them at once, and by several, which have to agree.

Every handler is a process of its own. The topic is filled before, so that the handlers are all that is measured.
"""

import gc
import multiprocessing
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any, Final

from bench.cpu import CpuMeter
from bench.ledger import Bench, fill, produce
from commands.rocks_store import RocksStores
from commands.types import PostBatch
from events.follow import Ends, PartitionReader, read_all
from events.money import UNITS_PER_WHOLE
from events.types import BatchEntry, BatchStarted, EntryType
from partita.services import GC_THRESHOLDS
from partita.settings import Settings
from partita.wiring import Wiring

_TOO_LONG: Final = 300.0
_SPAWN: Final = multiprocessing.get_context("spawn")


def run(bench: Bench, batches: int = 40_000, accounts: int = 1_000) -> dict[str, Any]:
    """Measure batches/s of one, two and four handlers."""
    return {
        "batches": batches,
        "entries_a_batch": 2,
        "accounts": accounts,
        **{f"handlers_{count}": _measure(bench, count, batches, accounts) for count in (1, 2, 4)},
        "limit": "the processors, which the handlers share with Kafka",
    }


def _measure(bench: Bench, handlers: int, batches: int, accounts: int) -> dict[str, Any]:
    settings = bench.settings()
    wiring = Wiring(settings)
    count = wiring.ensure_topics()
    outcomes = PartitionReader(wiring.clients, wiring.topics.outcomes)
    outcomes.start(Ends(wiring.clients).high(wiring.topics.outcomes, range(count), timeout=10))
    fill(wiring, 2 * accounts, accounts)
    with _handlers(settings, 1):
        _elapsed(outcomes, 2 * accounts)
    produce(wiring, ((transfer, transfer.command_id) for transfer in _transfers(batches, accounts)))
    with _handlers(settings, handlers) as pids:
        meter = CpuMeter(bench.processes(**pids))
        elapsed = _elapsed(outcomes, batches)
        shares = meter.shares()
    outcomes.close()
    return {
        "batches_per_second": round(batches / elapsed),
        "share_across_handlers": round(_started(wiring, count) / batches, 2),
        "processors_busy": shares,
    }


def _transfers(count: int, accounts: int) -> Iterator[PostBatch]:
    for number in range(count):
        source, target = number % accounts, (number * 7 + 1) % accounts
        entries = (
            BatchEntry(f"account-{source:07d}", EntryType.DEBIT, UNITS_PER_WHOLE // 1000, "USD"),
            BatchEntry(f"account-{target:07d}", EntryType.CREDIT, UNITS_PER_WHOLE // 1000, "USD"),
        )
        yield PostBatch(str(uuid.uuid4()), "bench", entries, balanced=True)


@contextmanager
def _handlers(settings: Settings, count: int) -> Iterator[dict[str, int]]:
    """Run so many handlers, and yield their pids by name."""
    stop = _SPAWN.Event()
    processes = [_SPAWN.Process(target=_serve, args=(settings, str(number), stop)) for number in range(count)]
    for process in processes:
        process.start()
    try:
        yield {f"handler {number}": process.pid or 0 for number, process in enumerate(processes)}
    finally:
        stop.set()
        for process in processes:
            process.join(_TOO_LONG)


def _serve(settings: Settings, instance: str, stop: Event) -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    wiring = Wiring(settings)
    count = wiring.ensure_topics()
    log = wiring.log(instance)
    handler = wiring.handler(log, RocksStores(settings.stores_dir(instance)), count)
    while not stop.is_set():
        handler.turn()
    handler.close()
    log.close()


def _elapsed(outcomes: PartitionReader, count: int) -> float:
    """Return the seconds between the first and the last of so many outcomes."""
    seen, began, patient_until = 0, 0.0, time.monotonic() + _TOO_LONG
    while seen < count:
        found = len(outcomes.poll(0.1))
        if found and not seen:
            began = time.monotonic()
        seen += found
        if time.monotonic() > patient_until:
            raise RuntimeError(f"{seen} outcomes of {count} after {_TOO_LONG:.0f} s")
    return time.monotonic() - began


def _started(wiring: Wiring, count: int) -> int:
    """Return how many batches were not posted at once."""
    events = read_all(wiring.clients, wiring.topics.events, wiring.event_codec, range(count))
    return sum(isinstance(stored.event, BatchStarted) for group in events for stored in group)
