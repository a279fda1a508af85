"""Holding the log against the tiles (I8): every tile is that of the log's tree, and there are no others.

The tiles are made anew by the code that the projection writes with. Of each tree only the tiles that are not full
are kept in memory: 8 KiB for each level.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from events.checks import CheckResult
from events.follow import StoredEvent
from events.merkle import leaf_hash
from projections.proofs import statements
from projections.proofs.tiles import HASH_BYTES, HEIGHT, WIDTH, Tile, appended
from projections.store import columns_of

_TITLE: Final = "every tile of the trees is that of the log, and there are no others"

Fetch = Callable[..., Coroutine[Any, Any, Sequence[Mapping[str, Any]]]]
"""Returns the rows of a statement that has a place for the schema, given its arguments."""


class _Row(NamedTuple):
    """What the table of tiles must have."""

    partition: int
    level: int
    number: int
    hashes: bytes
    first_offset: int | None


@dataclass(slots=True)
class _Tree:
    """A partition's tree as far as it was read: its tiles that are not full, and where the one of leaves begins."""

    size: int = 0
    open: dict[Tile, bytes] = field(default_factory=dict)
    first_offset: int | None = None

    def rows(self, partition: int, tiles: Mapping[Tile, bytes], firsts: Mapping[int, int | None]) -> list[_Row]:
        return [
            _Row(partition, *tile, hashes, None if tile.level else firsts[tile.number])
            for tile, hashes in tiles.items()
        ]

    def append(self, partition: int, events: Sequence[StoredEvent]) -> list[_Row]:
        """Append events, and return the tiles that they have filled."""
        tiles = self.open | appended(self.open, self.size, [leaf_hash(stored.data) for stored in events])
        firsts = {self.size >> HEIGHT: self.first_offset} | {
            index >> HEIGHT: stored.offset for index, stored in enumerate(events, self.size) if index % WIDTH == 0
        }
        self.size += len(events)
        self.first_offset = firsts.get(self.size >> HEIGHT)
        full = {tile: hashes for tile, hashes in tiles.items() if len(hashes) == WIDTH * HASH_BYTES}
        self.open = {tile: hashes for tile, hashes in tiles.items() if tile not in full}
        return self.rows(partition, full, firsts)

    def open_rows(self, partition: int) -> list[_Row]:
        return self.rows(partition, self.open, {self.size >> HEIGHT: self.first_offset})

    def counts(self) -> list[int]:
        """Return how many tiles there are of each level."""
        found, size = [], self.size
        while size:
            found.append(-(-size // WIDTH))
            size >>= HEIGHT
        return found


@dataclass(slots=True)
class TileAudit:
    """Takes every event of the log, each partition's in order; `sizes` are those of the trees in the tables.

    Its calls raise what `fetch` raises.
    """

    fetch: Fetch
    sizes: Mapping[int, int]
    since: int = 0
    """Microseconds since 1970: what was full before it is not looked at."""
    trees: dict[int, _Tree] = field(default_factory=dict)
    checked: int = 0
    fault: str | None = None

    def __post_init__(self) -> None:
        self.trees.update((partition, _Tree()) for partition in self.sizes)

    async def take(self, events: Sequence[StoredEvent]) -> None:
        """Take in some events; nothing more is looked for after the first fault."""
        if self.fault is not None:
            return
        stretches: dict[int, list[StoredEvent]] = {}
        for stored in events:
            if stored.event.sequence < self.sizes.get(stored.partition, 0):
                stretches.setdefault(stored.partition, []).append(stored)
        found = []
        for partition, stretch in stretches.items():
            rows = self.trees[partition].append(partition, stretch)
            if stretch[-1].event.recorded_at >= self.since:
                found += rows
        await self._hold(found)

    async def result(self) -> CheckResult:
        """Hold what is left against the tables, and return what was found."""
        if self.fault is None:
            await self._hold([row for partition, tree in self.trees.items() for row in tree.open_rows(partition)])
        short = [
            f"partition {partition}: the tables have a tree of {size} events, and the log has {tree.size} of them"
            for partition, size in self.sizes.items()
            if (tree := self.trees[partition]).size != size
        ]
        self.fault = self.fault or next(iter(short), None) or await self._other()
        return CheckResult("I8 tiles", _TITLE, self.fault is None, self.checked, self.fault)

    async def _hold(self, rows: Sequence[_Row]) -> None:
        if rows:
            self.checked += len(rows)
            wrong = await self.fetch(statements.WRONG_TILE, *columns_of(rows))
            self.fault = next(map(_what, wrong), None)

    async def _other(self) -> str | None:
        """Return a tile that there must not be."""
        counts = [
            (partition, level, count)
            for partition, tree in self.trees.items()
            for level, count in enumerate(tree.counts())
        ]
        rows = await self.fetch(statements.OTHER_TILE, *columns_of(counts) if counts else ([], [], []))
        return next((f"{_place(row)}: the log's tree has no such tile" for row in rows), None)


def _what(row: Mapping[str, Any]) -> str:
    wanted, found = row["wanted"], row["found"]
    if found is None:
        return f"{_place(row)} is not there"
    if wanted == found:
        return f"{_place(row)} begins at offset {row['wanted_offset']}, not {row['found_offset']}"
    places = range(0, max(len(wanted), len(found)), HASH_BYTES)
    at = next(at for at in places if wanted[at : at + HASH_BYTES] != found[at : at + HASH_BYTES])
    first, last = _events(row["level"], row["number"], at // HASH_BYTES)
    which = f"event {first}" if first == last else f"events {first} to {last}"
    return f"{_place(row)}: the hash of {which} is not that of the log"


def _place(row: Mapping[str, Any]) -> str:
    return f"partition {row['partition']}, tile {row['number']} of level {row['level']}"


def _events(level: int, number: int, place: int) -> tuple[int, int]:
    """Return the first and the last of the events that a hash in a tile is of."""
    width = WIDTH**level
    first = (number * WIDTH + place) * width
    return first, first + width - 1
