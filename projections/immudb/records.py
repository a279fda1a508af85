"""What immudb hashes: entries, headers of transactions, states; and the messages that its proofs are made of. Pure.

A database is a chain of transactions, and the hash of each (`alh`, accumulated linear hash) covers the one before. At
the same time these hashes are the leaves of one Merkle tree. A transaction's header names the size and root of that
tree as they were before it, and the root of a second, small tree over the transaction's own entries. Both are trees
as in RFC 6962. Integers are big-endian in what is hashed.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from events.merkle import EMPTY_ROOT, ProofInvalid, leaf_hash

DIGEST: Final = 32
"""Bytes of a hash."""

_MOST_LENGTH: Final = 0xFFFF
_KEY: Final = b"\x00"
_PLAIN_VALUE: Final = b"\x00"


class Entry(NamedTuple):
    """One entry of a transaction as it is hashed: key and metadata as stored, and the hash of the stored value."""

    key: bytes
    value_hash: bytes
    metadata: bytes = b""


def stored_key(key: bytes) -> bytes:
    """Return a key as immudb stores it: told from those of tables and sets by its first byte."""
    return _KEY + key


def value_hash(value: bytes) -> bytes:
    """Return the hash of a value as immudb stores it: told from a reference by its first byte."""
    return sha256(_PLAIN_VALUE + value).digest()


def entry_of(key: bytes, value: bytes) -> Entry:
    """Return the entry that setting `key` to `value` makes."""
    return Entry(_KEY + key, sha256(_PLAIN_VALUE + value).digest())


def entry_digest(entry: Entry, version: int) -> bytes:
    """Return what is hashed into the leaf of an entry, in a transaction whose header has this version.

    Raises:
        ProofInvalid: no entry of such a transaction can look like this.
    """
    if len(entry.value_hash) != DIGEST:
        raise ProofInvalid("the hash of an entry's value has not 32 bytes")
    match version:
        case 0 if not entry.metadata:
            return sha256(entry.key + entry.value_hash).digest()
        case 1:
            metadata, key = entry.metadata, entry.key
            if len(metadata) > _MOST_LENGTH or len(key) > _MOST_LENGTH:
                raise ProofInvalid("an entry is longer than any can be")
            lengths = len(metadata).to_bytes(2, "big"), len(key).to_bytes(2, "big")
            return sha256(lengths[0] + metadata + lengths[1] + key + entry.value_hash).digest()
        case _:
            raise ProofInvalid(f"there are no such entries in a transaction of version {version}", version=version)


def entry_leaf(entry: Entry, version: int) -> bytes:
    """Return the hash of an entry's leaf; raises `ProofInvalid`."""
    return leaf_hash(entry_digest(entry, version))


class State(NamedTuple):
    """A database up to and including transaction `tx`; `alh` is that one's hash. 0: the empty database."""

    tx: int
    alh: bytes


EMPTY: Final = State(0, EMPTY_ROOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TxHeader:
    """The header of a transaction. All but `tx` and `prev_alh` goes into `inner_hash`, and all into `alh`.

    `ts` is in seconds since 1970 UTC; `entries_root` is immudb's eH, `tree_size` and `tree_root` are its blTxId and
    blRoot. `metadata` is as it is hashed.
    """

    tx: int
    prev_alh: bytes
    ts: int
    version: int
    metadata: bytes
    entry_count: int
    entries_root: bytes
    tree_size: int
    tree_root: bytes

    @property
    def inner_hash(self) -> bytes:
        """The hash of what the transaction itself brings; raises `ProofInvalid` when it can be none of immudb's."""
        match self.version:
            case 0 if not self.metadata:
                count = _packed(">H", self.entry_count)
            case 1:
                count = _packed(">H", len(self.metadata)) + self.metadata + _packed(">I", self.entry_count)
            case _:
                raise ProofInvalid(f"no header of version {self.version} looks like this", version=self.version)
        begin = _packed(">qH", self.ts, self.version) + count
        return sha256(begin + self.entries_root + _packed(">Q", self.tree_size) + self.tree_root).digest()

    @property
    def alh(self) -> bytes:
        """The hash of the transaction and of all before it; raises `ProofInvalid`."""
        return advance(self.prev_alh, self.tx, self.inner_hash)

    @property
    def state(self) -> State:
        """The database up to and including this transaction; raises `ProofInvalid`."""
        return State(self.tx, self.alh)

    def check(self) -> None:
        """Check the form of a header that came from outside; raises `ProofInvalid`."""
        check_digests((self.prev_alh, self.entries_root, self.tree_root))
        if not (0 <= self.tree_size < self.tx and self.entry_count > 0 and self.ts >= 0):
            raise ProofInvalid(f"the header of transaction {self.tx} is none", tx=self.tx)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryProof:
    """Where an entry is among the `width` entries of its transaction, and the hashes beside its way to their root."""

    leaf: int
    width: int
    terms: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProof:
    """The chain from one transaction to another: the hash of the first, then what each of the others brings."""

    source_tx: int
    target_tx: int
    terms: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAdvanceProof:
    """That a stretch of the chain is what the tree has there: a chain as in a linear proof, and its places."""

    terms: tuple[bytes, ...]
    inclusions: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DualProof:
    """That the database at `target` continues that at `source`.

    `inclusion`: the source is in the target's tree. `consistency`: that tree begins with the source's.
    `last_inclusion`: the last leaf of the target's tree is `last_alh` (immudb's targetBlTxAlh).
    """

    source: TxHeader
    target: TxHeader
    inclusion: tuple[bytes, ...]
    consistency: tuple[bytes, ...]
    last_alh: bytes
    last_inclusion: tuple[bytes, ...]
    linear: LinearProof
    advance: LinearAdvanceProof | None


def advance(alh: bytes, tx: int, inner_hash: bytes) -> bytes:
    """Return the hash of transaction `tx`, from that of the one before and what it brings itself."""
    return sha256(_packed(">Q", tx) + alh + inner_hash).digest()


def check_digests(digests: Sequence[bytes]) -> None:
    """Check that hashes from outside are hashes; raises `ProofInvalid`."""
    if any(len(digest) != DIGEST for digest in digests):
        raise ProofInvalid("a hash of the proof has not 32 bytes")


def _packed(form: str, *values: int) -> bytes:
    try:
        return struct.pack(form, *values)
    except struct.error as error:
        raise ProofInvalid(f"a number of the proof is out of its range: {error}") from error
