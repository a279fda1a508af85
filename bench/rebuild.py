"""How fast the balances are rebuilt, from the start to the exchange, beside live tables at the end of the log."""

import gc
import itertools
import time
from collections.abc import Mapping
from typing import Any

from bench.projection import ProjectionBench, measure
from partita.services import GC_THRESHOLDS
from projections.balances import Balances
from projections.rebuild.results import Step
from projections.rebuild.run import rebuild


def run(addresses: Mapping[str, str], events: int = 100_000) -> dict[str, Any]:
    """Measure on a stack and return `events_per_second` of the rebuild, all included, and the seconds of its steps.

    The rest is `projection.run` for the live tables. `addresses` has kafka_bootstrap, schema_registry_url and
    postgres_url. Topics and schemas are made for this run, and dropped after it.
    """
    gc.set_threshold(*GC_THRESHOLDS)  # as the command does
    live = measure(addresses, Balances(), events, singles=10, after=_rebuilt)
    return {**live.pop("rebuild"), "live": live}


async def _rebuilt(ledger: ProjectionBench) -> dict[str, Any]:
    begun, cpu = time.perf_counter(), time.process_time()
    starts: dict[str, float] = {}

    def note(step: Step) -> None:
        starts.setdefault(step.doing, time.perf_counter())

    done = await rebuild(
        ledger.clients, ledger.topics, ledger.codec, ledger.database, Balances(), ledger=ledger.name, on_step=note
    )
    ended = time.perf_counter()
    steps = [("starting", begun), *starts.items(), ("", ended)]
    seconds = {name: round(end - start, 2) for (name, start), (_, end) in itertools.pairwise(steps)}
    return {
        "rebuild": {
            "events": done.events,
            "events_per_second": round(done.events / (ended - begun)),
            "seconds": seconds,
            "processor_seconds": round(time.process_time() - cpu, 2),
        }
    }
