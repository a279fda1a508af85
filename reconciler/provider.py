"""The port to a chain's node: what the reconciler asks one, and no more.

Two are behind it: `web3_chain` for any node that speaks Ethereum's JSON-RPC, and a fake in the tests that
reorganises, refuses and lies on demand. The same contract tests run against both, with a real node behind the first.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from reconciler.chains import Tag
from reconciler.errors import ChainUnavailable
from reconciler.transfers import Transfer


class NodeBusy(ChainUnavailable):
    """The node did not answer this time, or with something that can't be: ask again, later."""


class NodeAway(NodeBusy):
    """The node did not answer at all this time, or only that it was asked too often."""


class NodeRefused(ChainUnavailable):
    """The node answered that it won't: the range or the answer is too large for it, or it can't do it at all."""


class Block(NamedTuple):
    """A block's number, its hash and the hash of the one before, as lower-case 0x text."""

    number: int
    hash: str
    parent: str


class Receipt(NamedTuple):
    """What became of a transaction that is in a block; `transfers` are all of its token transfers, of any token."""

    block_number: int
    block_hash: str
    succeeded: bool
    transfers: tuple[Transfer, ...]


class Sent(NamedTuple):
    """A transaction as it was sent, whether it is in a block or not. `recipient` None made a contract.

    `data` is what it gives to its recipient, in hexadecimal.
    """

    sender: str
    recipient: str | None
    value: int
    block_number: int | None
    data: str = "0x"


class NativeScan(NamedTuple):
    """A block, and the transfers of the chain's own asset that its transactions ask for; some may have failed."""

    block: Block
    asked: tuple[Transfer, ...]


class Header(NamedTuple):
    """A block, its hash found to be that of its fields, and what these say of its transfers.

    `receipts_root` commits to all receipts, `transactions` are the block's in their order, and `may_have` is false
    when no log of it can be a transfer that was asked for.
    """

    block: Block
    receipts_root: str
    transactions: tuple[str, ...]
    may_have: bool


class Receipts(NamedTuple):
    """All receipts of a block by transaction, in their order, and the root that commits to them."""

    root: str
    of: Mapping[str, Receipt]


class Fees(NamedTuple):
    """What a transaction has to offer now, in wei a gas: at most, and of that for whoever takes it into a block."""

    most: int
    tip: int


class Signed(NamedTuple):
    """A transaction that can be sent, and the hash that it will have."""

    tx_hash: str
    raw: str


class Wallet(Protocol):
    """An address that sends transactions on one chain. Its key is in it, and never shown."""

    @property
    def address(self) -> str:
        """The address."""

    async def nonce(self) -> int:
        """Return how many transactions of the address are in blocks: the number that the next one uses."""

    async def fees(self) -> Fees:
        """Return what would do now."""

    async def signed(self, data: str, nonce: int, fees: Fees) -> Signed:
        """Return a transaction to the address itself that carries `data`, in hexadecimal, and no value."""

    async def send(self, transaction: Signed) -> None:
        """Send it; one that the node has already is no error.

        Raises:
            NodeBusy: it may have been sent or not.
            NodeRefused: its number is used, it offers too little, or the address can't pay.
        """


class Node(Protocol):
    """One node of one chain. Every method raises `NodeBusy` or `NodeRefused`."""

    @property
    def name(self) -> str:
        """Where it is, for messages: host and port, no path, user or password, which may hold a key."""

    async def chain_id(self) -> int:
        """Return the chain's id (EIP-155)."""

    async def block(self, at: int | Tag | None) -> Block | None:
        """Return the block of this number or tag, or the newest; None when there is none."""

    async def token_transfers(
        self, first: int, last: int, tokens: Collection[str], ours: Collection[str]
    ) -> list[Transfer]:
        """Return the transfers of `tokens` from or to `ours` in the blocks `first` to `last`, by Transfer logs."""

    async def native_scan(self, number: int, ours: Collection[str]) -> NativeScan | None:
        """Return the block `number` and the native transfers from or to `ours` in it; None when there is none."""

    async def receipt(self, tx_hash: str) -> Receipt | None:
        """Return what became of a transaction; None when it is in no block."""

    async def header(self, number: int, tokens: Collection[str], ours: Collection[str]) -> Header | None:
        """Return the head of the block `number`, with whether it may have transfers of `tokens` from or to `ours`."""

    async def receipts(self, number: int) -> Receipts | None:
        """Return all receipts of the block `number`; None when there is none."""

    async def transaction(self, tx_hash: str) -> Sent | None:
        """Return a transaction; None when the node knows of none."""

    async def decimals(self, token: str) -> int:
        """Return what a token's contract says of its decimals."""

    async def close(self) -> None:
        """Let go of the connection."""
