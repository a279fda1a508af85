"""New tables against live ones that are at the same positions, row by row, and the first rows that differ.

PostgreSQL adds up a hash of every row, by parts of the key, for both at once; the hash has a seed of the comparison's
own, so that nobody can have made a row with the same. Rows are looked at only in parts whose sums differ.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import asyncpg
from sqlalchemy import Column, Numeric, Table

from projections.rebuild.places import Places
from projections.snapshots.tables import ALL_TABLES

MOST: Final = 10
"""Most differences that are named."""
_PARTS: Final = 1 << 14
_MOST_PARTS: Final = 16
"""Most parts of a table whose rows are looked at."""
_NUMBERS: Final = {
    "snapshot_corrections": ("recorded", "effective"),
    "snapshot_totals": ("credits", "debits", "effective_credits", "effective_debits", "held", "in_flight"),
}
"""Sums of these tables; a row in which all are 0 is as good as none, and depends on how the log was read."""

_SUMS: Final = """
SELECT hash_record_extended(ROW({key}), $1) & $2 AS part, count(*) AS rows,
    sum(hash_record_extended(ROW({columns}), $1)) AS total
FROM {table} {where} GROUP BY 1
"""
_ROWS: Final = """
SELECT {texts} FROM {table} {where} {glue} hash_record_extended(ROW({key}), $1) & $2 = ANY($3::bigint[])
ORDER BY {key}
"""

Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row, by its `key`, or a table, that is not the same in both; `what` says how."""

    table: str
    key: Mapping[str, str]
    what: str

    def __str__(self) -> str:
        """Return it as one line."""
        key = ", ".join(f"{name} {value}" for name, value in self.key.items())
        return f"{self.table}{f', {key}' if key else ''}: {self.what}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


class _Shape:
    """How the rows of a table are told apart and compared. The text of a number has no zeros at its end."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.key = [column.name for column in table.primary_key]
        self.columns = [column.name for column in table.columns]
        self._plain = [_plain(column) for column in table.columns]

    def sums(self, schema: str) -> str:
        return _SUMS.format(columns=", ".join(self.columns), where=self._where, **self._names(schema))

    def rows(self, schema: str) -> str:
        texts = ", ".join(f"{plain}::text" for plain in self._plain)
        return _ROWS.format(
            texts=texts, where=self._where, glue="AND" if self._where else "WHERE", **self._names(schema)
        )

    def _names(self, schema: str) -> dict[str, str]:
        return {"table": f'"{schema}".{self.table.name}', "key": ", ".join(self.key)}

    @property
    def _where(self) -> str:
        sums = _NUMBERS.get(self.table.name)
        return f"WHERE ({' OR '.join(f'{name} <> 0' for name in sums)})" if sums else ""


def _plain(column: Column[Any]) -> str:
    return f"trim_scale({column.name})" if isinstance(column.type, Numeric) else column.name


async def compare(
    live: asyncpg.Connection, new: asyncpg.Connection, places: Places, tables: Sequence[str]
) -> list[Difference]:
    """Return the first rows that differ, `MOST` at most; nothing when all tables are the same.

    `live` is in a transaction that sees the live tables at the positions of the new ones.
    """
    found: list[Difference] = []
    for name in tables:
        found += await _compare_table(live, new, places, _Shape(ALL_TABLES.tables[name]))
    return found[:MOST]


async def _compare_table(
    live: asyncpg.Connection, new: asyncpg.Connection, places: Places, shape: _Shape
) -> list[Difference]:
    seed = secrets.randbits(63)
    try:
        async with live.transaction():  # an error must not end the one around it
            ours, theirs = await asyncio.gather(
                new.fetch(shape.sums(places.new), seed, _PARTS - 1),
                live.fetch(shape.sums(places.live), seed, _PARTS - 1),
            )
            differ = sorted({part for part, *_ in {tuple(row) for row in ours} ^ {tuple(row) for row in theirs}})
            if not differ:
                return []
            arguments = seed, _PARTS - 1, differ[:_MOST_PARTS]
            there = [tuple(row) for row in await live.fetch(shape.rows(places.live), *arguments)]
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError) as error:
        return [Difference(shape.table.name, {}, f"the live table is not what it must be: {error}")]
    made = [tuple(row) for row in await new.fetch(shape.rows(places.new), *arguments)]
    return list(differences(shape.table, made, there))


def differences(table: Table, made: Sequence[Row], there: Sequence[Row]) -> Iterator[Difference]:
    """Yield how rows of the new and of the live table differ, by their keys; both have all rows of some parts."""
    columns = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key]
    places = [columns.index(name) for name in key]
    rows: dict[Row, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for which, found in enumerate((made, there)):
        for row in found:
            rows[tuple(row[place] for place in places)][which].append(row)
    for values, (ours, theirs) in rows.items():
        if ours != theirs:
            named = dict(zip(key, map(str, values), strict=True))
            yield Difference(table.name, named, _what(columns, ours, theirs))


def _what(columns: Sequence[str], made: Sequence[Row], there: Sequence[Row]) -> str:
    if not there:
        return "the row is not in the live table"
    if not made:
        return "the row is in the live table only"
    if len(there) > 1:
        return f"the row is {len(there)} times in the live table"
    name, new, live = next(each for each in zip(columns, made[0], there[0], strict=True) if each[1] != each[2])
    return f"{name} is {_cut(live)} in the live table, {_cut(new)} in the log"


def _cut(value: str | None) -> str:
    return "null" if value is None else value[:200]
