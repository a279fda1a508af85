"""Holding checkpoints against the trees: what a stretch of their topic adds, or why it can't be. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from events.checkpoint import Checkpoint, CheckpointInvalid, Verifier, partition_of, read, verify
from events.follow import Record
from events.merkle import edge_nodes
from projections.proofs.tiles import Tile, TileMissing, root_at, tiles_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class CheckpointRefused(ValueError):
    """A checkpoint is not one of this ledger's log; `str()` says which and why.

    `partition` is that of which it says to be; None when it says to be of none that there is.
    """

    def __init__(self, offset: int, why: str, partition: int | None) -> None:
        super().__init__(f"checkpoint at offset {offset}: {why}")
        self.partition = partition


class Published(NamedTuple):
    """A checkpoint as it was published, and by which of the known keys it is signed; None when none is known."""

    offset: int
    partition: int
    checkpoint: Checkpoint
    note: str
    public_key: str | None
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the notes of one ledger of `partition_count` partitions; without `verifiers`, whoever has signed them."""

    origin: str
    partition_count: int
    verifiers: Sequence[Verifier]

    def take(self, record: Record) -> Published:
        """Return the checkpoint in a record; raises `CheckpointRefused`."""
        try:
            note = (record.value or b"").decode()
            checkpoint = read(note)
            partition = partition_of(checkpoint.origin, self.origin)
        except (UnicodeDecodeError, CheckpointInvalid) as error:
            raise CheckpointRefused(record.offset, str(error), None) from error
        if partition >= self.partition_count:
            raise CheckpointRefused(record.offset, f"it is of partition {partition}, which there is not", None)
        try:
            key = verify(note, self.verifiers)[1] if self.verifiers else None
        except CheckpointInvalid as error:
            raise CheckpointRefused(record.offset, str(error), partition) from error
        published_at = datetime.fromtimestamp(record.timestamp / 1000, UTC) if record.timestamp > 0 else _EPOCH
        shown = None if key is None else str(key)
        return Published(record.offset, partition, checkpoint, note, shown, published_at)


def ready(published: Sequence[Published], sizes: Mapping[int, int]) -> list[Published]:
    """Return of each partition the first of `published`, up to one of a tree that is not there yet.

    `sizes` are those of the trees that are there.
    """
    found: list[Published] = []
    waits: set[int] = set()
    for each in published:
        if each.partition in waits or each.checkpoint.size > sizes.get(each.partition, 0):
            waits.add(each.partition)
        else:
            found.append(each)
    return found


def tiles_wanted(published: Sequence[Published]) -> dict[int, list[Tile]]:
    """Return the tiles, by partition, that `check` needs."""
    found: dict[int, set[Tile]] = {}
    for each in published:
        found.setdefault(each.partition, set()).update(tiles_of(edge_nodes(each.checkpoint.size)))
    return {partition: sorted(tiles) for partition, tiles in found.items()}


def check(each: Published, newest: Mapping[int, int], tiles: Mapping[int, Mapping[Tile, bytes]]) -> None:
    """See that a checkpoint is that of the tree, and later than the `newest` size before it, by partition.

    Raises:
        CheckpointRefused: it is not.
    """
    partition, (_, size, root) = each.partition, each.checkpoint
    if size <= newest.get(partition, 0):
        raise _refused(each, f"a tree of {size} after one of {newest.get(partition, 0)} events was signed")
    try:
        there = root_at(size, tiles.get(partition, {}))
    except TileMissing as error:
        raise _refused(each, str(error)) from error
    if there != root:
        raise _refused(
            each, f"the tree of the first {size} events has the root {there.hex()}, and {root.hex()} was signed"
        )


def _refused(each: Published, why: str) -> CheckpointRefused:
    return CheckpointRefused(each.offset, why, each.partition)
