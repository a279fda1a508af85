"""What a node answers in JSON, read and checked: hexadecimal text to blocks, transfers and receipts. Pure.

A node is not trusted to answer as it should: what is not of the form raises `ValueError`, and nothing is guessed.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from reconciler.chains import NATIVE
from reconciler.provider import Block, NativeScan, Receipt, Sent
from reconciler.transfers import NATIVE_INDEX, Transfer

TRANSFER: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""Keccak-256 of `Transfer(address,address,uint256)`: the first topic of ERC-20's event (EIP-20), and ERC-721's."""
_TOPICS: Final = 3
"""ERC-20's Transfer has the event, from and to as topics; ERC-721's the token's number as a fourth: no payment."""

_QUANTITY: Final = re.compile(r"0x(0|[1-9a-f][0-9a-f]{0,63})", re.ASCII)
_HASH: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
_WORD: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
_DATA: Final = re.compile(r"0x([0-9a-f]{2})*", re.ASCII)
_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}", re.ASCII)


def _read(pattern: re.Pattern[str], value: object, what: str) -> str:
    text = value.lower() if isinstance(value, str) else ""
    if not pattern.fullmatch(text):
        raise ValueError(f"{what} is {str(value)[:80]!r}")
    return text


def quantity(value: object, what: str) -> int:
    """Return the number that the node gives in hexadecimal."""
    return int(_read(_QUANTITY, value, what), 16)


def word(value: object, what: str) -> int:
    """Return the number of a 32-byte word, as logs and calls have it."""
    return int(_read(_WORD, value, what), 16)


def hash_of(value: object, what: str) -> str:
    """Return a hash in lower case."""
    return _read(_HASH, value, what)


def data(value: object, what: str) -> bytes:
    """Return bytes that the node gives in hexadecimal."""
    return bytes.fromhex(_read(_DATA, value, what)[2:])


def _address(value: object, what: str) -> str:
    return _read(_ADDRESS, value, what)


def _topic_address(value: object, what: str) -> str:
    number = word(value, what)
    if number >> 160:
        raise ValueError(f"{what} is no address")
    return f"0x{number:040x}"


def topic(address: str) -> str:
    """Return an address as a topic, to filter by."""
    return f"0x{address[2:]:0>64}"


def record(value: object, what: str) -> Mapping[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is no object")  # noqa: TRY004  # one kind of error for what a node says
    return value


def block(found: Mapping[str, Any], number: int | None = None) -> Block:
    """Return a block's head; with `number`, of the block that has it."""
    found_number = quantity(found.get("number"), "a block's number")
    if number is not None and found_number != number:
        raise ValueError(f"block {found_number} is told as block {number}")
    return Block(
        found_number,
        hash_of(found.get("hash"), "a block's hash"),
        hash_of(found.get("parentHash"), "a parent's hash"),
    )


def transfer(log: object) -> Transfer | None:
    """Return the token transfer that a log is; None when it is another event."""
    found = record(log, "a log")
    topics = found.get("topics")
    if not isinstance(topics, list):
        raise ValueError("a log has no topics")  # noqa: TRY004  # one kind of error for what a node says
    if found.get("removed"):  # only followers of a chain are told of those
        raise ValueError("a log that was taken back is no log of the chain")
    if len(topics) != _TOPICS or topics[0] != TRANSFER:
        return None
    value = found.get("data")
    if not (isinstance(value, str) and _WORD.fullmatch(value)):  # something else under the same name: not ERC-20
        return None
    return Transfer(
        hash_of(found.get("transactionHash"), "a log's transaction"),
        quantity(found.get("logIndex"), "a log's index"),
        quantity(found.get("blockNumber"), "a log's block"),
        hash_of(found.get("blockHash"), "a log's block hash"),
        _address(found.get("address"), "a log's address"),
        _topic_address(topics[1], "a sender"),
        _topic_address(topics[2], "a recipient"),
        word(value, "a value"),
    )


def transfers(logs: object) -> list[Transfer]:
    """Return the token transfers among logs."""
    if not isinstance(logs, list):
        raise ValueError("logs are no list")  # noqa: TRY004  # one kind of error for what a node says
    return [found for log in logs if (found := transfer(log)) is not None]


def receipt(found: Mapping[str, Any], tx_hash: str) -> Receipt:
    """Return what became of a transaction; all logs have to be its own, in its block."""
    status = quantity(found.get("status"), "a status")
    if status > 1:
        raise ValueError(f"a status is {status}")
    number = quantity(found.get("blockNumber"), "a receipt's block")
    block_hash = hash_of(found.get("blockHash"), "a receipt's block hash")
    listed = tuple(transfers(found.get("logs")))
    named = {hash_of(found.get("transactionHash"), "a receipt's transaction"), *(log.tx_hash for log in listed)}
    if named != {tx_hash} or any((log.block_number, log.block_hash) != (number, block_hash) for log in listed):
        raise ValueError(f"what is told as the receipt of {tx_hash} is of something else")
    return Receipt(number, block_hash, status == 1, listed)


def sent(found: Mapping[str, Any]) -> Sent:
    """Return a transaction."""
    to, at = found.get("to"), found.get("blockNumber")
    return Sent(
        _address(found.get("from"), "a sender"),
        None if to is None else _address(to, "a recipient"),
        quantity(found.get("value"), "a value"),
        None if at is None else quantity(at, "a transaction's block"),
        _read(_DATA, found.get("input", "0x"), "a transaction's data"),
    )


def native_scan(found: Mapping[str, Any], number: int, ours: Collection[str]) -> NativeScan:
    """Return a block that came with its whole transactions, and the native transfers from or to `ours` in it."""
    head = block(found, number)
    listed = found.get("transactions")
    if not isinstance(listed, list):
        raise ValueError("a block has no transactions")  # noqa: TRY004  # one kind of error for what a node says
    asked = []
    for item in listed:
        transaction = record(item, "a transaction")
        has = sent(transaction)
        if has.value and has.recipient is not None and (has.sender in ours or has.recipient in ours):
            asked.append(native(hash_of(transaction.get("hash"), "a hash"), has, head.number, head.hash))
    return NativeScan(head, tuple(asked))


def native(tx_hash: str, sent: Sent, number: int, block_hash: str) -> Transfer:
    """Return the transfer of the chain's own asset that a transaction asks for."""
    assert sent.recipient is not None
    return Transfer(tx_hash, NATIVE_INDEX, number, block_hash, NATIVE, sent.sender, sent.recipient, sent.value)
