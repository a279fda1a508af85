"""Thousands of commands through one engine, every outcome kept, and proof that log and read model agree with them.

The mix is credits and debits of few accounts, overdrafts among them, ids asked twice, and ids used for two payloads.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from events.checks import LogAudit
from events.follow import read_all
from events.money import to_units
from events.types import CommandRejected, EntryPosted, PartitionOpened
from partita import LedgerEngine, LedgerEntry, OutcomeUnknown, Rejected
from projections.checks import check_all
from projections.roles import Access
from tests.support.services import Ledger

ACCOUNTS = 50


class Ask(NamedTuple):
    """A command: what `create_entry` is told."""

    account_id: str
    amount: str
    entry_type: str
    command_id: str


def mix(count: int, prefix: str) -> list[Ask]:
    """Return commands: of each ten seven credits, a debit, an overdraft and, by turns, a repeat or a conflict."""
    asks: list[Ask] = []
    for i in range(count):
        account = f"{prefix}-{i % ACCOUNTS}"
        match i % 10:
            case 7:
                asks.append(Ask(account, "0.7", "debit", f"c-{i}"))
            case 8:
                asks.append(Ask(account, "1000000", "debit", f"c-{i}"))
            case 9:
                first = asks[i - 9]
                asks.append(first if i % 20 == 9 else first._replace(amount="0.123"))
            case _:
                asks.append(Ask(account, f"{1 + i % 7}.000000000000000001", "credit", f"c-{i}"))
    return asks


@dataclass
class Driver:
    """Asks, again and again with the same id while the outcome is unknown, and keeps what it is told."""

    engine: LedgerEngine
    at_once: int = 1500
    timeout: float = 20.0
    tries: int = 6
    told: dict[Ask, list[LedgerEntry | Rejected]] = field(default_factory=dict)
    answered: int = 0
    unknown: int = 0

    async def run(self, asks: Sequence[Ask]) -> None:
        """Ask all of them, in their order, `at_once` at a time."""
        queue = iter(asks)
        async with asyncio.TaskGroup() as workers:
            for _ in range(self.at_once):
                workers.create_task(self._work(queue))

    async def _work(self, queue: Iterator[Ask]) -> None:
        for ask in queue:  # an iterator that the workers share
            self.told.setdefault(ask, []).append(await self._ask(ask))
            self.answered += 1

    async def _ask(self, ask: Ask) -> LedgerEntry | Rejected:
        for attempt in range(self.tries):
            try:
                return await self.engine.create_entry(**ask._asdict(), timeout=self.timeout)
            except Rejected as rejection:
                return rejection
            except OutcomeUnknown:
                self.unknown += 1
                assert attempt < self.tries - 1, f"no outcome of {ask} after {self.tries} tries"
        raise AssertionError("not reached")

    async def until(self, answered: int, *, within: float = 60.0) -> None:
        """Return when so many have been answered."""
        async with asyncio.timeout(within):
            while self.answered < answered:  # noqa: ASYNC110  # looked at rarely; an event would cost every answer
                await asyncio.sleep(0.02)


async def audit(ledger: Ledger, driver: Driver, asks: Sequence[Ask]) -> None:
    """Recompute I1 to I5 from the log and from PostgreSQL, and compare both with what was told."""
    assert driver.told.keys() == set(asks)
    assert sum(len(told) for told in driver.told.values()) == len(asks)
    wiring = ledger.wiring()
    log_audit = LogAudit()
    answers: dict[tuple[str, str], list[str]] = {}
    entries: dict[str, EntryPosted] = {}
    for batch in read_all(wiring.clients, wiring.topics.events, wiring.event_codec, range(wiring.partition_count())):
        for stored in batch:
            log_audit.take(stored)
            event = stored.event
            if isinstance(event, PartitionOpened):
                continue
            assert isinstance(event, EntryPosted | CommandRejected)
            what = "entry" if isinstance(event, EntryPosted) else event.code
            answers.setdefault((event.account_id, event.command_id), []).append(what)
            if isinstance(event, EntryPosted):
                entries[f"{stored.partition}-{event.sequence}"] = event
    assert [check for check in log_audit.results() if not check.ok] == []
    _told_is_logged(driver, answers, entries)
    wiring.close()
    await _read_model_is_log(ledger, driver.engine, log_audit, len(entries))


def _told_is_logged(
    driver: Driver, answers: dict[tuple[str, str], list[str]], entries: dict[str, EntryPosted]
) -> None:
    seen = Counter[str]()
    for ask, outcomes in driver.told.items():
        assert len({_what(outcome) for outcome in outcomes}) == 1, "the same command was told two things"
        for outcome in outcomes:
            seen[type(outcome).__name__] += 1
            assert answers[ask.account_id, ask.command_id].count(_what(outcome)) == 1
            if isinstance(outcome, LedgerEntry):
                event = entries[outcome.entry_id]
                assert (event.account_id, event.command_id) == (ask.account_id, ask.command_id)
                assert event.amount == to_units(ask.amount) == to_units(outcome.amount)
                assert event.running_balance == to_units(outcome.running_balance)
    assert sum(len(codes) for codes in answers.values()) == len(driver.told), "an answer that nobody asked for"
    assert {"LedgerEntry", "InsufficientFunds", "IdempotencyConflict"} <= set(seen)


def _what(outcome: LedgerEntry | Rejected) -> str:
    return "entry" if isinstance(outcome, LedgerEntry) else outcome.code


async def _read_model_is_log(ledger: Ledger, engine: LedgerEngine, log_audit: LogAudit, entries: int) -> None:
    """The engine's own writes are awaited first, so the projection has caught up."""
    for account_id, account in log_audit.accounts.items():
        assert to_units(await engine.get_balance(account_id, timeout=60)) == account.balance("USD")
    results = await check_all(ledger.wiring().database(Access.READ))
    assert [check for check in results if not check.ok] == []
    assert max(check.checked for check in results) >= entries
