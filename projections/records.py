"""What the read model answers with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from events.money import to_decimal, to_units
from events.types import AccountStatus, EntryType


class HoldStatus(StrEnum):
    """PLACED while it reserves anything; then how it ended."""

    PLACED = "PLACED"
    SETTLED = "SETTLED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class BatchStatus(StrEnum):
    """PENDING while its accounts are asked, COMMITTED once it is decided; then how it ended."""

    PENDING = "PENDING"
    COMMITTED = "COMMITTED"
    POSTED = "POSTED"
    REJECTED = "REJECTED"


def plain(value: Decimal) -> Decimal:
    """Return `value` so that it prints plainly: without exponent or trailing zeros."""
    return to_decimal(to_units(value))


def _parsed(metadata: str | None) -> dict[str, Any] | None:
    parsed: dict[str, Any] | None = None if metadata is None else json.loads(metadata)
    return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceRow:
    """What one account has of one asset, in whole units of it.

    Open holds reserve `held` of the balance; `available` is the rest, and does not count the account's floor in.
    `version` is the account's at its last change of this asset.
    """

    account_id: str
    asset: str
    balance: Decimal
    held: Decimal
    available: Decimal
    version: int
    updated_at: datetime | None
    """When the last change was recorded; None when there is none."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the balance in a row of `balances`."""
        return cls(
            account_id=row["account_id"],
            asset=row["asset"],
            balance=plain(row["balance"]),
            held=plain(row["held"]),
            available=plain(row["available"]),
            version=row["version"],
            updated_at=row["updated_at"],
        )

    @classmethod
    def none(cls, account_id: str, asset: str) -> Self:
        """Return the balance of an account that never had anything of `asset`."""
        zero = Decimal(0)
        return cls(
            account_id=account_id, asset=asset, balance=zero, held=zero, available=zero, version=0, updated_at=None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """One account with its balances, by asset.

    `floor` is 0 or less, and None where there is none; `assets` are the only ones that it may hold, if any are named.
    `version` and `updated_at` are of its last change of whatever kind: `expected_version` is compared with it.
    """

    account_id: str
    status: AccountStatus
    permanent: bool
    floor: Decimal | None
    assets: tuple[str, ...]
    account_type: str | None
    reference: str | None
    metadata: dict[str, Any] | None
    version: int
    opened_at: datetime
    updated_at: datetime
    balances: tuple[BalanceRow, ...]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Self:
        """Return the account in rows of `accounts`, one for each of its balances; or one without a balance."""
        row = rows[0]
        balances = tuple(BalanceRow.of(row) for row in rows if row["asset"] is not None)
        return cls(
            account_id=row["account_id"],
            status=AccountStatus(row["status"]),
            permanent=row["permanent"],
            floor=None if row["floor"] is None else plain(row["floor"]),
            assets=tuple(row["assets"]),
            account_type=row["account_type"],
            reference=row["reference"],
            metadata=_parsed(row["metadata"]),
            version=row["last_version"],
            opened_at=row["opened_at"],
            updated_at=row["last_recorded_at"],
            balances=balances,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRow:
    """One hold: `remaining` of `amount` is still reserved, in whole units of the asset; 0 when it has ended.

    `version`, `partition` and `sequence` are of its last change.
    """

    account_id: str
    hold_id: str
    asset: str
    amount: Decimal
    remaining: Decimal
    status: HoldStatus
    expires_at: datetime | None
    reference: str | None
    metadata: dict[str, Any] | None
    placed_at: datetime
    placed_version: int
    ended_at: datetime | None
    version: int
    partition: int
    sequence: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the hold in a row of `holds`."""
        return cls(
            account_id=row["account_id"],
            hold_id=row["hold_id"],
            asset=row["asset"],
            amount=plain(row["amount"]),
            remaining=plain(row["remaining"]),
            status=HoldStatus(row["status"]),
            expires_at=row["expires_at"],
            reference=row["reference"],
            metadata=_parsed(row["metadata"]),
            placed_at=row["placed_at"],
            placed_version=row["placed_version"],
            ended_at=row["ended_at"],
            version=row["version"],
            partition=row["partition"],
            sequence=row["sequence"],
        )


@dataclass(frozen=True, slots=True)
class HoldPage:
    """Some holds, and the cursor of those that come after them; None when there are no more."""

    holds: Sequence[HoldRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One entry, as `entries` has it."""

    entry_id: str
    partition: int
    sequence: int
    account_id: str
    version: int
    entry_type: EntryType
    amount: Decimal
    asset: str
    running_balance: Decimal
    command_id: str
    hold_id: str | None
    """The hold that the entry settles, in whole or in part."""
    reference: str | None
    metadata: dict[str, Any] | None
    effective_at: datetime
    recorded_at: datetime
    batch_id: str | None
    """The batch that the entry is of; with it `leg`, its number there from 0, and `legs`, how many there are."""
    leg: int | None
    legs: int | None
    forced: bool | None
    """Whether it might go below the floor: a reversal that was forced; None when it is of no batch."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the entry in a row of `entries`."""
        return cls(
            entry_id=row["entry_id"],
            partition=row["partition"],
            sequence=row["sequence"],
            account_id=row["account_id"],
            version=row["version"],
            entry_type=EntryType(row["entry_type"]),
            amount=plain(row["amount"]),
            asset=row["asset"],
            running_balance=plain(row["running_balance"]),
            command_id=row["command_id"],
            hold_id=row["hold_id"],
            reference=row["reference"],
            metadata=_parsed(row["metadata"]),
            effective_at=row["effective_at"],
            recorded_at=row["recorded_at"],
            batch_id=row["batch_id"],
            leg=row["leg"],
            legs=row["legs"],
            forced=row["forced"],
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and the cursor of those that come after them; None when there are no more."""

    entries: Sequence[EntryRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One batch with its `entries`, in its order: all `size` of them once it is POSTED, before that all or none.

    `size` is None for a batch that was refused at once. `code`, `message`, `details` and `leg` say why a batch was
    REJECTED. `partition` and `sequence` are of its last change of status.
    """

    batch_id: str
    status: BatchStatus
    command_type: str
    reversal_of: str | None
    reversed_by: str | None
    """The batch that has undone this one."""
    size: int | None
    reference: str | None
    metadata: dict[str, Any] | None
    code: str | None
    message: str | None
    details: dict[str, str] | None
    leg: int | None
    partition: int
    sequence: int
    started_at: datetime
    ended_at: datetime | None
    entries: tuple[EntryRow, ...]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Self:
        """Return the batch in rows of `batches`, one for each of its entries; or one without an entry."""
        row = rows[0]
        return cls(
            batch_id=row["of_batch_id"],
            status=BatchStatus(row["of_status"]),
            command_type=row["of_command_type"],
            reversal_of=row["of_reversal_of"],
            reversed_by=row["reversed_by"],
            size=row["of_entries"],
            reference=row["of_reference"],
            metadata=_parsed(row["of_metadata"]),
            code=row["of_code"],
            message=row["of_message"],
            details=_parsed(row["of_details"]),
            leg=row["of_leg"],
            partition=row["of_partition"],
            sequence=row["of_sequence"],
            started_at=row["of_started_at"],
            ended_at=row["of_ended_at"],
            entries=tuple(EntryRow.of(row) for row in rows if row["entry_id"] is not None),
        )


@dataclass(frozen=True, slots=True)
class PositionRow:
    """How far the projection has got in one partition; `halted` says why it has stopped there, if it has."""

    partition: int
    next_offset: int
    next_sequence: int
    recorded_at: datetime | None
    halted: str | None
