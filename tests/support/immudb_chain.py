"""A database of immudb in memory that proves all that immudb can, and what it no longer does: a tree that lags.

It is built from the description of the proofs, and held against a real immudb by the tests of `VerifiedDatabase`.
"""

from collections.abc import Mapping, Sequence

from events.merkle import (
    Node,
    assemble,
    consistency_parts,
    edge_nodes,
    grow,
    inclusion_parts,
    leaf_hash,
    nodes_of,
    root_of,
)
from projections.immudb.records import (
    EMPTY,
    DualProof,
    Entry,
    EntryProof,
    LinearAdvanceProof,
    LinearProof,
    TxHeader,
    entry_leaf,
)

Leaves = Sequence[bytes]


def _hashes(leaves: Leaves, nodes: set[Node]) -> Mapping[Node, bytes]:
    return {node: _root(leaves[node.number << node.level : (node.number + 1) << node.level]) for node in nodes}


def _root(leaves: Leaves) -> bytes:
    edge: list[bytes] = []
    for size, leaf in enumerate(leaves):
        grow(edge, size, leaf)
    return root_of(edge)


def inclusion(leaves: Leaves, index: int) -> tuple[bytes, ...]:
    """Return the proof that leaf `index` is in the tree."""
    parts = inclusion_parts(index, len(leaves))
    return tuple(assemble(parts, _hashes(leaves, nodes_of(parts))))


def consistency(leaves: Leaves, old: int) -> tuple[bytes, ...]:
    """Return the proof that the tree begins with that of `old` leaves, as immudb has it."""
    if old == len(leaves):
        half = edge_nodes(old)[0].level - (old & (old - 1) == 0)
        return () if old == 1 else (_root(leaves[1 << half :]), _root(leaves[: 1 << half]))
    parts = consistency_parts(old, len(leaves))
    proof = assemble(parts, _hashes(leaves, nodes_of(parts)))
    return (_root(leaves[:old]), *proof) if old & (old - 1) == 0 else tuple(proof)


class Chain:
    """Transactions, each with entries and a tree as large as its maker chose."""

    def __init__(self) -> None:
        self.headers: list[TxHeader] = []
        self.entries: list[Sequence[Entry]] = []

    def add(
        self, entries: Sequence[Entry], *, tree_size: int | None = None, version: int = 1, metadata: bytes = b""
    ) -> TxHeader:
        """Append a transaction; the tree is up to date unless another size is given."""
        before = self.headers[-1].state if self.headers else EMPTY
        size = before.tx if tree_size is None else tree_size
        header = TxHeader(
            tx=before.tx + 1,
            prev_alh=before.alh,
            ts=1_700_000_000 + before.tx,
            version=version,
            metadata=metadata,
            entry_count=len(entries),
            entries_root=_root([entry_leaf(entry, version) for entry in entries]),
            tree_size=size,
            tree_root=_root(self.leaves(size)) if size else bytes(32),
        )
        self.headers.append(header)
        self.entries.append(entries)
        return header

    def header(self, tx: int) -> TxHeader:
        """Return the header of a transaction; the first is 1."""
        return self.headers[tx - 1]

    def leaves(self, size: int) -> list[bytes]:
        """Return the leaves of the tree of this size."""
        return [leaf_hash(header.alh) for header in self.headers[:size]]

    def entry_proof(self, tx: int, leaf: int) -> EntryProof:
        """Return the proof that the entry is in its transaction."""
        leaves = [entry_leaf(entry, self.header(tx).version) for entry in self.entries[tx - 1]]
        return EntryProof(leaf=leaf, width=len(leaves), terms=inclusion(leaves, leaf))

    def dual_proof(self, source_tx: int, target_tx: int) -> DualProof:
        """Return the proof that the database at `target_tx` continues that at `source_tx`."""
        source, target = self.header(source_tx), self.header(target_tx)
        tree, size = self.leaves(target.tree_size), target.tree_size
        start = max(source_tx, size)
        return DualProof(
            source=source,
            target=target,
            inclusion=inclusion(tree, source_tx - 1) if source_tx < size else (),
            consistency=consistency(tree, source.tree_size) if source.tree_size else (),
            last_alh=self.header(size).alh if size else bytes(32),
            last_inclusion=inclusion(tree, size - 1) if size else (),
            linear=LinearProof(source_tx=start, target_tx=target_tx, terms=self._terms(start, target_tx)),
            advance=self._advance(source.tree_size, min(source_tx, size), tree),
        )

    def _terms(self, begin: int, end: int) -> tuple[bytes, ...]:
        return (self.header(begin).alh, *(self.header(tx).inner_hash for tx in range(begin + 1, end + 1)))

    def _advance(self, begin: int, end: int, tree: Leaves) -> LinearAdvanceProof | None:
        if end <= begin + 1:
            return None
        inclusions = tuple(inclusion(tree, tx - 1) for tx in range(begin + 1, end))
        return LinearAdvanceProof(terms=self._terms(begin + 1, end), inclusions=inclusions)
