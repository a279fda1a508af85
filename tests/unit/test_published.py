"""Checkpoints as they come from their topic: what is not one of the log is refused."""

import pytest

from events.checkpoint import Checkpoint, Signer, origin_of, sign
from events.follow import Record
from events.merkle import leaf_hash
from projections.proofs.checkpoints import CheckpointRefused, Reader, check, ready, tiles_wanted
from projections.proofs.tiles import appended, root_at
from tests.support.samples import SIGNER

ORIGIN = SIGNER.verifier.name
LEAVES = [leaf_hash(bytes([number])) for number in range(200)]
TILES = appended({}, 0, LEAVES)
READER = Reader(ORIGIN, 4, [SIGNER.verifier])


def published(size: int, offset: int = 0, partition: int = 1, root: bytes | None = None) -> Record:
    checkpoint = Checkpoint(origin_of(ORIGIN, partition), size, root or root_at(size, TILES))
    return Record(0, offset, None, sign(checkpoint, [SIGNER]).encode(), 1_790_000_000_123)


def test_a_checkpoint_of_the_tree_passes() -> None:
    each = READER.take(published(77))
    assert (each.partition, each.checkpoint.size, each.public_key) == (1, 77, str(SIGNER.verifier))
    assert each.published_at.isoformat() == "2026-09-21T14:13:20.123000+00:00"
    assert Reader(ORIGIN, 4, []).take(published(77)).public_key is None
    check(each, {}, {1: TILES})
    check(each, {1: 76}, {1: {tile: TILES[tile] for tile in tiles_wanted([each])[1]}})


def test_one_of_a_tree_that_is_not_there_yet_waits_with_all_of_its_partition_behind_it() -> None:
    heads = ((5, 1), (9, 2), (6, 1), (3, 2))
    found = [READER.take(published(size, partition=partition)) for size, partition in heads]
    assert ready(found, {1: 8, 2: 9}) == found
    assert ready(found, {1: 8, 2: 8}) == [found[0], found[2]]
    assert ready(found, {1: 5, 2: 9}) == [found[0], found[1], found[3]]
    assert ready(found, {}) == []


@pytest.mark.parametrize("newest", [77, 78])
def test_a_tree_that_does_not_grow_is_refused(newest: int) -> None:
    with pytest.raises(CheckpointRefused, match=f"a tree of 77 after one of {newest} events was signed"):
        check(READER.take(published(77)), {1: newest}, {1: TILES})


@pytest.mark.parametrize("newest", [{}, {1: 0}, {1: 7}])
def test_a_tree_without_events_is_refused_also_as_the_first(newest: dict[int, int]) -> None:
    with pytest.raises(CheckpointRefused, match="a tree of 0 after one of"):
        check(READER.take(published(0)), newest, {1: TILES})


def test_a_root_that_is_not_the_trees_is_refused() -> None:
    with pytest.raises(CheckpointRefused, match="the tree of the first 77 events has the root"):
        check(READER.take(published(77, root=LEAVES[0])), {}, {1: TILES})
    with pytest.raises(CheckpointRefused, match="tile 0 of level 0"):
        check(READER.take(published(77)), {}, {})


@pytest.mark.parametrize(
    ("record", "partition", "why"),
    [
        (Record(0, 5, None, None), None, "no signed note"),
        (Record(0, 5, None, b"\xff"), None, "utf-8"),
        (published(7, 5, partition=4), None, "partition 4, which there is not"),
        (
            Record(0, 5, None, sign(Checkpoint(f"{ORIGIN}/1", 1, LEAVES[0]), [Signer.generate(ORIGIN)]).encode()),
            1,
            "none of the keys has signed it",
        ),
        (
            Record(0, 5, None, sign(Checkpoint("another.ledger/1", 1, LEAVES[0]), [SIGNER]).encode()),
            None,
            "none of partita.test/t's",
        ),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_refused(record: Record, partition: int | None, why: str) -> None:
    with pytest.raises(CheckpointRefused, match=f"^checkpoint at offset 5: .*{why}") as refused:
        READER.take(record)
    assert refused.value.partition == partition
