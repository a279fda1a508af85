"""The demo from beginning to end."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from events.errors import LedgerError
from partita.demo.audit import Audit, audit
from partita.demo.processes import SERVICES, Services
from partita.demo.traffic import Record, Traffic
from partita.demo.watch import LagWatch
from partita.demo.workload import Ask, asks
from partita.settings import Settings
from partita.wiring import Wiring

_CATCHING_UP: Final = 120.0
_STARTING: Final = 60.0


class NotCaughtUp(LedgerError):
    """A service did not get to where it must be in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large the demo is. `window` bounds the commands that are unanswered at a time."""

    commands: int = 50_000
    accounts: int = 1_000
    window: int = 2_000
    seed: int = 1
    kill: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demo found. Times are in seconds, lags in events."""

    record: Record
    audit: Audit
    most_lag: int
    final_lag: int
    drained_after: float
    recovery: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return self.audit.ok and self.final_lag == 0

    @property
    def commands_per_second(self) -> float:
        """Answered commands per second, kill and recovery included."""
        return self.record.answered / (self.record.ended - self.record.started)

    def percentile_ms(self, percent: float) -> float:
        """Return the outcome latency that `percent` of the commands did not exceed, in milliseconds."""
        ordered = sorted(self.record.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return {
            "ok": self.ok,
            "commands": self.record.asked,
            "accepted": dict(self.record.accepted),
            "rejected": dict(self.record.rejected),
            "repeats_recognised": self.record.repeats,
            "commands_per_second": round(self.commands_per_second),
            "latency_ms": {"p50": round(self.percentile_ms(50), 1), "p99": round(self.percentile_ms(99), 1)},
            "projection_lag": {"most": self.most_lag, "final": self.final_lag},
            "projection_drained_after_s": round(self.drained_after, 2),
            "recovery_s": {name: round(seconds, 2) for name, seconds in self.recovery.items()},
            "checks": {
                "from_log": [asdict(check) for check in self.audit.from_log],
                "from_postgres": [asdict(check) for check in self.audit.from_postgres],
            },
        }


class Screen:
    """What the demo tells while it runs; the command line shows it."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def traffic(self, record: Record, lag: int | None) -> None:
        """Commands are answered."""

    def reading(self, events: int) -> None:
        """The log is read."""


def perform(settings: Settings, plan: Plan, screen: Screen, *, logs: Path) -> Report:
    """Run the services and the workload on the stack that `settings` name, kill, recover, and compare.

    Raises:
        LedgerError: a service or the traffic did not get on.
    """
    wiring = Wiring(settings)
    screen.step("topics and schemas")
    wiring.ensure_topics()
    services = Services(environment=settings.environment(), logs=logs)
    run = uuid.uuid4().hex[:8]
    traffic = Traffic(wiring, reply_key=f"demo-{run}", window=plan.window)
    watch = LagWatch(wiring=wiring, reached=lambda: traffic.record.reached)
    try:
        screen.step("handler and projection start, each a process")
        for name in SERVICES:
            services.start(name)
        watch.start()
        return _Performance(wiring, plan, screen, services, traffic, watch, run).go()
    finally:
        watch.stop()
        traffic.close()
        services.stop()


class _Performance:
    """The acts of one demo."""

    def __init__(
        self,
        wiring: Wiring,
        plan: Plan,
        screen: Screen,
        services: Services,
        traffic: Traffic,
        watch: LagWatch,
        run: str,
    ) -> None:
        self._wiring = wiring
        self._plan = plan
        self._screen = screen
        self._services = services
        self._traffic = traffic
        self._watch = watch
        self._run = run
        self._killed_at: float | None = None
        self._handler_back: float | None = None
        self._reached_at_kill: dict[int, int] = {}
        self._balances_back: float | None = None

    def go(self) -> Report:
        plan = self._plan
        self._screen.step(f"{plan.commands:,} commands over {plan.accounts:,} accounts")
        stream = asks(plan.commands, plan.accounts, reply_key=f"demo-{self._run}", run=self._run, seed=plan.seed)
        self._traffic.run(self._killing_half_way(stream), on_progress=self._on_progress)
        record = self._traffic.record
        self._screen.step("the projection drains")
        drained = self._watch.wait_for(record.reached, _CATCHING_UP)
        if drained is None:
            raise NotCaughtUp(f"the projection is {self._watch.lag} events behind after {_CATCHING_UP:.0f} s")
        self._screen.step("the invariants, from the log and from PostgreSQL")
        return Report(
            record=record,
            audit=asyncio.run(audit(self._wiring, record, on_progress=self._screen.reading)),
            most_lag=self._watch.most,
            final_lag=self._watch.lag or 0,
            drained_after=max(0.0, drained - record.ended),
            recovery=self._recovery(),
        )

    def _killing_half_way(self, stream: Iterator[Ask]) -> Iterator[Ask]:
        for number, ask in enumerate(stream):
            if self._plan.kill and number == self._plan.commands // 2:
                self._kill()
            yield ask

    def _kill(self) -> None:
        self._screen.step("SIGKILL to handler and projection; both start again")
        self._killed_at = time.monotonic()
        self._reached_at_kill = dict(self._traffic.record.reached)
        for name in SERVICES:
            self._services.kill(name)
        for name in SERVICES:
            self._services.start(name)

    def _on_progress(self, record: Record) -> None:
        ended = self._services.ended()
        if ended:
            name, status = next(iter(ended.items()))
            raise ServiceEnded(
                f"{name} ended with status {status}: see {self._services.logs / name}.log", service=name
            )
        if self._killed_at is not None:
            self._see_who_is_back(self._killed_at)
        self._screen.traffic(record, self._watch.lag)

    def _see_who_is_back(self, killed_at: float) -> None:
        if self._handler_back is None and not self._traffic.waits_for_asked_before(killed_at):
            self._handler_back = time.monotonic()
        if self._balances_back is None:
            self._balances_back = self._watch.wait_for(self._reached_at_kill, 0)

    def _recovery(self) -> dict[str, float]:
        if self._killed_at is None:
            return {}
        back = {"handler": self._handler_back, "balances": self._balances_back}
        return {name: moment - self._killed_at for name, moment in back.items() if moment is not None}


class ServiceEnded(LedgerError):
    """A service of the demo ended by itself."""
