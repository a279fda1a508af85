"""What must hold when all faults are over: log and tables are whole, and they are what requesters were told."""

import asyncio
from collections.abc import Iterator
from typing import Final

from events.checks import CheckResult, LogAudit
from events.follow import read_all
from events.money import to_units
from events.types import BatchPosted, EntryType
from partita import LedgerBatch
from projections.checks import check_all
from projections.database import Database
from tests.chaos.bank import OPENING, Bank, Told, Transfer
from tests.support.services import Ledger

_CATCH_UP: Final = 60.0


def read_log(ledger: Ledger) -> LogAudit:
    """Read the whole log."""
    wiring, audit = ledger.wiring(), LogAudit()
    for batch in read_all(wiring.clients, wiring.topics.events, wiring.event_codec, range(wiring.partition_count())):
        for stored in batch:
            audit.take(stored)
    wiring.close()
    return audit


def check_log(audit: LogAudit, bank: Bank) -> list[CheckResult]:
    """Return the log's own invariants, and how it compares with what was asked and told."""
    return [*audit.results(), _conserved(audit, bank), _told(audit, bank)]


async def check_read_model(audit: LogAudit, bank: Bank, database: Database) -> list[CheckResult]:
    """Return the read model's own invariants, and how it compares with the log; waits until it has caught up."""
    accounts = list(audit.accounts)
    balances = await asyncio.gather(*(bank.engine.get_balance(account, timeout=_CATCH_UP) for account in accounts))
    different = [
        account
        for account, balance in zip(accounts, balances, strict=True)
        if to_units(balance) != audit.accounts[account].balance("USD")
    ]
    detail = f"account {different[0]} has another balance in the log" if different else None
    same = CheckResult("I7 log", "every balance is what the log adds up to", detail is None, len(accounts), detail)
    return [same, *await check_all(database)]


def _conserved(audit: LogAudit, bank: Bank) -> CheckResult:
    total, expected = sum(a.balance("USD") for a in audit.accounts.values()), to_units(OPENING) * bank.accounts
    detail = None if total == expected else f"{total} units, {expected} were paid in"
    return CheckResult("I1 total", "money is conserved", detail is None, bank.accounts, detail)


def _told(audit: LogAudit, bank: Bank) -> CheckResult:
    detail = next(differences(audit, bank), None)
    return CheckResult(
        "I2",
        "each transfer has one outcome: in the log, and as told each time",
        detail is None,
        bank.answered,
        detail,
    )


def differences(audit: LogAudit, bank: Bank) -> Iterator[str]:
    """Yield how the log differs from what was asked and told."""
    answers = audit.batches.answers
    if answers.keys() != bank.asked.keys():
        yield f"{len(bank.asked)} were asked, {len(answers)} are answered in the log"
    if bank.told.keys() != bank.asked.keys():
        yield f"{len(bank.asked)} were asked, {len(bank.told)} were told"
    for transfer_id, told in bank.told.items():
        logged = answers.get(transfer_id)
        if len({_what(t) for t in told}) != 1:
            yield f"{transfer_id} was told {told}"
        elif isinstance(told[0], LedgerBatch) != (logged is not None):
            yield f"{transfer_id} was told {told[0]!r}, the log has {logged}"
        elif logged is not None and not _is(logged, bank.asked[transfer_id], told[0]):
            yield f"{transfer_id}, asked {bank.asked[transfer_id]}, told {told[0]!r}, is {logged}"


def _what(told: Told) -> object:
    """Return what must be the same each time that one is told."""
    return (told.partition, told.sequence) if isinstance(told, LedgerBatch) else told.code


def _is(logged: BatchPosted, asked: Transfer, told: Told) -> bool:
    amount = to_units(asked.amount)
    entries = [(e.account_id, e.entry_type, e.amount) for e in logged.entries]
    expected = [(asked.source, EntryType.DEBIT, amount), (asked.target, EntryType.CREDIT, amount)]
    return entries == expected and isinstance(told, LedgerBatch) and told.sequence == logged.sequence
