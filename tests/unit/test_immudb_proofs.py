"""Our verifier of immudb's proofs: it takes every true one, and no other."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.merkle import ProofInvalid
from projections.immudb.proofs import check_linked, verify_dual_proof, verify_entries, verify_entry
from projections.immudb.records import EMPTY, DualProof, Entry, State, entry_of
from tests.support.forging import forgeries
from tests.support.immudb_chain import Chain

UP_TO_DATE = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
LAGGING = [0, 0, 1, 1, 1, 4, 4, 5, 8, 8, 8, 8, 11, 12, 12, 15, 15]


def chain_of(tree_sizes: Sequence[int], *, entries: int = 1) -> Chain:
    chain = Chain()
    for tx, size in enumerate(tree_sizes, start=1):
        made = [entry_of(f"{tx}/{number}".encode(), b"value") for number in range(entries)]
        chain.add(made, tree_size=size)
    return chain


def verify(proof: DualProof, source: State | None = None, target: State | None = None) -> None:
    verify_dual_proof(proof, source or proof.source.state, target or proof.target.state)


def holds(verifying: Callable[..., None], *arguments: object) -> bool:
    try:
        verifying(*arguments)
    except ProofInvalid:
        return False
    return True


@st.composite
def tree_sizes(draw: st.DrawFn) -> list[int]:
    """Draw the tree of each transaction: never smaller than the one before, never with the transaction itself."""
    sizes = [0]
    for tx in range(2, draw(st.integers(2, 24))):
        sizes.append(draw(st.integers(sizes[-1], tx - 1)))
    return sizes


@settings(deadline=None, max_examples=40)
@given(tree_sizes())
def test_every_transaction_is_shown_to_continue_every_earlier_one(sizes: list[int]) -> None:
    chain = chain_of(sizes)
    for target in range(1, len(sizes) + 1):
        for source in range(1, target + 1):
            verify(chain.dual_proof(source, target))


def test_up_to_seventy_transactions_whose_tree_is_up_to_date() -> None:
    chain = chain_of(range(70))
    for target in range(1, 71):
        check_linked(chain.header(target))
        for source in range(1, target + 1):
            verify(chain.dual_proof(source, target))


@pytest.mark.parametrize(
    ("sizes", "source", "target"),
    [
        (UP_TO_DATE, 1, 1),
        (UP_TO_DATE, 1, 2),
        (UP_TO_DATE, 4, 5),
        (UP_TO_DATE, 5, 5),
        (UP_TO_DATE, 5, 9),
        (UP_TO_DATE, 6, 17),
        (UP_TO_DATE, 9, 10),
        (LAGGING, 1, 2),
        (LAGGING, 3, 9),
        (LAGGING, 5, 17),
        (LAGGING, 12, 17),
        (LAGGING, 12, 13),
        (LAGGING, 16, 17),
    ],
)
def test_a_proof_in_which_anything_is_changed_is_refused(sizes: list[int], source: int, target: int) -> None:
    chain = chain_of(sizes)
    proof = chain.dual_proof(source, target)
    known, reached = proof.source.state, proof.target.state
    verify(proof, known, reached)
    tried = list(forgeries(proof))
    assert len(tried) > 40
    assert [name for name, forged in tried if holds(verify, forged, known, reached)] == []


def test_a_proof_of_other_states_is_refused() -> None:
    chain = chain_of(UP_TO_DATE)
    proof = chain.dual_proof(5, 9)
    known, reached = proof.source.state, proof.target.state
    for source, target in (
        (known, State(reached.tx, known.alh)),
        (State(known.tx, reached.alh), reached),
        (chain.header(4).state, reached),
        (known, chain.header(10).state),
        (reached, known),
        (EMPTY, reached),
    ):
        with pytest.raises(ProofInvalid):
            verify(proof, source, target)


def test_a_history_that_was_rewritten_is_refused() -> None:
    honest, forged = Chain(), Chain()
    for tx in range(1, 12):
        honest.add([entry_of(b"key", b"%d" % tx)])
        forged.add([entry_of(b"key", b"0" if tx == 4 else b"%d" % tx)])
    for source in range(4, 12):
        for target in range(source, 12):
            with pytest.raises(ProofInvalid):
                verify(forged.dual_proof(source, target), honest.header(source).state)
            mixed = replace(forged.dual_proof(source, target), source=honest.header(source))
            with pytest.raises(ProofInvalid):
                verify(mixed, honest.header(source).state)


def test_a_tree_that_does_not_have_what_the_chain_has_is_refused() -> None:
    """What a client that leaves out the linear advance takes: both ends fit, and between them the tree is another."""
    honest = chain_of([0, 1, 1, 1, 1, 1])
    liar = chain_of([0, 1, 1, 1, 1, 1])
    liar.headers[2] = replace(liar.headers[2], ts=1)  # in the tree, and not in the chain
    header = honest.add([entry_of(b"last", b"")], tree_size=6)
    liar.headers[3:] = honest.headers[3:6]
    forged = replace(header, tree_root=replace_root(liar))
    liar.headers.append(forged)
    proof = liar.dual_proof(5, 7)
    assert proof.advance is not None
    with pytest.raises(ProofInvalid):
        verify(proof, honest.header(5).state)


def replace_root(chain: Chain) -> bytes:
    """Return the root of the tree of all transactions of a chain."""
    other = Chain()
    other.headers = list(chain.headers)
    return other.add([entry_of(b"", b"")]).tree_root


def test_a_last_leaf_that_is_not_the_source_is_refused() -> None:
    chain = chain_of([0, 1, 2])
    liar = chain_of([0, 1, 2])
    liar.headers[2] = replace(liar.headers[2], ts=1)
    root = replace_root(liar)
    target = replace(chain.add([entry_of(b"last", b"")]), tree_root=root)
    liar.headers.append(target)
    shown = liar.dual_proof(3, 4)
    source = chain.header(3)
    linear = replace(shown.linear, terms=(source.alh, target.inner_hash))
    consistent = replace(shown, source=source, linear=linear)
    with pytest.raises(ProofInvalid, match="another transaction 3 than the chain"):
        verify(consistent, source.state, target.state)


def test_a_tree_that_lags_is_told() -> None:
    with pytest.raises(ProofInvalid, match="lags behind"):
        check_linked(chain_of(LAGGING).header(5))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 31, 64, 70])
def test_each_entry_is_shown_to_be_in_its_transaction(count: int) -> None:
    chain = chain_of([0], entries=count)
    header, entries = chain.header(1), chain.entries[0]
    verify_entries(header, entries)
    for leaf, entry in enumerate(entries):
        verify_entry(header, entry, chain.entry_proof(1, leaf))


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_an_entry_whose_proof_is_changed_is_refused(count: int) -> None:
    chain = chain_of([0], entries=count)
    header, entries = chain.header(1), chain.entries[0]
    for leaf, entry in enumerate(entries):
        proof = chain.entry_proof(1, leaf)
        assert [name for name, forged in forgeries(proof) if holds(verify_entry, header, entry, forged)] == []
        for field, value in entry._asdict().items():
            forged_entries = [(name, entry._replace(**{field: forged})) for name, forged in forgeries(value)]
            assert [name for name, forged in forged_entries if holds(verify_entry, header, forged, proof)] == []


def test_entries_that_are_not_all_or_in_another_order_are_refused() -> None:
    chain = chain_of([0], entries=5)
    header, entries = chain.header(1), list(chain.entries[0])
    for wrong in (entries[:-1], entries[1:], entries[::-1], [*entries, entries[-1]], []):
        with pytest.raises(ProofInvalid):
            verify_entries(header, wrong)


def test_both_versions_of_headers_are_hashed_and_no_other() -> None:
    chain = Chain()
    chain.add([entry_of(b"old", b"1"), entry_of(b"old too", b"2")], version=0)
    chain.add([Entry(b"\x00new", bytes(32), b"\x00")], metadata=b"\x01\x00\x03abc")
    verify_entry(chain.header(1), chain.entries[0][1], chain.entry_proof(1, 1))
    verify_entry(chain.header(2), chain.entries[1][0], chain.entry_proof(2, 0))
    verify(chain.dual_proof(1, 2))
    with pytest.raises(ProofInvalid, match="version 0"):
        verify_entry(chain.header(1), Entry(b"\x00k", bytes(32), b"\x00"), chain.entry_proof(1, 0))
    for header in (replace(chain.header(2), version=2), replace(chain.header(1), metadata=b"x")):
        with pytest.raises(ProofInvalid):
            assert header.alh
