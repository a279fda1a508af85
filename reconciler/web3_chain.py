"""A node behind the port, by web3. The only module of the project that imports it.

web3 carries requests and signs transactions. What is asked is JSON-RPC as the Ethereum execution API has it, and what
is answered is read by `answers`: web3's own models refuse blocks of some chains (proof of authority) and pass others'
mistakes on. Retrying is the reader's, who knows what can be asked otherwise.
"""

import asyncio
import sys
from collections.abc import Collection, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

_DEPTH: Final = sys.getrecursionlimit()

import aiohttp  # noqa: E402  # the depth is read before
from eth_account import Account  # noqa: E402
from eth_account.signers.local import LocalAccount  # noqa: E402
from web3 import AsyncHTTPProvider  # noqa: E402
from web3.types import RPCEndpoint  # noqa: E402

# A library of theirs lets Python recurse 100,000 deep: then nested JSON ends the process instead of being refused.
sys.setrecursionlimit(_DEPTH)

from reconciler import answers, commitments  # noqa: E402
from reconciler.chains import Tag  # noqa: E402
from reconciler.errors import AnchorKeyInvalid  # noqa: E402
from reconciler.provider import (  # noqa: E402
    Block,
    Fees,
    Header,
    NativeScan,
    NodeAway,
    NodeBusy,
    NodeRefused,
    Receipt,
    Receipts,
    Sent,
    Signed,
)
from reconciler.transfers import Transfer  # noqa: E402

_MOST_FILTERED: Final = 250
"""Addresses in one filter; with more, all transfers of the tokens are read, and the others' left out here."""
_DECIMALS: Final = "0x313ce567"
"""The call of ERC-20's `decimals()`."""
_RATE_LIMITED: Final = frozenset({-32005, -32016, 429})
_RATE_WORDS: Final = ("rate limit", "too many requests", "requests per second", "compute units", "throttl")
_MARGIN: Final = (6, 5)
"""More gas than a node says it takes, since it may take more in another block."""
_LEAST_TIP: Final = 1_000_000
_KNOWN_WORDS: Final = ("already known", "already imported", "known transaction")


class Web3Node:
    """A node at an HTTP address, which is never shown whole: it may hold a key. `requests` counts them."""

    def __init__(self, url: str, *, timeout: float = 20.0, requests_per_second: float = 1e6) -> None:
        self.requests = 0
        self._name = _place(url)
        self._apart = 1 / requests_per_second
        self._next_at = 0.0
        self._provider = AsyncHTTPProvider(
            url,
            request_kwargs={"timeout": aiohttp.ClientTimeout(total=timeout)},
            exception_retry_configuration=None,
        )

    def __repr__(self) -> str:
        return f"Web3Node({self._name})"

    @property
    def name(self) -> str:
        """Host and port."""
        return self._name

    async def chain_id(self) -> int:
        """Return the chain's id."""
        return self._quantity(await self._ask("eth_chainId"), "a chain's id")

    async def block(self, at: int | Tag | None) -> Block | None:
        """Return a block's head."""
        found = await self._ask("eth_getBlockByNumber", _at(at), False)
        number = at if isinstance(at, int) else None
        return None if found is None else self._checked(lambda said: answers.block(said, number), found)

    async def token_transfers(
        self, first: int, last: int, tokens: Collection[str], ours: Collection[str]
    ) -> list[Transfer]:
        """Return the token transfers from or to `ours`, in the order of the chain."""
        found: set[Transfer] = set()
        for topics in _filters(ours):
            asked = {
                "fromBlock": hex(first),
                "toBlock": hex(last),
                "address": sorted(tokens),
                "topics": topics,
            }
            logs = await self._ask("eth_getLogs", asked)
            found.update(self._checked(answers.transfers, logs))
        mine = (t for t in found if t.sender in ours or t.recipient in ours)
        return sorted(mine, key=lambda t: (t.block_number, t.log_index))

    async def native_scan(self, number: int, ours: Collection[str]) -> NativeScan | None:
        """Return a block's native transfers."""
        found = await self._ask("eth_getBlockByNumber", hex(number), True)
        return None if found is None else self._checked(lambda said: answers.native_scan(said, number, ours), found)

    async def receipt(self, tx_hash: str) -> Receipt | None:
        """Return what became of a transaction."""
        found = await self._ask("eth_getTransactionReceipt", tx_hash)
        return None if found is None else self._checked(lambda said: answers.receipt(said, tx_hash), found)

    async def header(self, number: int, tokens: Collection[str], ours: Collection[str]) -> Header | None:
        """Return a block's head, its hash found to be that of its fields."""
        found = await self._ask("eth_getBlockByNumber", hex(number), False)
        if found is None:
            return None
        header: Header = self._checked(lambda said: commitments.header(said, number, tokens, ours), found)
        return header

    async def receipts(self, number: int) -> Receipts | None:
        """Return all receipts of a block."""
        found = await self._ask("eth_getBlockReceipts", hex(number))
        return None if found is None else self._checked(commitments.receipts, found)

    async def transaction(self, tx_hash: str) -> Sent | None:
        """Return a transaction."""
        found = await self._ask("eth_getTransactionByHash", tx_hash)
        return None if found is None else self._checked(answers.sent, found)

    async def decimals(self, token: str) -> int:
        """Ask a token's contract for its decimals."""
        found = await self._ask("eth_call", {"to": token, "data": _DECIMALS}, "latest")
        decimals: int = self._checked(lambda value: answers.word(value, "decimals"), found)
        return decimals

    async def nonce_of(self, address: str) -> int:
        """Return how many transactions of an address are in blocks."""
        return self._quantity(await self._ask("eth_getTransactionCount", address, "latest"), "a nonce")

    async def fees(self) -> Fees:
        """Return what a transaction has to offer: twice what the newest block asked, and the node's tip."""
        found = await self._ask("eth_getBlockByNumber", "latest", False)
        newest = self._checked(lambda said: answers.record(said, "a block"), found)
        base = self._quantity(newest.get("baseFeePerGas", "0x0"), "a base fee")
        tip = max(self._quantity(await self._ask("eth_maxPriorityFeePerGas"), "a tip"), _LEAST_TIP)
        return Fees(2 * base + tip, tip)

    async def gas_of(self, call: dict[str, Any]) -> int:
        """Return how much gas a transaction takes, and some more."""
        over, under = _MARGIN
        return self._quantity(await self._ask("eth_estimateGas", call), "gas") * over // under

    async def send_raw(self, raw: str) -> None:
        """Send a signed transaction; one that the node has already is no error."""
        try:
            await self._ask("eth_sendRawTransaction", raw)
        except NodeRefused as refusal:
            if not any(words in refusal.message.lower() for words in _KNOWN_WORDS):
                raise

    async def close(self) -> None:
        """Let go of the connection."""
        await self._provider.disconnect()

    async def _ask(self, method: str, *params: Any) -> Any:
        """Return a result as JSON has it; what does not come to one is `NodeBusy` or `NodeRefused`."""
        await self._turn()
        try:
            answer: Any = await self._provider.make_request(RPCEndpoint(method), list(params))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # What the error says may hold the address, and the address a key.
            raise NodeAway(f"{self._name} does not answer: {type(error).__name__}", node=self._name) from None
        if not isinstance(answer, dict) or not ({"result", "error"} & answer.keys()):
            raise NodeAway(f"{self._name} answers without a result", node=self._name)
        if (refusal := answer.get("error")) is not None:
            raise self._refused(method, refusal)
        return answer["result"]

    async def _turn(self) -> None:
        """Wait for a request's turn, so that there are no more of them in a second than there may be."""
        self.requests += 1
        now = asyncio.get_running_loop().time()
        at = max(now, self._next_at)
        self._next_at = at + self._apart
        if at > now:
            await asyncio.sleep(at - now)

    def _refused(self, method: str, refusal: Any) -> NodeBusy | NodeRefused:
        code, said = (refusal.get("code"), refusal.get("message")) if isinstance(refusal, dict) else (None, refusal)
        text = f"{self._name} refuses {method}: {str(said)[:200]} ({code})"
        is_rate = code in _RATE_LIMITED and "range" not in str(said) and "result" not in str(said)
        if is_rate or any(words in str(said).lower() for words in _RATE_WORDS):
            return NodeAway(text, node=self._name)
        return NodeRefused(text, node=self._name)

    def _quantity(self, value: Any, what: str) -> int:
        quantity: int = self._checked(lambda said: answers.quantity(said, what), value)
        return quantity

    def _checked(self, read: Any, value: Any) -> Any:
        try:
            return read(answers.record(value, "an answer") if not isinstance(value, list | str) else value)
        except ValueError as error:
            raise NodeBusy(f"{self._name} answers what can't be: {error}"[:300], node=self._name) from None


class Web3Wallet:
    """An address with its key, which is never shown, and a node to send by."""

    def __init__(self, node: Web3Node, key: str, chain_id: int) -> None:
        self._node = node
        self._chain_id = chain_id
        try:
            self._account: LocalAccount = Account.from_key(key.strip())
        except Exception:  # noqa: BLE001  # whatever it is, what it says may show the key
            raise AnchorKeyInvalid(
                "the key of the anchors is not 0x and 64 hexadecimal digits", setting="anchor_key"
            ) from None

    def __repr__(self) -> str:
        return f"Web3Wallet({self.address})"

    @property
    def address(self) -> str:
        """The address, in lower case."""
        return str(self._account.address).lower()

    async def nonce(self) -> int:
        """Return the number that the next transaction uses."""
        return await self._node.nonce_of(self.address)

    async def fees(self) -> Fees:
        """Return what would do now."""
        return await self._node.fees()

    async def signed(self, data: str, nonce: int, fees: Fees) -> Signed:
        """Return a transaction to the address itself that carries `data` (EIP-1559)."""
        call = {"from": self.address, "to": self.address, "data": data}
        transaction = self._account.sign_transaction(
            {
                "type": 2,
                "chainId": self._chain_id,
                "nonce": nonce,
                "to": self._account.address,
                "value": 0,
                "data": bytes.fromhex(data[2:]),
                "gas": await self._node.gas_of(call),
                "maxFeePerGas": fees.most,
                "maxPriorityFeePerGas": fees.tip,
            }
        )
        return Signed(f"0x{bytes(transaction.hash).hex()}", f"0x{bytes(transaction.raw_transaction).hex()}")

    async def send(self, transaction: Signed) -> None:
        """Send it."""
        await self._node.send_raw(transaction.raw)


def _filters(ours: Collection[str]) -> Sequence[list[Any]]:
    """Return the topics to ask for: a filter names senders or recipients, so there are two, or one for all."""
    if len(ours) > _MOST_FILTERED:
        return [[answers.TRANSFER]]
    topics = sorted(map(answers.topic, ours))
    return [[answers.TRANSFER, topics], [answers.TRANSFER, None, topics]]


def _at(at: int | Tag | None) -> str:
    if at is None:
        return "latest"
    return hex(at) if isinstance(at, int) else str(at)


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that can't be read"
    return (
        f"{parts.hostname}{port}"
        if parts.scheme in ("http", "https") and parts.hostname
        else "an address that is not http"
    )
