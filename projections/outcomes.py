"""What became of a command, as the read model has it: the entry, the change or the rejection that its id stands for.

A command that was answered is in exactly one of these places first; a rejection that comes later under the same id is
of another payload (`IdempotencyConflict`), and says nothing of the first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Self

from sqlalchemy import bindparam, literal_column, select, union_all

from projections.queries import ReadModel
from projections.records import EntryRow, plain
from projections.selects import ENTRY
from projections.tables import changes, entries, rejections

_OURS: Final = (entries, changes, rejections)
_FIRST: Final = union_all(
    *(
        select(literal_column(f"'{table.name}'").label("place"), table.c.partition, table.c.sequence).where(
            table.c.command_id == bindparam("command_id"), table.c.account_id == bindparam("account_id")
        )
        for table in _OURS
    )
).subquery()
FIRST: Final = select(_FIRST).order_by(_FIRST.c.sequence).limit(literal_column("1"))
"""Where a command of an account was first answered: all of it is in one partition, so sequences tell."""

_CHANGE: Final = select(*(column for column in changes.c if column.name != "writer_epoch"))
_REJECTION: Final = select(rejections)
_AT: Final = {
    table.name: query.where(table.c.partition == bindparam("partition"), table.c.sequence == bindparam("sequence"))
    for table, query in zip(_OURS, (ENTRY, _CHANGE, _REJECTION), strict=True)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One change of an account that is no entry, as `changes` has it; amounts in whole units of the asset."""

    partition: int
    sequence: int
    account_id: str
    version: int
    change: str
    """The event's type: AccountOpened, HoldPlaced, ..."""
    command_id: str
    hold_id: str | None
    asset: str | None
    amount: Decimal | None
    held: Decimal | None
    reason: str | None
    reference: str | None
    metadata: dict[str, Any] | None
    details: dict[str, Any]
    recorded_at: datetime
    batch_id: str | None
    leg: int | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the change in a row of `changes`."""
        amounts = {name: None if row[name] is None else plain(row[name]) for name in ("amount", "held")}
        parsed = {name: None if row[name] is None else json.loads(row[name]) for name in ("metadata", "details")}
        return cls(**{**{name: row[name] for name in cls.__dataclass_fields__}, **amounts, **parsed})


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionRow:
    """One command that broke a rule, as `rejections` has it; `account_id` is None for a batch."""

    partition: int
    sequence: int
    command_id: str
    account_id: str | None
    command_type: str
    code: str
    message: str
    details: dict[str, str]
    recorded_at: datetime
    leg: int | None
    reversal_of: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the rejection in a row of `rejections`."""
        known = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "details": json.loads(row["details"])})


Answered = EntryRow | ChangeRow | RejectionRow
"""What a command of an account came to."""

_ROWS: Final[Mapping[str, type[EntryRow] | type[ChangeRow] | type[RejectionRow]]] = {
    "entries": EntryRow,
    "changes": ChangeRow,
    "rejections": RejectionRow,
}


async def answered(model: ReadModel, account_id: str, command_id: str) -> Answered | None:
    """Return what the command of this account came to; None when nothing is known of it (yet).

    Raises:
        ReadModelUnavailable: PostgreSQL does not answer.
    """
    for first in await model.select(FIRST, account_id=account_id, command_id=command_id):
        place = first["place"]
        rows = await model.select(_AT[place], partition=first["partition"], sequence=first["sequence"])
        return _ROWS[place].of(rows[0])  # nothing is ever deleted there
    return None
