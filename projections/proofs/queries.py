"""Questions to the tiles and the checkpoints: proofs of inclusion and of consistency, the newest checkpoints.

What a proof needs is planned first, which is pure; then it is one query for the tiles, and the proof is put together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from events.merkle import Node, Part, assemble, consistency_parts, inclusion_parts, nodes_of
from projections.cursors import Cursor
from projections.errors import TreeDamaged
from projections.proofs import statements
from projections.proofs.tiles import HEIGHT, Tile, TileMissing, hash_of, hashes_of, tiles_of
from projections.queries import ReadModel, start

_NO_SIZE: Final = 2**63 - 1
"""More events than a tree can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """A checkpoint that was held against the tree, as `checkpoints` has it."""

    partition: int
    tree_size: int
    root: bytes
    note: str
    public_key: str | None
    published_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the checkpoint in a row."""
        return cls(**dict(row))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """The proof that a leaf is in a tree, the leaf's hash, and an offset from which on its event is found."""

    leaf: bytes
    proof: Sequence[bytes]
    first_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPage:
    """Checkpoints of one partition; `next_cursor` is None on the last page."""

    checkpoints: Sequence[CheckpointRow]
    next_cursor: str | None


class ProofReader:
    """Asks a read model, whose tables are in `schema`. Every call raises `ReadModelUnavailable`."""

    def __init__(self, reader: ReadModel, schema: str) -> None:
        self.reader = reader
        self._schema = f'"{schema}"'

    async def newest(self) -> list[CheckpointRow]:
        """Return the newest checkpoint of each partition that has one, in their order."""
        return [CheckpointRow.of(row) for row in await self._fetch(statements.NEWEST)]

    async def newest_of(self, partition: int) -> CheckpointRow | None:
        """Return the newest checkpoint of a partition, if it has one."""
        rows = await self._fetch(statements.NEWEST_OF, partition)
        return CheckpointRow.of(rows[0]) if rows else None

    async def history(
        self, partition: int, *, after: str | None = None, limit: int = 100, newest_first: bool = False
    ) -> CheckpointPage:
        """Return up to `limit` (1 to 1,000) checkpoints of a partition, by the size of their trees.

        `after` is the `next_cursor` of the page before; it goes with the same partition and order only.

        Raises:
            InvalidCursor: `after` is none of ours, or of another question.
            ValueError: `limit` is not within its bounds.
        """
        question = ("checkpoints", newest_first, str(partition))
        place = start(question, after, limit)
        [last] = place or [_NO_SIZE if newest_first else 0]
        statement = statements.NEWEST_FIRST if newest_first else statements.OLDEST_FIRST
        found = [CheckpointRow.of(row) for row in await self._fetch(statement, partition, last, limit + 1)]
        if len(found) <= limit:
            return CheckpointPage(checkpoints=found, next_cursor=None)
        cursor = Cursor(question, (found[limit - 1].tree_size,))
        return CheckpointPage(checkpoints=found[:limit], next_cursor=cursor.encode())

    async def inclusion(self, partition: int, index: int, size: int) -> Inclusion:
        """Return the proof that leaf `index` is in the tree of the first `size` events of a partition.

        Raises:
            TreeDamaged: the tiles don't have what they must have.
            ValueError: the tree has no such leaf.
        """
        parts = inclusion_parts(index, size)
        leaf, home = Node(0, index), Tile(0, index >> HEIGHT)
        known, offsets = await self._tiles(partition, {home, *tiles_of(nodes_of(parts))})
        try:
            shown = hash_of(leaf, known)
        except TileMissing as error:
            raise _damaged(partition, error) from error
        return Inclusion(leaf=shown, proof=_proof(partition, parts, known), first_offset=offsets[home] or 0)

    async def consistency(self, partition: int, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of the first `new` events of a partition begins with that of `old`.

        Raises:
            TreeDamaged: the tiles don't have what they must have, or have not come so far.
            ValueError: `new` is less than `old`.
        """
        parts = consistency_parts(old, new)
        known, _ = await self._tiles(partition, tiles_of(nodes_of(parts)))
        return _proof(partition, parts, known)

    async def _tiles(
        self, partition: int, wanted: Iterable[Tile]
    ) -> tuple[dict[Tile, bytes], dict[Tile, int | None]]:
        tiles = sorted(wanted)
        levels, numbers = [tile.level for tile in tiles], [tile.number for tile in tiles]
        rows = await self._fetch(statements.TILES, [partition] * len(tiles), levels, numbers) if tiles else ()
        found = [(Tile(row["level"], row["number"]), row) for row in rows]
        return {tile: row["hashes"] for tile, row in found}, {tile: row["first_offset"] for tile, row in found}

    async def _fetch(self, statement: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        names = tuple(str(number) for number in range(len(arguments)))
        query = statement.format(schema=self._schema), names
        return await self.reader.fetch(query, dict(zip(names, arguments, strict=True)))


def _proof(partition: int, parts: Sequence[Part], tiles: Mapping[Tile, bytes]) -> list[bytes]:
    try:
        return assemble(parts, hashes_of(nodes_of(parts), tiles))
    except TileMissing as error:
        raise _damaged(partition, error) from error


def _damaged(partition: int, error: TileMissing) -> TreeDamaged:
    return TreeDamaged(f"partition {partition}: {error}", partition=partition)
