"""Which transaction an entry names, and amounts across units."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.follow import StoredEvent
from events.money import MAX_UNITS, UNITS_PER_WHOLE
from events.types import EntryPosted, EntryType
from reconciler.chains import KNOWN, Tag, address, finality, known
from reconciler.errors import AmountNotExact, InvalidChain
from reconciler.named import expectation
from reconciler.transfers import Expectation, plain, to_ledger_units
from tests.reconciler.samples import STRANGER, TX, VAULT


def named(metadata: Any) -> Expectation | None:
    text = None if metadata is None else json.dumps(metadata)
    event = EntryPosted(
        9, 1, 77, "c", 0, b"", "alice", 1, EntryType.CREDIT, 5 * UNITS_PER_WHOLE, "USDC", 0, None, text, None
    )
    return expectation(StoredEvent(3, 0, b"", event))


def test_an_entry_names_a_transaction_by_its_metadata() -> None:
    found = named(
        {"chain": "Base", "transaction_hash": TX.upper().replace("X", "x"), "token": "USDC", "from": STRANGER,
         "to": VAULT.upper().replace("X", "x"), "log_index": 4}
    )  # fmt: skip
    assert found == Expectation(
        entry_id="3-9",
        recorded_at=77,
        account_id="alice",
        entry_type=EntryType.CREDIT,
        amount=5 * UNITS_PER_WHOLE,
        asset="USDC",
        chain="base",
        tx_hash=TX,
        token="usdc",
        sender=STRANGER,
        recipient=VAULT,
        log_index=4,
    )
    assert found.order == (77, 3, 9)


@pytest.mark.parametrize("metadata", [None, {}, {"chain": "base"}, {"note": "transaction_hash"}])
def test_other_entries_name_none(metadata: Any) -> None:
    assert named(metadata) is None


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"transaction_hash": TX}, "chain is not given"),
        ({"chain": "base", "transaction_hash": "0x12"}, "transaction_hash is not"),
        ({"chain": "base", "transaction_hash": None}, "transaction_hash is not"),
        ({"chain": "base", "transaction_hash": TX, "to": "bob"}, "to is no address"),
        ({"chain": "base", "transaction_hash": TX, "log_index": "4"}, "log_index is no number"),
        ({"chain": "base", "transaction_hash": TX, "log_index": True}, "log_index is no number"),
    ],
)
def test_what_can_not_be_is_kept_with_its_problem(metadata: Any, problem: str) -> None:
    found = named(metadata)
    assert found
    assert problem in (found.problem or "")


def test_known_chains_are_found_by_name_and_id() -> None:
    assert {chain.name: chain.chain_id for chain in KNOWN} == {
        "ethereum": 1, "base": 8453, "arbitrum": 42161, "optimism": 10, "polygon": 137, "anvil": 31337,
    }  # fmt: skip
    assert known("Base") is known("8453") is known("eip155:8453")
    for chain in KNOWN[:-1]:
        usdc = chain.token("usdc")
        assert usdc
        assert usdc.decimals == 6
    with pytest.raises(InvalidChain, match="solana"):
        known("solana")


@pytest.mark.parametrize(("given", "rule"), [("finalized", Tag.FINALIZED), ("safe", Tag.SAFE), ("12", 12), (0, 0)])
def test_rules_of_finality(given: object, rule: object) -> None:
    assert finality(given) == rule


@pytest.mark.parametrize("given", ["latest", -1, True, 1.0, None, "1e3"])
def test_what_is_no_rule_of_finality_is_refused(given: object) -> None:
    with pytest.raises(InvalidChain):
        finality(given)


@pytest.mark.parametrize("given", ["0x12", "", None, 5, VAULT + "0", VAULT[2:]])
def test_what_is_no_address_is_refused(given: object) -> None:
    with pytest.raises(InvalidChain):
        address(given)


@given(st.integers(0, 10**40), st.integers(0, 40))
def test_amounts_cross_over_exactly_or_are_refused(value: int, decimals: int) -> None:
    try:
        units = to_ledger_units(value, decimals)
    except AmountNotExact:
        assert value * UNITS_PER_WHOLE % 10**decimals or value * UNITS_PER_WHOLE // 10**decimals > MAX_UNITS
    else:
        assert units * 10**decimals == value * UNITS_PER_WHOLE


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (2_500_000, 6, "2.5"),
        (100, 0, "100"),
        (0, 6, "0"),
        (1, 24, "0." + "0" * 23 + "1"),
        (2**256 - 1, 0, str(2**256 - 1)),
    ],
)
def test_base_units_are_told_in_whole_tokens(value: int, decimals: int, text: str) -> None:
    assert plain(value, decimals) == text
