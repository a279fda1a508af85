"""Two chains that the same tests run on: anvil with a token that vyper compiled, and a fake that does as told."""

import asyncio
import hashlib
import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from eth_utils.address import to_checksum_address

from reconciler.chains import NATIVE, Tag
from reconciler.provider import Block, Header, NativeScan, Node, NodeBusy, NodeRefused, Receipt, Receipts, Sent
from reconciler.transfers import NATIVE_INDEX, Transfer
from reconciler.web3_chain import Web3Node
from tests.reconciler.samples import an_address
from tests.support.services import eventually

_SOURCE = Path(__file__).parent / "token.vy"
_GAS = 10**24


class World(Protocol):
    """A chain that a test moves, and a node of it."""

    @property
    def chain_id(self) -> int: ...

    def node(self) -> Node: ...

    def deploy(self, decimals: int, fee: int = 0) -> str:
        """Make a token, and return its contract's address."""

    def pay(self, token: str, sender: str, recipient: str, value: int) -> str:
        """Transfer in a block of its own, and return the transaction's hash."""

    def pay_twice(self, token: str, sender: str, recipient: str, value: int) -> str: ...

    def fail(self, token: str, sender: str, recipient: str, value: int) -> str:
        """Send a transfer that fails, in a block of its own."""

    def mine(self, blocks: int = 1) -> None: ...

    def head(self) -> int: ...

    def reorganise(self, depth: int) -> None:
        """Replace so many of the newest blocks by others, without their transactions."""


@cache
def _compiled() -> tuple[str, dict[str, str]]:
    argv = [sys.executable, "-m", "vyper.cli.vyper_compile", "-f", "bytecode,method_identifiers", str(_SOURCE)]
    bytecode, methods = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    return bytecode, {name.partition("(")[0]: code for name, code in json.loads(methods).items()}


def _words(*values: int | str) -> str:
    return "".join(f"{int(value, 16) if isinstance(value, str) else value:064x}" for value in values)


def called(method: str, *values: int | str) -> str:
    """Return the data of a call of the token's contract."""
    return _compiled()[1][method] + _words(*values)


@dataclass
class Anvil:
    """The real node of the stack."""

    url: str
    chain_id: int = 31337
    funded: set[str] = field(default_factory=set)

    def node(self) -> Node:
        return Web3Node(self.url)

    def ask(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.loads(response.read())
        assert "error" not in answer, answer
        return answer["result"]

    def send(self, sender: str, to: str | None, data: str = "0x", value: int = 0, gas: int = 3_000_000) -> str:
        if sender not in self.funded:
            self.ask("anvil_impersonateAccount", sender)
            self.ask("anvil_setBalance", sender, hex(_GAS))
            self.funded.add(sender)
        fields = {"from": sender, "data": data, "value": hex(value), "gas": hex(gas)}
        tx_hash = str(self.ask("eth_sendTransaction", fields | ({"to": to} if to else {})))
        eventually(lambda: self.receipt(tx_hash))
        return tx_hash

    def signed(self, to: str, data: str) -> tuple[str, str]:
        """Return a sender who has no other transaction, and the signed one: sent again it is the same."""
        from eth_account import Account  # noqa: PLC0415  # after `web3_chain`, which puts the depth of recursion back

        account = Account.create()
        self.ask("anvil_setBalance", account.address, hex(_GAS))
        fields = {"to": to_checksum_address(to), "data": data, "nonce": 0, "gas": 3_000_000, "chainId": self.chain_id}
        fee = 10 * int(self.ask("eth_gasPrice"), 16)
        return account.address, account.sign_transaction(fields | {"gasPrice": fee}).raw_transaction.to_0x_hex()

    def send_signed(self, signed: str) -> str:
        tx_hash = str(self.ask("eth_sendRawTransaction", signed))
        eventually(lambda: self.receipt(tx_hash))
        return tx_hash

    def receipt(self, tx_hash: str) -> Any:
        return self.ask("eth_getTransactionReceipt", tx_hash)

    def call(self, token: str, sender: str, method: str, *values: int | str) -> str:
        return self.send(sender, token, called(method, *values))

    def deploy(self, decimals: int, fee: int = 0) -> str:
        tx_hash = self.send(an_address(0xD0), None, _compiled()[0] + _words(decimals, fee))
        return str(self.receipt(tx_hash)["contractAddress"]).lower()

    def pay(self, token: str, sender: str, recipient: str, value: int) -> str:
        if token == NATIVE:
            return self.send(sender, recipient, value=value)
        self.call(token, sender, "mint", sender, value)
        return self.call(token, sender, "transfer", recipient, value)

    def pay_twice(self, token: str, sender: str, recipient: str, value: int) -> str:
        self.call(token, sender, "mint", sender, 2 * value)
        return self.call(token, sender, "transfer_twice", recipient, value)

    def fail(self, token: str, sender: str, recipient: str, value: int) -> str:
        if token == NATIVE:  # a contract that takes no money
            return self.send(sender, self.deploy(0), value=value)
        return self.call(token, sender, "transfer", recipient, 10**40)

    def mine(self, blocks: int = 1) -> None:
        self.ask("anvil_mine", hex(blocks))

    def head(self) -> int:
        return int(self.ask("eth_blockNumber"), 16)

    def reorganise(self, depth: int) -> None:
        self.ask("anvil_reorg", depth, [])


@dataclass
class FakeBlock:
    number: int
    hash: str
    parent: str
    sent: dict[str, tuple[Sent, bool, tuple[Transfer, ...]]] = field(default_factory=dict)


@dataclass
class Fake:
    """A chain in memory: blocks of transactions, each with what it transferred."""

    chain_id: int = 31337
    blocks: list[FakeBlock] = field(default_factory=list)
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        self.mine()

    def node(self) -> "FakeNode":
        return FakeNode(self)

    def new_hash(self) -> str:
        self.made += 1
        return "0x" + hashlib.sha256(f"{id(self)}{self.made}".encode()).hexdigest()

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            parent = self.blocks[-1].hash if self.blocks else "0x" + "0" * 64
            self.blocks.append(FakeBlock(len(self.blocks), self.new_hash(), parent))

    def deploy(self, decimals: int, fee: int = 0) -> str:
        address = an_address(0xF000 + len(self.tokens))
        self.tokens[address] = (decimals, fee)
        self.mine()
        return address

    def add(self, token: str, sender: str, recipient: str, values: list[int], *, succeeded: bool = True) -> str:
        """Put a transaction into the newest block."""
        block, tx_hash = self.blocks[-1], self.new_hash()
        is_native = token == NATIVE
        first = sum(len(transfers) for _, _, transfers in block.sent.values())
        where = block.number, block.hash, token, sender, recipient
        logs: tuple[Transfer, ...] = ()
        if succeeded and not is_native:
            fee = self.tokens[token][1]
            logs = tuple(Transfer(tx_hash, first + n, *where, value - fee) for n, value in enumerate(values))
        sent = Sent(sender, recipient if is_native else token, values[0] if is_native else 0, block.number)
        block.sent[tx_hash] = (sent, succeeded, logs)
        return tx_hash

    def pay(self, token: str, sender: str, recipient: str, value: int) -> str:
        self.mine()
        return self.add(token, sender, recipient, [value])

    def pay_twice(self, token: str, sender: str, recipient: str, value: int) -> str:
        self.mine()
        return self.add(token, sender, recipient, [value, value])

    def fail(self, token: str, sender: str, recipient: str, value: int) -> str:
        self.mine()
        return self.add(token, sender, recipient, [value], succeeded=False)

    def head(self) -> int:
        return len(self.blocks) - 1

    def reorganise(self, depth: int) -> None:
        del self.blocks[-depth:]
        self.mine(depth)


class FakeNode:
    """A node of the fake chain."""

    def __init__(self, chain: Fake) -> None:
        self.chain = chain

    @property
    def name(self) -> str:
        return "fake"

    async def chain_id(self) -> int:
        return self.chain.chain_id

    def _at(self, at: int | Tag | None) -> FakeBlock | None:
        head = self.chain.head()
        number = at if isinstance(at, int) else max(head - {None: 0, Tag.SAFE: 1, Tag.FINALIZED: 2}[at], 0)
        return self.chain.blocks[number] if number <= head else None

    async def block(self, at: int | Tag | None) -> Block | None:
        found = self._at(at)
        return Block(found.number, found.hash, found.parent) if found else None

    async def token_transfers(
        self, first: int, last: int, tokens: Collection[str], ours: Collection[str]
    ) -> list[Transfer]:
        return [
            transfer
            for block in self.chain.blocks[first : last + 1]
            for _, _, transfers in block.sent.values()
            for transfer in transfers
            if transfer.token in tokens and {transfer.sender, transfer.recipient} & {*ours}
        ]

    async def native_scan(self, number: int, ours: Collection[str]) -> NativeScan | None:
        found = self._at(number)
        if found is None:
            return None
        asked = tuple(
            Transfer(tx, NATIVE_INDEX, number, found.hash, NATIVE, sent.sender, sent.recipient or "", sent.value)
            for tx, (sent, _, _) in found.sent.items()
            if sent.value and {sent.sender, sent.recipient} & {*ours}
        )
        return NativeScan(Block(found.number, found.hash, found.parent), asked)

    def _find(self, tx_hash: str) -> tuple[FakeBlock, Sent, bool, tuple[Transfer, ...]] | None:
        for block in reversed(self.chain.blocks):
            if tx_hash in block.sent:
                return block, *block.sent[tx_hash]
        return None

    async def receipt(self, tx_hash: str) -> Receipt | None:
        found = self._find(tx_hash)
        return found and Receipt(found[0].number, found[0].hash, found[2], found[3])

    async def header(self, number: int, tokens: Collection[str], ours: Collection[str]) -> Header | None:
        found = self._at(number)
        if found is None:
            return None
        has = any(
            t.token in tokens and {t.sender, t.recipient} & {*ours} for _, _, ts in found.sent.values() for t in ts
        )
        return Header(Block(found.number, found.hash, found.parent), self._root(found), tuple(found.sent), has)

    @staticmethod
    def _root(block: FakeBlock) -> str:
        said = repr([(succeeded, transfers) for _, succeeded, transfers in block.sent.values()])
        return "0x" + hashlib.sha256(said.encode()).hexdigest()

    async def receipts(self, number: int) -> Receipts | None:
        found = self._at(number)
        if found is None:
            return None
        return Receipts(
            self._root(found),
            {tx: Receipt(number, found.hash, done, transfers) for tx, (_, done, transfers) in found.sent.items()},
        )

    async def transaction(self, tx_hash: str) -> Sent | None:
        found = self._find(tx_hash)
        return found and found[1]

    async def decimals(self, token: str) -> int:
        if token not in self.chain.tokens:
            raise NodeRefused(f"no contract at {token}")
        return self.chain.tokens[token][0]

    async def close(self) -> None:
        """Nothing is held."""


class FaultyNode(FakeNode):
    """A node that refuses ranges, drops and delays requests, loses the rest of an answer: all drawn from a seed."""

    def __init__(self, chain: Fake, seed: int) -> None:
        super().__init__(chain)
        self.rng = random.Random(seed)
        self.widest = self.rng.choice([1, 2, 3, 7, 20, 1000])
        self.most_logs = self.rng.choice([1, 3, 10, 1000])
        self.trouble = self.rng.choice([0.0, 0.1, 0.3])
        self.asked = 0

    async def _maybe(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.rng.random() < self.trouble:
            raise self.rng.choice([NodeBusy, NodeRefused])("trouble that was drawn")

    async def block(self, at: int | Tag | None) -> Block | None:
        await self._maybe()
        return await super().block(at)

    async def token_transfers(
        self, first: int, last: int, tokens: Collection[str], ours: Collection[str]
    ) -> list[Transfer]:
        await self._maybe()
        if last - first >= self.widest:
            raise NodeRefused("the range is too wide")
        found = await super().token_transfers(first, last, tokens, ours)
        if len(found) > self.most_logs and last > first:
            raise NodeRefused("more results than there may be")
        return found

    async def native_scan(self, number: int, ours: Collection[str]) -> NativeScan | None:
        await self._maybe()
        return await super().native_scan(number, ours)

    async def receipt(self, tx_hash: str) -> Receipt | None:
        await self._maybe()
        return await super().receipt(tx_hash)


class LyingNode(FakeNode):
    """A node that lies about one block: another hash, a transfer less, or another value."""

    def __init__(self, chain: Fake, number: int, seed: int) -> None:
        super().__init__(chain)
        self.number = number
        self.lie = random.Random(seed).choice(["hash", "less", "value"])

    @property
    def name(self) -> str:
        return "liar"

    async def block(self, at: int | Tag | None) -> Block | None:
        found = await super().block(at)
        if found and found.number == self.number and self.lie == "hash":
            return found._replace(hash="0x" + "9" * 64)
        return found

    async def token_transfers(
        self, first: int, last: int, tokens: Collection[str], ours: Collection[str]
    ) -> list[Transfer]:
        return [*self._told(await super().token_transfers(first, last, tokens, ours))]

    def _told(self, transfers: list[Transfer]) -> Iterator[Transfer]:
        for transfer in transfers:
            if transfer.block_number != self.number:
                yield transfer
            elif self.lie == "hash":
                yield transfer._replace(block_hash="0x" + "9" * 64)
            elif self.lie == "value":
                yield transfer._replace(value=transfer.value + 1)
