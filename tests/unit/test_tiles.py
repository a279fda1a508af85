"""Tiles: whichever way a tree came into them, they give the hashes, roots and proofs of RFC 6962."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.merkle import (
    Node,
    assemble,
    consistency_parts,
    inclusion_parts,
    leaf_hash,
    node_hash,
    nodes_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from projections.proofs.tiles import Tile, TileMissing, appended, hash_of, hashes_of, open_tiles, root_at, tiles_of
from tests.support.receipts import grown

DATA = [number.to_bytes(4, "big") for number in range(70_000)]
LEAVES = [leaf_hash(data) for data in DATA]


def grow_by(stretches: Sequence[int]) -> dict[Tile, bytes]:
    """Return the tiles of a tree that came in stretches, each with only the open tiles at hand."""
    tiles: dict[Tile, bytes] = {}
    size = 0
    for count in stretches:
        known = {tile: tiles[tile] for tile in open_tiles(size)}
        tiles |= appended(known, size, LEAVES[size : size + count])
        size += count
    return tiles


@given(st.lists(st.integers(0, 700), max_size=8))
@settings(max_examples=40, deadline=None)
def test_tiles_are_the_same_however_they_came(stretches: list[int]) -> None:
    size = sum(stretches)
    tiles = grow_by(stretches)
    assert tiles == grow_by([size])
    assert b"".join(tiles[tile] for tile in sorted(tiles) if tile.level == 0) == b"".join(LEAVES[:size])
    assert root_at(size, tiles) == root_of(grown(DATA[:size]))


def test_a_level_has_the_roots_of_the_tiles_below() -> None:
    tiles = grow_by([70_000])
    assert {level: sum(tile.level == level for tile in tiles) for level in range(4)} == {0: 274, 1: 2, 2: 1, 3: 0}
    assert len(tiles[Tile(1, 1)]) == 17 * 32
    assert tiles[Tile(1, 0)][:32] == hash_of(Node(8, 0), tiles) == root_of(grown(DATA[:256]))
    assert tiles[Tile(2, 0)] == root_of(grown(DATA[:65_536]))
    assert hash_of(Node(9, 0), tiles) == node_hash(tiles[Tile(1, 0)][:32], tiles[Tile(1, 0)][32:64])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_proofs_from_tiles_are_verified(data: st.DataObject) -> None:
    tiles = grow_by([1500])
    new = data.draw(st.integers(1, 1500))
    old, index = data.draw(st.integers(0, new)), data.draw(st.integers(0, new - 1))
    parts = inclusion_parts(index, new)
    needed = {tile: tiles[tile] for tile in tiles_of(nodes_of(parts))}
    proof = assemble(parts, hashes_of(nodes_of(parts), needed))
    verify_inclusion(LEAVES[index], index, new, proof, root_at(new, tiles))
    parts = consistency_parts(old, new)
    proof = assemble(parts, hashes_of(nodes_of(parts), tiles))
    verify_consistency(old, new, root_at(old, tiles), root_at(new, tiles), proof)


def test_what_the_tiles_do_not_have_is_told() -> None:
    tiles = grow_by([300])
    with pytest.raises(TileMissing, match="tile 1 of level 0"):
        hash_of(Node(0, 300), tiles)
    with pytest.raises(TileMissing, match="tile 0 of level 1"):
        root_at(512, tiles)
    with pytest.raises(TileMissing, match="has not the 44 hashes"):
        appended({}, 300, LEAVES[300:301])
    with pytest.raises(TileMissing, match="has not the 44 hashes"):
        appended({Tile(0, 1): tiles[Tile(0, 1)][32:], Tile(1, 0): tiles[Tile(1, 0)]}, 300, LEAVES[300:301])
