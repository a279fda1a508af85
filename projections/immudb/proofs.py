"""Verifying immudb's proofs, without asking immudb. Pure.

It is stricter than immudb's own clients. A proof has exactly the hashes that it needs, and no more. When the source
is the last leaf of the target's tree, that leaf must be the source. What immudb's Python client leaves out is here:
that the stretch of the chain between two trees is what the newer tree has there (linear advance).
"""

from collections.abc import Sequence

from events.merkle import (
    Node,
    ProofInvalid,
    assemble,
    grow,
    inclusion_parts,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from projections.immudb.records import (
    DIGEST,
    DualProof,
    Entry,
    EntryProof,
    LinearAdvanceProof,
    LinearProof,
    State,
    TxHeader,
    advance,
    check_digests,
    entry_leaf,
)


def verify_entries(header: TxHeader, entries: Sequence[Entry]) -> None:
    """Verify that `entries` are all the entries of a transaction, in their order.

    Raises:
        ProofInvalid: they are not.
    """
    header.check()
    if (len(entries), entries_root(entries, header.version)) != (header.entry_count, header.entries_root):
        raise ProofInvalid(f"transaction {header.tx} has other entries", tx=header.tx)


def entries_root(entries: Sequence[Entry], version: int) -> bytes:
    """Return the root over the entries of a transaction whose header has this version; raises `ProofInvalid`."""
    edge: list[bytes] = []
    for size, entry in enumerate(entries):
        grow(edge, size, entry_leaf(entry, version))
    return root_of(edge)


def entry_proofs(entries: Sequence[Entry], version: int) -> list[EntryProof]:
    """Return, for each of a transaction's entries, the proof that it is one; raises `ProofInvalid`."""
    row = [entry_leaf(entry, version) for entry in entries]
    hashes: dict[Node, bytes] = {}
    while row:
        level = len(entries).bit_length() - len(row).bit_length()
        hashes |= {Node(level, number): digest for number, digest in enumerate(row)}
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
    width = len(entries)
    ways = (assemble(inclusion_parts(leaf, width), hashes) for leaf in range(width))
    return [EntryProof(leaf=leaf, width=width, terms=tuple(terms)) for leaf, terms in enumerate(ways)]


def verify_entry(header: TxHeader, entry: Entry, proof: EntryProof) -> None:
    """Verify that `entry` is one of a transaction's entries.

    Raises:
        ProofInvalid: it is not shown.
    """
    header.check()
    check_digests(proof.terms)
    if proof.width != header.entry_count:
        raise ProofInvalid(f"transaction {header.tx} has {header.entry_count} entries, not {proof.width}")
    leaf = entry_leaf(entry, header.version)
    verify_inclusion(leaf, proof.leaf, proof.width, proof.terms, header.entries_root)


def verify_dual_proof(proof: DualProof, source: State, target: State) -> None:
    """Verify that the database at `target` continues that at `source`: nothing up to there was changed or taken away.

    Raises:
        ProofInvalid: it is not shown.
    """
    _check_heads(proof, source, target)
    _check_trees(proof, source)
    _check_chain(proof, source, target)
    _check_advance(proof, source)


def check_linked(header: TxHeader) -> None:
    """Check that the tree was up to date when the transaction was made, as it always is with immudb 1.11.

    Of a transaction that its tree lags behind, a dual proof leaves a part of the chain to later proofs.

    Raises:
        ProofInvalid: it was not.
    """
    if header.tree_size != header.tx - 1:
        raise ProofInvalid(
            f"the tree at transaction {header.tx} has {header.tree_size} leaves: it lags behind",
            tx=header.tx,
            tree_size=header.tree_size,
        )


def _check_heads(proof: DualProof, source: State, target: State) -> None:
    for header, state, name in ((proof.source, source, "source"), (proof.target, target, "target")):
        header.check()
        if header.state != state:
            raise ProofInvalid(f"the {name} of the proof is not transaction {state.tx} as it is known", tx=state.tx)
    if not (source.tx <= target.tx and proof.source.tree_size <= proof.target.tree_size):
        raise ProofInvalid(f"transaction {target.tx} is shown to come before transaction {source.tx}")


def _check_trees(proof: DualProof, source: State) -> None:
    old, new = proof.source, proof.target
    check_digests((*proof.inclusion, *proof.consistency, *proof.last_inclusion, proof.last_alh))
    if source.tx < new.tree_size:
        verify_inclusion(leaf_hash(source.alh), source.tx - 1, new.tree_size, proof.inclusion, new.tree_root)
    else:
        _check_empty(proof.inclusion)
    if old.tree_size > 0:
        _verify_growth(old, new, proof.consistency)
    else:
        _check_empty(proof.consistency)
    if new.tree_size > 0:
        last = new.tree_size - 1
        verify_inclusion(leaf_hash(proof.last_alh), last, new.tree_size, proof.last_inclusion, new.tree_root)
    else:
        _check_empty(proof.last_inclusion)
        if any(proof.last_alh):
            raise ProofInvalid("an empty tree is shown to have a last leaf")


def _check_empty(part: Sequence[bytes]) -> None:
    if part:
        raise ProofInvalid("a part of the proof is there that shows nothing")


def _verify_growth(old: TxHeader, new: TxHeader, proof: Sequence[bytes]) -> None:
    """Verify that the tree of `new` begins with that of `old`.

    immudb's proof is that of RFC 6962 but for two things: it has the old root in front where that is a perfect
    subtree, which the RFC takes for known; and that a tree begins with itself has a proof, its two halves.
    """
    shown = list(proof)
    if old.tree_size == new.tree_size:
        _verify_same(old, new, shown)
        return
    if old.tree_size & (old.tree_size - 1) == 0:
        if shown[:1] != [old.tree_root]:
            raise ProofInvalid(
                f"the tree of {new.tree_size} leaves is not shown to begin with that of {old.tree_size}"
            )
        del shown[0]
    verify_consistency(old.tree_size, new.tree_size, old.tree_root, new.tree_root, shown)


def _verify_same(old: TxHeader, new: TxHeader, halves: Sequence[bytes]) -> None:
    has_halves = old.tree_size > 1
    fits = len(halves) == 2 * has_halves and old.tree_root == new.tree_root
    if not fits or (has_halves and node_hash(halves[1], halves[0]) != old.tree_root):
        raise ProofInvalid(f"the tree of {old.tree_size} leaves is not shown to be the same")


def _check_chain(proof: DualProof, source: State, target: State) -> None:
    """Check the chain to the target, from the last leaf of its tree or, when that is older, from the source."""
    size = proof.target.tree_size
    if source.tx == size and proof.last_alh != source.alh:
        raise ProofInvalid(f"the tree has another transaction {source.tx} than the chain", tx=source.tx)
    start = State(size, proof.last_alh) if source.tx <= size else source
    _verify_linear(proof.linear, start, target)


def _verify_linear(proof: LinearProof, start: State, target: State) -> None:
    check_digests(proof.terms)
    fits = (proof.source_tx, proof.target_tx) == (start.tx, target.tx) and len(
        proof.terms
    ) == target.tx - start.tx + 1
    if not fits or proof.terms[0] != start.alh or _follow(start.tx, proof.terms) != target.alh:
        raise ProofInvalid(f"the chain from transaction {start.tx} to {target.tx} is not shown")


def _follow(tx: int, terms: Sequence[bytes]) -> bytes:
    """Return the hash at the end of a chain that begins with the hash of transaction `tx`."""
    alh = terms[0]
    for number, term in enumerate(terms[1:], start=tx + 1):
        alh = advance(alh, number, term)
    return alh


def _check_advance(proof: DualProof, source: State) -> None:
    """Check that the chain from the end of the old tree on is what the new tree has there, leaf for leaf."""
    begin, size = proof.source.tree_size, proof.target.tree_size
    end = source if source.tx <= size else State(size, proof.last_alh)
    if end.tx <= begin + 1:
        if proof.advance is not None:
            raise ProofInvalid("a linear advance is shown where there is none")
    elif proof.advance is None:
        raise ProofInvalid(f"the chain from transaction {begin} to {end.tx} is not shown to be in the tree")
    else:
        _verify_advance(proof.advance, begin, end, proof.target)


def _verify_advance(proof: LinearAdvanceProof, begin: int, end: State, tree: TxHeader) -> None:
    check_digests(proof.terms)
    if (len(proof.terms), len(proof.inclusions)) != (end.tx - begin, end.tx - begin - 1):
        raise ProofInvalid(f"the chain from transaction {begin} to {end.tx} has another length")
    alh = proof.terms[0]
    for number, (inclusion, term) in enumerate(zip(proof.inclusions, proof.terms[1:], strict=True), start=begin + 1):
        check_digests(inclusion)
        verify_inclusion(leaf_hash(alh), number - 1, tree.tree_size, inclusion, tree.tree_root)
        alh = advance(alh, number + 1, term)
    if alh != end.alh or len(alh) != DIGEST:
        raise ProofInvalid(f"the chain in the tree does not end with transaction {end.tx} as it is known")
