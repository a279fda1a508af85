"""The Merkle tree: RFC 6962's published vectors, and laws that proofs of any tree keep."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.merkle import (
    EMPTY_ROOT,
    Node,
    ProofInvalid,
    assemble,
    consistency_parts,
    edge_nodes,
    grow,
    inclusion_parts,
    leaf_hash,
    node_hash,
    nodes_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The leaves and roots that the implementations of RFC 6962 share.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def edge_of(leaves: Sequence[bytes]) -> list[bytes]:
    edge: list[bytes] = []
    for size, leaf in enumerate(leaves):
        grow(edge, size, leaf_hash(leaf))
    return edge


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH, as RFC 6962 writes it down."""
    if len(leaves) <= 1:
        return leaf_hash(leaves[0]) if leaves else EMPTY_ROOT
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH, as RFC 6962 writes it down."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*path(m - k, leaves[k:]), tree_hash(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF, as RFC 6962 writes it down."""
    if m == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), tree_hash(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), tree_hash(leaves[:k])]


def hashes(nodes: set[Node], leaves: Sequence[bytes]) -> dict[Node, bytes]:
    return {node: tree_hash(leaves[node.number << node.level : (node.number + 1) << node.level]) for node in nodes}


@pytest.mark.parametrize("size", range(9))
def test_the_roots_are_those_of_the_published_vectors(size: int) -> None:
    assert root_of(edge_of(LEAVES[:size])).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=4), max_size=80))
def test_the_edge_of_a_tree_that_grew_is_that_of_its_definition(leaves: list[bytes]) -> None:
    edge = edge_of(leaves)
    assert root_of(edge) == tree_hash(leaves)
    assert edge == [hashes({node}, leaves)[node] for node in edge_nodes(len(leaves))]


@given(st.data())
def test_an_inclusion_proof_is_that_of_the_definition_and_shows_no_other_leaf(data: st.DataObject) -> None:
    leaves = data.draw(st.lists(st.binary(max_size=4), min_size=1, max_size=70, unique=True))
    index = data.draw(st.integers(0, len(leaves) - 1))
    parts = inclusion_parts(index, len(leaves))
    proof = assemble(parts, hashes(nodes_of(parts), leaves))
    assert proof == path(index, leaves)
    root = tree_hash(leaves)
    verify_inclusion(leaf_hash(leaves[index]), index, len(leaves), proof, root)
    forged = data.draw(
        st.sampled_from(
            [
                (leaf_hash(leaves[index] + b"!"), index, len(leaves), proof, root),
                (leaf_hash(leaves[index]), index, len(leaves), [*proof, b"\0" * 32], root),
                (leaf_hash(leaves[index]), index, len(leaves), proof[:-1], root if proof else EMPTY_ROOT),
                (leaf_hash(leaves[index]), len(leaves), len(leaves), proof, root),
                (leaf_hash(leaves[index]), -1, len(leaves), proof, root),
                (leaf_hash(leaves[index]), index, len(leaves), proof, EMPTY_ROOT),
            ]
        )
    )
    with pytest.raises(ProofInvalid):
        verify_inclusion(*forged)


@given(st.lists(st.binary(max_size=4), min_size=2, max_size=40, unique=True), st.data())
def test_a_proof_shows_a_leaf_at_its_place_only(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) - 1).filter(lambda number: number != index))
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf_hash(leaves[index]), other, len(leaves), path(other, leaves), tree_hash(leaves))


@given(st.data())
def test_a_consistency_proof_is_that_of_the_definition_and_shows_no_other_tree(data: st.DataObject) -> None:
    leaves = data.draw(st.lists(st.binary(max_size=4), min_size=1, max_size=70))
    old = data.draw(st.integers(1, len(leaves)))
    parts = consistency_parts(old, len(leaves))
    proof = assemble(parts, hashes(nodes_of(parts), leaves))
    assert proof == subproof(old, leaves)
    old_root, root = tree_hash(leaves[:old]), tree_hash(leaves)
    verify_consistency(old, len(leaves), old_root, root, proof)
    changed = tree_hash([leaves[0] + b"!", *leaves[1:old]])
    for forged in (
        (old, len(leaves), changed, root, proof),
        (old, len(leaves), old_root, changed if old < len(leaves) else EMPTY_ROOT, proof),
        (old, len(leaves), old_root, root, [*proof, root]),
        (len(leaves) + 1, len(leaves), old_root, root, proof),
    ):
        with pytest.raises(ProofInvalid):
            verify_consistency(*forged)


def test_every_tree_begins_with_the_empty_one_and_no_empty_one_has_another_root() -> None:
    verify_consistency(0, 8, EMPTY_ROOT, tree_hash(LEAVES), [])
    assert consistency_parts(0, 8) == []
    with pytest.raises(ProofInvalid):
        verify_consistency(0, 8, tree_hash(LEAVES), tree_hash(LEAVES), [])


@given(st.integers(1, 2**40), st.data())
def test_proofs_of_large_trees_are_short(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    assert len(inclusion_parts(index, size)) <= size.bit_length()
    assert len(consistency_parts(index, size)) <= size.bit_length() + 1


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 3)])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_parts(index, size)
