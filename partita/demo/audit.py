"""What the demo proves in the end: told = log = read model, and the invariants, from the log and from PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass

from events.account import Account
from events.checks import CheckResult, LogAudit
from events.follow import StoredEvent, read_all
from events.money import to_text, to_units
from events.types import Answer
from partita.demo.traffic import Record, question_of
from partita.wiring import Wiring
from projections.checks import check_all
from projections.database import Database
from projections.roles import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Checks by where they were computed from, and how many events were compared."""

    from_log: list[CheckResult]
    from_postgres: list[CheckResult]
    events: int

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in (*self.from_log, *self.from_postgres))


async def audit(wiring: Wiring, record: Record, *, on_progress: Callable[[int], None]) -> Audit:
    """Read the whole log and the whole read model, and compare them with each other and with what was told."""
    from_log, log_audit = _read_log(wiring, record, on_progress)
    database = wiring.database(Access.READ)
    from_postgres = list(await check_all(database))
    from_postgres.append(await _same_balances(database, log_audit.accounts))
    return Audit(from_log=from_log, from_postgres=from_postgres, events=log_audit.events)


def _read_log(
    wiring: Wiring, record: Record, on_progress: Callable[[int], None]
) -> tuple[list[CheckResult], LogAudit]:
    log_audit = LogAudit()
    told = _Told(record)
    partitions = range(wiring.partition_count())
    for batch in read_all(wiring.clients, wiring.topics.events, wiring.event_codec, partitions):
        for stored in batch:
            log_audit.take(stored)
            told.take(stored)
        on_progress(log_audit.events)
    return [*log_audit.results(), told.result()], log_audit


class _Told:
    """Compares what requesters were told with the log."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._missing = set(record.told)
        self._fault = ""

    def take(self, stored: StoredEvent) -> None:
        event = stored.event
        if not isinstance(event, Answer):
            return
        question = question_of(event)
        told = self._record.told.get(question)
        if told is None:
            return
        self._missing.discard(question)
        if told != (stored.partition, event.sequence, getattr(event, "code", None)):
            self._fault = self._fault or f"{event.command_id} was told {told}, the log has {event}"

    def result(self) -> CheckResult:
        record = self._record
        faults = (
            self._fault,
            self._missing and f"{len(self._missing)} acknowledged commands are not in the log",
            record.asked != record.answered and f"{record.asked - record.answered} commands have no outcome",
            record.changed and f"{record.changed[0]} was answered in two ways",
            record.unexpected and f"{record.unexpected[0]} was answered as it must not be",
        )
        detail = next((str(fault) for fault in faults if fault), None)
        return CheckResult(
            "I2", "every command has its one outcome, and it is in the log", detail is None, record.asked, detail
        )


async def _same_balances(database: Database, accounts: dict[str, Account]) -> CheckResult:
    """Compare each balance in PostgreSQL with the one computed from the log (I7)."""
    expected = {
        (name, asset): units for name, account in accounts.items() for asset, units in account.balances.items()
    }
    connection = await database.connect()
    try:
        rows = await connection.fetch(f'SELECT account_id, asset, balance FROM "{database.schema}".balances')  # noqa: S608  # a checked name
    finally:
        await connection.close()
    found = {(row["account_id"], row["asset"]): to_units(row["balance"]) for row in rows}
    differing = [key for key in expected.keys() | found.keys() if expected.get(key, 0) != found.get(key, 0)]
    detail = None
    if differing:
        key = min(differing)
        detail = f"{key}: {to_text(found.get(key, 0))} in PostgreSQL, {to_text(expected.get(key, 0))} in the log"
    return CheckResult("I7", "every balance is what the log adds up to", not differing, len(expected), detail)
