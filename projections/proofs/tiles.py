"""Tiles: the hashes of a tree in rows of 256, as C2SP's tlog-tiles has them (https://c2sp.org/tlog-tiles). Pure.

Tile `number` of level L has the hashes of 256 perfect subtrees of 256^L leaves each, side by side; the last tile of a
level has fewer. What lies between two levels is computed when it is asked for.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from events.merkle import Node, edge_nodes, node_hash, root_of

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
HASH_BYTES: Final = 32


class Tile(NamedTuple):
    """Which tile of a tree it is."""

    level: int
    number: int


class TileMissing(ValueError):
    """A tile is not there, or is shorter than the tree that it is of: the tables were changed by others."""


def tile_of(node: Node) -> Tile:
    """Return the tile from which the hash of a perfect subtree comes."""
    level, above = divmod(node.level, HEIGHT)
    return Tile(level, node.number << above >> HEIGHT)


def tiles_of(nodes: Iterable[Node]) -> set[Tile]:
    """Return the tiles from which all these hashes come."""
    return {tile_of(node) for node in nodes}


def open_tiles(size: int) -> list[Tile]:
    """Return the tiles that a tree of `size` leaves has begun and not filled."""
    found, level = [], 0
    while size:
        if size % WIDTH:
            found.append(Tile(level, size >> HEIGHT))
        level, size = level + 1, size >> HEIGHT
    return found


def hash_of(node: Node, tiles: Mapping[Tile, bytes]) -> bytes:
    """Return the hash of a perfect subtree; raises `TileMissing`."""
    above = node.level % HEIGHT
    count, tile = 1 << above, tile_of(node)
    first = (node.number << above) % WIDTH
    row = tiles.get(tile, b"")[first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(row) != count * HASH_BYTES:
        raise TileMissing(f"tile {tile.number} of level {tile.level} has not the hash of {node}")
    return _root(row)


def hashes_of(nodes: Collection[Node], tiles: Mapping[Tile, bytes]) -> dict[Node, bytes]:
    """Return the hashes of perfect subtrees; raises `TileMissing`."""
    return {node: hash_of(node, tiles) for node in nodes}


def root_at(size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    """Return the root of the tree of the first `size` leaves; raises `TileMissing`."""
    return root_of([hash_of(node, tiles) for node in edge_nodes(size)])


def appended(tiles: Mapping[Tile, bytes], size: int, leaves: Sequence[bytes]) -> dict[Tile, bytes]:
    """Return the tiles that change, whole, when the hashes of `leaves` come after the first `size`.

    `tiles` has the open tiles of the tree of `size` leaves; raises `TileMissing`.
    """
    changed: dict[Tile, bytes] = {}
    level, hashes = 0, list(leaves)
    while hashes:
        hashes = _append_to_level(tiles, changed, Tile(level, size >> HEIGHT), size % WIDTH, hashes)
        level, size = level + 1, size >> HEIGHT
    return changed


def _append_to_level(
    tiles: Mapping[Tile, bytes], changed: dict[Tile, bytes], tile: Tile, taken: int, hashes: Sequence[bytes]
) -> list[bytes]:
    """Append to the tiles of one level from `tile` on, which has `taken` hashes; return the roots of those filled."""
    full, at = [], 0
    while at < len(hashes):
        before = tiles.get(tile, b"") if taken else b""
        if len(before) != taken * HASH_BYTES:
            raise TileMissing(f"tile {tile.number} of level {tile.level} has not the {taken} hashes that it had")
        data = before + b"".join(hashes[at : at + WIDTH - taken])
        changed[tile] = data
        if len(data) == WIDTH * HASH_BYTES:
            full.append(_root(data))
        at += WIDTH - taken
        taken, tile = 0, Tile(tile.level, tile.number + 1)
    return full


def _root(row: bytes) -> bytes:
    """Return the root of a perfect subtree from the hashes of one of its rows."""
    hashes = [row[at : at + HASH_BYTES] for at in range(0, len(row), HASH_BYTES)]
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]
