"""Lists of the read model: entries, accounts, batches and rejections, by whatever they are looked for.

Every list has one order that never changes, so that a page goes on where the one before it ended, whatever is written
meanwhile. Entries of one account are in the order of its versions, accounts in that of their ids; all else is in the
order in which it was recorded. There, what the projection was late with in one partition can come to stand before
the end of a page that was read already; of one account or one partition nothing ever does.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Select, bindparam, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from projections.cursors import VERSION, Cursor, Kinds, Place
from projections.outcomes import RejectionRow
from projections.queries import ReadModel, start
from projections.records import AccountRow, BatchRow, BatchStatus, EntryRow
from projections.selects import ACCOUNTS, BATCHES, ENTRY
from projections.tables import TIME, batches, entries, rejections

R = TypeVar("R")

MOST_PAIRS: Final = 8
"""Most pairs of metadata that entries are looked for by."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""
_IN_JSON: Final = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?|true|false|null", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """What entries are looked for by: those are found that have all of it. Times are from one (included) to another.

    `metadata` are names at the top of the object, with their values. A value that reads as a number, as true, false
    or null finds these as well as the text.
    """

    account_id: str | None = None
    asset: str | None = None
    reference: str | None = None
    batch_id: str | None = None
    command_id: str | None = None
    partition: int | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None
    effective_from: datetime | None = None
    effective_to: datetime | None = None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionFilter:
    """What rejections are looked for by, as in `EntryFilter`; `code` is the rule that was broken."""

    account_id: str | None = None
    command_id: str | None = None
    code: str | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFilter:
    """What batches are looked for by; the times are those of their start."""

    status: BatchStatus | None = None
    started_from: datetime | None = None
    started_to: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[R]):
    """Some of what was looked for. `next_cursor` gives the page after; None when this is the last."""

    rows: Sequence[R]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _List:
    """What a list is of, and the columns that order it; `kinds` are those of its places."""

    name: str
    rows: Select[Any]
    order: tuple[Column[Any], ...]
    kinds: Kinds
    by: Mapping[str, ColumnElement[bool]]

    def place(self, row: Mapping[str, Any]) -> Place:
        """Return where `row` stands in the list."""
        values = (row[column.name] for column in self.order)
        return tuple((v - _EPOCH) // timedelta(microseconds=1) if isinstance(v, datetime) else v for v in values)

    def values(self, place: Place) -> dict[str, Any]:
        """Return a place as the parameters of `_statement`."""
        timed = zip(self.order, place, strict=True)
        return {
            f"after_{column.name}": _EPOCH + timedelta(microseconds=value)
            if column.type is TIME and isinstance(value, int)
            else value
            for column, value in timed
        }


def _equal(*columns: Column[Any]) -> dict[str, ColumnElement[bool]]:
    return {column.name: column == bindparam(column.name) for column in columns}


def _within(name: str, column: Column[Any]) -> dict[str, ColumnElement[bool]]:
    return {
        f"{name}_from": column >= bindparam(f"{name}_from"),
        f"{name}_to": column < bindparam(f"{name}_to"),
    }


def _pair(number: int) -> dict[str, ColumnElement[bool]]:
    """Two conditions: the value as text only, and the value as text or as what it reads as."""
    text, read = (
        entries.c.metadata.contains(bindparam(f"{kind}_{number}", type_=JSONB)) for kind in ("text", "read")
    )
    return {f"text_{number}": text, f"read_{number}": text | read}


_OF_ENTRIES: Final = {
    **_equal(
        *(entries.c[name] for name in ["account_id", "asset", "reference", "batch_id", "command_id", "partition"])
    ),
    **_within("recorded", entries.c.recorded_at),
    **_within("effective", entries.c.effective_at),
    **{name: condition for number in range(MOST_PAIRS) for name, condition in _pair(number).items()},
}
_ENTRIES: Final = _List(
    name="entries found",
    rows=ENTRY,
    order=(entries.c.recorded_at, entries.c.partition, entries.c.sequence),
    kinds=(_MICROS, 2**31 - 1, 2**63 - 1),
    by=_OF_ENTRIES,
)
_OF_ACCOUNT: Final = _List(
    name="entries found of account", rows=ENTRY, order=(entries.c.version,), kinds=VERSION, by=_OF_ENTRIES
)
_REJECTIONS: Final = _List(
    name="rejections",
    rows=select(rejections),
    order=(rejections.c.recorded_at, rejections.c.partition, rejections.c.sequence),
    kinds=(_MICROS, 2**31 - 1, 2**63 - 1),
    by={
        **_equal(rejections.c.account_id, rejections.c.command_id, rejections.c.code),
        **_within("recorded", rejections.c.recorded_at),
    },
)
_BATCHES: Final = _List(
    name="batches",
    rows=BATCHES,
    order=(batches.c.started_at, batches.c.batch_id),
    kinds=(_MICROS, None),
    by={**_equal(batches.c.status), **_within("started", batches.c.started_at)},
)


async def find_entries(
    model: ReadModel, wanted: EntryFilter, *, after: str | None = None, limit: int = 100, newest_first: bool = False
) -> Found[EntryRow]:
    """Return up to `limit` (1 to 1,000) of the entries that have all that is wanted.

    `after` is the `next_cursor` of the page before; it goes with the same filter and direction only.

    Raises:
        InvalidCursor: `after` is none of ours, or another question's.
        ReadModelUnavailable: PostgreSQL does not answer.
        ValueError: `limit` is out of range, or there are more than `MOST_PAIRS` pairs of metadata.
    """
    if len(wanted.metadata) > MOST_PAIRS:
        raise ValueError(f"{len(wanted.metadata)} pairs of metadata, more than {MOST_PAIRS}")
    if wanted.partition is not None and wanted.partition not in await model.positions():
        return Found(rows=[], next_cursor=None)  # which PostgreSQL would find out by reading everything
    listed = _ENTRIES if wanted.account_id is None else _OF_ACCOUNT
    values = {**_given(wanted), **_pairs(wanted.metadata)}
    if any("\0" in text for pair in wanted.metadata for text in pair):
        values["asset"] = "\0"  # which finds nothing, since nothing has it
    return await _page(model, listed, values, EntryRow.of, after=after, limit=limit, newest_first=newest_first)


async def find_rejections(
    model: ReadModel,
    wanted: RejectionFilter,
    *,
    after: str | None = None,
    limit: int = 100,
    newest_first: bool = False,
) -> Found[RejectionRow]:
    """Return up to `limit` rejections that have all that is wanted; `after` and errors as in `find_entries`."""
    values, of = _given(wanted), RejectionRow.of
    return await _page(model, _REJECTIONS, values, of, after=after, limit=limit, newest_first=newest_first)


async def find_batches(
    model: ReadModel, wanted: BatchFilter, *, after: str | None = None, limit: int = 100, newest_first: bool = False
) -> Found[BatchRow]:
    """Return up to `limit` batches, without their entries; `after` and errors as in `find_entries`."""

    def of(row: Mapping[str, Any]) -> BatchRow:
        return BatchRow.of([row])

    return await _page(model, _BATCHES, _given(wanted), of, after=after, limit=limit, newest_first=newest_first)


async def list_accounts(model: ReadModel, *, after: str | None = None, limit: int = 100) -> Found[AccountRow]:
    """Return up to `limit` accounts with their balances; `after` and errors as in `find_entries`."""
    question = ("accounts",)
    (last,) = start(question, after, limit, (None,)) or ("",)
    rows = await model.select(ACCOUNTS, after=last, limit=limit + 1)
    found = [AccountRow.of([*of]) for _, of in groupby(rows, key=lambda row: row["account_id"])]
    if len(found) <= limit:
        return Found(rows=found, next_cursor=None)
    return Found(rows=found[:limit], next_cursor=Cursor(question, (found[limit - 1].account_id,)).encode())


def _given(wanted: EntryFilter | RejectionFilter | BatchFilter) -> dict[str, Any]:
    return {name: value for name, value in asdict(wanted).items() if value is not None and name != "metadata"}


def _pairs(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters for pairs of metadata, as JSON."""
    values = {}
    for number, (name, value) in enumerate(pairs):
        text = json.dumps({name: value}, ensure_ascii=False)
        values[f"text_{number}"] = text
        if _IN_JSON.fullmatch(value):
            values[f"read_{number}"] = f"{{{json.dumps(name, ensure_ascii=False)}: {value}}}"
    return values


async def _page(
    model: ReadModel,
    listed: _List,
    values: Mapping[str, Any],
    of: Callable[[Mapping[str, Any]], R],
    *,
    after: str | None,
    limit: int,
    newest_first: bool,
) -> Found[R]:
    question = (listed.name, newest_first, _digest(values))
    place = start(question, after, limit, listed.kinds)
    statement = _statement(listed, frozenset(values), newest_first=newest_first, going_on=place is not None)
    rows = await model.select(statement, **values, **(listed.values(place) if place else {}), limit=limit + 1)
    cursor = Cursor(question, listed.place(rows[limit - 1])).encode() if len(rows) > limit else None
    return Found(rows=[of(row) for row in rows[:limit]], next_cursor=cursor)


def _digest(values: Mapping[str, Any]) -> str:
    """Return what stands for a filter in a cursor: short, whatever it holds."""
    text = json.dumps({name: str(value) for name, value in values.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(maxsize=512)
def _statement(listed: _List, names: frozenset[str], *, newest_first: bool, going_on: bool) -> Select[Any]:
    """Return the query of one page; as many as there are combinations that are asked for."""
    order = tuple_(*listed.order)
    wanted = listed.rows.where(*(listed.by[name] for name in sorted(names) if not _is_in_another(name, names)))
    if going_on:
        last = tuple_(*(bindparam(f"after_{column.name}", type_=column.type) for column in listed.order))
        wanted = wanted.where(order < last if newest_first else order > last)
    ordered = (column.desc() if newest_first else column for column in listed.order)
    return wanted.order_by(*ordered).limit(bindparam("limit"))


def _is_in_another(name: str, names: frozenset[str]) -> bool:
    return name.startswith("text_") and name.replace("text_", "read_") in names
