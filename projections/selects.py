"""The questions to the read model as SQL: SQLAlchemy expressions, made into PostgreSQL's own text once."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, literal_column, select, union_all
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from projections.tables import accounts, balances, batches, changes, entries, holds, positions

ENTRY: Final = select(*(column for column in entries.c if column.name != "writer_epoch"))
_BALANCE: Final = select(
    balances.c.account_id,
    balances.c.asset,
    balances.c.balance,
    balances.c.held,
    balances.c.available,
    balances.c.version,
    balances.c.updated_at,
)
_HISTORY: Final = union_all(
    *(
        select(table.c.version, table.c.recorded_at).where(table.c.account_id == bindparam("account_id"))
        for table in (entries, changes)
    )
).subquery()
_LAST: Final = select(_HISTORY).order_by(_HISTORY.c.version.desc()).limit(literal_column("1")).subquery()
"""The last that happened to an account: its version is the account's."""
_ACCOUNT: Final = (
    select(
        accounts.c.account_id,
        accounts.c.status,
        accounts.c.permanent,
        accounts.c.floor,
        accounts.c.assets,
        accounts.c.account_type,
        accounts.c.reference,
        accounts.c.metadata,
        accounts.c.opened_at,
        _LAST.c.version.label("last_version"),
        _LAST.c.recorded_at.label("last_recorded_at"),
        *(column for column in _BALANCE.selected_columns if column.name != "account_id"),
    )
    .select_from(
        accounts.join(_LAST, literal_column("true")).outerjoin(
            balances, accounts.c.account_id == balances.c.account_id
        )
    )
    .where(accounts.c.account_id == bindparam("account_id"))
    .order_by(balances.c.asset)
)
_PAGE: Final = (
    select(accounts)
    .where(accounts.c.account_id > bindparam("after"))
    .order_by(accounts.c.account_id)
    .limit(bindparam("limit"))
    .subquery()
)
_THEIR_HISTORY: Final = union_all(
    *(
        select(table.c.version, table.c.recorded_at).where(table.c.account_id == _PAGE.c.account_id).correlate(_PAGE)
        for table in (entries, changes)
    )
).subquery()
_THEIR_LAST: Final = (
    select(_THEIR_HISTORY).order_by(_THEIR_HISTORY.c.version.desc()).limit(literal_column("1")).lateral()
)
ACCOUNTS: Final = (
    select(
        *(column for column in _PAGE.c if column.name not in ("version", "updated_at", "partition", "sequence")),
        _THEIR_LAST.c.version.label("last_version"),
        _THEIR_LAST.c.recorded_at.label("last_recorded_at"),
        *(column for column in _BALANCE.selected_columns if column.name != "account_id"),
    )
    .select_from(
        _PAGE.join(_THEIR_LAST, literal_column("true")).outerjoin(
            balances, _PAGE.c.account_id == balances.c.account_id
        )
    )
    .order_by(_PAGE.c.account_id, balances.c.asset)
)
"""The accounts after one, up to a limit, in a row for each of their balances."""

_REVERSAL: Final = batches.alias()
_OF_BATCH: Final = (
    *(column.label(f"of_{column.name}") for column in batches.c),
    _REVERSAL.c.batch_id.label("reversed_by"),
)
_REVERSED: Final = and_(
    _REVERSAL.c.reversal_of == batches.c.batch_id,
    _REVERSAL.c.status == literal_column("'POSTED'"),  # spelled out, as the index has it
)
_BATCH: Final = (
    select(*_OF_BATCH, *ENTRY.selected_columns)
    .select_from(batches.outerjoin(entries, entries.c.batch_id == batches.c.batch_id).outerjoin(_REVERSAL, _REVERSED))
    .where(batches.c.batch_id == bindparam("batch_id"))
    .order_by(entries.c.leg)
)
BATCHES: Final = select(
    *_OF_BATCH, batches.c.batch_id, batches.c.started_at, literal_column("NULL").label("entry_id")
).select_from(batches.outerjoin(_REVERSAL, _REVERSED))
"""Batches without their entries."""


def _statement(*, newest_first: bool, of_asset: bool) -> Select[Any]:
    version = entries.c.version
    beyond = version < bindparam("version") if newest_first else version > bindparam("version")
    wanted = ENTRY.where(entries.c.account_id == bindparam("account_id"), beyond)
    if of_asset:
        wanted = wanted.where(entries.c.asset == bindparam("asset"))
    return wanted.order_by(version.desc() if newest_first else version).limit(bindparam("limit"))


def _holds(*conditions: ColumnElement[bool]) -> Select[Any]:
    beyond = holds.c.placed_version > bindparam("version")
    wanted = select(holds).where(and_(holds.c.account_id == bindparam("account_id"), beyond, *conditions))
    return wanted.order_by(holds.c.placed_version).limit(bindparam("limit"))


SELECTS: Final[Mapping[str, Select[Any]]] = {
    "entry": ENTRY.where(entries.c.entry_id == bindparam("entry_id")),
    "balance": _BALANCE.where(
        balances.c.account_id == bindparam("account_id"), balances.c.asset == bindparam("asset")
    ),
    "account": _ACCOUNT,
    "entries up": _statement(newest_first=False, of_asset=False),
    "entries up of asset": _statement(newest_first=False, of_asset=True),
    "entries down": _statement(newest_first=True, of_asset=False),
    "entries down of asset": _statement(newest_first=True, of_asset=True),
    "batch": _BATCH,
    "hold": select(holds).where(
        holds.c.account_id == bindparam("account_id"), holds.c.hold_id == bindparam("hold_id")
    ),
    "holds": _holds(),
    "holds of status": _holds(holds.c.status == bindparam("status")),
    "holds open": _holds(holds.c.status == literal_column("'PLACED'")),  # spelled out, as the index has it
    "positions": select(
        positions.c.partition,
        positions.c.next_offset,
        positions.c.next_sequence,
        positions.c.recorded_at,
        positions.c.halted,
    )
    .where(positions.c.projection == bindparam("projection"))
    .order_by(positions.c.partition),
}
"""Every question by its name; its parameters are named too."""


Compiled = tuple[str, tuple[str, ...]]
"""A query as PostgreSQL's own text, and the names of its parameters in order."""


@lru_cache(maxsize=512)
def compiled(query: Select[Any], schema: str) -> Compiled:
    """Return `query` as PostgreSQL's own text for `schema`, and the names of its parameters in order."""
    compiled = query.compile(
        dialect=dialect(),  # type: ignore[no-untyped-call]  # its constructor has no types
        schema_translate_map={None: schema},
        render_schema_translate=True,
    )
    return str(compiled), tuple(compiled.positiontup or ())
