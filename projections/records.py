"""What the read model answers with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from events.money import to_decimal, to_units
from events.types import EntryType


def plain(value: Decimal) -> Decimal:
    """Return `value` so that it prints plainly: without exponent or trailing zeros."""
    return to_decimal(to_units(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceRow:
    """The balance of one account in one asset. `version` is the account's at its last entry of this asset."""

    account_id: str
    asset: str
    balance: Decimal
    version: int
    updated_at: datetime | None
    """When the last entry was recorded; None when there is none."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the balance in a row of `balances`."""
        return cls(
            account_id=row["account_id"],
            asset=row["asset"],
            balance=plain(row["balance"]),
            version=row["version"],
            updated_at=row["updated_at"],
        )

    @classmethod
    def none(cls, account_id: str, asset: str) -> Self:
        """Return the balance of an account that has no entry of `asset`."""
        return cls(account_id=account_id, asset=asset, balance=Decimal(0), version=0, updated_at=None)


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
    reference: str | None
    metadata: dict[str, Any] | None
    effective_at: datetime
    recorded_at: datetime

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
            reference=row["reference"],
            metadata=None if row["metadata"] is None else json.loads(row["metadata"]),
            effective_at=row["effective_at"],
            recorded_at=row["recorded_at"],
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and the cursor of those that come after them; None when there are no more."""

    entries: Sequence[EntryRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class PositionRow:
    """How far the projection has got in one partition; `halted` says why it has stopped there, if it has."""

    partition: int
    next_offset: int
    next_sequence: int
    recorded_at: datetime | None
    halted: str | None
