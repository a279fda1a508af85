"""Holding what a node answers against what its blocks commit to. Pure.

A block's hash commits to its head, the head's root to all receipts, and these have every log. What does not fit is
no answer: the node is asked again, and if it stays with it nothing is concluded.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise

from reconciler.provider import Block, Header, NodeBusy, Receipt, Receipts
from reconciler.transfers import Transfer


def check_chain(blocks: Sequence[Block]) -> None:
    """See that each block follows the one before; raises `NodeBusy`."""
    for before, after in pairwise(blocks):
        if (after.number, after.parent) != (before.number + 1, before.hash):
            raise NodeBusy(f"block {after.number} does not follow {before.number}: the chain is changing")


def check_receipts(header: Header, receipts: Receipts) -> None:
    """See that the head commits to these receipts, and they are of its transactions; raises `NodeBusy`.

    Which transaction a receipt is of stands in no receipt: it has the place that the transaction has in the block.
    """
    block = header.block
    if receipts.root != header.receipts_root or tuple(receipts.of) != header.transactions:
        raise NodeBusy(f"block {block.number} does not commit to the receipts that are told as its own")
    for tx_hash, receipt in receipts.of.items():
        if (receipt.block_number, receipt.block_hash) != (block.number, block.hash):
            raise NodeBusy(f"the receipt of {tx_hash} is not of block {block.number}")


def check_receipt(tx_hash: str, told: Receipt, header: Header, receipts: Receipts) -> None:
    """See that a receipt is the one that its block has, whose receipts have been checked; raises `NodeBusy`."""
    if receipts.of.get(tx_hash) != told:
        raise NodeBusy(f"block {header.block.number} does not have the receipt of {tx_hash} that is told")


def check_transfers(
    header: Header, receipts: Receipts, told: Sequence[Transfer], tokens: Collection[str], ours: Collection[str]
) -> None:
    """See that `told` are all transfers of these tokens from or to `ours` in a block, no more; raises `NodeBusy`."""
    found = {
        transfer
        for receipt in receipts.of.values()
        for transfer in receipt.transfers
        if transfer.token in tokens and (transfer.sender in ours or transfer.recipient in ours)
    }
    if found != {*told} or len(found) != len(told):
        raise NodeBusy(
            f"{len(told)} transfers are told of block {header.block.number}, which are not the {len(found)} it has"
        )
