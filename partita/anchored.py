"""What the `anchor` of a receipt shows: that its checkpoint was on a chain, as a node of one's own choice says."""

from events.checkpoint import read
from partita.receipts import Receipt, ReceiptInvalid
from partita.wiring import chain_node
from reconciler.anchors import Anchor, verify_anchor


async def verify_anchored(receipt: Receipt, rpc_url: str, *, timeout: float = 20.0) -> Anchor:
    """Verify that the receipt's own checkpoint is anchored on the chain of the node at `rpc_url`; return the anchor.

    It says nothing of the receipt's entry and signature, which `partita.receipts.verify_receipt` does. Each question
    to the node may take `timeout` seconds.

    Raises:
        ReceiptInvalid: the receipt has no anchor, or that of another checkpoint.
        AnchorInvalid: the chain does not show it.
        ChainUnavailable: the node does not answer.
    """
    if receipt.anchor is None:
        raise ReceiptInvalid("the receipt has no anchor: its checkpoint was not on a chain when it was made")
    anchor = Anchor.from_dict(receipt.anchor)
    if read(anchor.checkpoint) != read(receipt.checkpoint):
        raise ReceiptInvalid("anchor: it is that of another checkpoint", field="anchor")
    node = chain_node(rpc_url, timeout=timeout)
    try:
        await verify_anchor(anchor, anchor.checkpoint, node)
    finally:
        await node.close()
    return anchor
