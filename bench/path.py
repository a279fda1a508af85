"""The whole path: every service a process, and a client on the same processors that awaits each outcome."""

import itertools
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cpu import CpuMeter
from bench.ledger import Bench
from partita.demo.processes import SERVICES, Services
from partita.demo.traffic import Record, Traffic
from partita.demo.watch import LagWatch
from partita.demo.workload import ENTRIES, Ask, asks
from partita.wiring import Wiring

_ACCOUNTS = 1_000


def run(bench: Bench, *, seconds: float = 60, rate: float | None = None, window: int = 4_000) -> dict[str, Any]:
    """Ask for `seconds`, as fast as is answered with `window` unanswered, or at `rate` commands/s."""
    wiring = Wiring(bench.settings())
    wiring.ensure_topics()
    run_id = uuid.uuid4().hex[:8]
    with tempfile.TemporaryDirectory() as logs:
        environment = {**wiring.settings.environment(), "PARTITA_STATE_DIR": logs}
        services = Services(environment=environment, logs=Path(logs))
        traffic = Traffic(wiring, reply_key=f"bench-{run_id}", window=window, linger_ms=5 if rate is None else 0)
        watch = LagWatch(wiring=wiring, reached=lambda: traffic.record.reached)
        try:
            for name in SERVICES:
                services.start(name)
            _ask(traffic, run_id, "warm", count=_ACCOUNTS)
            watch.start()
            if watch.wait_for(traffic.record.reached, 60) is None:
                raise RuntimeError("the projection does not follow")
            return _measured(bench, services, traffic, watch, run_id, seconds, rate)
        finally:
            watch.stop()
            traffic.close()
            services.stop()


def _measured(
    bench: Bench,
    services: Services,
    traffic: Traffic,
    watch: LagWatch,
    run_id: str,
    seconds: float,
    rate: float | None,
) -> dict[str, Any]:
    traffic.record = Record()
    watch.most = 0
    meter = CpuMeter(bench.processes(**services.pids()))
    lags: list[int] = []
    stream = asks(10**9, _ACCOUNTS, reply_key=f"bench-{run_id}", run=run_id, seed=1, mix=ENTRIES)
    paced = _until(stream, seconds) if rate is None else _paced(stream, seconds, rate, traffic)
    traffic.run(paced, on_progress=lambda _: lags.append(watch.lag or 0))
    record = traffic.record
    shares = meter.shares()
    drained = watch.wait_for(record.reached, 60)
    ordered = sorted(record.latencies)
    return {
        "seconds": round(record.ended - record.started, 1),
        "commands": record.asked,
        "commands_per_second": round(record.answered / (record.ended - record.started)),
        "asked_per_second": rate,
        "latency_ms": {
            f"p{percent}": round(1000 * ordered[int(len(ordered) * percent / 100)], 1) for percent in (50, 90, 99)
        },
        "projection_lag_events": {"most": watch.most, "second_half_most": max(lags[len(lags) // 2 :], default=0)},
        "projection_drained_after_s": None if drained is None else round(max(0.0, drained - record.ended), 2),
        "processors_busy": shares,
        "limit": f"{os.cpu_count()} processors shared by the client (`this`), the services and the stack",
    }


def _ask(traffic: Traffic, run_id: str, prefix: str, *, count: int) -> None:
    stream = asks(count, _ACCOUNTS, reply_key=f"bench-{run_id}", run=f"{run_id}-{prefix}", seed=2)
    traffic.run(stream, on_progress=lambda _: None)


def _until(stream: Iterator[Ask], seconds: float) -> Iterator[Ask]:
    ends = time.monotonic() + seconds
    return itertools.takewhile(lambda _: time.monotonic() < ends, stream)


def _paced(stream: Iterator[Ask], seconds: float, rate: float, traffic: Traffic) -> Iterator[Ask]:
    """Yield one each 1/rate seconds; what is between is spent receiving."""
    began = time.monotonic()
    for number, ask in enumerate(stream):
        due = began + number / rate
        if due - began > seconds:
            return
        while (left := due - time.monotonic()) > 0:
            traffic.receive(left)
        yield ask
