"""What happens to accounts, holds and promises, as rows: of the change itself, of the account, of the hold. Pure.

An account and a hold are each one row that changes. Everything that a change needs is in its event, so a row is made
of events alone, never of what the tables hold.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard, assert_never

from events.money import to_scaled, to_text
from events.types import (
    AccountClosed,
    AccountFrozen,
    AccountOpened,
    AccountReopened,
    AccountStatus,
    AccountUnfrozen,
    EntryReleased,
    EntryReserved,
    EntryType,
    HoldEvent,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    LockEvent,
    LockGranted,
    LockReleased,
    Promise,
    StatusEvent,
)
from projections.records import HoldStatus
from projections.times import clipped, timestamp

Row = tuple[Any, ...]

CHANGE_COLUMNS: Final = (
    "partition",
    "sequence",
    "account_id",
    "version",
    "change",
    "command_id",
    "hold_id",
    "asset",
    "amount",
    "held",
    "reason",
    "reference",
    "metadata",
    "details",
    "recorded_at",
    "writer_epoch",
    "batch_id",
    "leg",
)
ACCOUNT_COLUMNS: Final = (
    "account_id",
    "status",
    "permanent",
    "floor",
    "assets",
    "account_type",
    "reference",
    "metadata",
    "version",
    "partition",
    "sequence",
    "opened_at",
    "updated_at",
)
STATUS_COLUMNS: Final = ("account_id", "status", "permanent", "version", "partition", "sequence", "updated_at")
"""What replaces a part of an account's row."""
HOLD_COLUMNS: Final = (
    "account_id",
    "hold_id",
    "asset",
    "amount",
    "remaining",
    "status",
    "expires_at",
    "reference",
    "metadata",
    "placed_at",
    "placed_version",
    "partition",
    "sequence",
    "version",
)
TAKEN_COLUMNS: Final = (
    "account_id",
    "hold_id",
    "remaining",
    "status",
    "ended_at",
    "partition",
    "sequence",
    "version",
)
"""What replaces a part of a hold's row."""

_NO_FUNDS: Final = (None, None, None, None)

Change = StatusEvent | LockEvent | HoldPlaced | HoldReleased | Promise
"""An event of an account that is no entry."""


@dataclass(slots=True)
class Lives:
    """What a stretch of the log does to accounts and holds, event by event; of what is replaced, only the last.

    `held` is in units, by account and asset.
    """

    changes: list[Row] = field(default_factory=list)
    accounts: list[Row] = field(default_factory=list)
    statuses: dict[str, Row] = field(default_factory=dict)
    holds: list[Row] = field(default_factory=list)
    taken: dict[tuple[str, str], Row] = field(default_factory=dict)
    held: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, partition: int, event: Change | HoldSettled) -> None:
        """Add the rows of one event; the entry that a `HoldSettled` is as well is not among them."""
        if not isinstance(event, HoldSettled):
            self.changes.append(change_row(partition, event))
        if isinstance(event, HoldEvent) or holds_funds(event):
            self.held[event.account_id, event.asset] = event.held
        match event:
            case HoldPlaced():
                self.holds.append(hold_row(partition, event))
            case HoldSettled() | HoldReleased():
                self.taken[event.account_id, event.hold_id] = taken_row(partition, event)
            case AccountOpened():
                self.accounts.append(account_row(partition, event))
            case AccountFrozen() | AccountUnfrozen() | AccountClosed() | AccountReopened():
                self.statuses[event.account_id] = status_row(partition, event)
            case LockGranted() | LockReleased() | EntryReserved() | EntryReleased():
                pass  # only in `changes`, and what is held
            case _ as unreachable:
                assert_never(unreachable)


def holds_funds(event: object) -> TypeGuard[Promise]:
    """Whether `event` is a promise that changes what is held: that of a debit, kept or taken back."""
    return isinstance(event, Promise) and event.entry_type is EntryType.DEBIT


def change_row(partition: int, event: Change) -> Row:
    """Return the row of `changes`."""
    batch = (event.batch_id, event.leg) if isinstance(event, Promise) else (None, None)
    return (
        partition,
        event.sequence,
        event.account_id,
        event.version,
        type(event).__name__,
        event.command_id,
        *_told(event),
        timestamp(event.recorded_at),
        event.writer_epoch,
        *batch,
    )


def _told(event: Change) -> Row:
    """Return what the event says, from `hold_id` to `details`."""
    match event:
        case HoldPlaced():
            held = event.hold_id, event.asset, to_scaled(event.amount), to_scaled(event.held)
            return *held, None, event.reference, event.metadata, _details(expires_at=_iso(event.expires_at))
        case HoldReleased():
            held = event.hold_id, event.asset, to_scaled(event.amount), to_scaled(event.held)
            return *held, event.reason, None, None, _details(expired=event.expired)
        case AccountOpened():
            floor = None if event.floor is None else to_text(event.floor)
            rules = _details(floor=floor, assets=list(event.assets), account_type=event.account_type)
            return *_NO_FUNDS, None, event.reference, event.metadata, rules
        case AccountClosed():
            return *_NO_FUNDS, event.reason, None, None, _details(permanent=event.permanent)
        case AccountFrozen() | AccountUnfrozen() | AccountReopened():
            return *_NO_FUNDS, event.reason, None, None, _details()
        case LockGranted():
            return *_NO_FUNDS, None, None, None, _details(token=event.token, expires_at=_iso(event.expires_at))
        case LockReleased():
            return *_NO_FUNDS, None, None, None, _details(token=event.token)
        case EntryReserved() | EntryReleased():
            return _promised(event)
        case _ as unreachable:
            assert_never(unreachable)


def _promised(event: Promise) -> Row:
    """Return what a promise says, from `hold_id` to `details`; what is held is told where it changes."""
    held = to_scaled(event.held) if holds_funds(event) else None
    funds = None, event.asset, to_scaled(event.amount), held
    if isinstance(event, EntryReleased):
        return *funds, None, None, None, _details(entry_type=event.entry_type)
    of_batch = _details(
        entry_type=event.entry_type,
        legs=event.legs,
        home=event.home,
        attempt=event.attempt,
        forced=event.forced,
        effective_at=_iso(event.effective_at),
    )
    return *funds, None, event.reference, event.metadata, of_batch


def _details(**told: object) -> str:
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def _iso(micros: int | None) -> str | None:
    """Return a time that a requester chose."""
    return None if micros is None else timestamp(clipped(micros)).isoformat()


def account_row(partition: int, event: AccountOpened) -> Row:
    """Return the row of an account that was opened by a command of its own."""
    at = timestamp(event.recorded_at)
    opened = event.version, partition, event.sequence, at, at
    floor = None if event.floor is None else to_scaled(event.floor)
    rules = floor, list(event.assets), event.account_type, event.reference, event.metadata
    return event.account_id, AccountStatus.OPEN, False, *rules, *opened


def status_row(partition: int, event: AccountFrozen | AccountUnfrozen | AccountClosed | AccountReopened) -> Row:
    """Return what replaces the status in the account's row."""
    where = event.version, partition, event.sequence
    return event.account_id, *_status(event), *where, timestamp(event.recorded_at)


def _status(event: AccountFrozen | AccountUnfrozen | AccountClosed | AccountReopened) -> tuple[AccountStatus, bool]:
    """Return the status, and whether it is for ever."""
    match event:
        case AccountFrozen():
            return AccountStatus.FROZEN, False
        case AccountUnfrozen() | AccountReopened():
            return AccountStatus.OPEN, False
        case AccountClosed():
            return AccountStatus.CLOSED, event.permanent
        case _ as unreachable:
            assert_never(unreachable)


def hold_row(partition: int, event: HoldPlaced) -> Row:
    """Return the row of a hold as it was placed."""
    amount = to_scaled(event.amount)
    return (
        event.account_id,
        event.hold_id,
        event.asset,
        amount,
        amount,
        HoldStatus.PLACED,
        None if event.expires_at is None else timestamp(clipped(event.expires_at)),
        event.reference,
        event.metadata,
        timestamp(event.recorded_at),
        event.version,
        partition,
        event.sequence,
        event.version,
    )


def taken_row(partition: int, event: HoldSettled | HoldReleased) -> Row:
    """Return what replaces the state in the hold's row."""
    if isinstance(event, HoldReleased):
        remaining, status = 0, HoldStatus.EXPIRED if event.expired else HoldStatus.RELEASED
    else:
        remaining, status = event.remaining, HoldStatus.PLACED if event.remaining else HoldStatus.SETTLED
    ended_at = None if remaining else timestamp(event.recorded_at)
    where = partition, event.sequence, event.version
    return event.account_id, event.hold_id, to_scaled(remaining), status, ended_at, *where
