"""Anchors: one root over the checkpoints of all partitions, in a transaction on a chain, and the proof of it. Pure.

The root is that of an RFC 6962 tree whose leaves are the signed texts of the checkpoints (origin, size, root), not
the signatures: a text that is signed again by another key is the same leaf. The transaction's data is `partita
anchor v1`, a line feed, and the root's 32 bytes, so that anyone who reads the chain can see what it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from events.checkpoint import read
from events.errors import LedgerError
from events.merkle import Node as Subtree
from events.merkle import (
    ProofInvalid,
    assemble,
    grow,
    inclusion_parts,
    leaf_hash,
    node_hash,
    nodes_of,
    root_of,
    verify_inclusion,
)
from reconciler.provider import Receipt, Sent

MAGIC: Final = b"partita anchor v1\n"
FORMAT: Final = "partita-anchor-v1"


class AnchorInvalid(LedgerError):
    """An anchor does not show that its checkpoint is on the chain."""


def leaf_of(note: str) -> bytes:
    """Return the hash of a checkpoint's leaf; raises `CheckpointInvalid`."""
    return leaf_hash(read(note).body.encode())


def root_over(notes: Sequence[str]) -> bytes:
    """Return the root of the tree over checkpoints."""
    edge: list[bytes] = []
    for size, note in enumerate(notes):
        grow(edge, size, leaf_of(note))
    return root_of(edge)


def path_to(notes: Sequence[str], index: int) -> list[bytes]:
    """Return the inclusion proof of a checkpoint."""
    parts = inclusion_parts(index, len(notes))
    leaves = [leaf_of(note) for note in notes]
    return assemble(parts, {node: _hash_of(node, leaves) for node in nodes_of(parts)})


def _hash_of(node: Subtree, leaves: Sequence[bytes]) -> bytes:
    if node.level == 0:
        return leaves[node.number]
    left, right = (_hash_of(Subtree(node.level - 1, 2 * node.number + side), leaves) for side in (0, 1))
    return node_hash(left, right)


def data_of(root: bytes) -> str:
    """Return the data of a transaction that anchors `root`, in hexadecimal."""
    return "0x" + (MAGIC + root).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What shows that a checkpoint was on a chain at a block: the transaction, the root, and the path to it.

    `index` and `count` say which leaf of how many the checkpoint is.
    """

    chain_id: int
    block_number: int
    block_hash: str
    transaction_hash: str
    root: bytes
    checkpoint: str
    index: int
    count: int
    path: Sequence[bytes]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: hashes in hexadecimal."""
        return {
            "format": FORMAT,
            "chain_id": self.chain_id,
            "block_number": self.block_number,
            "block_hash": self.block_hash,
            "transaction_hash": self.transaction_hash,
            "root": self.root.hex(),
            "checkpoint": self.checkpoint,
            "index": self.index,
            "count": self.count,
            "path": [step.hex() for step in self.path],
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Return the anchor that `to_dict` gave; raises `AnchorInvalid`."""
        try:
            if given["format"] != FORMAT:
                raise AnchorInvalid(f"it is no anchor of the form {FORMAT}", found=str(given["format"])[:80])
            return cls(
                chain_id=int(given["chain_id"]),
                block_number=int(given["block_number"]),
                block_hash=str(given["block_hash"]),
                transaction_hash=str(given["transaction_hash"]),
                root=bytes.fromhex(given["root"]),
                checkpoint=str(given["checkpoint"]),
                index=int(given["index"]),
                count=int(given["count"]),
                path=[bytes.fromhex(step) for step in given["path"]],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AnchorInvalid(f"it is no anchor: {type(error).__name__}: {error}"[:200], found="") from None

    @classmethod
    def of_row(cls, row: Mapping[str, Any], index: int) -> Self:
        """Return the anchor of one of the checkpoints of a row of the table."""
        notes = row["notes"]
        return cls(
            chain_id=row["chain_id"],
            block_number=row["block_number"],
            block_hash=row["block_hash"],
            transaction_hash=row["tx_hash"],
            root=bytes.fromhex(row["root"]),
            checkpoint=notes[index],
            index=index,
            count=len(notes),
            path=path_to(notes, index),
        )


class ChainView(Protocol):
    """What verifying an anchor asks of a chain's node; `reconciler.provider.Node` is one."""

    async def chain_id(self) -> int:
        """Return the chain's id."""

    async def receipt(self, tx_hash: str) -> Receipt | None:
        """Return what became of a transaction."""

    async def transaction(self, tx_hash: str) -> Sent | None:
        """Return a transaction."""


def check_path(anchor: Anchor, checkpoint_note: str) -> None:
    """See that the anchor's root is over this checkpoint, without asking anybody; raises `AnchorInvalid`."""
    try:
        verify_inclusion(leaf_of(checkpoint_note), anchor.index, anchor.count, anchor.path, anchor.root)
    except ProofInvalid as error:
        raise AnchorInvalid(
            "the checkpoint is not shown to be under the anchor's root", root=anchor.root.hex()
        ) from error


async def verify_anchor(anchor: Anchor, checkpoint_note: str, chain: ChainView) -> int:
    """Verify that the checkpoint is under a root that is on the chain, and return the number of its block.

    Nothing of the anchor is believed that the chain does not show. That the block counts as settled is for the caller
    to ask. Who signed the checkpoint, and what it covers, is `events.checkpoint` and `events.merkle`.

    Raises:
        AnchorInvalid: it is not shown.
        ChainUnavailable: the chain's node does not answer.
    """
    check_path(anchor, checkpoint_note)
    where = {"transaction_hash": anchor.transaction_hash}
    if (found := await chain.chain_id()) != anchor.chain_id:
        raise AnchorInvalid(f"the anchor is on chain {anchor.chain_id}, and the node is of chain {found}", **where)
    receipt, sent = await chain.receipt(anchor.transaction_hash), await chain.transaction(anchor.transaction_hash)
    if receipt is None or sent is None or not receipt.succeeded:
        raise AnchorInvalid("the chain has no such transaction, or it failed", **where)
    if sent.data != data_of(anchor.root):
        raise AnchorInvalid("the transaction does not carry the anchor's root", **where)
    if (receipt.block_number, receipt.block_hash) != (anchor.block_number, anchor.block_hash):
        raise AnchorInvalid(
            f"the transaction is in block {receipt.block_number}, not in {anchor.block_number} as it was", **where
        )
    return receipt.block_number
