"""The proofs projection: what it takes from a stretch of the log, and how that goes into the tiles."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import asyncpg

from events.errors import LedgerError
from events.follow import StoredEvent
from events.merkle import leaf_hash
from projections.proofs import statements
from projections.proofs.tiles import HEIGHT, Tile, appended, open_tiles
from projections.store import columns_of, run

PROOFS: Final = "proofs"


class Leaves(NamedTuple):
    """The leaves of one partition's stretch: how many come before, their hashes, and where each is on the topic."""

    size: int
    hashes: list[bytes]
    offsets: list[int]


class Proofs:
    """See `projections.store.Projection`."""

    name = PROOFS
    whole_batches = False
    tables = ("tiles",)
    passing: tuple[type[LedgerError], ...] = ()

    async def prepare(self, events: Sequence[StoredEvent]) -> Mapping[int, Leaves]:
        """Return the leaves of `events`, by partition."""
        found: dict[int, Leaves] = {}
        for partition, offset, data, event in events:
            leaves = found.get(partition)
            if leaves is None:
                leaves = found[partition] = Leaves(event.sequence, [], [])
            leaves.hashes.append(leaf_hash(data))
            leaves.offsets.append(offset)
        return found

    async def write(self, connection: asyncpg.Connection, schema: str, prepared: Mapping[int, Leaves]) -> None:
        """Append the leaves to the tiles; raises `TileMissing`, a ValueError, when those are not as they must be."""
        wanted = {partition: open_tiles(leaves.size) for partition, leaves in prepared.items()}
        known = await _tiles_in(connection, schema, wanted)
        rows = [
            (partition, tile.level, tile.number, hashes, _first_offset(leaves, tile))
            for partition, leaves in prepared.items()
            for tile, hashes in appended(known.get(partition, {}), leaves.size, leaves.hashes).items()
        ]
        if await run(connection, schema, statements.PUT_TILES, *columns_of(sorted(rows))) != len(rows):
            raise ValueError("a tile has hashes already that come only now")


async def _tiles_in(
    connection: asyncpg.Connection, schema: str, wanted: Mapping[int, Sequence[Tile]]
) -> dict[int, dict[Tile, bytes]]:
    keys = [(partition, *tile) for partition, tiles in wanted.items() for tile in tiles]
    statement = statements.TILES.format(schema=f'"{schema}"')
    return tiles_in_rows(await connection.fetch(statement, *columns_of(keys)) if keys else ())


def tiles_in_rows(rows: Iterable[asyncpg.Record]) -> dict[int, dict[Tile, bytes]]:
    """Return the hashes of tiles, by partition; one that is not there is left out."""
    found: dict[int, dict[Tile, bytes]] = {}
    for row in rows:
        found.setdefault(row["partition"], {})[Tile(row["level"], row["number"])] = row["hashes"]
    return found


def _first_offset(leaves: Leaves, tile: Tile) -> int | None:
    """Return where a tile of leaves begins on the topic; for one that began before, this is not written."""
    if tile.level:
        return None
    return leaves.offsets[max((tile.number << HEIGHT) - leaves.size, 0)]
