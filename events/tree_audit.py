"""Holding the log against its checkpoints: what was signed is what is there, all of it, and nothing else (I5, I8).

The tree of each partition is computed anew from its events. Every checkpoint ever published must be a head that this
tree had, in the order in which they were published; so each is consistent with every later one, and every receipt
that was issued for one still verifies. Pure; memory is some 50 bytes for each checkpoint.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from events.checkpoint import CheckpointInvalid, Verifier, origin_of, verify
from events.checks import CheckResult
from events.follow import Record, StoredEvent
from events.merkle import grow, leaf_hash, root_of

_ROOT: Final = 32


@dataclass(slots=True)
class _Heads:
    """The checkpoints of one partition, in their order: sizes, roots one behind the other, offsets in their topic."""

    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    roots: bytearray = field(default_factory=bytearray)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    seen: int = 0
    """So many of them were heads of the tree."""


@dataclass(slots=True)
class TreeAudit:
    """Takes all checkpoints first, then all events, each partition's in order; then says what holds.

    `verifiers` are the keys that may have signed. Checkpoints from the offset `open_from` on were published while the
    log was being read: their events may not have been.
    """

    ledger_origin: str
    partitions: int
    verifiers: Sequence[Verifier]
    open_from: int
    _by_origin: dict[str, int] = field(default_factory=dict)
    _heads: dict[int, _Heads] = field(default_factory=dict)
    _edges: dict[int, list[bytes]] = field(default_factory=dict)
    _sizes: dict[int, int] = field(default_factory=dict)
    _checkpoints: int = 0
    _fault: str | None = None

    def __post_init__(self) -> None:
        for partition in range(self.partitions):
            self._by_origin[origin_of(self.ledger_origin, partition)] = partition
            self._heads[partition], self._edges[partition], self._sizes[partition] = _Heads(), [], 0

    def take_checkpoint(self, record: Record) -> None:
        """Take in what the topic of checkpoints has at one offset."""
        self._checkpoints += 1
        where = f"checkpoint at offset {record.offset}"
        try:
            checkpoint, _ = verify((record.value or b"").decode(errors="replace"), self.verifiers)
        except CheckpointInvalid as error:
            self._note(f"{where}: {error.message}")
            return
        partition = self._by_origin.get(checkpoint.origin)
        if partition is None:
            self._note(f"{where}: {checkpoint.origin} is no partition of {self.ledger_origin}")
            return
        if not checkpoint.size:
            self._note(f"{where}: it is of a tree without events, which no handler publishes")
            return
        heads = self._heads[partition]
        if heads.sizes and checkpoint.size < heads.sizes[-1]:
            self._note(
                f"{where}: partition {partition} has {checkpoint.size} events, and had {heads.sizes[-1]} in the "
                f"checkpoint at offset {heads.offsets[-1]}"
            )
            return
        heads.sizes.append(checkpoint.size)
        heads.roots += checkpoint.root
        heads.offsets.append(record.offset)

    def take(self, stored: StoredEvent) -> None:
        """Take in the next event of a partition."""
        partition, edge = stored.partition, self._edges[stored.partition]
        grow(edge, self._sizes[partition], leaf_hash(stored.data))
        size = self._sizes[partition] = self._sizes[partition] + 1
        heads = self._heads[partition]
        while heads.seen < len(heads.sizes) and heads.sizes[heads.seen] == size:
            at = heads.seen * _ROOT
            if heads.roots[at : at + _ROOT] != root_of(edge):
                self._note(
                    f"partition {partition}: the first {size} events, up to offset {stored.offset}, are not those of "
                    f"the checkpoint at offset {heads.offsets[heads.seen]}"
                )
            heads.seen += 1

    def _note(self, fault: str) -> None:
        self._fault = self._fault or fault

    def result(self) -> CheckResult:
        """Return whether log and checkpoints agree."""
        for partition, heads in self._heads.items():
            size = self._sizes[partition]
            signed = heads.sizes[-1] if heads.sizes else 0
            if signed < size:
                self._note(
                    f"partition {partition}: sequence {signed} and {size - signed - 1} after it are in no checkpoint"
                )
            left = heads.seen < len(heads.sizes) and heads.offsets[heads.seen] < self.open_from
            if left:
                self._note(
                    f"partition {partition}: the checkpoint at offset {heads.offsets[heads.seen]} is of "
                    f"{heads.sizes[heads.seen]} events, the log has {size}"
                )
        rule = "every checkpoint is signed, and is a head of the log's tree; the newest has all events"
        return CheckResult("I5 checkpoints", rule, self._fault is None, self._checkpoints, self._fault)
