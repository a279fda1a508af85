"""The arithmetic of a verifiable log: Merkle trees as RFC 6962, section 2, and RFC 9162, section 2.1, have them.

A tree of n leaves is never held whole. Who appends keeps its right edge; who proves has the hashes of its perfect
subtrees somewhere, and asks here which ones a proof needs; who verifies needs nothing but the proof. All is pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from hashlib import sha256
from typing import Final, NamedTuple

from events.errors import LedgerError

EMPTY_ROOT: Final = sha256().digest()
"""The root of the tree without leaves (RFC 6962, 2.1)."""


class ProofInvalid(LedgerError):
    """A proof does not show what it claims to: something was changed, or it is of another tree."""


class Node(NamedTuple):
    """A perfect subtree: 2^`level` leaves, the first of them number `number` * 2^`level`."""

    level: int
    number: int


Part = Sequence[Node]
"""Perfect subtrees, side by side from left to right, that make one subtree of a proof together."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256 of a zero byte and the data."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node: SHA-256 of a one byte and its children's hashes."""
    return sha256(b"\x01" + left + right).digest()


def grow(edge: list[bytes], size: int, leaf: bytes) -> None:
    """Append the hash of a leaf to a tree of `size` leaves, of which `edge` is the right edge; `edge` is changed.

    The right edge of a tree has the hash of a perfect subtree for each bit of its size, the largest first.
    """
    while size & 1:
        leaf = sha256(b"\x01" + edge.pop() + leaf).digest()
        size >>= 1
    edge.append(leaf)


def root_of(edge: Sequence[bytes]) -> bytes:
    """Return the root of the tree with this right edge, or of a part of a proof from its subtrees' hashes."""
    return reduce(lambda right, left: node_hash(left, right), reversed(edge)) if edge else EMPTY_ROOT


def edge_nodes(size: int) -> list[Node]:
    """Return the perfect subtrees that are the right edge of a tree of `size` leaves, the largest first."""
    return _perfect(0, size)


def _perfect(begin: int, end: int) -> list[Node]:
    """Return the leaves from `begin` to before `end`, as a subtree of the RFC has them, in perfect subtrees."""
    nodes = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        nodes.append(Node(level, begin >> level))
        begin += 1 << level
    return nodes


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_parts(index: int, size: int) -> list[Part]:
    """Return what the proof that leaf `index` is in the tree of `size` leaves is made of: PATH of RFC 6962, 2.1.1."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    parts: list[Part] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            parts.append(_perfect(middle, end))
            end = middle
        else:
            parts.append(_perfect(begin, middle))
            begin = middle
    return parts[::-1]


def consistency_parts(old: int, new: int) -> list[Part]:
    """Return what the proof that a tree of `new` leaves begins with one of `old` has: PROOF of RFC 6962, 2.1.2.

    There is nothing to prove of a tree without leaves, or of one with itself.
    """
    if not 0 <= old <= new:
        raise ValueError(f"no tree of {new} leaves begins with one of {old}")
    parts: list[Part] = []
    begin, end, is_left = 0, new, True
    while 0 < old < new and old < end:
        middle = begin + _split(end - begin)
        if old <= middle:
            parts.append(_perfect(middle, end))
            end = middle
        else:
            parts.append(_perfect(begin, middle))
            begin, is_left = middle, False
    if parts and not is_left:
        parts.append(_perfect(begin, end))
    return parts[::-1]


def nodes_of(parts: Iterable[Part]) -> set[Node]:
    """Return all perfect subtrees whose hashes a proof needs."""
    return {node for part in parts for node in part}


def assemble(parts: Iterable[Part], hashes: Mapping[Node, bytes]) -> list[bytes]:
    """Return a proof from the hashes of the perfect subtrees that it needs."""
    return [root_of([hashes[node] for node in part]) for part in parts]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Verify that the leaf with hash `leaf` is at `index` in the tree of `size` leaves (RFC 9162, 2.1.3.2).

    Raises:
        ProofInvalid: it is not shown.
    """
    refused = ProofInvalid(f"leaf {index} is not shown to be in the tree of {size} leaves", index=index, size=size)
    if not 0 <= index < size:
        raise refused
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise refused
        is_right = place & 1 or place == last
        found = node_hash(sibling, found) if is_right else node_hash(found, sibling)
        place, last = _above(place, last)
    if last or found != root:
        raise refused


def _above(place: int, last: int) -> tuple[int, int]:
    """Return where the node at `place` of a row that ends at `last` gets its next sibling: a row up, or several."""
    if place == last:
        while place and not place & 1:
            place, last = place >> 1, last >> 1
    return place >> 1, last >> 1


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Verify that the tree of `new` leaves begins with that of `old` (RFC 9162, 2.1.4.2).

    Raises:
        ProofInvalid: it is not shown.
    """
    if not 0 <= old <= new or (old_root, new_root) != _roots_shown(old, new, old_root, new_root, proof):
        raise ProofInvalid(f"the tree of {new} leaves is not shown to begin with that of {old}", old=old, new=new)


def _roots_shown(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Return the roots of both trees as the proof has them; None when it has not the right length."""
    if old in (0, new):
        return None if proof else (EMPTY_ROOT, new_root) if old == 0 else (old_root, old_root)
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return None
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if place & 1 or place == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
        else:
            second = node_hash(second, sibling)
        place, last = _above(place, last)
    return None if last else (first, second)
