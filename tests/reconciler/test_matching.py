"""What is found of entries and transfers, by hand and as laws."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.money import UNITS_PER_WHOLE
from events.types import EntryType
from reconciler.matching import Kind, Matching, State, Terms, Transaction, match
from reconciler.transfers import Expectation, Transfer
from tests.reconciler.samples import (
    DAI,
    DONE,
    ETH,
    FINE,
    OTHER,
    STRANGER,
    TERMS,
    TOKENS,
    TX,
    USDC,
    VAULT,
    WALLET,
    an_address,
    entry,
    native,
    transfer,
)


def kinds(expectations: Sequence[Expectation], transfers: Sequence[Transfer], terms: Terms = TERMS) -> list[str]:
    return sorted(finding.kind for finding in match(DONE, expectations, transfers, terms).findings)


def only(expectation: Expectation, found: Transfer, terms: Terms = TERMS) -> Kind:
    (finding,) = match(DONE, [expectation], [found], terms).findings
    return finding.kind


def test_an_entry_and_its_transfer_are_matched() -> None:
    everything = entry(token=USDC.name, sender=STRANGER, recipient=VAULT, log_index=0)
    assert only(everything, transfer()) is Kind.MATCHED
    assert only(entry(), transfer()) is Kind.MATCHED
    assert only(entry(token="usdc"), transfer()) is Kind.MATCHED
    paid = entry(entry_type=EntryType.DEBIT, sender=VAULT, recipient=STRANGER)
    assert only(paid, transfer(sender=VAULT, recipient=STRANGER)) is Kind.MATCHED
    assert only(entry(whole=1, asset="ETH", token="native"), native()) is Kind.MATCHED


@pytest.mark.parametrize(
    ("expectation", "found", "kind", "said"),
    [
        (entry(whole=6), transfer(), Kind.AMOUNT_MISMATCH, "over 6, the transfer over 5"),
        (entry(amount=5 * UNITS_PER_WHOLE + 1), transfer(), Kind.AMOUNT_MISMATCH, "5.000000000000000001"),
        (entry(asset="DAI"), transfer(), Kind.ASSET_MISMATCH, "of DAI"),
        (entry(token=DAI.name), transfer(), Kind.ASSET_MISMATCH, DAI.name),
        (entry(), transfer(token=an_address(0xFF)), Kind.ASSET_MISMATCH, "another token"),
        (entry(asset="ETH", token="native"), transfer(), Kind.ASSET_MISMATCH, "native"),
        (entry(recipient=WALLET), transfer(), Kind.ADDRESS_MISMATCH, WALLET),
        (entry(sender=OTHER), transfer(), Kind.ADDRESS_MISMATCH, OTHER),
        (entry(recipient=VAULT), transfer(recipient=OTHER), Kind.ADDRESS_MISMATCH, OTHER),
        (entry(entry_type=EntryType.DEBIT), transfer(), Kind.DIRECTION_MISMATCH, "goes in"),
        (entry(), transfer(sender=VAULT, recipient=OTHER), Kind.DIRECTION_MISMATCH, "goes out"),
        (entry(whole=6, entry_type=EntryType.DEBIT), transfer(), Kind.DIRECTION_MISMATCH, "over 6"),
    ],
)
def test_what_differs_is_told(expectation: Expectation, found: Transfer, kind: Kind, said: str) -> None:
    (finding,) = match(DONE, [expectation], [found], TERMS).findings
    assert finding.kind is kind
    assert said in finding.description
    assert (finding.expectation, finding.transfer) == (expectation, found)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.UNKNOWN, Kind.MISSING_ON_CHAIN),
        (State.PENDING, Kind.NOT_YET_FINAL),
        (State.FAILED, Kind.FAILED_TRANSACTION),
        (State.DONE, Kind.MISSING_ON_CHAIN),
    ],
)
def test_a_transaction_without_transfers(state: State, kind: Kind) -> None:
    (finding,) = match(Transaction(TX, state), [entry()], [], TERMS).findings
    assert finding.kind is kind


def test_what_the_ledger_lacks_is_found_but_not_what_is_between_our_own_addresses_or_strangers() -> None:
    assert kinds([], [transfer()]) == [Kind.MISSING_IN_LEDGER]
    moved = transfer(sender=WALLET, recipient=VAULT)
    others = transfer(log_index=1, sender=STRANGER, recipient=OTHER)
    result = match(DONE, [], [moved, others], TERMS)
    assert (result.findings, result.internal, result.foreign) == ([], [moved], [others])


def test_a_second_entry_for_one_transfer_is_a_duplicate_and_the_first_keeps_it() -> None:
    result = match(DONE, [entry(2), entry(1)], [transfer()], TERMS)
    assert {finding.expectation.entry_id: finding.kind for finding in result.findings if finding.expectation} == {
        "0-1": Kind.MATCHED,
        "0-2": Kind.DUPLICATE,
    }


def test_a_move_between_our_own_addresses_has_a_credit_and_a_debit_and_no_more() -> None:
    moved = transfer(sender=WALLET, recipient=VAULT)
    debit = entry(2, entry_type=EntryType.DEBIT)
    assert kinds([entry(1), debit], [moved]) == [Kind.MATCHED, Kind.MATCHED]
    assert kinds([entry(1), entry(3)], [moved]) == [Kind.DUPLICATE, Kind.MATCHED]


def test_an_entry_that_says_little_makes_room_for_one_that_says_more() -> None:
    first, second = transfer(log_index=0, sender=STRANGER), transfer(log_index=1, sender=OTHER)
    result = match(DONE, [entry(1), entry(2, sender=STRANGER)], [first, second], TERMS)
    assert {(f.kind, f.expectation and f.expectation.entry_id, f.transfer) for f in result.findings} == {
        (Kind.MATCHED, "0-1", second),
        (Kind.MATCHED, "0-2", first),
    }


def test_an_entry_of_another_log_index_is_not_matched() -> None:
    assert kinds([entry(log_index=4)], [transfer()]) == [Kind.MISSING_IN_LEDGER, Kind.MISSING_ON_CHAIN]


def test_tokens_of_more_than_18_decimals_are_compared_exactly() -> None:
    assert only(entry(asset="FINE"), transfer(5 * 10**24, token=FINE.name)) is Kind.MATCHED
    assert only(entry(asset="FINE"), transfer(5 * 10**24 + 1, token=FINE.name)) is Kind.AMOUNT_MISMATCH


def test_a_tolerance_is_for_its_asset_and_as_wide_as_it_says() -> None:
    terms = replace(TERMS, tolerances={"USDC": UNITS_PER_WHOLE // 100})
    assert only(entry(), transfer(5_010_000), terms) is Kind.MATCHED
    assert only(entry(), transfer(5_010_001), terms) is Kind.AMOUNT_MISMATCH
    assert only(entry(whole=1, asset="ETH"), native(UNITS_PER_WHOLE + 1), terms) is Kind.AMOUNT_MISMATCH


addresses = st.sampled_from([VAULT, WALLET, STRANGER, OTHER])
transfers = st.lists(
    st.builds(
        transfer,
        st.sampled_from([1_000_000, 2_000_000]),
        log_index=st.integers(0, 6),
        sender=addresses,
        recipient=addresses,
        token=st.sampled_from([USDC.name, DAI.name, ETH.name]),
    ),
    max_size=6,
    unique_by=lambda found: found.key,
)
expectations = st.lists(
    st.builds(
        entry,
        st.integers(1, 1000),
        st.sampled_from([1, 2]),
        entry_type=st.sampled_from(EntryType),
        asset=st.sampled_from(["USDC", "DAI"]),
        token=st.sampled_from([None, USDC.name]),
        sender=st.none() | addresses,
        recipient=st.none() | addresses,
        log_index=st.none() | st.integers(0, 6),
    ),
    max_size=6,
    unique_by=lambda expected: expected.entry_id,
)


def shape(matching: Matching) -> tuple[object, ...]:
    found = sorted(
        (f.kind.value, f.expectation.entry_id if f.expectation else "", f.transfer.key if f.transfer else ("", 0))
        for f in matching.findings
    )
    return found, sorted(matching.internal), sorted(matching.foreign)


@given(expectations, transfers, st.randoms())
def test_the_order_in_which_things_are_given_does_not_matter(
    expected: list[Expectation], found: list[Transfer], rng: random.Random
) -> None:
    result = match(DONE, expected, found, TERMS)
    rng.shuffle(expected)
    rng.shuffle(found)
    assert shape(match(DONE, expected, found, TERMS)) == shape(result)


@given(expectations, transfers)
def test_everything_is_in_one_class_and_nothing_is_counted_twice(
    expected: list[Expectation], found: list[Transfer]
) -> None:
    result = match(DONE, expected, found, TERMS)
    entries = Counter(f.expectation.entry_id for f in result.findings if f.expectation)
    assert entries == Counter(e.entry_id for e in expected)
    holding = [f for f in result.findings if f.transfer and f.kind is not Kind.DUPLICATE]
    internal = {t.key for t in found if {t.sender, t.recipient} <= TERMS.ours}
    seen = Counter(f.transfer.key for f in holding if f.transfer)
    assert all(count == 1 or (key in internal and count == 2) for key, count in seen.items())
    outside = Counter(t.key for t in [*result.internal, *result.foreign])
    assert set(seen) | set(outside) == {t.key for t in found}
    assert not set(seen) & set(outside)


@given(expectations, transfers)
def test_matched_means_that_all_that_the_entry_says_is_so(expected: list[Expectation], found: list[Transfer]) -> None:
    for finding in match(DONE, expected, found, TERMS).findings:
        if finding.kind is Kind.MATCHED:
            assert finding.expectation
            assert finding.transfer
            named, has = finding.expectation, finding.transfer
            ours = has.recipient if named.entry_type is EntryType.CREDIT else has.sender
            assert ours in TERMS.ours
            assert TOKENS[has.token].asset == named.asset
            assert named.amount * 10 ** TOKENS[has.token].decimals == has.value * UNITS_PER_WHOLE
            assert named.sender in (None, has.sender)
            assert named.recipient in (None, has.recipient)
            assert named.log_index in (None, has.log_index)


@given(expectations, transfers, st.integers(1001, 2000))
def test_an_entry_that_has_its_transfer_keeps_one_whatever_is_recorded_later(
    expected: list[Expectation], found: list[Transfer], later: int
) -> None:
    def matched(result: Matching) -> set[str]:
        return {f.expectation.entry_id for f in result.findings if f.kind is Kind.MATCHED and f.expectation}

    assert matched(match(DONE, expected, found, TERMS)) <= matched(
        match(DONE, [*expected, entry(later, 1)], found, TERMS)
    )
