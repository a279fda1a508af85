"""An entry as callers see it: amounts as Decimal, times with their zone, metadata as a dict."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from commands.codec import Outcome
from events.money import to_decimal
from events.types import EntryPosted, EntryType, entry_id
from projections.records import EntryRow

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One posted entry.

    `running_balance` and `version` are the account's after it; `partition` and `sequence` are its place in the log;
    `replayed` says that the command id had been seen, so that this is the entry of that time.
    """

    entry_id: str
    account_id: str
    asset: str
    entry_type: EntryType
    amount: Decimal
    running_balance: Decimal
    version: int
    partition: int
    sequence: int
    recorded_at: datetime
    effective_at: datetime
    command_id: str
    reference: str | None = None
    metadata: dict[str, Any] | None = None
    replayed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON-ready data: amounts and times as text."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return f"{value:f}"
        case EntryType():
            return str(value)
        case datetime():
            return value.isoformat()
        case _:
            return value


def from_outcome(outcome: Outcome, event: EntryPosted) -> LedgerEntry:
    """Return the entry of an accepted command."""
    recorded_at = from_micros(event.recorded_at)
    return LedgerEntry(
        entry_id=entry_id(outcome.partition, event.sequence),
        account_id=event.account_id,
        asset=event.asset,
        entry_type=event.entry_type,
        amount=to_decimal(event.amount),
        running_balance=to_decimal(event.running_balance),
        version=event.version,
        partition=outcome.partition,
        sequence=event.sequence,
        recorded_at=recorded_at,
        effective_at=recorded_at if event.effective_at is None else from_micros(event.effective_at),
        command_id=event.command_id,
        reference=event.reference,
        metadata=None if event.metadata is None else json.loads(event.metadata),
        replayed=outcome.replayed,
    )


def from_micros(micros: int) -> datetime:
    """Return the time `micros` microseconds after 1970, in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(time: datetime) -> int:
    """Return the microseconds since 1970 of an aware `time`, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_row(row: EntryRow) -> LedgerEntry:
    """Return the entry that the read model has."""
    return LedgerEntry(
        entry_id=row.entry_id,
        account_id=row.account_id,
        asset=row.asset,
        entry_type=row.entry_type,
        amount=row.amount,
        running_balance=row.running_balance,
        version=row.version,
        partition=row.partition,
        sequence=row.sequence,
        recorded_at=row.recorded_at,
        effective_at=row.effective_at,
        command_id=row.command_id,
        reference=row.reference,
        metadata=row.metadata,
    )
