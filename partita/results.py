"""What callers get: amounts as Decimal, times with their zone, metadata as a dict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from commands.codec import Outcome
from commands.decide import TRIED
from events.money import to_decimal
from events.types import (
    AccountClosed,
    AccountFrozen,
    AccountOpened,
    AccountReopened,
    AccountStatus,
    AccountUnfrozen,
    BatchEntryPosted,
    BatchPosted,
    Entry,
    EntryPosted,
    EntryType,
    HoldEvent,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    StatusEvent,
    entry_id,
)
from projections.records import AccountRow, BatchStatus, EntryRow, HoldStatus

DRY_RUN: Final = "dry-run"
"""The entry id of a dry run, whose entry is in no log."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One posted entry.

    `running_balance` and `version` are the account's after it; `partition` and `sequence` are its place in the log;
    `hold_id` is the hold that it settles; `batch_id` the batch that it is part of, and `leg` its number there, the
    first being 0; `replayed` says that the command id had been seen, so that this is the entry of that time. A dry
    run has the entry id "dry-run", the sequence -1.

    `merkle_root`, in hexadecimal digits, is the root of the tree of the first `tree_size` events of the partition,
    this one among them, when the entry was told; its signed checkpoint is in the log. An entry of a batch has none of
    its own, and one that is read from the tables has none either: a receipt shows it in a tree. An entry is the same
    entry in whatever tree it is told of: the two are not compared.
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
    hold_id: str | None = None
    batch_id: str | None = None
    leg: int | None = None
    reference: str | None = None
    metadata: dict[str, Any] | None = None
    replayed: bool = False
    dry_run: bool = False
    tree_size: int | None = field(default=None, compare=False)
    merkle_root: str | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON-ready data: amounts and times as text."""
        return to_plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBatch:
    """Entries that were posted together just now, in the order in which they were given.

    `reversal_of` is the batch that this one undoes. `partition` and `sequence` are the place of the batch's own
    event; `sequence` is -1 for a dry run. `replayed` says that the batch had been posted before. `tree_size` and
    `merkle_root` are of the tree that has the batch's own event, as in `LedgerEntry`.
    """

    batch_id: str
    status: BatchStatus
    entries: tuple[LedgerEntry, ...]
    reference: str | None
    metadata: dict[str, Any] | None
    reversal_of: str | None
    partition: int
    sequence: int
    recorded_at: datetime
    replayed: bool = False
    dry_run: bool = False
    tree_size: int | None = field(default=None, compare=False)
    merkle_root: str | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the batch as JSON-ready data: amounts and times as text."""
        return to_plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """Some entries of an account. `next_cursor` gives the page after; None when this is the last."""

    entries: tuple[LedgerEntry, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """An account was opened, frozen, unfrozen, closed or reopened.

    `status` and `version` are the account's after it. When `replayed`, that was at the time of the first call.
    `sequence` is -1 for a dry run, which is in no log.
    """

    account_id: str
    status: AccountStatus
    version: int
    partition: int
    sequence: int
    recorded_at: datetime
    command_id: str
    replayed: bool = False
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON-ready data: times as text."""
        return to_plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldChange:
    """A hold was placed, released or expired: `amount` of the account's funds is reserved, or free again.

    `remaining` is what this hold still reserves; `balance`, `held` (by all holds) and `version` are the account's
    after it. When `replayed`, that was at the time of the first call. `sequence` is -1 for a dry run.
    """

    hold_id: str
    account_id: str
    asset: str
    status: HoldStatus
    amount: Decimal
    remaining: Decimal
    balance: Decimal
    held: Decimal
    version: int
    partition: int
    sequence: int
    recorded_at: datetime
    command_id: str
    replayed: bool = False
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON-ready data: amounts and times as text."""
        return to_plain(self)


def to_plain(record: Any) -> dict[str, Any]:
    """Return a dataclass as JSON-ready data: amounts and times as text, dataclasses in it as well."""
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def _plain(value: Any) -> object:
    match value:
        case Decimal():
            return f"{value:f}"
        case StrEnum():
            return str(value)
        case datetime():
            return value.isoformat()
        case tuple() | list():
            return [_plain(item) for item in value]
        case _:
            return to_plain(value) if hasattr(value, "__dataclass_fields__") else value


def entry_of(outcome: Outcome) -> LedgerEntry:
    """Return the entry of an accepted `PostEntry` or `SettleHold`."""
    event = outcome.event
    assert isinstance(event, EntryPosted | HoldSettled), event
    return entry_at(outcome.partition, event, replayed=outcome.replayed, **_tree(outcome))


def entry_at(partition: int, event: Entry, **told: Any) -> LedgerEntry:
    """Return the entry that an event of `partition` is, with what was `told` beside it.

    Raises:
        OverflowError: a time of it is in none of the years 1 to 9999.
        ValueError: its metadata is no JSON.
    """
    recorded_at = from_micros(event.recorded_at)
    dry_run = event.sequence == TRIED
    return LedgerEntry(
        entry_id=DRY_RUN if dry_run else entry_id(partition, event.sequence),
        account_id=event.account_id,
        asset=event.asset,
        entry_type=event.entry_type,
        amount=to_decimal(event.amount),
        running_balance=to_decimal(event.running_balance),
        version=event.version,
        partition=partition,
        sequence=event.sequence,
        recorded_at=recorded_at,
        effective_at=recorded_at if event.effective_at is None else from_micros(event.effective_at),
        command_id=event.command_id,
        hold_id=event.hold_id if isinstance(event, HoldSettled) else None,
        batch_id=event.batch_id if isinstance(event, BatchEntryPosted) else None,
        leg=event.leg if isinstance(event, BatchEntryPosted) else None,
        reference=event.reference,
        metadata=None if event.metadata is None else json.loads(event.metadata),
        dry_run=dry_run,
        **told,
    )


def batch_of(outcome: Outcome) -> LedgerBatch:
    """Return the batch of an accepted `PostBatch` or `ReverseBatch`."""
    event = outcome.event
    assert isinstance(event, BatchPosted), event
    recorded_at, dry_run = from_micros(event.recorded_at), event.sequence == TRIED
    entries = tuple(
        LedgerEntry(
            entry_id=DRY_RUN if dry_run else entry_id(entry.partition, entry.sequence),
            account_id=entry.account_id,
            asset=entry.asset,
            entry_type=entry.entry_type,
            amount=to_decimal(entry.amount),
            running_balance=to_decimal(entry.running_balance),
            version=entry.version,
            partition=entry.partition,
            sequence=entry.sequence,
            recorded_at=recorded_at,
            effective_at=recorded_at if entry.effective_at is None else from_micros(entry.effective_at),
            command_id=event.command_id,
            batch_id=event.command_id,
            leg=leg,
            reference=entry.reference,
            metadata=None if entry.metadata is None else json.loads(entry.metadata),
            replayed=outcome.replayed,
            dry_run=dry_run,
        )
        for leg, entry in enumerate(event.entries)
    )
    return LedgerBatch(
        batch_id=event.command_id,
        status=BatchStatus.POSTED,
        entries=entries,
        reference=event.reference,
        metadata=None if event.metadata is None else json.loads(event.metadata),
        reversal_of=event.reversal_of,
        partition=outcome.partition,
        sequence=event.sequence,
        recorded_at=recorded_at,
        replayed=outcome.replayed,
        dry_run=dry_run,
        **_tree(outcome),
    )


def account_change_of(outcome: Outcome) -> AccountChange:
    """Return the change of an accepted command on an account's own life."""
    event = outcome.event
    assert isinstance(event, tuple(_STATUS_AFTER)), event
    return AccountChange(status=_STATUS_AFTER[type(event)], **_place(outcome))


_STATUS_AFTER: Final[Mapping[type[Any], AccountStatus]] = {
    AccountOpened: AccountStatus.OPEN,
    AccountFrozen: AccountStatus.FROZEN,
    AccountUnfrozen: AccountStatus.OPEN,
    AccountClosed: AccountStatus.CLOSED,
    AccountReopened: AccountStatus.OPEN,
}


def hold_change_of(outcome: Outcome) -> HoldChange:
    """Return the change of an accepted `PlaceHold`, `ReleaseHold` or `ExpireHold`."""
    event = outcome.event
    assert isinstance(event, HoldPlaced | HoldReleased), event
    if isinstance(event, HoldPlaced):
        status, remaining = HoldStatus.PLACED, event.amount
    else:
        status, remaining = HoldStatus.EXPIRED if event.expired else HoldStatus.RELEASED, 0
    return HoldChange(
        hold_id=event.hold_id,
        asset=event.asset,
        status=status,
        amount=to_decimal(event.amount),
        remaining=to_decimal(remaining),
        balance=to_decimal(event.balance),
        held=to_decimal(event.held),
        **_place(outcome),
    )


def _tree(outcome: Outcome) -> dict[str, Any]:
    root = outcome.merkle_root
    return {"tree_size": outcome.tree_size, "merkle_root": None if root is None else root.hex()}


def _place(outcome: Outcome) -> dict[str, Any]:
    """Return what every change tells of where and when it was."""
    event = outcome.event
    assert isinstance(event, StatusEvent | HoldEvent), event
    return {
        "account_id": event.account_id,
        "version": event.version,
        "partition": outcome.partition,
        "sequence": event.sequence,
        "recorded_at": from_micros(event.recorded_at),
        "command_id": event.command_id,
        "replayed": outcome.replayed,
        "dry_run": event.sequence == TRIED,
    }


def from_row(row: EntryRow) -> LedgerEntry:
    """Return the entry that the read model has."""
    return LedgerEntry(**{name: getattr(row, name) for name in _OF_ROW})


_OF_ROW: Final = {field.name for field in fields(EntryRow)} & {field.name for field in fields(LedgerEntry)}


def available(account: AccountRow, asset: str) -> Decimal | None:
    """Return what the account may still debit or hold of `asset`; None when it has no floor."""
    if account.floor is None:
        return None
    free = next((balance.available for balance in account.balances if balance.asset == asset), Decimal(0))
    return free - account.floor


def from_micros(micros: int) -> datetime:
    """Return the time `micros` microseconds after 1970, in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(time: datetime) -> int:
    """Return the microseconds since 1970 of an aware `time`, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)
