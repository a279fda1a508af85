"""Receipts as a ledger would hand them out, of logs made up here."""

from collections.abc import Sequence

from events.checkpoint import Checkpoint, Signer, origin_of, sign
from events.merkle import Node as MerkleNode
from events.merkle import assemble, edge_nodes, grow, inclusion_parts, leaf_hash, node_hash, root_of
from events.types import Event
from partita.receipts import Receipt, entry_shown
from partita.results import entry_at
from tests.support.samples import CODECS, SIGNER


def hashes_of(leaves: Sequence[bytes]) -> dict[MerkleNode, bytes]:
    """Return the hashes of all perfect subtrees of a tree with these leaves."""
    row = [leaf_hash(leaf) for leaf in leaves]
    found: dict[MerkleNode, bytes] = {}
    level = 0
    while row:
        found |= {MerkleNode(level, number): value for number, value in enumerate(row)}
        row = [node_hash(*row[at : at + 2]) for at in range(0, len(row) - 1, 2)]
        level += 1
    return found


def receipt_of(
    events: Sequence[Event], index: int, *, partition: int = 3, signer: Signer = SIGNER, origin: str = ""
) -> Receipt:
    """Return the receipt of the entry at `index` of a partition that has these events and no others."""
    leaves = [CODECS.events.encode(event) for event in events]
    hashes, size = hashes_of(leaves), len(leaves)
    root = root_of([hashes[node] for node in edge_nodes(size)])
    note = sign(Checkpoint(origin or origin_of(signer.verifier.name, partition), size, root), [signer])
    return Receipt(
        entry=entry_shown(entry_at(partition, events[index])),  # type: ignore[arg-type]  # the caller has chosen one
        leaf=leaves[index],
        leaf_index=index,
        tree_size=size,
        root=root,
        inclusion_proof=assemble(inclusion_parts(index, size), hashes),
        checkpoint=note,
        public_key=str(signer.verifier),
    )


def grown(leaves: Sequence[bytes]) -> list[bytes]:
    """Return the right edge of the tree with these leaves."""
    edge: list[bytes] = []
    for size, leaf in enumerate(leaves):
        grow(edge, size, leaf_hash(leaf))
    return edge
