"""What a block's hash commits to: its head, and by the head's root every receipt, with every log. Pure.

A node that leaves a log out of an answer, or changes one, has to make another block of it. The forms are Ethereum's:
RLP and the Merkle-Patricia trie of its yellow paper (appendices B and D), receipts as EIP-2718 wraps them, and for
deposits of the OP Stack as its specification of Canyon has them.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

from eth_hash.auto import keccak

from reconciler import answers
from reconciler.provider import Header, Receipts

Item = bytes | Sequence["Item"]
"""What RLP encodes: bytes, or a sequence of such."""

_BLOOM: Final = 256
_SHORT: Final = 55
_NODE: Final = 32
"""A node of the trie that is shorter stands in its parent as it is, and any other by its hash."""
_HEAD: Final = (
    ("parentHash", "bytes"), ("sha3Uncles", "bytes"), ("miner", "bytes"), ("stateRoot", "bytes"),
    ("transactionsRoot", "bytes"), ("receiptsRoot", "bytes"), ("logsBloom", "bytes"), ("difficulty", "number"),
    ("number", "number"), ("gasLimit", "number"), ("gasUsed", "number"), ("timestamp", "number"),
    ("extraData", "bytes"), ("mixHash", "bytes"), ("nonce", "bytes"),
)  # fmt: skip
_LATER: Final = (
    ("baseFeePerGas", "number"), ("withdrawalsRoot", "bytes"), ("blobGasUsed", "number"),
    ("excessBlobGas", "number"), ("parentBeaconBlockRoot", "bytes"), ("requestsHash", "bytes"),
)  # fmt: skip
"""Fields that came with later versions of the protocol, each after those before it."""
_DEPOSIT: Final = 0x7E


def header(found: Mapping[str, Any], number: int, tokens: Collection[str], ours: Collection[str]) -> Header:
    """Return the head of the block `number`; raises `ValueError` when its hash is not that of its fields."""
    block = answers.block(found, number)
    later = takewhile(lambda item: found.get(item[0]) is not None, _LATER)
    fields = [_field(found, name, kind) for name, kind in (*_HEAD, *later)]
    if f"0x{keccak(rlp(fields)).hex()}" != block.hash:
        raise ValueError(f"the hash of block {block.number} is not that of what it says of itself")
    bloom = _bytes(found, "logsBloom")
    if len(bloom) != _BLOOM:
        raise ValueError(f"the bloom filter of block {block.number} has {len(bloom)} bytes")
    root = answers.hash_of(found.get("receiptsRoot"), "the root of the receipts")
    return Header(block, root, _transactions(found), _may_have(bloom, tokens, ours))


def _transactions(found: Mapping[str, Any]) -> tuple[str, ...]:
    listed = found.get("transactions")
    if not isinstance(listed, list):
        raise ValueError("a block has no transactions")  # noqa: TRY004  # one kind of error for what a node says
    return tuple(answers.hash_of(item, "a transaction") for item in listed)


def receipts(found: Sequence[Any]) -> Receipts:
    """Return the receipts of a block, with the root that a head must have that commits to them."""
    listed = [answers.record(item, "a receipt") for item in found]
    named = [answers.hash_of(item.get("transactionHash"), "a transaction") for item in listed]
    read = {tx_hash: answers.receipt(item, tx_hash) for tx_hash, item in zip(named, listed, strict=True)}
    if len(read) != len(listed):
        raise ValueError("a transaction has two receipts")
    logs = [answers.record(log, "a log") for item in listed for log in item["logs"]]
    if any(answers.quantity(log.get("logIndex"), "a log's index") != at for at, log in enumerate(logs)):
        raise ValueError("the logs of a block are not numbered by their places")
    return Receipts(f"0x{ordered_root([*map(_receipt, listed)]).hex()}", read)


def _may_have(bloom: bytes, tokens: Collection[str], ours: Collection[str]) -> bool:
    """Whether the filter lets there be a transfer of these tokens from or to these addresses."""
    is_one_of = [
        [bytes.fromhex(token[2:]) for token in tokens],
        [bytes.fromhex(answers.TRANSFER[2:])],
        [bytes.fromhex(answers.topic(address)[2:]) for address in ours],
    ]
    return all(any(in_bloom(bloom, item) for item in items) for items in is_one_of)


def in_bloom(bloom: bytes, item: bytes) -> bool:
    """Whether a block's filter of 2,048 bits lets `item` be an address or a topic of its logs."""
    return all(bloom[-1 - bit // 8] >> bit % 8 & 1 for bit in bloom_bits(item))


def bloom_bits(item: bytes) -> list[int]:
    """Return the three bits that an address or a topic sets."""
    hashed = keccak(item)
    return [int.from_bytes(hashed[at : at + 2], "big") % (8 * _BLOOM) for at in (0, 2, 4)]


def _receipt(found: Mapping[str, Any]) -> bytes:
    """Return a receipt as the trie has it."""
    logs = found.get("logs")
    if not isinstance(logs, list):
        raise ValueError("a receipt has no logs")  # noqa: TRY004  # one kind of error for what a node says
    fields: list[Item] = [
        _field(found, "status", "number"),
        _field(found, "cumulativeGasUsed", "number"),
        _bytes(found, "logsBloom"),
        [_log(answers.record(log, "a log")) for log in logs],
    ]
    kind = answers.quantity(found.get("type", "0x0"), "a transaction's type")
    if kind == _DEPOSIT and found.get("depositReceiptVersion") is not None:
        fields += [_field(found, "depositNonce", "number"), _field(found, "depositReceiptVersion", "number")]
    return (bytes([kind]) if kind else b"") + rlp(fields)


def _log(found: Mapping[str, Any]) -> Item:
    topics = found.get("topics")
    if not isinstance(topics, list):
        raise ValueError("a log has no topics")  # noqa: TRY004  # one kind of error for what a node says
    return [_bytes(found, "address"), [answers.data(topic, "a topic") for topic in topics], _bytes(found, "data")]


def _field(found: Mapping[str, Any], name: str, kind: str) -> bytes:
    if kind == "bytes":
        return _bytes(found, name)
    number = answers.quantity(found.get(name), name)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _bytes(found: Mapping[str, Any], name: str) -> bytes:
    return answers.data(found.get(name), name)


def rlp(item: Item) -> bytes:
    """Return `item` in Recursive Length Prefix."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _prefixed(item, 0x80)
    return _prefixed(b"".join(map(rlp, item)), 0xC0)


def _prefixed(body: bytes, offset: int) -> bytes:
    if len(body) <= _SHORT:
        return bytes([offset + len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([offset + _SHORT + len(length)]) + length + body


def ordered_root(values: Sequence[bytes]) -> bytes:
    """Return the root of the trie that has these values under their numbers, as blocks have receipts."""
    keyed = {
        tuple(nibble for byte in rlp(_index(number)) for nibble in divmod(byte, 16)): value
        for number, value in enumerate(values)
    }
    return keccak(rlp(_node(sorted(keyed.items()))))


def _index(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _node(keyed: Sequence[tuple[tuple[int, ...], bytes]]) -> Item:
    """Return the node over the keys, which are sorted and all different; none is the beginning of another."""
    if not keyed:
        return b""
    first, last = keyed[0][0], keyed[-1][0]
    if len(keyed) == 1:
        return [_compact(first, is_leaf=True), keyed[0][1]]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    if shared:
        return [_compact(first[:shared], is_leaf=False), _stood_for(_without(keyed, shared))]
    children = [_without([item for item in keyed if item[0][0] == nibble], 1) for nibble in range(16)]
    return [*map(_stood_for, children), b""]


def _without(keyed: Sequence[tuple[tuple[int, ...], bytes]], count: int) -> list[tuple[tuple[int, ...], bytes]]:
    return [(key[count:], value) for key, value in keyed]


def _stood_for(keyed: Sequence[tuple[tuple[int, ...], bytes]]) -> Item:
    node = _node(keyed)
    encoded = rlp(node)
    return keccak(encoded) if len(encoded) >= _NODE else node


def _compact(nibbles: Sequence[int], *, is_leaf: bool) -> bytes:
    """Return a part of a key with its kind and whether its length is odd in front (hex-prefix encoding)."""
    flag = 2 * is_leaf + len(nibbles) % 2
    padded = [flag, *nibbles] if len(nibbles) % 2 else [flag, 0, *nibbles]
    return bytes(16 * high + low for high, low in zip(padded[::2], padded[1::2], strict=True))
