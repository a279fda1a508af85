"""Holds, one story each: funds are reserved, and taken or set free again."""

from decimal import Decimal

import pytest

from commands.errors import (
    AccountIsFrozen,
    BalanceOutOfRange,
    HoldExceeded,
    HoldNotExpired,
    HoldNotFound,
    InsufficientFunds,
    InvalidAmount,
    InvalidAsset,
    InvalidExpiry,
    InvalidHoldId,
    InvalidReference,
    Rejected,
)
from commands.types import AccountCommand, ExpireHold, PlaceHold, Policy, ReleaseHold, SettleHold
from events.account import Hold
from events.money import MAX_UNITS
from events.types import EntryType, HoldPlaced, HoldReleased, HoldSettled
from tests.support.samples import (
    DEBIT,
    NOON,
    UNIT,
    frozen,
    hold_placed,
    hold_released,
    hold_settled,
    opened,
    post,
    posted,
)
from tests.support.story import given

PLACE = PlaceHold("h-1", None, "alice", 3 * UNIT, "USD")
SETTLE = SettleHold("c-2", None, "alice", "h-1")
RELEASE = ReleaseHold("c-3", None, "alice", "h-1", "changed their mind")
EXPIRE = ExpireHold("c-4", None, "alice", "h-1")
FIVE = posted(amount=5 * UNIT)
HELD = hold_placed(amount=3 * UNIT)


def test_a_hold_stays_in_the_balance_and_is_not_available() -> None:
    story = given(FIVE).when(PLACE._replace(expires_at=NOON, reference="room 7"))
    event = story.then(HoldPlaced, hold_id="h-1", amount=3 * UNIT, balance=5 * UNIT, held=3 * UNIT, version=2)
    assert (event.expires_at, event.reference) == (NOON, "room 7")
    held = given(FIVE, HELD)
    assert held.account.available("USD") == 2 * UNIT
    held.when(post(amount=2 * UNIT, entry_type=DEBIT)).then_posted(running_balance=3 * UNIT)
    held.when(post(amount=2 * UNIT + 1, entry_type=DEBIT)).then_rejected(InsufficientFunds, available=Decimal(2))


def test_holds_add_up() -> None:
    story = given(FIVE, HELD)
    story.when(PLACE._replace(command_id="h-2", amount=2 * UNIT)).then(HoldPlaced, held=5 * UNIT)
    story.when(PLACE._replace(command_id="h-2")).then_rejected(
        InsufficientFunds, available=Decimal(2), requested=Decimal(3)
    )


def test_a_credit_limit_may_be_held() -> None:
    given(opened(floor=-3 * UNIT)).when(PLACE).then(HoldPlaced, balance=0, held=3 * UNIT)


def test_a_hold_of_an_account_without_floor_can_always_be_settled() -> None:
    story = given(opened(floor=None), posted(amount=MAX_UNITS - 3 * UNIT, entry_type=DEBIT))
    story.when(PLACE).then(HoldPlaced)
    story.when(PLACE._replace(amount=3 * UNIT + 1)).then_rejected(BalanceOutOfRange)
    held = given(opened(floor=None), HELD)
    held.when(post(amount=MAX_UNITS - 3 * UNIT + 1, entry_type=DEBIT)).then_rejected(BalanceOutOfRange)


def test_settling_takes_all_that_is_held() -> None:
    event = (
        given(FIVE, HELD)
        .when(SETTLE._replace(reference="bill", effective_at=5))
        .then(HoldSettled, hold_id="h-1", amount=3 * UNIT, remaining=0, running_balance=2 * UNIT, held=0, version=3)
    )
    assert (event.entry_type, event.change, event.reference, event.effective_at) == (
        EntryType.DEBIT,
        -3 * UNIT,
        "bill",
        5,
    )


def test_settling_in_parts_keeps_the_rest_held() -> None:
    story = given(FIVE, HELD).when(SETTLE._replace(amount=UNIT))
    story.then(HoldSettled, amount=UNIT, remaining=2 * UNIT, running_balance=4 * UNIT, held=2 * UNIT)
    rest = given(FIVE, HELD, hold_settled(amount=UNIT, remaining=2 * UNIT))
    assert rest.holds == {"h-1": Hold("USD", 2 * UNIT, None)}
    rest.when(SETTLE).then(HoldSettled, amount=2 * UNIT, remaining=0, running_balance=2 * UNIT, held=0)
    rest.when(RELEASE).then(HoldReleased, amount=2 * UNIT, balance=4 * UNIT, held=0)


def test_no_more_is_settled_than_is_held() -> None:
    given(FIVE, HELD).when(SETTLE._replace(amount=3 * UNIT + 1)).then_rejected(
        HoldExceeded, hold_id="h-1", remaining=Decimal(3), requested=Decimal("3.000000000000000001")
    )


@pytest.mark.parametrize("amount", [0, -1, MAX_UNITS + 1, UNIT // 1000])
def test_what_is_settled_is_an_amount_of_the_holds_asset(amount: int) -> None:
    story = given(FIVE, HELD, policy=Policy(asset_scales={"USD": 2}))
    event = story.when(SETTLE._replace(amount=amount)).then_rejected(InvalidAmount)
    assert (event.asset, event.balance) == ("USD", 5 * UNIT)


def test_releasing_makes_the_funds_available_again() -> None:
    given(FIVE, HELD).when(RELEASE).then(
        HoldReleased,
        amount=3 * UNIT,
        balance=5 * UNIT,
        held=0,
        expired=False,
        reason="changed their mind",
        version=3,
    )


@pytest.mark.parametrize("command", [SETTLE, RELEASE, EXPIRE])
def test_a_hold_that_is_over_or_never_was_is_not_found(command: AccountCommand) -> None:
    given(FIVE).when(command).then_rejected(HoldNotFound, account_id="alice", hold_id="h-1")
    given(FIVE, HELD, hold_released(amount=3 * UNIT)).when(command).then_rejected(HoldNotFound)
    given(FIVE, HELD, hold_settled(amount=3 * UNIT, remaining=0)).when(command).then_rejected(HoldNotFound)


@pytest.mark.parametrize("early", [1, 3600 * 10**6])
def test_a_hold_expires_when_its_time_has_come_and_not_before(early: int) -> None:
    """Recorded time, that of the handler, decides; the story is told at noon."""
    given(FIVE, hold_placed(amount=UNIT, expires_at=NOON)).when(EXPIRE).then(HoldReleased, amount=UNIT, expired=True)
    given(FIVE, hold_placed(amount=UNIT, expires_at=NOON + early)).when(EXPIRE).then_rejected(HoldNotExpired)
    never = given(FIVE, HELD).when(EXPIRE).then_rejected(HoldNotExpired)
    assert never.details["expires_at"] == "never"


def test_a_hold_does_not_end_by_itself() -> None:
    late = given(FIVE, hold_placed(amount=5 * UNIT, expires_at=1))
    late.when(post(amount=1, entry_type=DEBIT)).then_rejected(InsufficientFunds)
    late.when(SETTLE).then(HoldSettled, running_balance=0)


def test_a_frozen_account_may_release_and_not_settle() -> None:
    story = given(FIVE, HELD, frozen())
    story.when(SETTLE).then_rejected(AccountIsFrozen)
    story.when(RELEASE).then(HoldReleased, held=0)
    given(FIVE, hold_placed(amount=UNIT, expires_at=1), frozen()).when(EXPIRE).then(HoldReleased)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (PLACE._replace(amount=0), InvalidAmount),
        (PLACE._replace(asset=""), InvalidAsset),
        (PLACE._replace(expires_at=-1), InvalidExpiry),
        (PLACE._replace(reference="r" * 1025), InvalidReference),
        (SETTLE._replace(hold_id=""), InvalidHoldId),
        (RELEASE._replace(hold_id="\n"), InvalidHoldId),
        (EXPIRE._replace(hold_id="h" * 129), InvalidHoldId),
    ],
)
def test_bad_fields_are_named(command: AccountCommand, rule: type[Rejected]) -> None:
    given(FIVE).when(command).then_rejected(rule)
