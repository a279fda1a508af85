"""Reading a chain through nodes that refuse, stall and may lie: bounded ranges, patience, agreement.

A reader asks all of its nodes the same and goes on only when they say the same, block hashes included. What it
returns is whole: every transfer of the range, or an error. With `proofs`, a node's answers about tokens are held
against what its blocks commit to as well, so that no answer alone can leave a transfer out or change one.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from reconciler import answers
from reconciler.chains import NATIVE, Chain, Finality, Tag, Token
from reconciler.errors import ChainUnavailable, InvalidChain, ProvidersDisagree, WrongChain
from reconciler.matching import State, Transaction
from reconciler.provider import Block, Header, Node, NodeAway, NodeBusy, NodeRefused, Receipt, Receipts, Sent
from reconciler.proving import check_chain, check_receipt, check_receipts, check_transfers
from reconciler.transfers import Transfer

T = TypeVar("T")

_FIRST_DELAY: Final = 0.1
_TRIES_OF_A_RANGE: Final = 2
"""Then a smaller one is tried: the node may be too slow for it, or its answer too long for what is in between."""
_FIRST_BLOCKS: Final = 200
"""Of the first range: how dense transfers are is not known yet."""
_AT_ONCE: Final = 8
"""Requests to one node that may be unanswered at a time."""
_GROW_AFTER: Final = 8
"""Stretches that must be read well, after a refusal, before a larger one is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How hard a node is asked: `most_blocks` at once, `most_single_blocks` when each of them costs a request.

    A range is narrower where transfers are dense, so that about `most_transfers` come at a time.
    """

    most_blocks: int = 2_000
    most_single_blocks: int = 200
    most_transfers: int = 10_000
    requests_per_second: float = 50.0
    tries: int = 8
    longest_delay: float = 10.0


class Stretch(NamedTuple):
    """Blocks `first` to `last.number`, read whole: the transfers that are ours, in the order of the chain."""

    first: int
    last: Block
    transfers: list[Transfer]


class Found(NamedTuple):
    """What the chain says of one transaction, and all its transfers."""

    transaction: Transaction
    transfers: tuple[Transfer, ...]


@dataclass(slots=True)
class ChainReader:
    """Reads one chain: the transfers of `tokens` from or to `ours`."""

    chain: Chain
    nodes: Sequence[Node]
    tokens: Sequence[Token]
    ours: frozenset[str]
    finality: Finality
    limits: Limits = field(default_factory=Limits)
    proofs: bool = False
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _size: int = 0
    _fits: int = _FIRST_BLOCKS
    _well: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311  # spreads delays
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def __post_init__(self) -> None:
        if not self.nodes:
            raise InvalidChain(f"{self.chain.name}: no node is given to read it from")
        self._size = self._most

    @property
    def _contracts(self) -> list[str]:
        return [token.address for token in self.tokens if token.address is not None]

    @property
    def _has_native(self) -> bool:
        return any(token.address is None for token in self.tokens)

    @property
    def _most(self) -> int:
        return (
            min(self.limits.most_blocks, self.limits.most_single_blocks)
            if self._has_native or self.proofs
            else self.limits.most_blocks
        )

    async def check(self) -> None:
        """See that every node is one of this chain, and that tokens have the decimals that are configured.

        Raises:
            WrongChain: a node is of another chain.
            InvalidChain: a token's contract says otherwise, or is none.
        """
        for node in self.nodes:
            found = await self._patiently(node.chain_id)
            if found != self.chain.chain_id:
                raise WrongChain(
                    f"{node.name} is a node of chain {found}, not of {self.chain.name} ({self.chain.chain_id})",
                    node=node.name,
                    found=found,
                    expected=self.chain.chain_id,
                )
        for token in self.tokens:
            if token.address is not None:
                await self._check_token(token, token.address)

    async def _check_token(self, token: Token, contract: str) -> None:
        try:
            found = await self._patiently(lambda: self.nodes[0].decimals(contract))
        except NodeAway:
            raise
        except ChainUnavailable as error:
            raise InvalidChain(
                f"{token.asset}: {contract} is no token's contract on {self.chain.name}, or does not tell its "
                f"decimals ({error.message})",
                token=contract,
            ) from error
        if found != token.decimals:
            raise InvalidChain(
                f"{token.asset} has {found} decimals on {self.chain.name}, not {token.decimals}",
                token=contract,
                found=found,
                expected=token.decimals,
            )

    async def settled(self) -> Block:
        """Return the newest block that counts as settled, by the word of the node that is furthest behind."""
        tag = self.finality if isinstance(self.finality, Tag) else None
        heads = [await self._patiently(lambda node=node: self._block(node, tag)) for node in self.nodes]  # type: ignore[misc]  # a default binds the node of this round
        number = min(head.number for head in heads)
        if tag is None:
            assert isinstance(self.finality, int)
            number = max(number - self.finality, 0)
        return await self.block(number)

    async def _block(self, node: Node, at: int | Tag | None) -> Block:
        return _there(await node.block(at), node, at)

    async def block(self, number: int) -> Block:
        """Return the block of this number, on which all nodes agree."""
        return await self._agreed(f"block {number}", lambda node: self._block(node, number))

    async def hash_at(self, number: int) -> str | None:
        """Return the hash of the block of this number; None when the chain is shorter now."""
        found = await self._agreed(f"block {number}", lambda node: node.block(number))
        return None if found is None else found.hash

    async def read(self, first: int, last: int) -> Stretch:
        """Return the transfers of the blocks from `first`, up to `last` or less far if a node won't go so far.

        Raises:
            ChainUnavailable: the nodes don't answer, however small the range and however often they are asked.
            ProvidersDisagree: they do, each with something else.
        """
        attempt = 0
        while True:
            end = min(last, first + min(self._size, self._fits) - 1)
            try:
                stretch = await self._stretch(first, end)
            except ChainUnavailable:
                if end == first:
                    attempt += 1
                    if attempt >= self.limits.tries:
                        raise
                    await self.pause(attempt)
                self._size, self._well = max((end - first + 1) // 2, 1), 0
            else:
                self._grow()
                self._fits = max(self.limits.most_transfers * (end - first + 1) // max(len(stretch.transfers), 1), 1)
                return stretch

    async def _stretch(self, first: int, end: int) -> Stretch:
        transfers = await self._transfers(first, end)
        if self.proofs and self._contracts and self.ours:
            return Stretch(first, await self._proved(first, end, transfers), transfers)
        block = await self.block(end)
        _check_last(transfers, block)
        return Stretch(first, block, transfers)

    async def _proved(self, first: int, end: int, transfers: Sequence[Transfer]) -> Block:
        """See that the blocks commit to exactly these transfers of tokens; return the last of them."""
        headers = await asyncio.gather(*(self._header(number) for number in range(first, end + 1)))
        check_chain([header.block for header in headers])
        told: dict[int, list[Transfer]] = defaultdict(list)
        for transfer in transfers:
            if transfer.token != NATIVE:
                told[transfer.block_number].append(transfer)
        asked = [header for header in headers if header.may_have or header.block.number in told]
        await asyncio.gather(*(self._prove(header, told[header.block.number]) for header in asked))
        return headers[-1].block

    async def _header(self, number: int) -> Header:
        return await self._agreed(f"block {number}", lambda node: self._headed(node, number))

    async def _headed(self, node: Node, number: int) -> Header:
        found = await node.header(number, self._contracts, self.ours)
        return _there(found, node, number)

    async def _prove(self, header: Header, told: Sequence[Transfer]) -> None:
        number = header.block.number
        receipts = await self._agreed(f"block {number}", lambda node: self._receipts(node, header))
        check_transfers(header, receipts, told, frozenset(self._contracts), self.ours)

    async def _receipts(self, node: Node, header: Header) -> Receipts:
        """Return the receipts to which the head of their block commits."""
        receipts = _there(await node.receipts(header.block.number), node, header.block.number)
        check_receipts(header, receipts)
        return receipts

    def _grow(self) -> None:
        self._well += 1
        if self._well >= _GROW_AFTER and self._size < self._most:
            self._size, self._well = min(self._size * 2, self._most), 0

    async def _transfers(self, first: int, last: int) -> list[Transfer]:
        found: list[Transfer] = []
        if self._contracts and self.ours:
            found = await self._agreed(
                f"the transfers in blocks {first} to {last}",
                lambda node: self._logs(node, first, last),
                tries=_TRIES_OF_A_RANGE if last > first else 1,
            )
        if self._has_native and self.ours:
            found += await self._native(first, last)
        return sorted(found, key=lambda transfer: (transfer.block_number, transfer.tx_hash, transfer.log_index))

    async def _logs(self, node: Node, first: int, last: int) -> list[Transfer]:
        found = await node.token_transfers(first, last, self._contracts, self.ours)
        hashes: dict[int, str] = {}
        for transfer in found:
            is_in = first <= transfer.block_number <= last
            if not is_in or hashes.setdefault(transfer.block_number, transfer.block_hash) != transfer.block_hash:
                raise NodeBusy(f"{node.name} answers with blocks that can't be of one chain", node=node.name)
        return found

    async def _native(self, first: int, last: int) -> list[Transfer]:
        scans = await asyncio.gather(*(self._agreed_scan(number) for number in range(first, last + 1)))
        check_chain([block for block, _ in scans])
        return [transfer for _, transfers in scans for transfer in transfers]

    async def _agreed_scan(self, number: int) -> tuple[Block, list[Transfer]]:
        return await self._agreed(f"block {number}", lambda node: self._scan(node, number))

    async def _scan(self, node: Node, number: int) -> tuple[Block, list[Transfer]]:
        scan = _there(await node.native_scan(number, self.ours), node, number)
        done = []
        for transfer in scan.asked:
            receipt = await node.receipt(transfer.tx_hash)
            if receipt is None or receipt.block_hash != scan.block.hash:
                raise NodeBusy(f"{node.name} has no receipt of {transfer.tx_hash} in its block", node=node.name)
            if receipt.succeeded:
                done.append(transfer)
        return scan.block, done

    async def lookup(self, tx_hash: str, settled: int) -> Found:
        """Return what the chain says of a transaction, and its transfers if it is in a block up to `settled`."""
        for attempt in range(self.limits.tries):
            found = await self._agreed(f"transaction {tx_hash}", lambda node: self._look(node, tx_hash, settled))
            if found is not None:
                return _found(tx_hash, *found)
            unsettled = await self._unsettled(tx_hash)
            if unsettled.block_number is None or unsettled.block_number > settled:
                return Found(unsettled, ())
            await self.pause(attempt)
        raise NodeBusy(f"transaction {tx_hash} is and is not in a block up to {settled}")

    async def _look(self, node: Node, tx_hash: str, settled: int) -> tuple[Receipt, Sent | None] | None:
        receipt = await node.receipt(tx_hash)
        if receipt is None or receipt.block_number > settled:
            return None
        if self.proofs:
            header = await self._headed(node, receipt.block_number)
            check_receipt(tx_hash, receipt, header, await self._receipts(node, header))
        if receipt.transfers and not self._has_native:
            return receipt, None
        return receipt, await node.transaction(tx_hash)

    async def _unsettled(self, tx_hash: str) -> Transaction:
        """Return where a transaction is that no settled block has: waited for as long as one node knows it."""
        for node in self.nodes:
            receipt = await self._patiently(lambda node=node: node.receipt(tx_hash))  # type: ignore[misc]  # as above
            if receipt is not None:
                return Transaction(tx_hash, State.PENDING, receipt.block_number, receipt.block_hash)
            if await self._patiently(lambda node=node: node.transaction(tx_hash)) is not None:  # type: ignore[misc]  # as above
                return Transaction(tx_hash, State.PENDING)
        return Transaction(tx_hash, State.UNKNOWN)

    async def _agreed(self, what: str, ask: Callable[[Node], Awaitable[T]], *, tries: int | None = None) -> T:
        """Return what all nodes say; asked again when they differ, since one may be a moment behind."""
        said: list[T] = []
        for attempt in range(self.limits.tries if len(self.nodes) > 1 else 1):
            said = [await self._patiently(lambda node=node: ask(node), tries=tries) for node in self.nodes]  # type: ignore[misc]  # as above
            if all(answer == said[0] for answer in said):
                return said[0]
            await self.pause(attempt)
        names = [node.name for node in self.nodes]
        raise ProvidersDisagree(f"{' and '.join(names)} say different things of {what}", nodes=names, what=what)

    async def _patiently(self, ask: Callable[[], Awaitable[T]], *, tries: int | None = None) -> T:
        """Ask until there is an answer, waiting longer each time; with `tries`, a refusal is not asked again.

        Raises:
            ChainUnavailable: there is none after so many tries.
        """
        most = tries or self.limits.tries
        for attempt in range(1, most + 1):
            try:
                async with self._gate:
                    return await ask()
            except ChainUnavailable as error:
                if attempt == most or (tries is not None and isinstance(error, NodeRefused)):
                    raise
                await self.pause(attempt)
        raise AssertionError("a try returns or raises")

    async def pause(self, attempt: int) -> None:
        """Wait before something is tried again, longer each time."""
        longest = min(_FIRST_DELAY * 2**attempt, self.limits.longest_delay)
        await self.sleep(longest * (0.5 + self._random.random() / 2))

    async def close(self) -> None:
        """Let go of the nodes."""
        for node in self.nodes:
            await node.close()


def _found(tx_hash: str, receipt: Receipt, sent: Sent | None) -> Found:
    where = receipt.block_number, receipt.block_hash
    if not receipt.succeeded:
        return Found(Transaction(tx_hash, State.FAILED, *where), ())
    transfers = list(receipt.transfers)
    if sent is not None and sent.value and sent.recipient is not None:
        transfers.append(answers.native(tx_hash, sent, *where))
    return Found(Transaction(tx_hash, State.DONE, *where), tuple(transfers))


def _there(found: T | None, node: Node, at: int | Tag | None) -> T:
    if found is None:
        raise NodeBusy(f"{node.name} has no block {at if at is not None else 'at all'}", node=node.name)
    return found


def _check_last(transfers: Sequence[Transfer], block: Block) -> None:
    """See that the transfers are of the chain that has this block."""
    for transfer in reversed(transfers):
        if transfer.block_number != block.number:
            return
        if transfer.block_hash != block.hash:
            raise NodeBusy(f"block {block.number} has changed while it was read")
