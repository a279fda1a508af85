"""The rules of the ledger, one story each."""

from decimal import Decimal

import pytest

from commands.errors import (
    BalanceOutOfRange,
    InsufficientFunds,
    InvalidAmount,
    InvalidAsset,
    InvalidEffectiveTime,
    InvalidMetadata,
    VersionConflict,
    WrongPartition,
)
from commands.types import Policy
from events.account import NEW_ACCOUNT, evolve
from events.money import MAX_UNITS
from tests.support.samples import CREDIT, DEBIT, NOON, UNIT, an_account, post, posted, rejected
from tests.support.story import given


def test_a_credit_adds() -> None:
    given().when(post(amount=5 * UNIT)).then_posted(
        version=1, entry_type=CREDIT, amount=5 * UNIT, running_balance=5 * UNIT, account_id="alice", asset="USD"
    )


def test_a_debit_takes() -> None:
    given(posted(amount=5 * UNIT)).when(post(amount=2 * UNIT, entry_type=DEBIT)).then_posted(
        version=2, entry_type=DEBIT, amount=2 * UNIT, running_balance=3 * UNIT
    )


def test_the_whole_balance_may_be_debited_to_the_last_unit() -> None:
    given(posted(amount=3)).when(post(amount=3, entry_type=DEBIT)).then_posted(running_balance=0)


def test_one_unit_more_than_the_balance_is_refused() -> None:
    given(posted(amount=UNIT)).when(post(amount=UNIT + 1, entry_type=DEBIT)).then_rejected(
        InsufficientFunds,
        account_id="alice",
        asset="USD",
        available=Decimal(1),
        requested=Decimal("1.000000000000000001"),
    )


def test_an_account_without_entries_has_nothing_to_debit() -> None:
    given().when(post("new", 1, DEBIT)).then_rejected(
        InsufficientFunds, available=Decimal(0), requested=Decimal("1E-18")
    )


def test_details_hold_amounts_as_plain_decimals() -> None:
    event = given().when(post("new", 1, DEBIT)).then_rejected(InsufficientFunds)
    assert event.details == {
        "account_id": "new",
        "asset": "USD",
        "available": "0",
        "requested": "0.000000000000000001",
    }
    assert "0.000000000000000001" in event.message
    assert event.code == "InsufficientFunds"
    assert event.command_type == "PostEntry"


def test_assets_of_one_account_have_a_balance_each_and_share_its_version() -> None:
    account = given(posted(amount=5 * UNIT), posted(amount=UNIT, asset="EUR"))
    account.when(post(amount=2 * UNIT, entry_type=DEBIT, asset="EUR")).then_rejected(
        InsufficientFunds, asset="EUR", available=Decimal(1), requested=Decimal(2)
    )
    account.when(post(amount=UNIT, entry_type=DEBIT, asset="EUR")).then_posted(version=3, running_balance=0)
    account.when(post(amount=UNIT, entry_type=DEBIT)).then_posted(version=3, running_balance=4 * UNIT)


@pytest.mark.parametrize("expected", [0, 2, 3, 2**63 - 1])
def test_another_version_than_expected_is_refused(expected: int) -> None:
    given(posted()).when(post(expected_version=expected)).then_rejected(
        VersionConflict, account_id="alice", expected=expected, actual=1
    )


def test_the_expected_version_passes() -> None:
    given().when(post(expected_version=0)).then_posted(version=1)
    given(posted(), posted()).when(post(expected_version=2)).then_posted(version=3)


def test_a_rejection_leaves_the_version_as_it_was() -> None:
    given(posted(), rejected()).when(post(expected_version=1)).then_posted(version=2)


def test_a_balance_past_38_digits_is_refused_and_the_account_lives_on() -> None:
    full = given(posted(amount=MAX_UNITS))
    full.when(post(amount=1)).then_rejected(BalanceOutOfRange, account_id="alice", requested=Decimal("1E-18"))
    full.when(post(amount=1, entry_type=DEBIT)).then_posted(running_balance=MAX_UNITS - 1)


def test_a_credit_up_to_the_last_unit_passes() -> None:
    given(posted(amount=MAX_UNITS - 1)).when(post(amount=1)).then_posted(running_balance=MAX_UNITS)


def test_a_credit_that_reaches_ten_to_the_twenty_is_refused() -> None:
    given(posted(amount=10**38 - UNIT)).when(post(amount=UNIT)).then_rejected(
        BalanceOutOfRange, balance=Decimal(10**20 - 1), requested=Decimal(1)
    )


@pytest.mark.parametrize("total", [10**10, 10**18, 10**20 - 1])
def test_an_account_lives_after_a_large_total(total: int) -> None:
    large = given(posted(amount=total * UNIT - 1))
    large.when(post(amount=1)).then_posted(running_balance=total * UNIT)
    large.when(post(amount=UNIT // 100, entry_type=DEBIT)).then_posted(running_balance=total * UNIT - 1 - UNIT // 100)


def test_a_command_in_another_accounts_partition_is_refused() -> None:
    given(home_partition=4).when(post()).then_rejected(WrongPartition, account_id="alice", partition=0, expected=4)


def test_an_amount_with_more_decimals_than_its_asset_is_refused() -> None:
    cents = Policy(asset_scales={"USD": 2})
    given(policy=cents).when(post(amount=UNIT // 1000)).then_rejected(InvalidAmount)
    given(policy=cents).when(post(amount=UNIT // 100)).then_posted(running_balance=UNIT // 100)


def test_an_amount_that_is_not_positive_is_refused() -> None:
    given(posted()).when(post(amount=0)).then_rejected(InvalidAmount)
    given(posted()).when(post(amount=-UNIT, entry_type=DEBIT)).then_rejected(InvalidAmount)


def test_a_time_that_no_calendar_has_is_refused() -> None:
    given().when(post(effective_at=-1)).then_rejected(InvalidEffectiveTime)
    given().when(post(effective_at=2**63 - 1)).then_rejected(InvalidEffectiveTime)


def test_a_time_may_lie_before_and_after_now() -> None:
    given().when(post(effective_at=0)).then_posted(effective_at=0, recorded_at=NOON)
    given().when(post(effective_at=2 * NOON)).then_posted(effective_at=2 * NOON, recorded_at=NOON)
    given().when(post()).then_posted(effective_at=None)


def test_an_asset_that_can_not_be_kept_is_recorded_as_far_as_it_can() -> None:
    event = given().when(post(asset="U\0SD" + "x" * 1_000_000)).then_rejected(InvalidAsset)
    assert event.asset == "USD" + "x" * 60


def test_what_was_found_wrong_before_comes_first() -> None:
    fault = InvalidMetadata("no JSON")
    given().when(post(amount=0), fault).then_rejected(InvalidMetadata, reason="no JSON")


def test_an_entry_carries_what_the_command_said() -> None:
    command = post(reference="order 7", metadata='{"a":1}', effective_at=1, command_id="c-9", reply_key="r")
    given().when(command).then_posted(command_id="c-9", reference="order 7", metadata='{"a":1}', effective_at=1)


def test_evolve_never_validates() -> None:
    """What no rule would let pass is taken as it is: history always replays."""
    account = evolve(NEW_ACCOUNT, posted(amount=10**40, version=99, running_balance=-7))
    account = evolve(account, posted(amount=10**41, entry_type=DEBIT, asset=""))
    account = evolve(account, posted(amount=10**41, entry_type=DEBIT))
    assert account == an_account(3, {"USD": 10**40 - 10**41, "": -(10**41)})


def test_evolve_leaves_the_account_before_as_it_was() -> None:
    before = evolve(NEW_ACCOUNT, posted(amount=UNIT))
    evolve(before, posted(amount=UNIT))
    assert before == an_account(1, {"USD": UNIT})
    assert NEW_ACCOUNT.balances == {}
