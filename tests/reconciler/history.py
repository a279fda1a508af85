"""A stretch of a real chain that is made once, what is true of it, and entries that are right or wrong about it."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from events.types import EntryType
from reconciler.chains import Token
from reconciler.matching import Kind
from reconciler.transfers import Expectation
from tests.reconciler.samples import OTHER, STRANGER, VAULT, WALLET, a_hash, entry
from tests.reconciler.worlds import Anvil, called

OURS: Final = frozenset({VAULT, WALLET})
_WAYS: Final = {
    "in": (STRANGER, VAULT),
    "out": (VAULT, STRANGER),
    "internal": (VAULT, WALLET),
    "foreign": (STRANGER, OTHER),
    "twice": (STRANGER, WALLET),
    "fail": (STRANGER, VAULT),
    "other token": (STRANGER, VAULT),
}
_PLANS: Final = [*["right"] * 5, "none", "amount", "direction", "again"]
_BLOCKS: Final = 12
_MUCH: Final = 10**12
_UNITS: Final = 10**12  # of the ledger, in a base unit of a token with 6 decimals


@dataclass(frozen=True)
class Log:
    """A transfer of ours, as the node itself told of it when it was made."""

    way: str
    tx_hash: str
    index: int
    block: int
    block_hash: str
    sender: str
    recipient: str
    value: int


@dataclass(frozen=True)
class History:
    """Blocks `first` to `last` of a node, with all that was sent there."""

    url: str
    token: Token
    first: int
    last: int
    logs: list[Log]
    others: dict[str, tuple[str, int, int]]
    """The transactions that have no transfer of ours: how they went, their block, and the value."""

    @cached_property
    def places(self) -> dict[str, int]:
        """The transactions, counted: the same on every run, which their hashes are not."""
        return {tx_hash: at for at, tx_hash in enumerate([*(log.tx_hash for log in self.logs), *self.others])}


def made_on(anvil: Anvil) -> History:
    """Make it: twelve blocks, some empty, some with several transactions in every way."""
    rng = random.Random(0)
    token, other = (Token(asset=name, address=anvil.deploy(6), decimals=6) for name in ("USDC", "OTHER"))
    for sender in (STRANGER, VAULT):
        for contract in (token, other):
            anvil.call(contract.name, sender, "mint", sender, _MUCH)
    first = anvil.head() + 1
    ways = [*_WAYS, "in", "in", "in", "out", "out"]
    sent: list[tuple[str, str, int]] = []
    for number in range(_BLOCKS):
        sent += _block(anvil, token.name, other.name, [rng.choice(ways) for _ in range(number % 4)], rng)
    logs: list[Log] = []
    others = {}
    for way, tx_hash, value in sent:
        receipt = anvil.receipt(tx_hash)
        assert receipt["status"] == ("0x0" if way == "fail" else "0x1"), way
        if way in ("foreign", "fail", "other token"):
            others[tx_hash] = (way, int(receipt["blockNumber"], 16), value)
            continue
        logs += [_log(way, log) for log in receipt["logs"]]
    logs.sort(key=lambda log: (log.block, log.index))
    return History(anvil.url, token, first, anvil.head(), logs, others)


def _block(anvil: Anvil, token: str, other: str, ways: list[str], rng: random.Random) -> list[tuple[str, str, int]]:
    anvil.ask("evm_setAutomine", False)
    try:
        sent = []
        for way in ways:
            sender, recipient = _WAYS[way]
            value = 10**40 if way == "fail" else rng.randrange(1, 10**6)
            data = called("transfer_twice" if way == "twice" else "transfer", recipient, value)
            to = other if way == "other token" else token
            fields = {"from": sender, "to": to, "data": data, "gas": hex(200_000)}
            sent.append((way, str(anvil.ask("eth_sendTransaction", fields)), value))
        anvil.mine()
    finally:
        anvil.ask("evm_setAutomine", True)
    return sent


def _log(way: str, found: Mapping[str, Any]) -> Log:
    return Log(
        way=way,
        tx_hash=found["transactionHash"],
        index=int(found["logIndex"], 16),
        block=int(found["blockNumber"], 16),
        block_hash=found["blockHash"],
        sender="0x" + found["topics"][1][-40:],
        recipient="0x" + found["topics"][2][-40:],
        value=int(found["data"], 16),
    )


@dataclass(frozen=True)
class Book:
    """Entries, and what each of them is to be found to be; transfers by (transaction, index) that none names."""

    entries: list[Expectation]
    kinds: dict[str, tuple[Kind, int | None]]
    """By entry: what it is, and the block of its transaction; None: there is no such transaction."""
    lacking: dict[tuple[str, int], int]

    def at(self, settled: int) -> dict[str | tuple[str, int], Kind]:
        """Return what is to be found when no block after `settled` counts."""
        known: dict[str | tuple[str, int], Kind] = {
            entry_id: Kind.NOT_YET_FINAL if block is not None and block > settled else kind
            for entry_id, (kind, block) in self.kinds.items()
        }
        return known | {key: Kind.MISSING_IN_LEDGER for key, block in self.lacking.items() if block <= settled}


def a_book(history: History, rng: random.Random) -> Book:
    """Draw entries that are right, wrong in one thing, doubled or not there."""
    numbers = iter(range(1, 1000))
    book = Book([], {}, {})
    by_tx: dict[str, list[Log]] = defaultdict(list)
    for log in history.logs:
        by_tx[log.tx_hash].append(log)
    for logs in by_tx.values():
        plan = rng.choice(_PLANS if logs[0].way in ("in", "out") else _PLANS[:6])
        for log in logs:
            _enter(book, numbers, history.token, log, plan)
    for tx_hash, (way, block, value) in history.others.items():
        kind = {"fail": Kind.FAILED_TRANSACTION, "foreign": Kind.ADDRESS_MISMATCH}.get(way)
        if kind is not None and rng.random() < 0.5:
            amount = min(value, _MUCH) * _UNITS
            _add(book, entry(next(numbers), tx_hash=tx_hash, recipient=VAULT, amount=amount), kind, block)
    _add(book, entry(next(numbers), tx_hash=a_hash(rng.getrandbits(200))), Kind.MISSING_ON_CHAIN, None)
    return book


def _enter(book: Book, numbers: Iterator[int], token: Token, log: Log, plan: str) -> None:
    if plan == "none":
        if log.way != "internal":
            book.lacking[log.tx_hash, log.index] = log.block
        return
    is_in = (log.recipient in OURS) is not (plan == "direction")
    fields: dict[str, Any] = {
        "tx_hash": log.tx_hash,
        "amount": log.value * _UNITS + (plan == "amount"),
        "entry_type": EntryType.CREDIT if is_in else EntryType.DEBIT,
        "token": token.name,
        "sender": log.sender,
        "recipient": log.recipient,
        "log_index": log.index,
    }
    kind = {"amount": Kind.AMOUNT_MISMATCH, "direction": Kind.DIRECTION_MISMATCH}.get(plan, Kind.MATCHED)
    _add(book, entry(next(numbers), **fields), kind, log.block)
    if plan == "again":
        _add(book, entry(next(numbers), **fields), Kind.DUPLICATE, log.block)


def _add(book: Book, made: Expectation, kind: Kind, block: int | None) -> None:
    book.entries.append(made)
    book.kinds[made.entry_id] = (kind, block)
