"""One run of chaos: from a seed to a report."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final

from events.checks import CheckResult
from projections.roles import Access
from tests.chaos.bank import Bank
from tests.chaos.checks import check_log, check_read_model, read_log
from tests.chaos.fleet import Faults, Fleet
from tests.support.services import Ledger
from tests.support.stack import Stack

SHORT: Final = Faults(kills=6, stops=2, rebalances=4, broker_kills=1)
LONG: Final = Faults(kills=50, stops=10, rebalances=30, broker_kills=5)
ACCOUNTS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened. Times are in seconds; `unknown` outcomes were asked again until they were known.

    `broker_restarts` are none of the faults, but what helps against a group that lets nobody in; `shared_out_again`
    is how often handlers found partitions that were nobody's.
    """

    seed: int
    protocol: str
    seconds: float
    faults: dict[str, int]
    broker_restarts: int
    shared_out_again: int
    slowest_recovery: dict[str, float]
    transfers: int
    answers: int
    outcomes: dict[str, int]
    unknown: int
    longest_wait: float
    checks: list[CheckResult]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(result.ok for result in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return {**asdict(self), "ok": self.ok}


def say(text: str) -> None:
    """Write a line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)


async def run(
    ledger: Ledger,
    stack: Stack,
    faults: Faults,
    seed: int,
    *,
    accounts: int = ACCOUNTS,
    tell: Callable[[str], None] = say,
) -> Report:
    """Let the faults happen to a bank that goes on transferring, and check what is left. The ledger must be new."""
    begun, happened, slowest = time.monotonic(), Counter[str](), dict[str, float]()
    tell(f"chaos: seed {seed}, {faults}")

    def on_fault(kind: str, seconds: float) -> None:
        happened[kind] += 1
        slowest[kind] = max(slowest.get(kind, 0.0), round(seconds, 1))
        done = f"{happened.total()}/{sum(faults)}"
        tell(f"{time.monotonic() - begun:6.0f} s  {done:>6}  {kind:<9}  {seconds:5.1f} s  {bank.answered:,} answers")

    async with ledger.engine() as engine:
        bank = Bank(engine, accounts, Random(f"bank {seed}"))
        fleet = Fleet(ledger, stack, bank, Random(f"faults {seed}"))
        await asyncio.to_thread(fleet.start)
        fleet.others = (ledger.service("balances").start(),)
        await bank.open()
        well = False
        try:
            async with asyncio.TaskGroup() as together:
                together.create_task(bank.run())
                await fleet.befall(faults, on_fault)
                bank.closing = True
            audit = await asyncio.to_thread(read_log, ledger)
            database = ledger.wiring().database(Access.READ)
            checks = [*check_log(audit, bank), *await check_read_model(audit, bank, database)]
            well = all(result.ok for result in checks)
        finally:
            if not well:
                tell(f"what there is to be seen: {await asyncio.to_thread(fleet.keep_evidence)}")
    return Report(
        seed=seed,
        protocol=str(ledger.settings().group_protocol),
        seconds=round(time.monotonic() - begun, 1),
        faults=dict(happened),
        broker_restarts=fleet.broker_restarts,
        shared_out_again=sum(service.log_text().count("are nobody's") for service in ledger.services),
        slowest_recovery=slowest,
        transfers=len(bank.asked),
        answers=bank.answered,
        outcomes=dict(bank.outcomes()),
        unknown=bank.unknown,
        longest_wait=round(bank.waited, 1),
        checks=checks,
    )
